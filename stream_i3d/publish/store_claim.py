"""One service to a store: two would end each other's actions and deliver every event twice. Knows no SQLite."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from stream_i3d.errors import ConfigError


class StoreClaim:
    """Holds `<store>.lock` until `close`, or until this process has ended, however it ends."""

    def __init__(self, store: Path) -> None:
        """Claim the store at `store`.

        A file beside it, since SQLite's own locks of a file are lost when any descriptor of that file is closed. Where
        the system has no flock (Windows), nothing is claimed.

        Raises:
            ConfigError: Another service has it.
            OSError: The file beside it cannot be written now.
        """
        path = store.with_name(f"{store.name}.lock")
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _lock(self._descriptor)
        except BlockingIOError:
            self.close()
            raise ConfigError(
                f"another service writes to the event store {store}: end it, or give each a file of its own"
            ) from None
        except OSError:  # a file system without locks: as good as without this
            return

    def close(self) -> None:
        """Give it up; more than once is fine."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _lock(descriptor: int) -> None:
    if sys.platform != "win32":
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
