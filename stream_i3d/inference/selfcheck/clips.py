"""The fixed clips that engines are checked on: drawn from integers, so the same on every machine.

Textures of several scales that drift, and a bright square that crosses them the other way: every layer of a network
sees edges, motion and contrast. Pure.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream_i3d.models.streaming_plan import STEP_FRAMES, WARM_UP_STEPS
from stream_i3d.preprocess import FrameSize

VERSION = 1
"""Raised when the clips change: reference values of other clips are then worth nothing."""

CHECK_STEPS = WARM_UP_STEPS + 2
"""Steps of a carried stream: the first real prediction is that of step `WARM_UP_STEPS`, and one more follows it."""

_LONG_CLIP = 32
"""Frames from which one clip is enough: it holds as many windows of time as two short ones."""

Clip = NDArray[np.uint8]
"""(T, H, W, C)."""


def window_clips(frames: int, size: FrameSize, channels: int) -> list[Clip]:
    """Return the clips for a network of windows, one or two of (frames, height, width, channels) uint8."""
    return [_draw(number, frames, size, channels) for number in range(1 if frames >= _LONG_CLIP else 2)]


def stream_clip(size: FrameSize, channels: int) -> Clip:
    """Return the stream for a carried network, (8 * CHECK_STEPS, height, width, channels) uint8."""
    return _draw(0, STEP_FRAMES * CHECK_STEPS, size, channels)


def _draw(number: int, frames: int, size: FrameSize, channels: int) -> Clip:
    """Return one clip; each number is another texture and another motion."""
    rng = np.random.default_rng((VERSION, number))
    height, width = size
    ground = np.zeros((2 * height, 2 * width, channels), np.int32)
    for scale in (2, 4, 8, 16):
        cells = rng.integers(0, 64, (scale, scale, channels), np.int32)
        rows, columns = (np.arange(2 * side) * scale // (2 * side) for side in size)
        ground += cells[rows][:, columns]
    clip = np.empty((frames, height, width, channels), np.uint8)
    square = max(4, min(size) // 4)
    bright = rng.integers(150, 256, channels, np.int32)
    for time in range(frames):
        turn = min(size) * time // frames
        down, right = (turn, turn // 2) if number % 2 else (turn // 3, turn)
        clip[time] = ground[down : down + height, right : right + width]
        top, left = (height - square) * (frames - 1 - time) // max(1, frames - 1), width // 3
        clip[time, top : top + square, left : left + square] = bright
    return clip
