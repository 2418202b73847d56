"""Conversion to gray before a flow method, and quantisation to the flow networks' input after it. Pure.

The released recipe (Carreira & Zisserman, CVPR 2017; quantisation: kinetics-i3d, issue 24): flow of the resized gray
pictures, clipped to +-20 pixels, mapped linearly from [-20, 20] to the 256 codes [0, 255], then scaled to [-1, 1].

The network's input is code / 127.5 - 1, as for pixels, so flow is stored and sent as uint8 like a picture, at a quarter
of the size, and `stream_i3d.preprocess.normalise` serves both. One code is 40/255 = 0.157 pixel. No motion would be
127.5; it becomes 128, which means +0.078 pixel, or 0.0039 for the network.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BOUND = 20.0
"""Clipping limit of the released data in pixels, in x and in y."""

STILL = 128
"""The code of no motion."""

_STEP = 2 * BOUND / 255

# Rec. 601 luma, 0.299 R + 0.587 G + 0.114 B, in OpenCV's fixed point of 14 bits.
_RED, _GREEN, _BLUE, _BITS = 4899, 9617, 1868, 14


def to_gray(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Convert pictures to gray by cv2.cvtColor's formula, round(0.299 R + 0.587 G + 0.114 B).

    (..., H, W, 3) uint8 RGB (not BGR) -> (..., H, W) uint8.
    """
    red, green, blue = (rgb[..., channel].astype(np.uint32) for channel in range(3))
    weighted = red * _RED + green * _GREEN + blue * _BLUE + (1 << (_BITS - 1))
    return (weighted >> _BITS).astype(np.uint8)


def quantise(flow: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Clip to +-20 pixels and round to the 256 levels of the released data; halves are rounded up.

    (..., 2) float pixels -> (..., 2) uint8 codes: -20 is 0, 0 is 128, 20 is 255.
    """
    codes = np.clip(flow, -BOUND, BOUND) * (255 / (2 * BOUND)) + STILL  # half a code is added, so truncating rounds
    return np.asarray(codes, dtype=np.uint8)


def dequantise(codes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Convert codes to pixels, (..., 2) uint8 -> (..., 2) float32 in [-20, 20].

    Within +-20 pixels, dequantise(quantise(flow)) is at most 20/255 = 0.078 pixel from flow.
    """
    return codes.astype(np.float32) * np.float32(_STEP) - np.float32(BOUND)


def to_model_input(flow: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Clip to +-20 pixels and scale to the network's range, without rounding to codes.

    (..., 2) float pixels -> (..., 2) float32 in [-1, 1]. For the values of the released data, pass
    dequantise(quantise(flow)).
    """
    return np.asarray(np.clip(flow, -BOUND, BOUND) / BOUND, dtype=np.float32)
