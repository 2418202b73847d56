"""What a process holds of its machine, and whether that is more memory than it may.

Looks and tells; who ends a process for it is another's business (service/child.py).
"""

from __future__ import annotations

import errno
import logging
import random
import sys
from typing import NamedTuple

import psutil

from stream_i3d.backoff import Backoff

log = logging.getLogger(__name__)

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_LOOK_S = 1.0
_MIB = 2**20
_BETWEEN_RESTARTS_S = (30.0, 3600.0)


class Footprint(NamedTuple):
    """What a process holds.

    Attributes:
        rss_bytes: Resident memory; None where it is not known, as of a process that has ended.
        open_files: Files, sockets and pipes; None also where the system does not tell.
    """

    rss_bytes: int | None = None
    open_files: int | None = None


def measure_footprint(pid: int) -> Footprint:
    """Return what a process holds now; what cannot be looked at is None, whatever the reason."""
    footprint = Footprint()
    try:
        process = psutil.Process(pid)
        footprint = Footprint(int(process.memory_info().rss))
        if sys.platform != "win32":
            footprint = footprint._replace(open_files=process.num_fds())
    except psutil.Error:
        pass  # it has just ended, or its files are not for us to see
    except OSError as error:  # of this process: it may have no more files, or no memory
        if error.errno in _EXHAUSTED:
            log.warning("processes cannot be looked at: %s; memory limits wait until they can", error.strerror)
    return footprint


class FootprintWatch:
    """Looks at one process after another of a stage, at most once a second, and at what memory it may hold.

    Attributes:
        footprint: What the process that runs now held when it was last looked at.
    """

    def __init__(self) -> None:
        self.footprint = Footprint()
        self._look_at = 0.0
        self._rest = Backoff(random.Random(), *_BETWEEN_RESTARTS_S)
        self._rest_until = 0.0

    def forget(self) -> None:
        """Begin anew: the process has ended."""
        self.footprint, self._look_at = Footprint(), 0.0

    def holds_too_much(self, now: float, name: str, pid: int, limit_mb: float | None, restarts: bool = True) -> bool:
        """Look at a process; tell, and log, when it should be started again for the memory it holds.

        Not over and over where it needs what it holds: after each time there is a rest, and the rests grow. A process
        that must not be started again is reported at once, and nothing is logged.

        Args:
            now: Monotonic clock, in seconds.
            name: Of its stage.
            pid: Its number.
            limit_mb: The resident memory that it may hold, in MiB; None is no limit.
            restarts: Whether it would be started again.
        """
        if now < self._look_at:
            return False
        self._look_at = now + _LOOK_S
        self.footprint = measure_footprint(pid)
        held = self.footprint.rss_bytes
        if limit_mb is None or held is None:
            return False
        if not restarts:
            return held > limit_mb * _MIB
        if now < self._rest_until:
            return False
        if held <= limit_mb * _MIB:
            self._rest.healthy_for(now - self._rest_until)
            return False
        rest = self._rest.failed()
        self._rest_until = now + rest
        log.warning(
            "%s holds %.0f MB of memory, more than its max_memory_mb of %g: it is started again, as planned; not once "
            "more within %.0f s",
            name,
            held / _MIB,
            limit_mb,
            rest,
        )
        return True
