"""A capture loop with everything around it faked: source, channel, clock, stage and FFmpeg's words."""

from __future__ import annotations

import contextlib
import itertools
import math
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest

from stream_i3d.capture import loop
from stream_i3d.capture.address import parse_source
from stream_i3d.capture.loop import CaptureJob, CaptureLoop
from stream_i3d.capture.reader import Clock
from stream_i3d.config import CaptureConfig
from stream_i3d.errors import SourceUnavailable
from stream_i3d.messages import CameraReport, Frame
from stream_i3d.preprocess import Image, Preprocessing
from stream_i3d.stage import CaptureOrder, SourceNews, StageMessage

SMALL = Preprocessing(short_side=32, crop_size=32)


class FakeStage:
    """The child's side of a link without a parent."""

    def __init__(self) -> None:
        self.again = False
        self.stopping = threading.Event()
        self.beats = 0
        self.orders: list[CaptureOrder] = []
        self.said: list[StageMessage] = []
        self.news: list[SourceNews] = []  # of the source, apart from what answers orders
        self.long_calls: list[float] = []

    def beat(self) -> None:
        self.beats += 1

    @contextlib.contextmanager
    def long_call(self, limit_s: float) -> Iterator[None]:
        self.long_calls.append(limit_s)
        yield

    def order(self) -> CaptureOrder | None:
        return self.orders.pop(0) if self.orders else None

    def say(self, message: StageMessage) -> None:
        if isinstance(message, SourceNews):
            self.news.append(message)
        else:
            self.said.append(message)


class FakeTime:
    """A clock that only moves when somebody waits."""

    def __init__(self, stage: FakeStage) -> None:
        self.now_s = 100.0
        self.wall_s = 1_700_000_000.0
        self._stage = stage

    def clock(self) -> Clock:
        return Clock(lambda: math.ceil(self.now_s * 1e9), lambda: self.wall_s, self._sleep_until)

    def pass_by(self, seconds: float) -> None:
        self.now_s += seconds
        self.wall_s += seconds

    def _sleep_until(self, until_s: float) -> bool:
        self.pass_by(max(0.0, until_s - self.now_s))
        return not self._stage.stopping.is_set()


class FakeSource:
    """Pictures at a fixed rate; a live one then fails (or does `at_end`), a file ends."""

    def __init__(
        self, time: FakeTime, pictures: int, fps: float, live: bool = True, at_end: Callable[[], None] | None = None
    ) -> None:
        self.frozen_from = pictures  # pictures after this one are like it
        self.whole_from = 0  # pictures before this one are not intact
        self.live = live
        self.description = "64x48, nominally 25 fps"
        self.duration_s = None
        self.pixel_aspect = 1.0
        self.memory_limit_mb = 500.0
        self.grabbed = 0
        self.closed = False
        self._time = time
        self._pictures = pictures
        self._fps = fps
        self._at_end = at_end

    def grab(self) -> float | None:
        assert not self.closed, "a closed source was read"
        if self.grabbed == self._pictures:
            if not self.live:
                return None
            if self._at_end is None:
                raise SourceUnavailable("webcam 0: the stream ended")
            self._at_end()
        else:
            self.grabbed += 1
        if self.live:
            self._time.pass_by(1 / self._fps)
            return 0.0
        return (self.grabbed - 1) / self._fps

    @property
    def until(self) -> float | None:
        return None if self.live else self.grabbed / self._fps

    def retrieve(self) -> Image:
        number = min(self.grabbed, self.frozen_from)
        return np.full((48, 64, 3), number * 37 % 256, np.uint8)

    @property
    def intact(self) -> bool:
        return self.grabbed > self.whole_from

    def doubt(self) -> None:
        self.whole_from = self.grabbed + 10  # a key picture comes then

    def close(self) -> None:
        self.closed = True


@dataclass
class FakeChannel:
    """A frame channel; `room`, `connections` and `final_room` say of each try whether it succeeds (then: always)."""

    room: Iterable[bool] = ()
    connections: Iterable[bool] = ()
    final_room: Iterable[bool] = ()
    frames: list[Frame] = field(default_factory=list)
    reports: list[CameraReport] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    final_waits: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._room = itertools.chain(self.room, itertools.repeat(True))
        self._connections = itertools.chain(self.connections, itertools.repeat(True))
        self._final_room = itertools.chain(self.final_room, itertools.repeat(True))

    def connected(self, wait_s: float) -> bool:
        assert wait_s > 0, "asking without waiting would spin"
        return next(self._connections)

    def send(self, frame: Frame, wait_s: float = 0.0) -> bool:
        self.waits.append(wait_s)
        if not next(self._room):
            return False
        self.frames.append(frame)
        return True

    def report(self, report: CameraReport, wait_s: float = 0.0) -> bool:
        if report.final:
            self.final_waits.append(wait_s)
            if not next(self._final_room):
                return False
        self.reports.append(report)
        return True

    @property
    def states(self) -> list[str]:
        """The states in order, each once a run."""
        return [state for state, _ in itertools.groupby(report.state for report in self.reports)]


class FakeStderr:
    def __init__(self, *reasons: str, damage_at: int | None = None) -> None:
        """Args: `damage_at` is the question, from 1, that is answered with yes."""
        self._reasons = list(reasons)
        self._questions = 0
        self._damage_at = damage_at

    def reason(self) -> str | None:
        return self._reasons.pop(0) if self._reasons else None

    def damage(self) -> bool:
        self._questions += 1
        return self._questions == self._damage_at


class Rig:
    """A capture loop and all that it touches. `openings`: what each try to open the source gives."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stage = FakeStage()
        self.time = FakeTime(self.stage)
        self.channel = FakeChannel()
        self.stderr = FakeStderr()
        self.openings: list[FakeSource | Exception] = []
        self.opened_at: list[float] = []
        self._monkeypatch = monkeypatch

    def camera(self, pictures: int, fps: float = 25.0, then_stop: bool = False) -> FakeSource:
        """A live source that fails, or is told to stop, after `pictures`."""
        return FakeSource(self.time, pictures, fps, at_end=self.stage.stopping.set if then_stop else None)

    def file(self, pictures: int, fps: float = 25.0) -> FakeSource:
        return FakeSource(self.time, pictures, fps, live=False)

    def run(self, source: str = "0", **config: object) -> None:
        """Run the loop; a try to open beyond the last of `openings` is told to stop and fails."""
        address = parse_source(source)
        job = CaptureJob(
            camera="door",
            source=source,
            channel="ipc://unused",
            preprocessing=SMALL,
            config=CaptureConfig(**config),  # type: ignore[arg-type]
        )

        def open_next(*_: object) -> FakeSource:
            self.opened_at.append(self.time.now_s)
            if not self.openings:
                self.stage.stopping.set()
                raise SourceUnavailable("the test is over")
            opening = self.openings.pop(0)
            if isinstance(opening, Exception):
                raise opening
            return opening

        self._monkeypatch.setattr(loop, "open_source", open_next)
        clock = self.time.clock()
        CaptureLoop(self.stage, job, address, self.channel, clock, self.stderr).run()  # type: ignore[arg-type]

    def details(self, state: str) -> list[str]:
        return [report.detail for report in self.channel.reports if report.state == state]
