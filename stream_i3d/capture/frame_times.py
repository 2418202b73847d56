"""When each picture of a file begins and how long it lasts, from time stamps that may be wrong. Pure.

The first picture is at 0, and times always advance. A picture lasts until the next one, the last one as long as the
file says of it.
"""

from __future__ import annotations

from typing import Final

_FALLBACK_FPS: Final = 25.0
_MAX_FPS: Final = 1000.0
_STEP_BACK_S: Final = 1.0
"""Time stamps that step back by more begin a new part, as where recordings were joined; by less they are jitter."""

LONGEST_STILL_S: Final = 3600.0
"""A longer gap between two pictures is taken for damage."""

CUT_STILL_S: Final = 60.0
"""What such a gap is cut to: longer than any window, so that no window holds both sides of it."""


class FrameTimes:
    """Turns the time stamps of one file's pictures, in the order in which they are shown, into times.

    Args:
        nominal_fps: Frames per second by the container; nonsense is replaced by 25.
    """

    def __init__(self, nominal_fps: float | None) -> None:
        usable = nominal_fps is not None and 0 < nominal_fps <= _MAX_FPS  # not nan, either
        self.step_s = 1 / nominal_fps if usable and nominal_fps is not None else 1 / _FALLBACK_FPS
        self.jumps: list[tuple[float, float]] = []
        """(time, seconds) of the first few gaps that were cut and of steps back (negative) that were bridged."""
        self._last: float | None = None
        self._offset = 0.0
        self._last_pts: float | None = None
        self._last_dts: float | None = None
        self._faulty_pts = 0
        self._faulty_dts = 0

    def push(self, pts: float | None, dts: float | None = None) -> float:
        """Return a picture's time in seconds.

        Args:
            pts: Its presentation time stamp in seconds; None where it has none.
            dts: Its decoding time stamp, taken instead where presentation times are missing or out of order.
        """
        stamp = self._best(pts, dts)
        last = self._last
        if last is None:
            self._offset = 0.0 if stamp is None else -stamp
            self._last = 0.0
            return self._last
        time = last + self.step_s if stamp is None else stamp + self._offset
        if time < last - _STEP_BACK_S:
            time = self._jump(time, last + self.step_s)
        elif time <= last:
            time = last + self.step_s
        elif time > last + LONGEST_STILL_S:
            time = self._jump(time, last + CUT_STILL_S)
        self._last = time
        return time

    def lasts(self, duration: float | None) -> float:
        """Return how long the last picture is shown, given its own duration in seconds, if it has one."""
        if duration is None or not 0 < duration <= LONGEST_STILL_S:
            return self.step_s
        return duration

    def _jump(self, time: float, instead: float) -> float:
        assert self._last is not None
        if len(self.jumps) < 3:
            self.jumps.append((self._last, time - self._last))
        self._offset += instead - time
        return instead

    def _best(self, pts: float | None, dts: float | None) -> float | None:
        """Choose between the two as FFmpeg does: presentation times, unless they are in worse order."""
        if dts is not None:
            self._faulty_dts += self._last_dts is not None and dts <= self._last_dts
            self._last_dts = dts
        if pts is not None:
            self._faulty_pts += self._last_pts is not None and pts <= self._last_pts
            self._last_pts = pts
        if pts is not None and (dts is None or self._faulty_pts <= self._faulty_dts):
            return pts
        return dts
