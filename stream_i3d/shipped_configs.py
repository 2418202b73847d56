"""The configurations that come with the package, by name: `webcam` or `finetune` in place of a path.

In a source tree they are the folder `configs`; in an installed package that folder is in the package.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Literal

from stream_i3d.errors import ConfigError, did_you_mean
from stream_i3d.files import kind_of

ConfigKind = Literal["run", "train"]
"""What a configuration is for: a service, or a training."""

_PACKAGE = Path(__file__).parent


def configs_folder(kind: ConfigKind) -> Path:
    """Return the folder of a kind's configurations; it may not exist."""
    installed = _PACKAGE / "configs"
    folder = installed if kind_of(installed) == "folder" else _PACKAGE.parent / "configs"
    return folder / "train" if kind == "train" else folder


def shipped_configs(kind: ConfigKind) -> dict[str, Path]:
    """Return the configurations that come with the package, by name, in alphabetical order."""
    return {path.stem: path for path in sorted(configs_folder(kind).glob("*.yaml"))}


def find_config(kind: ConfigKind, given: str | Path) -> Path:
    """Return the file that a path, or the name of a configuration that comes with the package, means.

    A file is preferred to a name. A pipe or a device is returned as it is.

    Raises:
        ConfigError: There is no such file, and no configuration of that name.
    """
    path, names = Path(given), shipped_configs(kind)
    stands = kind_of(path)
    if str(given) in names and stands != "file":
        return names[str(given)]
    if stands is not None:
        return path
    raise ConfigError(
        f"cannot read the configuration {given}: no such file{did_you_mean(path.stem, names)}; give a YAML file, or "
        f"the name of one that comes with the package: {', '.join(names) or 'none is installed'}"
    )


def summary(path: Path) -> str:
    """Return the first sentence of the comment at the head of a configuration; empty without one."""
    try:
        with path.open(encoding="utf-8") as file:
            lines = [line.lstrip("# ").strip() for line in itertools.takewhile(lambda line: line.startswith("#"), file)]
    except (OSError, UnicodeDecodeError):
        return ""
    return re.split(r"(?<=[.:]) |, from | \(", " ".join(lines), maxsplit=1)[0].rstrip(".:")
