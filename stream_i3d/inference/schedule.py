"""Which frames of a camera's stream make the next clip, in window and in streaming mode.

Pure: no socket, thread or clock. Clips end at fixed frames of each epoch, so that they are the same live and offline,
whatever was lost between.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Literal

from stream_i3d.config import WindowConfig
from stream_i3d.messages import FrameStamp, Window
from stream_i3d.models.streaming_plan import SEEN_FRAMES, STEP_FRAMES, WARM_UP_STEPS
from stream_i3d.preprocess import Preprocessing

DropReason = Literal["stale", "gap", "epoch", "span", "overrun", "overload", "not_finite"]
"""Why a due window was not recognised: a newer one was due already; a frame of it is missing; it crosses a reconnect;
its frames span too long a time; its frames were overwritten before they were read; in streaming mode, the machine
cannot keep up and the camera waits for its turn; or the network's output for it was not finite."""


@dataclass(frozen=True, slots=True)
class Due:
    """A stride has passed.

    Attributes:
        window: Place of the frames that the prediction depends on; without a clip, of those there are.
        newest: Stamp of the newest frame.
        first: Position of the oldest frame that the clip and the measure of motion need.
        last: Position of the newest frame.
        whole: Whether a whole clip ends here.
        reason: Why there is no prediction here; None while the stream begins, and where there is one.
        strides: More than 1 if the frames at which earlier clips were due never came.
        run, phase, number, ready: As in `Clip`.
    """

    window: Window
    newest: FrameStamp
    first: int
    last: int
    whole: bool
    reason: DropReason | None = None
    strides: int = 1
    run: int = 0
    phase: int = 0
    number: int = 0
    ready: bool = True


class Schedule:
    """The schedule of window mode, in which every clip is a whole window and stands alone.

    Windows end at frames window_frames - 1, + stride, + 2 strides, ... of each epoch.
    """

    def __init__(self, preprocessing: Preprocessing, window: WindowConfig) -> None:
        self._init(preprocessing, window, preprocessing.window_frames, preprocessing.window_frames)

    def _init(self, preprocessing: Preprocessing, window: WindowConfig, clip_frames: int, seen_frames: int) -> None:
        """Args: `clip_frames` from the first to the last of a clip; `seen_frames` that a prediction may depend on."""
        self._stride = window.stride
        self._clip_frames = clip_frames
        frames = preprocessing.window_frames
        # Half a tick more: at 8 frames a repeated picture shifts an arrival by that much.
        self._max_span_s = ((frames - 1) * window.max_span_ratio + 0.5) / preprocessing.sample_fps
        self._interval = 1.0
        self._served = True
        self._times: deque[float] = deque(maxlen=frames)  # of the newest frames since the last break
        self._stamps: deque[FrameStamp] = deque(maxlen=seen_frames)
        self._newest: FrameStamp | None = None
        self._run = self._run_start = 0
        self._broken_by: DropReason | None = None
        self._number = 0

    def push(self, stamp: FrameStamp, position: int) -> Due | None:
        """Record the frame at `position`; return what is due now, if anything."""
        self._follow(stamp, position)
        index = self.index(stamp.seq)
        self._times.append(stamp.elapsed)
        self._stamps.append(stamp)
        number = self._stride_number(index)
        strides, self._number = number - self._number, number
        if strides <= 0:
            return None
        if self._stalled():
            return self._note(stamp, position, strides, self._stall(position))
        aligned = (index - (self._clip_frames - 1)) % self._stride == 0
        if not self._served or not aligned or position - self._run_start + 1 < self._clip_frames:
            return self._note(stamp, position, strides, self._broken_by)
        return self._clip(stamp, position, index, strides)

    @property
    def run(self) -> int:
        """Number of the run that frames belong to now; another after each break."""
        return self._run

    def index(self, seq: int) -> int:
        """Return how many frames that the network sees come before frame `seq`, or before the next one it sees."""
        return math.floor(seq / self._interval)

    def cut(self, reason: DropReason) -> None:
        """Break the stream: what comes next does not continue what came before."""
        self._run += 1
        self._times.clear()
        self._broken_by = reason

    def set_stride(self, stride: int) -> None:
        """Change the stride from the next frame on; a carried network stays warm."""
        self._stride = stride
        if self._newest is not None:
            self._number = self._stride_number(self.index(self._newest.seq))

    def serve(self, served: bool, frame_interval: float) -> None:
        """Go on with or without clips, and with frames so far apart; the stream is cut."""
        self.cut("overload")
        self._served = served
        if frame_interval != self._interval:
            self._interval, self._newest = frame_interval, None

    def _clip(self, stamp: FrameStamp, position: int, index: int, strides: int) -> Due:
        """Return the clip that ends with a frame."""
        self._broken_by = None
        first = position - self._clip_frames + 1
        return Due(self._window(first, position), stamp, first, position, whole=True, run=self._run)

    def _stall(self, position: int) -> DropReason:
        """Return why there is no clip where the newest frames took too long."""
        return "span"

    def _stalled(self) -> bool:
        if len(self._times) < (self._times.maxlen or 0):
            return False
        return self._times[-1] - self._times[0] > self._max_span_s * self._interval

    def _note(self, stamp: FrameStamp, position: int, strides: int, reason: DropReason | None) -> Due:
        oldest = max(self._run_start, position - len(self._stamps) + 1)
        first = min(oldest, position)
        return Due(self._window(first, position), stamp, first, position, False, reason, strides, ready=False)

    def _stride_number(self, index: int) -> int:
        """Return the number of the last clip due at or before a frame; below 0 while none was whole."""
        return (index - (self._clip_frames - 1)) // self._stride

    def _window(self, first: int, last: int) -> Window:
        oldest = self._stamps[max(first - last - 1, -len(self._stamps))]
        newest = self._stamps[-1]
        return Window(first_frame=oldest.seq, last_frame=newest.seq, start_time=oldest.time, end_time=newest.time)

    def _follow(self, stamp: FrameStamp, position: int) -> None:
        """Begin a new run where frame `stamp` does not follow the newest one."""
        newest, self._newest = self._newest, stamp
        if newest is not None and stamp.epoch == newest.epoch:
            if self.index(stamp.seq) == self.index(newest.seq) + 1:
                return
            self.cut("gap")
        else:
            self._number = self._stride_number(self.index(stamp.seq) - 1)
            if newest is not None:
                self.cut("epoch")
        self._run_start = position


