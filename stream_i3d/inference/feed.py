"""One camera's frames before any model: the ring of recent frames, and the clips that are due.

Pure: no socket, thread or clock. The worker's drain thread pushes; its main thread takes. A lock, where two threads
share a feed, is the caller's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stream_i3d.config import WindowConfig
from stream_i3d.inference.ring import FrameRing, HostMemory, MakeMemory
from stream_i3d.inference.schedule import DropReason, Due, make_schedule
from stream_i3d.messages import Clip, FrameStamp, Window
from stream_i3d.models.streaming_plan import STEP_FRAMES
from stream_i3d.preprocess import Preprocessing

MAX_WAITING_FRAMES = 32
"""Frames that may wait in streaming mode, 1.3 s at 25 a second. If more do, all are dropped and the stream is cut."""

_SPARE_FRAMES = 64
_MAX_NOTES = 8

_STALL_TICKS = 9.0
"""Sampled frames' time between neighbours beyond which they are unrelated: longer than the sampler fills by repeats."""


class Augment(Protocol):
    """Adds to each frame, as it arrives, what is computed from it and the frame before: optical flow."""

    channels: int
    """Of its result."""

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(size, size, 3) uint8 RGB -> (size, size, channels) uint8, the first three of them as they were."""

    def reset(self) -> None:
        """Forget the frame before: the next one does not follow it."""


class Augmenting:
    """Runs an `Augment` along a camera's frames, and resets it where a frame does not follow the one before."""

    def __init__(self, augment: Augment | None, sample_fps: float) -> None:
        """Args: `augment` None leaves frames as they are."""
        self._augment = augment
        self._stall_s = _STALL_TICKS / sample_fps
        self._newest: FrameStamp | None = None
        self.channels = 3 if augment is None else augment.channels

    def __call__(self, stamp: FrameStamp, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(size, size, 3) uint8 RGB -> (size, size, channels) uint8; once for each frame, in order."""
        if self._augment is None:
            return pixels
        before, self._newest = self._newest, stamp
        if before is not None and not self._follows(stamp, before):
            self._augment.reset()
        return self._augment(pixels)

    def _follows(self, stamp: FrameStamp, before: FrameStamp) -> bool:
        """Tell whether two pictures are neighbours, so that motion between them means something."""
        if stamp.epoch != before.epoch or stamp.seq != before.seq + 1:
            return False
        return stamp.elapsed - before.elapsed < self._stall_s


class Feed:
    """One camera's ring and schedule, and the clips that wait to be run.

    In window mode the newest wins: a window that still waits when the next is due is dropped as stale and counted. A
    network that is carried along the stream must see every frame, so there clips wait in order. Where more than
    `MAX_WAITING_FRAMES` wait they are dropped together, because a hole in the stream costs the same warm-up wherever it
    is. Of a lossless source (a file read at full speed) the reader must stop feeding while `pending` is True.
    """

    def __init__(
        self,
        preprocessing: Preprocessing,
        window: WindowConfig,
        augment: Augment | None = None,
        make_memory: MakeMemory = HostMemory,
    ) -> None:
        """Prepare for a stream.

        Args:
            preprocessing: Of the frames.
            window: The mode, and its settings.
            augment: Makes of each arriving frame what the ring holds; None keeps frames as they are.
            make_memory: Makes the ring's memory; see `ring.RingMemory`.
        """
        self._in_order = window.mode == "streaming"
        self._stride, self._interval, self._served = window.stride, 1.0, True
        self._clip_frames = STEP_FRAMES if self._in_order else preprocessing.clip_len
        self._frame_interval = preprocessing.frame_interval
        self._window_frames = preprocessing.window_frames
        self._augmenting = Augmenting(augment, preprocessing.sample_fps)
        shape = self._capacity(window.stride), *preprocessing.usual_frame_size, self._augmenting.channels
        self._ring = FrameRing(shape, make_memory)
        self._schedule = make_schedule(preprocessing, window)
        self._waiting: tuple[Due, ...] = ()  # exchanged as a whole: `pending` is read without the lock
        self._arrived: FrameStamp | None = None
        self.windows_dropped: Counter[DropReason] = Counter()
        self.frames = self.frames_dropped = self.overflows = 0

    @property
    def pending(self) -> bool:
        """Whether a clip waits to be taken; in streaming mode, whether anything waits."""
        return any(due.whole or self._in_order for due in self._waiting)

    @property
    def due_stamp(self) -> FrameStamp | None:
        """The newest frame of the clip that is taken next, if one waits."""
        due = self._next()
        return None if due is None else due.newest

    @property
    def backlog(self) -> int:
        """How many strides wait."""
        return len(self._waiting)

    def set_stride(self, stride: int) -> None:
        """Change how many frames lie between clips, from the next frame on; nothing held is lost."""
        self._stride = stride
        self._schedule.set_stride(stride)
        if self._capacity(stride) > self._ring.capacity:
            self._ring = self._ring.grown(self._capacity(stride))

    def serve(self, served: bool, frame_interval: float = 1) -> bool:
        """Go on with clips or without them: what waits is dropped, and the stream is cut.

        Args:
            served: Whether there are clips.
            frame_interval: Frames for each one that the network sees: 1 is all of them, 1.25 four of five.

        Returns:
            Whether anything changed.
        """
        if (served, frame_interval) == (self._served, self._interval):
            return False
        self._served, self._interval = served, frame_interval
        self._drop_waiting("overload")
        self._schedule.serve(served, frame_interval)
        return True

    def push(self, stamp: FrameStamp, pixels: NDArray[np.uint8]) -> bool:
        """Take in one (height, width, 3) uint8 RGB frame; return True when there is something to take.

        That is `augment` and `store` in one, for callers of one thread.
        """
        return self.store(stamp, self.augment(stamp, pixels))

    def augment(self, stamp: FrameStamp, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return what `store` wants of a frame; once for each, in order, by the thread that pushes.

        It touches nothing that the taking thread does, so it needs no lock: optical flow takes its time.
        """
        return self._augmenting(stamp, pixels)

    def store(self, stamp: FrameStamp, pixels: NDArray[np.uint8]) -> bool:
        """Take in one augmented frame; return True when there is something to take (`take` or `notes`).

        With the first frame of another shape, which begins an epoch, those before are let go.
        """
        if pixels.shape != self._ring.frame_shape:
            self._ring = self._ring.reshaped((pixels.shape[0], pixels.shape[1], pixels.shape[2]))
        self._count(stamp)
        if self._schedule.index(stamp.seq) == self._schedule.index(stamp.seq - 1):
            return False
        due = self._schedule.push(stamp, self._ring.push(stamp, pixels))
        if due is None:
            return False
        if due.reason is not None:
            self._drop(due.reason, due.strides)
        if not self._served:
            return False
        self._waiting = (*self._waiting, due)
        self._make_room()
        return True

    def take(self) -> Clip | None:
        """Return the clip that comes next, or None; its frames are a view: see `intact`."""
        due = self._next()
        if due is None:
            return None
        self._waiting = tuple(one for one in self._waiting if one is not due)
        if not self._ring.holds(due.first):
            self._overrun(due.ready)
            return None
        recent = self._ring.view(due.first, due.last, self._frame_interval)
        first = due.last - (self._clip_frames - 1) * self._frame_interval
        return Clip(
            due.window,
            due.newest,
            recent[-self._clip_frames :],
            recent,
            due.first,
            device_frames=self._ring.device_frames(first, due.last, self._frame_interval),
            run=due.run,
            phase=due.phase,
            number=due.number,
            ready=due.ready,
        )

    def intact(self, clip: Clip) -> bool:
        """Tell whether a clip just read was not overwritten meanwhile; counts it as dropped where it was."""
        if self._ring.holds(clip.first_position):
            return True
        self._overrun(clip.ready)
        return False

    def discard(self, clip: Clip) -> None:
        """Count a clip whose result was not finite; in streaming mode also what continues the spoiled state."""
        self._drop("not_finite", clip.ready)
        if not self._in_order:
            return
        if clip.run == self._schedule.run:
            self._drop_waiting("not_finite")
            self._schedule.cut("not_finite")
            return
        going_on = [due for due in self._waiting if due.whole and due.run == clip.run]
        self._drop("not_finite", sum(due.ready for due in going_on))
        self._waiting = tuple(due for due in self._waiting if due not in going_on)

    def notes(self) -> Iterator[tuple[Window, FrameStamp]]:
        """Yield, once each, the strides at which no whole clip ended, up to the next clip."""
        while self._waiting and not self._waiting[0].whole:
            due, *rest = self._waiting
            self._waiting = tuple(rest)
            yield due.window, due.newest

    def _next(self) -> Due | None:
        """Return the clip that is taken next; in streaming mode the strides before it must have been noted."""
        waiting = self._waiting[:1] if self._in_order else self._waiting
        return next((due for due in waiting if due.whole), None)

    def _capacity(self, stride: int) -> int:
        frames = max(self._window_frames, self._clip_frames)
        return frames + (MAX_WAITING_FRAMES if self._in_order else stride) + _SPARE_FRAMES

    def _make_room(self) -> None:
        """Drop what waits for too long already."""
        if self._in_order:
            if len(self._waiting) * self._stride > MAX_WAITING_FRAMES:
                self.overflows += 1
                self._drop_waiting("stale")
                self._schedule.cut("stale")
            return
        stale = [due for due in self._waiting if due.whole][:-1]
        notes = [due for due in self._waiting if not due.whole][:-_MAX_NOTES]
        self._drop("stale", len(stale))
        if stale or notes:
            self._waiting = tuple(due for due in self._waiting if due not in stale and due not in notes)

    def _overrun(self, ready: bool) -> None:
        """Count a clip that was overwritten before it was read."""
        self._drop("overrun", ready)
        if self._in_order:
            self._drop_waiting("overrun")
            self._schedule.cut("overrun")

    def _drop(self, reason: DropReason, count: int) -> None:
        if count:
            self.windows_dropped[reason] += count

    def _drop_waiting(self, reason: DropReason) -> None:
        """Drop all that waits, and count it; what was to warm a state up has been counted, or was none."""
        self._drop(reason, sum(due.whole and due.ready for due in self._waiting))
        self._waiting = ()

    def _count(self, stamp: FrameStamp) -> None:
        """Count a frame, and those between it and the one before that never arrived."""
        before, self._arrived = self._arrived, stamp
        self.frames += 1
        if before is not None and before.epoch == stamp.epoch:
            self.frames_dropped += max(0, stamp.seq - before.seq - 1)
