"""A cheap measure of whether anything moves in a window. Pure.

It looks at the frames in the ring, before any network: a motionless scene can be called idle, and inference saved.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK = 8
"""Pixels of the square blocks that are averaged first: camera noise of s grey levels shrinks to s / 8."""

_PERCENTILE = 98.0


def motion_measure(frames: NDArray[np.uint8]) -> float:
    """Return how much the picture changes within a window, in grey levels (0 to 255).

    Four frames spread over the window are compared: the green channel is averaged over 8 x 8 blocks, the mean change of
    the whole picture is taken out (exposure drift is no motion), and the 98th percentile of the blocks' absolute
    changes between neighbours is taken, so that a small moving hand counts and a single hot block does not.

    Args:
        frames: (T, H, W, C >= 3) uint8 RGB with H, W >= 8; a view will do. Channels after the third are not looked at.
    """
    picked = np.linspace(0, len(frames) - 1, num=min(4, len(frames))).round().astype(int)
    blocks = np.stack([_block_means(frames[index]) for index in picked])  # (4, H/8, W/8)
    changes = np.diff(blocks, axis=0)
    changes -= changes.mean(axis=(1, 2), keepdims=True)
    return float(np.percentile(np.abs(changes), _PERCENTILE, axis=(1, 2)).max())


def _block_means(frame: NDArray[np.uint8]) -> NDArray[np.float32]:
    height, width = (side - side % BLOCK for side in frame.shape[:2])
    green = frame[:height, :width, 1].astype(np.float32)
    means: NDArray[np.float32] = green.reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK).mean(axis=(1, 3))
    return means
