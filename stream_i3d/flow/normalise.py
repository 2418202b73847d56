"""What lies before and after a flow method: gray pictures, and what the flow networks read. Pure.

The released recipe (Carreira & Zisserman, CVPR 2017; how it was quantised: kinetics-i3d, issue 24): flow of the resized
gray pictures, cut off at +-20 pixels, mapped linearly from [-20, 20] to the 256 codes [0, 255], then scaled to [-1, 1].

The last two make codes what pixels are: code / 127.5 - 1 is the network's input for both, so flow travels and waits as
uint8 like a picture does, at a quarter of the size, and `stream_i3d.preprocess.normalise` fits both. A code stands for
40/255 = 0.157 pixel. None stands for "no motion": that is 127.5, it becomes 128, and reads as +0.078 pixel, 0.0039 for
the network.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BOUND = 20.0
"""Pixels at which the released data cut off motion, in x and in y."""

STILL = 128
"""The code of no motion."""

_STEP = 2 * BOUND / 255

# Rec. 601 luma, 0.299 R + 0.587 G + 0.114 B, in OpenCV's fixed point of 14 bits.
_RED, _GREEN, _BLUE, _BITS = 4899, 9617, 1868, 14


def to_gray(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the brightness of pictures by cv2.cvtColor's formula, round(0.299 R + 0.587 G + 0.114 B).

    (..., H, W, 3) uint8 RGB -> (..., H, W) uint8. The order of the channels counts: BGR gives another gray.
    """
    red, green, blue = (rgb[..., channel].astype(np.uint32) for channel in range(3))
    weighted = red * _RED + green * _GREEN + blue * _BLUE + (1 << (_BITS - 1))
    return (weighted >> _BITS).astype(np.uint8)


def quantise(flow: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Cut off at +-20 pixels and round to the released data's 256 levels; halves are rounded up.

    (..., 2) float pixels -> (..., 2) uint8 codes: -20 is 0, 0 is 128, 20 is 255.
    """
    codes = np.clip(flow, -BOUND, BOUND) * (255 / (2 * BOUND)) + STILL  # half a code too much, so cutting off rounds
    return np.asarray(codes, dtype=np.uint8)


def dequantise(codes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the pixels that codes stand for, (..., 2) uint8 -> (..., 2) float32 in [-20, 20].

    Within +-20 pixels, dequantise(quantise(flow)) is at most 20/255 = 0.078 pixel from flow.
    """
    return codes.astype(np.float32) * np.float32(_STEP) - np.float32(BOUND)


def to_model_input(flow: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Cut off at +-20 pixels and scale to the network's range, without the rounding to codes.

    (..., 2) float pixels -> (..., 2) float32 in [-1, 1]. For the released data's own values give
    dequantise(quantise(flow)).
    """
    return np.asarray(np.clip(flow, -BOUND, BOUND) / BOUND, dtype=np.float32)
