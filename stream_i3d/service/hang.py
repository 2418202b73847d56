"""Tells a process that hangs from one that is slow, by its heartbeat and by what it does. Pure: time is an argument.

A heartbeat alone cannot: a network takes half a minute to be compiled, and on a machine with too much to do everything
takes long. A process that hangs neither beats nor runs, nor wants to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from stream_i3d.service.activity import Activity

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
