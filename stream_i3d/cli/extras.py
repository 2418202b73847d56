"""Says in one line that a package is missing which only some commands need."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from stream_i3d.errors import ConfigError


def check_extra(command: str, extra: str, packages: Sequence[str]) -> None:
    """Check that the packages of an optional dependency are installed, without importing them.

    Raises:
        ConfigError: One is not; names them and what installs them.
    """
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"{command} needs {' and '.join(missing)}: run pip install 'stream-i3d[{extra}]'")
