"""A worker on a fake clock: real feeds, real `Pace`, cameras that deliver in time, an engine that takes its time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from stream_i3d.config import Config, WindowConfig
from stream_i3d.inference.setup import ModelSetup
from stream_i3d.inference.worker.drain import Camera, WorkerJob
from stream_i3d.inference.worker.pace import Pace
from stream_i3d.messages import Clip, FrameStamp, ModelName
from stream_i3d.preprocess import Preprocessing
from stream_i3d.recognition.postprocess import PostprocessSettings
from stream_i3d.stage import CameraSlot

FPS = 25.0
SMALL = Preprocessing(short_side=8, crop_size=8)
PIXELS = np.zeros((8, 8, 3), np.uint8)


@dataclass(slots=True)
class Seen:
    """What one camera was given."""

    predictions: list[tuple[float, float]] = field(default_factory=list)  # when done, when its newest frame came
    steps: list[tuple[float, int]] = field(default_factory=list)  # when done, the chunk's number in its run

    @property
    def wasted(self) -> int:
        """Steps of runs that ended before their first prediction; one that still goes on is none."""
        wasted, run = 0, 0
        for _, number in self.steps:
            if number == 0:
                wasted += run if run <= 7 else 0
                run = 0
            run += 1
        return wasted

    def gap_s(self, start: float, end: float) -> float:
        """The longest time without a prediction between two times."""
        done = [start, *(at for at, _ in self.predictions if start < at < end), end]
        return max(later - earlier for earlier, later in itertools.pairwise(done))

    def age_s(self, start: float, end: float) -> float:
        """The greatest age of what was known of the camera between two times."""
        times = [(at, came) for at, came in self.predictions if at < end]
        ages = [later - came for (_, came), later in zip(times, [at for at, _ in times[1:]] + [end], strict=True)
                if later >= start]  # fmt: skip
        return max(ages, default=end)

    def count(self, start: float, end: float) -> int:
        return sum(start < at <= end for at, _ in self.predictions)

    def latency_s(self, start: float) -> float:
        return max(at - came for at, came in self.predictions if at >= start)


class Machine:
    """Cameras, an engine and a clock; `run` lets time pass."""

    def __init__(
        self,
        phases_s: Sequence[float],
        batch_s: Callable[[int, float], float],
        batch_limit: int = 1,
        fps: float = FPS,
        **window: object,
    ) -> None:
        """Args: `batch_s` gives the seconds of a batch of a size that begins at a time."""
        config = Config(window=WindowConfig(**window))  # type: ignore[arg-type]
        model = ModelName(name="i3d", checkpoint="fake")
        setup = ModelSetup(path="/w/f.safetensors", spec=None, config=config.model, preprocessing=SMALL, labels=None)
        self._job = WorkerJob(cameras=[], relay="ipc://x", setup=setup, config=config)
        self._settings = PostprocessSettings.of(config, ("a",), model)
        self._batch_s = batch_s
        self.rates: list[float] = []
        self._fps = fps
        self.now = 0.0
        self.cameras: list[Camera] = []
        self.seen: list[Seen] = []
        self._next: list[tuple[float, int]] = []  # of each camera: when its next frame comes, and its number
        self.cut: list[tuple[float, int]] = []
        measured = {1: batch_s(1, 0.0), batch_limit: batch_s(batch_limit, 0.0)}
        self.pace = Pace(config.window, FPS, batch_limit, measured, lambda: 1e9 + self.now)
        for phase_s in phases_s:
            self.add(phase_s)

    def add(self, phase_s: float = 0.0) -> int:
        """Add a camera; return its number."""
        slot = CameraSlot(name=f"c{len(self.cameras)}", channel="ipc://x", lossless=False)
        self.cameras.append(Camera(slot, self._job, self._settings))
        self.seen.append(Seen())
        self.rates.append(self._fps)
        self._next.append((self.now + phase_s, 0))
        self.pace.retune(self._job.config.window, self.cameras)
        return len(self.cameras) - 1

    def silence(self, camera: int, seconds: float) -> None:
        """Have a camera deliver nothing for a while: frames are missing then."""
        at, number = self._next[camera]
        lost = round(seconds * self.rates[camera])
        self._next[camera] = (at + lost / self.rates[camera], number + lost)

    def run(self, seconds: float) -> Machine:
        end = self.now + seconds
        while self.now < end:
            self._deliver()
            for camera in self.cameras:
                list(camera.windows.feed.notes())
            chosen, batch = self.pace.choose(self.cameras, round(self.now * 1e9))
            due = [(camera, clip) for camera in chosen if (clip := camera.windows.take()) is not None]
            if due:
                took = self._batch_s(len(due), self.now)
                self.now += took
                self._deliver()
                for camera, clip in due:
                    self._note(self.cameras.index(camera), clip)
                self.pace.ran(due, took)
            self.cut += [(self.now, self.cameras.index(one)) for one in self.pace.look(self.cameras, self.now)]
            if not due:
                waits_s = batch.wait_s or 0.05
                self.now = max(self.now + 1e-4, min(self.now + waits_s, min(at for at, _ in self._next)))
        return self

    def _note(self, index: int, clip: Clip) -> None:
        seen = self.seen[index]
        seen.steps.append((self.now, clip.number))
        if clip.ready:
            seen.predictions.append((self.now, clip.newest.capture_ns * 1e-9))

    def _deliver(self) -> None:
        """Push every frame that has come by now."""
        for index, camera in enumerate(self.cameras):
            at, number = self._next[index]
            while at <= self.now:
                stamp = FrameStamp(
                    camera=camera.slot.name, epoch=1, seq=number, capture_ns=round(at * 1e9), wall_time=1e9 + at
                )
                camera.windows.feed.push(stamp, PIXELS)
                at, number = at + 1 / self.rates[index], number + 1
            self._next[index] = at, number

    def per_second(self, start: float, end: float) -> float:
        """Predictions of all cameras a second."""
        return sum(seen.count(start, end) for seen in self.seen) / (end - start)

    @property
    def wasted(self) -> int:
        return sum(seen.wasted for seen in self.seen)
