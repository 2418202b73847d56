"""The interface of a flow method, and optical flow along a stream of pictures.

The flow of frame t is the flow from frame t - 1 to frame t; that of the first frame is zero. A live stream allows
nothing else without waiting for the next frame. T flow fields go with T frames, and are computed from T + 1 pictures
where the picture before the first is known.
"""

from __future__ import annotations

from collections.abc import Iterable
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


class FlowSequence:
    """Remembers the last picture, so that flow is computed once per frame as it arrives."""

    def __init__(self, method: FlowMethod) -> None:
        self._method = method
        self._previous: Gray | None = None

    def push(self, gray: Gray) -> Field:
        """Return the flow from the last picture to this one; zero where there is none, or none of this shape.

        Args:
            gray: (H, W) uint8 or float32 in [0, 255]. Kept until the next, and not copied: do not write to it.

        Returns:
            (H, W, 2) float32 pixels.

        Raises:
            ValueError: If the method refuses the shape.
        """
        previous, self._previous = self._previous, gray
        if previous is None or previous.shape != gray.shape:
            return np.zeros((*gray.shape, 2), np.float32)
        return self._method(previous, gray)

    def reset(self) -> None:
        """Forget the last picture: the next one's flow is zero."""
        self._previous = None


def flow_stack(grays: Iterable[Gray], method: FlowMethod, before: Gray | None = None) -> Field:
    """Return the flow of T pictures in a row.

    Args:
        grays: T pictures, (H, W) uint8 or float32 in [0, 255].
        method: Called once for each pair of neighbours.
        before: The picture before the first, where there is one; else the first flow is zero.

    Returns:
        (T, H, W, 2) float32 pixels.

    Raises:
        ValueError: If there is no picture, or the method refuses the shape.
    """
    sequence = FlowSequence(method)
    if before is not None:
        sequence.push(before)
    return np.stack([sequence.push(gray) for gray in grays])
