"""Tells a process that hangs from one that is slow. The judgement is pure: time is an argument.

A heartbeat alone cannot tell: a network takes half a minute to compile, and on a busy machine everything takes long. A
process hangs when it sends no heartbeat, does not run and does not wait for a core.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import psutil

from stream_i3d.thread_names import BESIDE

_RUNNABLE = frozenset("RD")  # D: waits for a disk, or for memory that was swapped out


class Activity(NamedTuple):
    """What the threads of a process do, without those that work beside its main loop (thread_names).

    Attributes:
        stopped: Whether it was stopped, as by SIGSTOP.
        working: Whether a thread runs, waits for a core, or waits for a disk just now.
        busy_s: Seconds of all threads so far, running or waiting for a core. On a machine with too much to do the time
            of a process that wants to work goes by in waiting.
    """

    stopped: bool
    working: bool
    busy_s: float


def look_at_activity(pid: int) -> Activity | None:
    """Return what a process does now; None where that cannot be seen: it has ended, or too many files are open."""
    with suppress(psutil.Error, OSError, ValueError, IndexError):
        if sys.platform.startswith("linux"):
            return _of_threads(Path(f"/proc/{pid}/task"))
        process = psutil.Process(pid)
        status, times = process.status(), process.cpu_times()
        return Activity(
            stopped=status == psutil.STATUS_STOPPED,
            working=status in (psutil.STATUS_RUNNING, psutil.STATUS_DISK_SLEEP),
            busy_s=times.user + times.system,
        )
    return None


def _of_threads(tasks: Path) -> Activity | None:
    states, busy_ns = "", 0
    for task in tasks.iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            name, _, rest = (task / "stat").read_text(errors="replace").partition("(")[2].rpartition(")")
            if name.startswith(BESIDE):
                continue
            fields = rest.split()
            states += fields[0]
            busy_ns += _busy_ns(task, fields)
    if not states:
        return None
    return Activity(states == "T" * len(states), not _RUNNABLE.isdisjoint(states), busy_ns * 1e-9)


def _busy_ns(task: Path, fields: list[str]) -> int:
    """Return the nanoseconds for which a thread ran or waited for a core; only ran, of a kernel that tells no more."""
    try:
        ran, waited, *_ = (task / "schedstat").read_text().split()
        return int(ran) + int(waited)
    except (FileNotFoundError, ValueError):
        return (int(fields[11]) + int(fields[12])) * 10_000_000


STOPPED_S = 5.0
"""A process that was stopped (SIGSTOP) for longer is started again."""

LOOK_AFTER_S = 2.0
"""A heartbeat older than this has a process looked at."""

BUSY_STARTUP = 10
"""How many times as long a process may take to start while it works, or waits for a core: the machine is busy."""

_LOOK_S = 1.0
_BUSY_SHARE = 0.03
_ABSENT_S = 4.0


@dataclass(frozen=True, slots=True)
class HangLimits:
    """What a process is allowed.

    Attributes:
        idle_s: Seconds without a heartbeat, while it neither runs nor wants to.
        silent_s: Seconds without a heartbeat, whatever it does.
    """

    idle_s: float
    silent_s: float

    def within(self, long_call_s: float) -> HangLimits:
        """Return the limits while it is in a call that may take so long."""
        if not long_call_s:
            return self
        return HangLimits(max(self.idle_s, long_call_s), max(self.silent_s, long_call_s))


class HangWatch:
    """Follows one process, from its start on."""

    def __init__(self) -> None:
        self._asked_at: float | None = None
        self._awake_at = float("-inf")
        self._look_at = float("-inf")
        self._last: tuple[float, Activity] | None = None
        self._worked_at = float("-inf")
        self._stopped_since: float | None = None

    def judge(self, now: float, beat_at: float, limits: HangLimits, look: Callable[[], Activity | None]) -> str:
        """Return how the process hangs, such as "was silent for over 60 s"; "" where it does not.

        Args:
            now: Monotonic clock, in seconds; to be called several times a second.
            beat_at: Its last heartbeat, by the same clock.
            limits: What it is allowed just now.
            look: Looks at what it does; called at most once a second, and only when it has not beaten for a while.
        """
        if self._asked_at is not None and now - self._asked_at > _ABSENT_S:
            self._awake_at = now  # this process did not run itself, nor need the others have: the machine slept
        self._asked_at = now
        alive_at = max(beat_at, self._awake_at)
        if now - alive_at > limits.silent_s:
            return f"was silent for over {limits.silent_s:g} s"
        if now - alive_at < LOOK_AFTER_S:
            self._last = self._stopped_since = None
            return ""
        if now >= self._look_at:
            self._look_at = now + _LOOK_S
            self._take(now, look())
        if self._stopped_since is not None and now - max(self._stopped_since, self._awake_at) > STOPPED_S:
            return f"was stopped for over {STOPPED_S:g} s"
        if self._last is not None and now - max(alive_at, self._worked_at) > limits.idle_s:
            return f"was silent and idle for over {limits.idle_s:g} s"
        return ""

    def _take(self, now: float, activity: Activity | None) -> None:
        if activity is None:  # not known: not idle
            self._last, self._stopped_since, self._worked_at = None, None, now
            return
        if not activity.stopped:
            self._stopped_since = None
        elif self._stopped_since is None:
            self._stopped_since = now
        worked = activity.working
        if self._last is not None:
            before, last = self._last
            # Less than before: a thread has ended, which is work too.
            worked |= abs(activity.busy_s - last.busy_s) >= _BUSY_SHARE * (now - before)
        if worked and not activity.stopped:
            self._worked_at = now
        self._last = now, activity
