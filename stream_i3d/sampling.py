"""Turns a camera's own rate into the model's: which frames to keep, and how often. Pure: time is an argument.

Live cameras are sampled by monotonic arrival time (`Sampler`), files by their own time stamps (`FileSampler`), on every
path, so that a window spans the same time whatever the camera's rate, and a file gives the same live and offline.
"""

from __future__ import annotations

import math
from collections import deque

# A frame counts for a tick up to 0.7 of a tick early. With one threshold at the tick itself a 25 fps camera
# sampled at 25 would flap between 0 and 2 copies whenever jitter crosses the tick; this leaves it 0.7 tick of room.
_EARLY = 0.7


class Sampler:
    """Maps arriving frames onto a clock of `sample_fps` ticks per second.

    A faster camera's frames are skipped; a slower camera's frames are repeated, so that sixteen frames always span
    16 / sample_fps seconds, as when a slow video is resampled for training. Repeats are marked, never silent. After a
    gap of more than `max_repeats` ticks the clock starts anew at the next frame: a stall is not filled with copies,
    and the window over it is rejected for its span.
    """

    def __init__(self, sample_fps: float, max_repeats: int = 8) -> None:
        self.sample_fps = sample_fps
        self._max_repeats = max_repeats
        self._origin: float | None = None
        self._ticks = 0

    def push(self, time: float) -> int:
        """Return how many times the frame that arrived at `time` (seconds) enters the sampled stream: 0, 1, or more."""
        if self._origin is None:
            return self._restart(time)
        lag = (time - self._origin) * self.sample_fps - self._ticks
        if lag < -self.sample_fps or lag > self._max_repeats + _EARLY:  # time stepped back a second, or a stall
            return self._restart(time)
        if lag < 1 - _EARLY:
            return 0
        copies = max(1, math.floor(lag + 1 - _EARLY))
        self._ticks += copies
        return copies

    def _restart(self, time: float) -> int:
        self._origin = time
        self._ticks = 0
        return 1


class FileSampler:
    """Maps a file's pictures onto the same clock, where each picture lasts until the next one.

    A faster file's pictures are skipped as `Sampler` does. A slower one's are repeated for as long as they are shown,
    however long that is: a file has no stalls. `sample_fps` times a file's length is how many frames come of it.
    """

    def __init__(self, sample_fps: float) -> None:
        self.sample_fps = sample_fps
        self._origin: float | None = None
        self._newest = -1

    def push(self, time: float, until: float) -> int:
        """Return how many times the picture shown from `time` to `until` (seconds) enters the sampled stream."""
        if self._origin is None:
            self._origin = time
        newest = max(self._tick(time), self._tick(until) - 1)
        copies = max(0, newest - self._newest)
        self._newest += copies
        return copies

    def _tick(self, time: float) -> int:
        """Return the last tick that a picture at `time` is in time for."""
        assert self._origin is not None
        return math.floor((time - self._origin) * self.sample_fps + _EARLY)


class RateMeter:
    """Frames per second over the last `span_s` seconds of arrivals."""

    def __init__(self, span_s: float = 3.0) -> None:
        self._span_s = span_s
        self._times: deque[float] = deque()

    def push(self, time: float) -> None:
        """Note a frame at `time` (seconds, not decreasing)."""
        self._times.append(time)
        while time - self._times[0] > self._span_s:
            self._times.popleft()

    def fps(self, now: float) -> float:
        """Return the rate as of `now`; 0 with fewer than two recent frames."""
        while self._times and now - self._times[0] > 2 * self._span_s:
            self._times.popleft()
        if len(self._times) < 2:
            return 0.0
        return (len(self._times) - 1) / max(self._times[-1] - self._times[0], 1e-6)