class CarriedSchedule(Schedule):
    """The schedule of streaming mode, in which a network is carried along the stream by clips of 8 new frames.

    Clips end at frames 7, 15, 23, ... of each epoch, with stride 4 at 7, 11, 15, ... too, by a second state. Where a
    frame is missing every state begins anew, and gives no prediction until it is warm. With a larger frame interval the
    schedule is given the frames at which `index` grows, and counts these.
    """

    def __init__(self, preprocessing: Preprocessing, window: WindowConfig) -> None:
        self._init(preprocessing, window, STEP_FRAMES, SEEN_FRAMES + STEP_FRAMES * window.averaging)
        self._averaging, self._window_frames = window.averaging, preprocessing.window_frames
        self._fed: dict[int, tuple[int, int]] = {}  # by phase: position of its newest clip's end, that clip's number
        self._begun = 0

    def cut(self, reason: DropReason) -> None:
        """Break the stream: every state begins anew with the next clip."""
        super().cut(reason)
        self._fed.clear()

    def _clip(self, stamp: FrameStamp, position: int, index: int, strides: int) -> Due:
        phase = (index + 1) % STEP_FRAMES
        end, before = self._fed.get(phase, (position, -1))
        number = before + 1 if end == position - STEP_FRAMES else 0
        if not self._fed:
            self._begun = position - STEP_FRAMES + 1
        self._fed[phase] = (position, number)
        ready = number >= WARM_UP_STEPS
        if ready:
            self._broken_by = None
        seen = position - SEEN_FRAMES + 1 - self._stride * (self._averaging - 1)
        window = self._window(max(seen, self._begun), position)
        first = position - min(self._window_frames, STEP_FRAMES * (number + 1)) + 1
        return Due(
            window, stamp, first, position, True, self._broken_by, strides, self._run, phase, number, ready
        )  # fmt: skip

    def _stall(self, position: int) -> DropReason:
        self._run_start = position + 1
        self.cut("span")
        return "span"


def make_schedule(preprocessing: Preprocessing, window: WindowConfig) -> Schedule:
    """Return the schedule of a mode."""
    return CarriedSchedule(preprocessing, window) if window.mode == "streaming" else Schedule(preprocessing, window)
