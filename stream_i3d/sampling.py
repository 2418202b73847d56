"""Turns a camera's own rate into the model's: which frames to keep, and how often. Pure: time is an argument.

Live cameras are sampled by monotonic arrival time (`Sampler`), files by their own time stamps (`FileSampler`), on every
path, so that a window spans the same time whatever the camera's rate, and a file gives the same live and offline.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

from stream_i3d.preprocess import Preprocessing

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


LEAST_PICTURES: Final = 2
"""Real pictures that a window must hold on average. With one, every window is a picture that stands still."""


def too_short(name: str, pictures: int, seconds: float, needed_frames: int, sample_fps: float) -> str:
    """Return one line about a video of which no prediction, or no stack of features, could be made.

    Args:
        name: Of the video.
        pictures: How many there are in it.
        seconds: How long it lasts.
        needed_frames: Sampled frames that the first prediction takes.
        sample_fps: Sampled frames per second.
    """
    if pictures == 1:
        return f"{name} holds a single picture; nothing is recognised, since an action takes time"
    return (
        f"{name} lasts {seconds:.2f} s ({pictures} pictures); nothing is recognised in less than "
        f"{needed_frames / sample_fps:.2f} s ({needed_frames} frames at {sample_fps:g} a second)"
    )


def too_slow(name: str, pictures: int, seconds: float, preprocessing: Preprocessing) -> str | None:
    """Return one line about a video with too few pictures a second; None where there are enough.

    Args:
        name: Of the video.
        pictures: How many there are in it.
        seconds: How long it lasts.
        preprocessing: Of the frames; a window lasts `window_frames` of them.
    """
    window_s = preprocessing.window_frames / preprocessing.sample_fps
    least = LEAST_PICTURES / window_s
    if seconds <= 0 or pictures / seconds >= least:
        return None
    if pictures == 1:
        return f"{name} holds a single picture; what is recognised in it means nothing, since an action takes time"
    return (
        f"{name} has {pictures / seconds:.2g} pictures a second, fewer than {LEAST_PICTURES} in a window of "
        f"{window_s:.2f} s, so what is recognised in it means little; give at least {least:.1f} a second"
    )
