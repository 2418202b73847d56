from __future__ import annotations

import pytest

from stream_i3d.cli.extras import check_extra
from stream_i3d.errors import ConfigError


def test_only_what_is_missing_is_named_with_what_installs_it() -> None:
    message = r"train needs no_such_package and nor_this: run pip install 'stream-i3d\[train\]'"
    with pytest.raises(ConfigError, match=message):
        check_extra("train", "train", ("numpy", "no_such_package", "nor_this"))
