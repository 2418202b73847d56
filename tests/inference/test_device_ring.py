"""The ring on the device. Its queues are played by Python, and lag as they like; without them they do all at once."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from stream_i3d.config import Config, IdleConfig, WindowConfig
from stream_i3d.inference.cuda_engine import CudaEngine, record_graph
from stream_i3d.inference.device_ring import CpuQueues, DeviceClip, DeviceRing, Queues, make_queues
from stream_i3d.inference.engine import LoadedModel, warm_up
from stream_i3d.inference.feed import Feed
from stream_i3d.inference.ring import FrameRing, MakeMemory
from stream_i3d.inference.runner import CameraWindows, Runner
from stream_i3d.inference.torch_engine import head_of
from stream_i3d.messages import ModelName
from stream_i3d.models.checkpoint import load_checkpoint
from stream_i3d.preprocess import Preprocessing
from stream_i3d.recognition.head import PublishedHead
from stream_i3d.recognition.postprocess import Postprocessor, PostprocessSettings
from tests.conftest import TINY
from tests.inference.test_cuda_engine import Recorder
from tests.samples import number_of, pixels, stamp

SIZE = 32
CPU = torch.device("cpu")


@dataclass(eq=False)
class Work:
    """Something that a queue will do, once what it waits for is done. It is its own mark."""

    do: Callable[[], None]
    after: Work | None
    done: bool = False


class LaggingQueues:
    """Queues that do nothing until `go_on` is called, and then as far as chance has it, in any order that is allowed.

    With `marks` false they ignore what they are told to wait for: what the ring must not rely on.
    """

    def __init__(self, chance: random.Random, marks: bool = True) -> None:
        self._chance, self._marks = chance, marks
        self._waiting: tuple[list[Work], list[Work]] = ([], [])
        self._lock = threading.RLock()

    def host(self, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=torch.uint8)

    device = host

    def upload(self, target: Tensor, source: Tensor, after: Work | None) -> Work:
        return self._put(0, lambda: target.copy_(source), after)

    def gather(self, copies: Sequence[tuple[Tensor, Tensor]], after: Work | None) -> Work:
        def copy() -> None:
            for target, source in copies:
                target.copy_(source)

        return self._put(1, copy, after)

    def wait(self, mark: Work) -> None:
        self._run_until(lambda: mark.done)

    def finish(self) -> None:
        """Do all that waits."""
        self._run_until(lambda: not any(self._waiting))

    def go_on(self) -> None:
        """Do some of what waits."""
        left = self._chance.randrange(4)
        self._run_until(lambda: self._countdown(left))

    def _countdown(self, left: int) -> bool:
        for _ in range(left):
            self._step()
        return True

    def _put(self, queue: int, do: Callable[[], Any], after: Work | None) -> Work:
        with self._lock:
            work = Work(lambda: (do(), None)[1], after)
            self._waiting[queue].append(work)
            return work

    def _run_until(self, reached: Callable[[], bool]) -> None:
        with self._lock:
            while not reached():
                assert self._step(), "the queues wait for each other"

    def _step(self) -> bool:
        ready = [
            queue
            for queue in self._waiting
            if queue and (not self._marks or queue[0].after is None or queue[0].after.done)
        ]
        if not ready:
            return False
        work = self._chance.choice(ready).pop(0)
        work.do()
        work.done = True
        return True


def gathered_and_wanted(seed: int, interval: int, marks: bool = True) -> list[tuple[list[int], list[int]]]:
    """Push frames and gather windows of a small ring by chance; return the numbers in each, and the due ones."""
    chance = random.Random(seed)
    queues = LaggingQueues(chance, marks)
    ring = FrameRing((12, 8, 8, 1), lambda shape: DeviceRing(shape, queues))
    into, found, span = torch.zeros((4, 8, 8, 1), dtype=torch.uint8), [], 3 * interval

    def push() -> None:
        ring.push(stamp(ring.end), np.full((8, 8, 1), ring.end % 256, np.uint8))
        queues.go_on()

    for _ in range(100):
        for _ in range(chance.randrange(1, 6)):
            push()
        first = ring.end - 1 - span - chance.randrange(12 - span)
        if first < 0:
            continue
        clip = ring.device_frames(first, first + span, interval)
        assert isinstance(clip, DeviceClip)
        clip.gather(into)
        for _ in range(chance.randrange(12)):  # the drain thread goes on while the gather waits for its turn
            push()
        queues.finish()
        wanted = [position % 256 for position in range(first, first + span + 1, interval)]
        found.append((into[:, 0, 0, 0].tolist(), wanted))
    return found


@pytest.mark.parametrize("interval", [1, 2, 3])
def test_a_gather_reads_no_frame_that_is_under_way_and_none_that_is_being_overwritten(interval: int) -> None:
    for seed in range(10):
        for gathered, wanted in gathered_and_wanted(seed, interval):
            assert gathered == wanted


def test_without_waiting_for_marks_it_would() -> None:
    found = [pair for seed in range(10) for pair in gathered_and_wanted(seed, 1, marks=False)]
    assert any(gathered != wanted for gathered, wanted in found)


def test_a_slot_is_not_written_before_its_last_frame_is_up() -> None:
    queues = LaggingQueues(random.Random(0))
    ring = DeviceRing((2, 8, 8, 1), queues)
    for number in range(5):  # nothing goes on by itself here
        slot = number % 2
        ring.before(slot)
        ring.frames[slot] = number
        ring.written(slot)
    into = torch.zeros((2, 8, 8, 1), dtype=torch.uint8)
    ring.gather([slice(1, 2, 1), slice(0, 1, 1)], into)
    queues.finish()
    assert into[:, 0, 0, 0].tolist() == [3, 4]


MADE, LABELS = TINY.preprocessing, TINY.labels or ()


@pytest.fixture
def record() -> Recorder:
    return Recorder()


@pytest.fixture
def engine(tiny_checkpoint: Path, record: Recorder) -> CudaEngine:
    """The GPU's engine, on the CPU."""
    return CudaEngine(load_checkpoint(tiny_checkpoint)[0], TINY, CPU, "fp32", record=record)


