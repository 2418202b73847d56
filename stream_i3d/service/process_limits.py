"""What a service sets for itself and all its processes before anything else: open files, and who may read its files."""

from __future__ import annotations

import contextlib
import os

_EVERYBODY_WRITES = 0o002
_TIGHTENED = 0o027
_MACOS_FILES = 10_240


def raise_open_files_limit() -> int | None:
    """Raise the soft limit of open files to the hard one, and return it; None where the system has no such limit.

    The soft one is 256 to 1,024 by default: for programs that use select(), which nothing here does with a
    connection of a stranger (transport/connection_limit.py).
    """
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in (hard, _MACOS_FILES):  # macOS names no limit as the hard one, and does not take that
        if soft == resource.RLIM_INFINITY or soft == wanted:
            break
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            break
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def tighten_umask() -> None:
    """Have new files closed to others where the umask would let everybody write to them; any other umask stays.

    Under umask 000, as some container images and cron jobs have it, files become 0640 and folders 0750.
    """
    before = os.umask(_TIGHTENED)
    os.umask(before if before & _EVERYBODY_WRITES else before | _TIGHTENED)
