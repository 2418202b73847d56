"""A private temporary folder that goes with its process: at its end, or where it was killed, at the next start.

The owner holds a lock of a file in it, which the system releases however the process ends; a process id could belong to
somebody else by then. Imports neither OpenCV nor torch.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

from stream_i3d.errors import ServiceError

RUN_PREFIX = "stream-i3d-run-"
WINDOW_PREFIX = "stream-i3d-window-"
_LOCK = "owner.lock"


class RunFolder:
    """A folder of mode 0700 in the system's place for temporary files.

    Attributes:
        path: Where it is.
    """

    def __init__(self, prefix: str = RUN_PREFIX) -> None:
        """Make it, and remove those that processes of this user left behind.

        Raises:
            ServiceError: It cannot be made.
        """
        try:
            clear_left_folders(Path(tempfile.gettempdir()))
            self.path = Path(tempfile.mkdtemp(prefix=prefix))
        except OSError as error:
            raise ServiceError(
                f"cannot make a temporary folder: {error.strerror}; make room there, or name another place by TMPDIR"
            ) from None
        self._lock = _lock_of(self.path)
        with contextlib.suppress(OSError, Timeout, NotImplementedError):  # a file system without locks
            self._lock.acquire()

    def close(self) -> None:
        """Remove it and what is in it."""
        self._lock.release()
        shutil.rmtree(self.path, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def clear_left_folders(place: Path) -> list[Path]:
    """Remove the folders of processes that are gone; return which.

    Only folders with the lock file of a RunFolder, this user's own, of mode 0700, which nobody else can have put
    anything into; never through a link. A folder without the lock may be anybody's, whatever its name, so it stays.
    """
    if os.name != "posix":
        return []
    removed = []
    with contextlib.suppress(OSError):
        for folder in sorted([*place.glob(f"{RUN_PREFIX}*"), *place.glob(f"{WINDOW_PREFIX}*")]):
            with contextlib.suppress(OSError, Timeout, NotImplementedError):
                if _is_ours(folder) and (folder / _LOCK).is_file():
                    with _lock_of(folder):  # Timeout where its owner lives
                        shutil.rmtree(folder, ignore_errors=True)
                    removed.append(folder)
    return removed


def _lock_of(folder: Path) -> FileLock:
    return FileLock(folder / _LOCK, timeout=0, mode=0o600, thread_local=False)


def _is_ours(folder: Path) -> bool:
    found = folder.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and stat.S_IMODE(found.st_mode) == 0o700