def maps_of(engine: CudaEngine, batch: Tensor) -> Any:
    """(B, h, w, C) features of a prepared batch."""
    return engine.run(batch, [None] * len(batch))[0]["rgb"]


class Heard:
    """An engine that remembers how its batches came."""

    def __init__(self, engine: CudaEngine) -> None:
        self._engine, self.gathered, self.prepared = engine, 0, 0
        self.description, self.facts, self.clip_shape = engine.description, engine.facts, engine.clip_shape
        self.make_ring, self.run = engine.make_ring, engine.run
        self.rows: list[Any] = []

    def prepare(self, clips: Sequence[Any], device_frames: Sequence[object] = ()) -> Any:
        batch = self._engine.prepare(clips, device_frames)
        if device_frames:
            self.gathered += 1
            self.rows.append(batch.clone())
        else:
            self.prepared += 1
        return batch


def feed_of(stride: int, memory: MakeMemory | None = None, made: Preprocessing = MADE) -> Feed:
    window = WindowConfig(stride=stride)
    return Feed(made, window) if memory is None else Feed(made, window, make_memory=memory)


def windows(feed: Feed) -> CameraWindows:
    settings = PostprocessSettings.of(Config(), LABELS, ModelName(name="i3d", checkpoint="tiny"))
    return CameraWindows(feed, Postprocessor("door", settings, lambda: 0))


@pytest.mark.parametrize(("interval", "cameras"), [(1, 1), (1, 2), (2, 2)])
def test_windows_gathered_on_the_device_give_the_same_features_to_the_bit(
    engine: CudaEngine, record: Recorder, interval: int, cameras: int
) -> None:
    made = Preprocessing(
        short_side=MADE.short_side, crop_size=MADE.crop_size, clip_len=MADE.clip_len, frame_interval=interval
    )
    warm_up(engine, [cameras])
    feeds = [feed_of(5, engine.make_ring, made) for _ in range(cameras)]
    rng, compared = np.random.default_rng(0), 0
    for seq in range(260):  # the rings wrap around twice
        for feed in feeds:
            feed.push(stamp(seq), rng.integers(0, 256, (MADE.crop_size, MADE.crop_size, 3), np.uint8))
        clips = [clip for feed in feeds if (clip := feed.take()) is not None]
        if len(clips) == cameras and seq % 15 == 0:
            frames = [clip.frames for clip in clips]
            wanted = maps_of(engine, engine.prepare(frames))
            given = maps_of(engine, engine.prepare(frames, [clip.device_frames for clip in clips]))
            np.testing.assert_array_equal(given, wanted)
            compared += 1
    assert compared >= 10
    assert [shape[0] for shape in record.shapes] == [cameras]


def test_it_is_gathered_into_what_the_recording_reads(engine: CudaEngine, record: Recorder) -> None:
    ring = engine.make_ring((20, MADE.crop_size, MADE.crop_size, 3))
    clip = ring.device_frames(0, 15, 1)
    assert engine.prepare([], [clip]) is not engine.prepare([], [clip])  # nothing is recorded yet
    warm_up(engine, [1])
    batch = engine.prepare([], [clip])
    assert batch is engine.prepare([], [clip])
    before = record.replays
    maps_of(engine, batch)
    assert record.replays == before + 1


