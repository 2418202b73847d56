"""Which due windows run now, together: first come, first served, and how many at once pay. Pure: time is an argument.

A camera keeps its place in the queue when a newer window replaces the one that waits. If it went to the back each time,
as with plain earliest-deadline-first order, two cameras whose windows come at nearly the same moment would compete for
ever, and the later one would never be served while the engine takes longer than a stride.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

PAYS = 0.95
"""A batch twice as large pays where it costs less than this share of the time per window."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A due window of one camera.

    Attributes:
        camera: Which one, by any number.
        deadline_ns: When it should be done, on the clock of capture_ns: one stride after its newest frame's capture,
            when a newer window of the camera takes its place.
    """

    camera: int
    deadline_ns: int


@dataclass(frozen=True, slots=True)
class Batch:
    """What to do now: run these cameras' windows, or where there are none, look again after `wait_s`."""

    cameras: tuple[int, ...] = ()
    wait_s: float = 0.0


class Batching:
    """Makes micro-batches; waits for windows that are about to come where a larger batch pays, and no longer.

    Windows of one camera come a stride apart, so when the next one is due is known.
    """

    def __init__(self, limit: int, wait_s: float) -> None:
        """Args: at most `limit` windows in a batch; a window waits at most `wait_s` for others."""
        self.limit = limit
        self.wait_s = wait_s
        self._expected_ns: dict[int, int] = {}
        self._places_ns: dict[int, int] = {}  # of the cameras that wait: deadline of the first window since their last
        self._since_ns: int | None = None  # when the first of those that wait was seen

    def forget(self, camera: int) -> None:
        """Expect nothing more of a camera."""
        self._expected_ns.pop(camera, None)
        self._places_ns.pop(camera, None)

    def choose(self, waiting: Sequence[Waiting], now_ns: int) -> Batch:
        """Return what to run of what waits, at most one window per camera."""
        for window in waiting:
            self._expected_ns[window.camera] = window.deadline_ns
        self._places_ns = {one.camera: self._places_ns.get(one.camera, one.deadline_ns) for one in waiting}
        if not waiting:
            self._since_ns = None
            return Batch()
        self._since_ns = now_ns if self._since_ns is None else self._since_ns
        if len(waiting) < self.limit and (wait_s := self._worth_waiting({one.camera for one in waiting}, now_ns)) > 0:
            return Batch(wait_s=wait_s)
        self._since_ns = None
        first = sorted(self._places_ns, key=lambda camera: (self._places_ns[camera], camera))[: self.limit]
        for camera in first:
            del self._places_ns[camera]
        return Batch(tuple(first))

    def _worth_waiting(self, here: set[int], now_ns: int) -> float:
        """Return the seconds until another camera's window should come, 0 where none comes in time."""
        assert self._since_ns is not None
        until_ns = self._since_ns + round(self.wait_s * 1e9)
        # One that is late by more than a wait does not come: its camera has stalled.
        early_ns = now_ns - round(self.wait_s * 1e9)
        coming = [
            due for camera, due in self._expected_ns.items() if camera not in here and early_ns <= due <= until_ns
        ]
        if not coming or now_ns >= until_ns:
            return 0.0
        return (until_ns - now_ns) * 1e-9


def largest_that_pays(time_of: Callable[[int], float], most: int, longest_s: float = float("inf")) -> int:
    """Return the largest batch that costs clearly less per window than one half as large.

    Args:
        time_of: Runs a batch of so many windows and returns its seconds; called for 1, 2, 4 ... until one does not pay.
        most: The largest allowed.
        longest_s: How long a batch of more than one window may take: its first window waits for all of it.
    """
    best, per_window = 1, time_of(1) if most > 1 else 0.0
    while best * 2 <= most and per_window * best * 2 * PAYS <= longest_s:
        doubled = time_of(best * 2) / (best * 2)
        if doubled > PAYS * per_window or doubled * best * 2 > longest_s:
            break
        best, per_window = best * 2, doubled
    return best
