"""The ring of recent frames, addressed by position; where their memory is, and who else gets them, is an argument.

Pure: no socket, thread or clock, and no torch. What a GPU keeps of a ring is inference/device_ring.py's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stream_i3d.messages import FrameStamp


class RingMemory(Protocol):
    """What a ring keeps its frames in, by slots; it may pass each frame on as it is put in."""

    frames: NDArray[np.uint8]
    """(capacity, height, width, channels)."""

    def before(self, slot: int) -> None:
        """Wait until `frames[slot]` may be overwritten."""

    def written(self, slot: int) -> None:
        """Record that a frame was put into `frames[slot]`."""

    def device_frames(self, first: int, last: int, interval: int) -> object:
        """Return what an engine finds the frames at these positions by, without `frames`; None where it does not."""


RingShape = tuple[int, int, int, int]
"""(capacity, height, width, channels)."""

MakeMemory = Callable[[RingShape], RingMemory]


class HostMemory:
    """Plain memory, for engines that take clips from it."""

    def __init__(self, shape: RingShape) -> None:
        self.frames = np.zeros(shape, np.uint8)

    def before(self, slot: int) -> None:
        """Nobody else reads it."""

    def written(self, slot: int) -> None:
        """Nobody else wants it."""

    def device_frames(self, first: int, last: int, interval: int) -> object:
        """It is nowhere else."""
        return None


class FrameRing:
    """The last `capacity` frames in preallocated memory.

    Frames are addressed by position, which counts the frames pushed, from 0. One copy in (`push`), none out where the
    memory is contiguous (`view`).
    """

    def __init__(self, shape: RingShape, make_memory: MakeMemory = HostMemory, begin: int = 0) -> None:
        """Make an empty ring.

        Args:
            shape: Capacity, and the shape of its frames.
            make_memory: Makes its memory.
            begin: Position of the first frame.
        """
        self._make_memory = make_memory
        self._memory = make_memory(shape)
        self._frames = self._memory.frames
        self._stamps: list[FrameStamp | None] = [None] * shape[0]
        self._begin = self._end = begin

    @property
    def capacity(self) -> int:
        """Frames held at most."""
        return len(self._frames)

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of its frames."""
        _, height, width, channels = self._frames.shape
        return height, width, channels

    @property
    def end(self) -> int:
        """Position the next frame will get."""
        return self._end

    def push(self, stamp: FrameStamp, pixels: NDArray[np.uint8]) -> int:
        """Copy (height, width, channels) uint8 pixels in; return the frame's position."""
        self._put(self._end, stamp, pixels)
        self._end += 1
        return self._end - 1

    def _put(self, position: int, stamp: FrameStamp | None, pixels: NDArray[np.uint8]) -> None:
        slot = position % self.capacity
        self._memory.before(slot)
        self._frames[slot] = pixels
        self._memory.written(slot)
        self._stamps[slot] = stamp

    def stamp(self, position: int) -> FrameStamp:
        """Return the stamp of a frame that is still held."""
        stamp = self._stamps[position % self.capacity]
        assert stamp is not None and self.holds(position)
        return stamp

    def holds(self, position: int) -> bool:
        """Tell whether the frame at `position` has not been overwritten."""
        return max(self._begin, self._end - self.capacity) <= position < self._end

    def grown(self, capacity: int) -> FrameRing:
        """Return a ring of more capacity with the same frames at the same positions; views into this one stay whole."""
        larger = FrameRing(
            (capacity, *self.frame_shape), self._make_memory, max(self._begin, self._end - self.capacity)
        )
        for position in range(larger._begin, self._end):
            slot = position % self.capacity
            larger._put(position, self._stamps[slot], self._frames[slot])
        larger._end = self._end
        return larger

    def reshaped(self, frame_shape: tuple[int, int, int]) -> FrameRing:
        """Return an empty ring for frames of another shape, whose positions go on."""
        return FrameRing((self.capacity, *frame_shape), self._make_memory, self._end)

    def view(self, first: int, last: int, interval: int = 1) -> NDArray[np.uint8]:
        """Return the frames at first, first + interval, ..., last as (T, height, width, channels) uint8.

        A view without a copy, unless the stretch wraps around the ring's end. It shows newer frames once it has been
        overwritten: check `holds(first)` after reading it.
        """
        start, stop = first % self.capacity, last % self.capacity
        if start <= stop:
            return self._frames[start : stop + 1 : interval]
        slots = np.arange(first, last + 1, interval) % self.capacity
        return self._frames[slots]

    def device_frames(self, first: int, last: int, interval: int = 1) -> object:
        """Return what an engine finds the same frames by, where the ring's memory passes them on; else None.

        As with `view`, they are newer ones once overwritten: check `holds(first)` after the engine has been told to
        read them.
        """
        return self._memory.device_frames(first, last, interval)


def stretches(first: int, last: int, interval: int, capacity: int) -> list[slice]:
    """Return the slots of the positions first, first + interval, ..., last, as slices in that order: one or two."""
    start = first % capacity
    frames = (last - first) // interval + 1
    before_end = min(frames, -(-(capacity - start) // interval))
    found = [slice(start, start + (before_end - 1) * interval + 1, interval)]
    if before_end < frames:
        start = (first + before_end * interval) % capacity
        found.append(slice(start, start + (frames - before_end - 1) * interval + 1, interval))
    return found
