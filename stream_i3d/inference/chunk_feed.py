"""One camera's frames for streaming mode: each is fed to the network once, in chunks of 8, and none may be missing.

Where `buffer.CameraFeed` offers the newest window and drops what is stale, a network that is carried along the stream
must see every frame. So chunks wait in order; and where a frame is missing (a gap, a new epoch, a stall, too long a
queue) the stream is cut: the network begins anew, and predicts nothing until it is warm again.

Pure, as buffer.py: no socket, thread or clock, and no network.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream_i3d.buffer import DropReason
from stream_i3d.config import WindowConfig
from stream_i3d.messages import Clip, FrameStamp, Window
from stream_i3d.models.streaming_plan import SEEN_FRAMES, STEP_FRAMES, WARM_UP_STEPS
from stream_i3d.preprocess import Preprocessing
from stream_i3d.ring import FrameRing

MAX_WAITING_FRAMES = 32
"""Frames that may wait for the network, 1.3 s at 25 a second; where more do, all are dropped and the stream is cut."""

_SPARE_FRAMES = 64


@dataclass(frozen=True, slots=True)
class Chunk(Clip):
    """The next frames of a carried stream: `frames` is (8, size, size, 3) uint8, a view into the ring.

    `window` is every frame that the prediction may depend on, back to where the network began.

    Attributes:
        recent: The newest frames, as many as a window has, or since the break: what motion is measured on.
        run: Another number after each cut.
        phase: Which of the network's states goes on with it. With stride 4 there are two, by turns.
        number: How many chunks this phase was fed before in this run; at 0 it begins anew.
    """

    recent: NDArray[np.uint8]
    run: int
    phase: int
    number: int

    @property
    def ready(self) -> bool:
        """Whether the network, fed this, says something that means anything."""
        return self.number >= WARM_UP_STEPS


@dataclass(frozen=True, slots=True)
class DueChunk:
    """A stride has passed; `number` is None where no whole chunk ends here. Others as in `Chunk` and `buffer.Due`."""

    window: Window
    newest: FrameStamp
    last: int
    run: int = 0
    phase: int = 0
    number: int | None = None
    reason: DropReason | None = None
    strides: int = 1


class ChunkSchedule:
    """Says at each frame whether a stride has passed, and which of the network's states its frames go on with.

    Chunks end at frames 7, 15, 23, ... of each epoch, with stride 4 at 7, 11, 15, ... too, so that they are the same
    chunks live and offline, whatever was lost between. With a larger frame interval it is given the frames at which
    `index` grows, and counts these.
    """

    def __init__(self, preprocessing: Preprocessing, window: WindowConfig) -> None:
        self._stride, self._averaging = window.stride, window.averaging
        frames = preprocessing.window_frames
        self._max_span_s = ((frames - 1) * window.max_span_ratio + 0.5) / preprocessing.sample_fps  # as of a window
        self._interval = 1.0
        self._served = True
        self._times: deque[float] = deque(maxlen=frames)  # of the unbroken run's newest frames
        self._stamps: deque[FrameStamp] = deque(maxlen=SEEN_FRAMES + STEP_FRAMES * window.averaging)
        self._fed: dict[int, tuple[int, int]] = {}  # by phase: position of its newest chunk's end, that chunk's number
        self._run = self._run_start = self._begun = 0
        self._newest: FrameStamp | None = None
        self._broken_by: DropReason | None = None
        self._number = 0

    def push(self, stamp: FrameStamp, position: int) -> DueChunk | None:
        """Take note of the frame at `position`; return what is due now, if anything."""
        self._follow(stamp, position)
        index = self._index(stamp)
        self._times.append(stamp.elapsed)
        self._stamps.append(stamp)
        number = self._stride_number(index)
        strides, self._number = number - self._number, number
        if strides <= 0:
            return None
        if len(self._times) == self._times.maxlen:
            span_s = self._times[-1] - self._times[0]
            if span_s > self._max_span_s * self._interval:
                self._run_start = position + 1
                self.cut("span")
        phase = (index + 1) % STEP_FRAMES
        if not self._served or (index + 1) % self._stride or position - self._run_start + 1 < STEP_FRAMES:
            note = self._window(min(self._run_start, position), position)
            return DueChunk(note, stamp, position, reason=self._broken_by, strides=strides)
        end, before = self._fed.get(phase, (position, -1))
        chunk = before + 1 if end == position - STEP_FRAMES else 0
        if not self._fed:
            self._begun = position - STEP_FRAMES + 1
        self._fed[phase] = (position, chunk)
        if chunk >= WARM_UP_STEPS:
            self._broken_by = None
        first = position - SEEN_FRAMES + 1 - self._stride * (self._averaging - 1)
        window = self._window(max(first, self._begun), position)
        return DueChunk(window, stamp, position, self._run, phase, chunk, self._broken_by, strides)

    @property
    def run(self) -> int:
        """Number of the run that frames belong to now; another after each cut."""
        return self._run

    def cut(self, reason: DropReason) -> None:
        """Have the network begin anew with the next chunk."""
        self._run += 1
        self._fed.clear()
        self._times.clear()
        self._broken_by = reason

    def set_stride(self, stride: int) -> None:
        """Change the stride from the next frame on; what goes on being fed stays warm."""
        self._stride = stride
        if self._newest is not None:
            self._number = self._stride_number(self._index(self._newest))

    def serve(self, served: bool, frame_interval: float) -> None:
        """Go on with or without chunks, and with frames so far apart; the network begins anew."""
        self.cut("overload")
        self._served = served
        if frame_interval != self._interval:
            self._interval, self._newest = frame_interval, None

    def _index(self, stamp: FrameStamp) -> int:
        """Return a frame's number among those that the network sees."""
        return _index(stamp.seq, self._interval)

    def _stride_number(self, index: int) -> int:
        """Return how many strides have passed with the frame of this index."""
        return (index + 1) // self._stride

    def _window(self, first: int, last: int) -> Window:
        oldest = self._stamps[max(first - last - 1, -len(self._stamps))]
        newest = self._stamps[-1]
        return Window(first_frame=oldest.seq, last_frame=newest.seq, start_time=oldest.time, end_time=newest.time)

    def _follow(self, stamp: FrameStamp, position: int) -> None:
        """Begin a new run where frame `stamp` does not follow the newest one."""
        newest, self._newest = self._newest, stamp
        if newest is not None and stamp.epoch == newest.epoch:
            if self._index(stamp) == self._index(newest) + 1:
                return
            self.cut("gap")
        else:
            self._number = self._stride_number(self._index(stamp) - 1)
            if newest is not None:
                self.cut("epoch")
        self._run_start = position


