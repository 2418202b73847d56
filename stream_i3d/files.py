"""Writes files so that there is the old one or the new one, never half of one, and nothing is written through a link;
looks at what stands at a path that anybody gave.

The temporary file beside the target is made new (O_EXCL): in a folder that others can write to, such as /tmp, somebody
may have put a link of its name there, and what it leads to would be overwritten. Knows no formats.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import Literal

PRIVATE = 0o600


def kind_of(path: str | Path) -> Literal["file", "folder", "other"] | None:
    """Return what stands at a path; None where nothing does, or it cannot be looked at.

    Raises nothing: pathlib's own questions do, where a folder on the way is closed to this user or a name is too long.
    """
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):  # the latter for a NUL in it
        return None
    if stat.S_ISDIR(mode):
        return "folder"
    return "file" if stat.S_ISREG(mode) else "other"


def same_file(one: str | Path, other: str | Path) -> bool:
    """Tell whether two paths lead to one file, by links too; False where one of them leads to none."""
    try:
        return Path(one).samefile(other)
    except (OSError, ValueError):
        return False


def replace_file(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Write a file whole or not at all.

    Args:
        path: An existing file is replaced; its folder must be there.
        data: What it will hold.
        mode: Of the file, from its beginning; what the process's umask takes away is taken away.

    Raises:
        OSError: It cannot be written; an old file is as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)  # of a process of this number that crashed
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
