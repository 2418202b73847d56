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
"""Least height and width in pixels; smaller pictures have nothing to match on a coarse level."""


class FlowMethod(Protocol):
    """A method that computes flow. Not thread-safe: a method may keep buffers between calls, but no results."""

    def __call__(self, previous: Gray, current: Gray) -> Field:
        """Return the displacement of each pixel of `previous` in `current`.

        Args:
            previous: (H, W) uint8 or float32 in [0, 255], H and W at least `MIN_SIDE`.
            current: The next picture, of the same shape.

        Returns:
            (H, W, 2) float32 pixels (x to the right, y down): previous[y, x] is found at
            current[y + flow[y, x, 1], x + flow[y, x, 0]].

        Raises:
            ValueError: The shapes differ, are not (H, W), or are too small.
        """
        ...


def check_shapes(previous: tuple[int, ...], current: tuple[int, ...]) -> None:
    """Check that both shapes are the same (H, W) and large enough.

    Raises:
        ValueError: They are not.
    """
    if previous != current or len(previous) != 2:
        raise ValueError(f"flow needs two gray pictures of one shape (H, W), not {previous} and {current}")
    if min(previous) < MIN_SIDE:
        raise ValueError(f"flow needs pictures of at least {MIN_SIDE} x {MIN_SIDE} pixels, not {previous}")


class FlowSequence:
    """Keeps the last picture, so that flow is computed once per frame as it arrives."""

    def __init__(self, method: FlowMethod) -> None:
        self._method = method
        self._previous: Gray | None = None

    def push(self, gray: Gray) -> Field:
        """Return the flow from the last picture to this one; zero if there is none of the same shape.

        Args:
            gray: (H, W) uint8 or float32 in [0, 255]. It is kept until the next call without a copy: do not change it.

        Returns:
            (H, W, 2) float32 pixels.

        Raises:
            ValueError: The shape is not one that the method accepts.
        """
        previous, self._previous = self._previous, gray
        if previous is None or previous.shape != gray.shape:
            return np.zeros((*gray.shape, 2), np.float32)
        return self._method(previous, gray)

    def reset(self) -> None:
        """Discard the last picture, so that the next flow is zero; for pictures that do not follow each other."""
        self._previous = None


def flow_stack(grays: Iterable[Gray], method: FlowMethod, before: Gray | None = None) -> Field:
    """Return the flow of T consecutive pictures.

    Args:
        grays: T pictures, (H, W) uint8 or float32 in [0, 255].
        method: The flow method.
        before: The picture before the first; None makes the first flow zero.

    Returns:
        (T, H, W, 2) float32 pixels.

    Raises:
        ValueError: There is no picture, or the shape is not one that the method accepts.
    """
    sequence = FlowSequence(method)
    if before is not None:
        sequence.push(before)
    return np.stack([sequence.push(gray) for gray in grays])