def _index(seq: int, frame_interval: float) -> int:
    """Return how many frames that the network sees come before frame `seq`, or before the next one that it sees."""
    return math.floor(seq / frame_interval)


class ChunkFeed:
    """One camera's ring and chunk schedule, and the chunks that wait to be fed to the network, in order.

    Bounded: where more than `MAX_WAITING_FRAMES` wait, they are dropped together as stale and counted, since a hole in
    the stream costs the same warm-up wherever it is. Of a lossless source (a file read at full speed) the reader must
    stop feeding while `pending` is True. Used as `buffer.CameraFeed` is.
    """

    def __init__(self, preprocessing: Preprocessing, window: WindowConfig) -> None:
        self._window_frames, self._stride = preprocessing.window_frames, window.stride
        capacity = max(self._window_frames, STEP_FRAMES) + MAX_WAITING_FRAMES + _SPARE_FRAMES
        self._ring = FrameRing(capacity, preprocessing.crop_size)
        self._schedule = ChunkSchedule(preprocessing, window)
        self._waiting: deque[DueChunk] = deque()
        self._served, self._interval = True, 1.0
        self._arrived: FrameStamp | None = None
        self.windows_dropped: Counter[DropReason] = Counter()
        self.frames = self.frames_dropped = self.overflows = 0

    @property
    def pending(self) -> bool:
        """Whether something waits to be taken."""
        return bool(self._waiting)

    @property
    def due_stamp(self) -> FrameStamp | None:
        """The newest frame of the chunk that comes next, if one waits."""
        waiting = self._waiting[0] if self._waiting else None
        return None if waiting is None or waiting.number is None else waiting.newest

    @property
    def backlog(self) -> int:
        """How many strides wait."""
        return len(self._waiting)

    def set_stride(self, stride: int) -> None:
        """Change how many frames lie between predictions, from the next frame on: 8, or 4 for twice the work."""
        self._stride = stride
        self._schedule.set_stride(stride)

    def serve(self, served: bool, frame_interval: float = 1) -> bool:
        """Go on with chunks or without them: what waits is dropped, and the network begins anew.

        Args:
            served: Whether there are chunks.
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
        """Take in one (size, size, 3) uint8 RGB frame; return True when there is something to take."""
        return self.store(stamp, self.augment(stamp, pixels))

    def augment(self, stamp: FrameStamp, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the pixels as they are: streaming mode is for networks that see RGB."""
        return pixels

    def store(self, stamp: FrameStamp, pixels: NDArray[np.uint8]) -> bool:
        """Take in one frame; return True when there is something to take (`take` or `notes`)."""
        self._count(stamp)
        if _index(stamp.seq, self._interval) == _index(stamp.seq - 1, self._interval):
            return False
        due = self._schedule.push(stamp, self._ring.push(stamp, pixels))
        if due is None:
            return False
        if due.reason is not None:
            self.windows_dropped[due.reason] += due.strides
        if not self._served:
            return False
        self._waiting.append(due)
        if len(self._waiting) * self._stride > MAX_WAITING_FRAMES:
            self.overflows += 1
            self._drop_waiting("stale")
        return True

    def take(self) -> Chunk | None:
        """Return the chunk that comes next, or None; its frames are a view: see `intact`."""
        if not self._waiting or self._waiting[0].number is None:
            return None
        due = self._waiting.popleft()
        assert due.number is not None
        oldest = due.last - min(self._window_frames, STEP_FRAMES * (due.number + 1)) + 1
        assert self._ring.holds(oldest), "fewer frames wait than the ring has room for"
        recent = self._ring.view(oldest, due.last)
        return Chunk(due.window, due.newest, recent[-STEP_FRAMES:], oldest, recent, due.run, due.phase, due.number)

    def intact(self, clip: Clip) -> bool:
        """Tell whether a chunk just read was not overwritten meanwhile; cuts the stream where it was."""
        if self._ring.holds(clip.first_position):
            return True
        assert isinstance(clip, Chunk)
        self.windows_dropped["overrun"] += clip.ready
        self._drop_waiting("overrun")
        return False

    def discard(self, clip: Clip) -> None:
        """Count a chunk whose result was not finite, and cut the stream: what the network keeps of it is spoiled."""
        assert isinstance(clip, Chunk)
        self.windows_dropped["not_finite"] += clip.ready
        if clip.run == self._schedule.run:
            self._drop_waiting("not_finite")
            return
        going_on = [due for due in self._waiting if due.number is not None and due.run == clip.run]
        self.windows_dropped["not_finite"] += sum((due.number or 0) >= WARM_UP_STEPS for due in going_on)
        self._waiting = deque(due for due in self._waiting if due not in going_on)

    def notes(self) -> Iterator[tuple[Window, FrameStamp]]:
        """Yield, once each, the strides that no chunk ends at, up to the next chunk."""
        while self._waiting and self._waiting[0].number is None:
            due = self._waiting.popleft()
            yield due.window, due.newest

    def _count(self, stamp: FrameStamp) -> None:
        """Count a frame, and those between it and the one before that never arrived."""
        before, self._arrived = self._arrived, stamp
        self.frames += 1
        if before is not None and before.epoch == stamp.epoch:
            self.frames_dropped += max(0, stamp.seq - before.seq - 1)

    def _drop_waiting(self, reason: DropReason) -> None:
        """Drop all that waits, and cut the stream; what was to warm the network up has been counted, or was none."""
        self.windows_dropped[reason] += sum((due.number or 0) >= WARM_UP_STEPS for due in self._waiting)
        self._waiting.clear()
        self._schedule.cut(reason)