def test_the_runner_gathers_where_all_windows_are_on_the_device_and_counts_what_was_overwritten(
    engine: CudaEngine, tiny_checkpoint: Path
) -> None:
    heard = Heard(engine)
    head = PublishedHead({"rgb": head_of(load_checkpoint(tiny_checkpoint)[0], TINY, LABELS)})
    runner = Runner(LoadedModel(heard, head), Config(idle=IdleConfig(min_motion=0)), lambda: 0)
    on_device, on_host = windows(feed_of(8, heard.make_ring)), windows(feed_of(8))
    for seq in range(16):
        for camera in (on_device, on_host):
            camera.feed.push(stamp(seq), pixels(seq, MADE.crop_size))
    first, second = on_device.take(), on_host.take()
    assert first is not None and second is not None
    assert len(runner.run([(on_device, first)])) == 1
    assert [number_of(frame.numpy()) for frame in heard.rows[0][0]] == list(range(16))
    assert len(runner.run([(on_device, first), (on_host, second)])) == 2  # both brought there
    assert (heard.gathered, heard.prepared) == (1, 1)
    capacity = 16 + 8 + 64
    for seq in range(16, 16 + capacity):
        on_device.feed.push(stamp(seq), pixels(seq, MADE.crop_size))
    assert runner.run([(on_device, first)]) == []
    assert on_device.feed.windows_dropped["overrun"] == 1


def test_a_larger_stride_takes_the_frames_along_to_a_larger_ring(engine: CudaEngine) -> None:
    feed = feed_of(1, engine.make_ring)
    for seq in range(15):
        feed.push(stamp(seq), pixels(seq, MADE.crop_size))
    feed.set_stride(15)
    feed.push(stamp(15), pixels(15, MADE.crop_size))
    clip = feed.take()
    assert clip is not None and isinstance(clip.device_frames, DeviceClip)
    assert [number_of(frame.numpy()) for frame in engine.prepare([], [clip.device_frames])[0]] == list(range(16))


def test_two_threads_never_mix_frames_of_different_windows() -> None:
    """The drain thread pushes as fast as it can; whatever the main thread finds intact is one window, in order."""
    queues = LaggingQueues(random.Random(1))
    camera = windows(feed_of(3, lambda shape: DeviceRing(shape, queues)))
    into, stop, intact = torch.zeros((16, MADE.crop_size, MADE.crop_size, 3), dtype=torch.uint8), threading.Event(), 0

    def drain() -> None:
        seq = 0
        while not stop.is_set():
            with camera.lock:
                camera.feed.store(stamp(seq), pixels(seq, MADE.crop_size))
            queues.go_on()
            seq += 1

    thread = threading.Thread(target=drain)
    thread.start()
    try:
        while intact < 50:
            clip = camera.take()
            if clip is None:
                continue
            assert isinstance(clip.device_frames, DeviceClip)
            clip.device_frames.gather(into)
            whole = camera.intact(clip)
            queues.finish()
            if whole:
                intact += 1
                first = clip.window.first_frame
                assert [number_of(frame.numpy()) for frame in into] == list(range(first, first + 16))
    finally:
        stop.set()
        thread.join()


def test_plain_memory_is_nowhere_else() -> None:
    feed = feed_of(8)
    for seq in range(16):
        feed.push(stamp(seq), pixels(seq, MADE.crop_size))
    clip = feed.take()
    assert clip is not None and clip.device_frames is None


def test_a_device_without_queues_does_all_at_once() -> None:
    queues: Queues = make_queues(CPU)
    assert isinstance(queues, CpuQueues)
    target, source = queues.device(2), torch.tensor([1, 2], dtype=torch.uint8)
    assert queues.upload(target, source, None) is None
    assert target.tolist() == [1, 2]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu_the_same_features_come_out(tiny_checkpoint: Path) -> None:
    model, _ = load_checkpoint(tiny_checkpoint)
    engine = CudaEngine(model, TINY, torch.device("cuda:0"), "fp32", record=record_graph)
    warm_up(engine, [1])
    feed = feed_of(8, engine.make_ring)
    rng = np.random.default_rng(0)
    for seq in range(200):
        feed.push(stamp(seq), rng.integers(0, 256, (MADE.crop_size, MADE.crop_size, 3), np.uint8))
        clip = feed.take()
        if clip is not None:
            wanted = maps_of(engine, engine.prepare([clip.frames]))
            given = maps_of(engine, engine.prepare([clip.frames], [clip.device_frames]))
            np.testing.assert_array_equal(given, wanted)
