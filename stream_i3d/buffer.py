"""The schedule of windows over the ring of recent frames, and what is due: one camera's stream, before any model.

Pure: no socket, thread or clock. The worker's drain thread pushes; its main thread takes. A lock, where two threads
share a feed, is the caller's.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from stream_i3d.messages import Clip, FrameStamp, Window
from stream_i3d.preprocess import Preprocessing
from stream_i3d.ring import FrameRing, MakeMemory

DropReason = Literal["stale", "gap", "epoch", "span", "overrun", "overload", "not_finite"]
"""Why a due window was not recognised: a newer one was due already; a frame of it is missing; it crosses a reconnect;
its frames span too long a time; its frames were overwritten before they were read; in streaming mode, the machine
cannot keep up and the camera waits for its turn; or what the network gave for it was not finite."""


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


@dataclass(frozen=True, slots=True)
class Due:
    """A stride has passed: a whole window, or (where `ready` is False) as much as there is since the stream began.

    `strides` is more than 1 where the frames at which earlier windows were due never came.
    """

    first: int
    last: int
    ready: bool
    reason: DropReason | None = None
    strides: int = 1


class WindowScheduler:
    """Says at each frame whether a window is due, and whether its frames make a window at all.

    Windows end at frames window_frames - 1, + stride, + 2 strides, ... of each epoch, so that they are the same windows
    live and offline, whatever was lost between.
    """

    def __init__(self, preprocessing: Preprocessing, stride: int, max_span_ratio: float) -> None:
        self._frames = preprocessing.window_frames
        self._stride = stride
        # Half a tick more: at 8 frames a repeated picture shifts an arrival by that much.
        self._max_span_s = ((self._frames - 1) * max_span_ratio + 0.5) / preprocessing.sample_fps
        self._newest: FrameStamp | None = None
        self._run: deque[float] = deque(maxlen=self._frames)  # times of the unbroken run of frames
        self._broken_by: DropReason | None = None
        self._number = 0
        self.frames_dropped = 0

    def push(self, stamp: FrameStamp, position: int) -> Due | None:
        """Take note of the frame at `position`; return what is due now, if anything."""
        self._follow(stamp)
        self._run.append(stamp.elapsed)
        number = self._window_number(stamp.seq)
        strides, self._number = number - self._number, number
        if strides <= 0:
            return None
        first = position - len(self._run) + 1
        if len(self._run) < self._frames:
            return Due(first, position, ready=False, reason=self._broken_by, strides=strides)
        self._broken_by = None
        if self._run[-1] - self._run[0] > self._max_span_s:
            return Due(first, position, ready=False, reason="span")
        return Due(first, position, ready=True)

    def set_stride(self, stride: int) -> None:
        """Have windows end at frames window_frames - 1 + n * stride from the next frame on."""
        self._stride = stride
        if self._newest is not None:
            self._number = self._window_number(self._newest.seq)

    def _window_number(self, seq: int) -> int:
        """Return the number of the last window due at or before frame `seq`; below 0 while none was whole."""
        return (seq - (self._frames - 1)) // self._stride

    def _follow(self, stamp: FrameStamp) -> None:
        """Break the run where frame `stamp` does not follow the newest one."""
        newest, self._newest = self._newest, stamp
        if newest is None or stamp.epoch != newest.epoch:
            self._number = self._window_number(stamp.seq - 1)
            self._broken_by = None if newest is None else "epoch"
        elif stamp.seq != newest.seq + 1:
            self._broken_by = "gap"
            self.frames_dropped += max(0, stamp.seq - newest.seq - 1)
        else:
            return
        self._run.clear()


class CameraFeed:
    """One camera's ring and schedule, and the one newest window that waits to be recognised.

    Newest wins at window level: a window still waiting when the next is due is dropped as stale and counted, so nothing
    queues. Of a lossless source (a file read at full speed) the reader must stop feeding while `pending` is True.
    """

    _SPARE_FRAMES = 64
    _MAX_NOTES = 8

    def __init__(
        self,
        preprocessing: Preprocessing,
        stride: int,
        max_span_ratio: float,
        augment: Augment | None = None,
        make_memory: MakeMemory | None = None,
    ) -> None:
        """Prepare for a stream.

        Args:
            preprocessing: Of the frames.
            stride: Frames between windows.
            max_span_ratio: How much longer than its frames' time a window may take.
            augment: Makes of each arriving frame what the ring holds; None keeps frames as they are.
            make_memory: What the ring keeps frames in (see `ring.RingMemory`); None is plain memory.
        """
        self._interval = preprocessing.frame_interval
        self._augmenting = Augmenting(augment, preprocessing.sample_fps)
        self._window_frames = preprocessing.window_frames
        self._ring = FrameRing(self._capacity(stride), preprocessing.crop_size, self._augmenting.channels, make_memory)
        self._scheduler = WindowScheduler(preprocessing, stride, max_span_ratio)
        self._pending: Due | None = None
        self._pending_stamp: FrameStamp | None = None
        self._notes: deque[tuple[Window, FrameStamp]] = deque(maxlen=self._MAX_NOTES)
        self.windows_dropped: Counter[DropReason] = Counter()
        self.frames = 0

    @property
    def pending(self) -> bool:
        """Whether a whole window waits to be taken."""
        return self._pending is not None

    @property
    def due_stamp(self) -> FrameStamp | None:
        """The newest frame of the window that waits to be taken, if one does."""
        return None if self._pending is None else self._pending_stamp  # kept: its frame may be overwritten by now

    @property
    def frames_dropped(self) -> int:
        """Sampled frames that never arrived here."""
        return self._scheduler.frames_dropped

    def set_stride(self, stride: int) -> None:
        """Change how many frames lie between windows, from the next frame on; nothing held is lost."""
        self._scheduler.set_stride(stride)
        if self._capacity(stride) > self._ring.capacity:
            self._ring = self._ring.grown(self._capacity(stride))

    def _capacity(self, stride: int) -> int:
        return self._window_frames + stride + self._SPARE_FRAMES

    def push(self, stamp: FrameStamp, pixels: NDArray[np.uint8]) -> bool:
        """Take in one (size, size, 3) uint8 RGB frame; return True when there is something to take.

        That is `augment` and `store` in one, for callers of one thread.
        """
        return self.store(stamp, self.augment(stamp, pixels))

    def augment(self, stamp: FrameStamp, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return what `store` wants of a frame; once for each, in order, by the thread that pushes.

        It touches nothing that the taking thread does, so it needs no lock: optical flow takes its time.
        """
        return self._augmenting(stamp, pixels)

    def store(self, stamp: FrameStamp, pixels: NDArray[np.uint8]) -> bool:
        """Take in one augmented frame; return True when there is something to take (`take` or `notes`)."""
        due = self._scheduler.push(stamp, self._ring.push(stamp, pixels))
        self.frames += 1
        if due is None:
            return False
        if due.reason is not None:
            self.windows_dropped[due.reason] += due.strides
        if due.ready:
            if self._pending is not None:
                self.windows_dropped["stale"] += 1
            self._pending, self._pending_stamp = due, stamp
        else:
            self._notes.append((self._window(due), stamp))
        return True

    def take(self) -> Clip | None:
        """Return the newest due window as a clip, or None; its frames are a view: see `intact`."""
        due, self._pending = self._pending, None
        if due is None:
            return None
        if not self._ring.holds(due.first):
            self.windows_dropped["overrun"] += 1
            return None
        frames = self._ring.view(due.first, due.last, self._interval)
        device_frames = self._ring.device_frames(due.first, due.last, self._interval)
        return Clip(self._window(due), self._ring.stamp(due.last), frames, due.first, device_frames=device_frames)

    def intact(self, clip: Clip) -> bool:
        """Tell whether a clip just read was not overwritten meanwhile; counts it as dropped where it was."""
        if self._ring.holds(clip.first_position):
            return True
        self.windows_dropped["overrun"] += 1
        return False

    def discard(self, clip: Clip) -> None:
        """Count a window as dropped whose result was not finite."""
        self.windows_dropped["not_finite"] += 1

    def notes(self) -> Iterator[tuple[Window, FrameStamp]]:
        """Yield, once each, the strides at which no whole window stood: while warming up, or after a break."""
        while self._notes:
            yield self._notes.popleft()

    def _window(self, due: Due) -> Window:
        first, last = self._ring.stamp(due.first), self._ring.stamp(due.last)
        return Window(first_frame=first.seq, last_frame=last.seq, start_time=first.time, end_time=last.time)
