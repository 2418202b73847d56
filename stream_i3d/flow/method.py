"""What a flow method is: two gray pictures in, a displacement per pixel out."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Gray = NDArray[np.uint8] | NDArray[np.float32]
"""(H, W) brightness in [0, 255]."""

Field = NDArray[np.float32]
"""(H, W, 2) float32: pixels to the right, pixels down."""

MIN_SIDE = 16
"""Pixels; in a smaller picture there is nothing left to match on a coarse level."""


class FlowMethod(Protocol):
    """Computes flow. Not for two threads at once: a method may keep buffers between calls, though never results."""

    def __call__(self, previous: Gray, current: Gray) -> Field:
        """Return how far what is at each pixel of `previous` has moved in `current`.

        Args:
            previous: (H, W) uint8 or float32 in [0, 255], H and W at least `MIN_SIDE`.
            current: The picture after it, of the same shape.

        Returns:
            (H, W, 2) float32 pixels (x to the right, y down): previous[y, x] is found at
            current[y + flow[y, x, 1], x + flow[y, x, 0]].

        Raises:
            ValueError: If the pictures' shapes differ, or are not (H, W), or are too small.
        """
        ...


def check_shapes(previous: tuple[int, ...], current: tuple[int, ...]) -> None:
    """Check that both are the same (H, W) and large enough.

    Raises:
        ValueError: If not.
    """
    if previous != current or len(previous) != 2:
        raise ValueError(f"flow needs two gray pictures of one shape (H, W), not {previous} and {current}")
    if min(previous) < MIN_SIDE:
        raise ValueError(f"flow needs pictures of at least {MIN_SIDE} x {MIN_SIDE} pixels, not {previous}")
