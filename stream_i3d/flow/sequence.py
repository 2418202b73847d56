"""Flow along a stream of pictures: which pair each frame's flow is of.

The flow of frame t is from frame t - 1 to frame t, and that of the very first frame is zero. A live path can do no
other without waiting for the next frame, and a stack of T flow fields then goes with T frames, computed from T + 1
pictures wherever the one before the stack is known. Nothing is known of cameras here: whoever calls says, by `reset`,
that the next picture does not follow the last (a new epoch, a gap).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from stream_i3d.flow.method import Field, FlowMethod, Gray


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
