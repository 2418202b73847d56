"""What runs when, on cameras that only say what a Pace asks of them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stream_i3d.config import WindowConfig
from stream_i3d.inference.feed import Feed
from stream_i3d.inference.worker.batch_limit import MAX_BATCH, any_batch, measured_limit
from stream_i3d.inference.worker.pace import Pace
from stream_i3d.messages import Clip, EngineFacts
from stream_i3d.preprocess import Preprocessing
from stream_i3d.recognition.head import Features
from stream_i3d.stage import CameraSlot
from tests.inference.fakes import FakeEngine
from tests.samples import pixels, stamp, window

FPS = 25.0
CHUNK = Clip(window(), stamp(15), pixels(0), pixels(0), 0, number=9)


class FakeFeed(Feed):
    """Of streaming mode; in window mode only the drops are looked at."""

    def __init__(self) -> None:
        super().__init__(Preprocessing(short_side=8, crop_size=8), WindowConfig(mode="streaming"))

    def lose(self) -> None:
        self.frames += 25
        self.overflows += 1
        self.windows_dropped["stale"] += 1


class FakeWindows:
    def __init__(self) -> None:
        self.feed = FakeFeed()
        self.captured_ns: int | None = None

    def due_ns(self) -> int | None:
        return self.captured_ns


class FakeCamera:
    def __init__(self, name: str = "door", lossless: bool = False) -> None:
        self.slot = CameraSlot(name=name, channel="ipc://x", lossless=lossless)
        self.windows = FakeWindows()
        self.stride = 8

    def set_stride(self, stride: int) -> None:
        self.stride = stride

    def serve(self, served: bool, stride: int, frame_interval: int) -> bool:
        self.stride = stride * frame_interval
        return False


def pace_of(cameras: list[Any], **window: Any) -> Pace:
    pace = Pace(WindowConfig(**window), FPS, batch_limit=2)
    pace.retune(WindowConfig(**window), cameras)
    pace.look(cameras, 0.0)
    return pace


def overload(pace: Pace, cameras: list[Any], seconds: int, begin: int = 0) -> None:
    """So many seconds in which the engine always runs and every camera loses a window."""
    for second in range(begin, begin + seconds):
        for camera in cameras:
            camera.windows.feed.lose()
        for _ in range(8):
            pace.ran([(cameras[0], CHUNK)], 0.125)
        pace.look(cameras, second + 1.0)


def idle(pace: Pace, cameras: list[Any], seconds: int, begin: int) -> None:
    for second in range(begin, begin + seconds):
        pace.ran([(cameras[0], CHUNK)] * 3, 0.1)
        pace.look(cameras, second + 1.0)


def test_windows_run_oldest_first_as_many_as_are_allowed() -> None:
    cameras: list[Any] = [FakeCamera(str(number)) for number in range(3)]
    pace = pace_of(cameras)
    for camera, captured_ms in zip(cameras, (30, 10, 20), strict=True):
        camera.windows.captured_ns = captured_ms * 1_000_000
    chosen, batch = pace.choose(cameras, 40_000_000)
    assert [camera.slot.name for camera in chosen] == ["1", "2"]
    assert batch.wait_s == 0


def test_all_cameras_get_the_stride_that_the_machine_can_keep_up_with_and_later_their_own_again() -> None:
    cameras: list[Any] = [FakeCamera("a"), FakeCamera("b")]
    pace = pace_of(cameras)
    overload(pace, cameras, 2)
    assert [camera.stride for camera in cameras] == [10, 10] and pace.stride == 10
    assert pace.busy == 1.0
    overload(pace, cameras, 2, begin=2)
    assert [camera.stride for camera in cameras] == [12, 12]
    idle(pace, cameras, 60, begin=4)
    assert [camera.stride for camera in cameras] == [8, 8]


def test_it_is_logged_once_and_again_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    cameras: list[Any] = [FakeCamera()]
    pace = pace_of(cameras)
    with caplog.at_level(logging.INFO):
        overload(pace, cameras, 20)
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "stride 10 instead of 8 for all cameras" in caplog.messages[0]
        idle(pace, cameras, 200, begin=20)
    assert caplog.messages[-1] == "this machine keeps up again: stride 8 as asked for"
    assert len(caplog.records) <= 4


def test_another_stride_that_is_asked_for_says_nothing_of_the_machine(caplog: pytest.LogCaptureFixture) -> None:
    cameras: list[Any] = [FakeCamera()]
    pace = pace_of(cameras)
    with caplog.at_level(logging.INFO):
        pace.retune(WindowConfig(stride=16), cameras)
        idle(pace, cameras, 3, begin=0)
    assert cameras[0].stride == 16 and caplog.messages == []


@pytest.mark.parametrize(
    ("window", "lossless"), [({"adaptive": False}, False), ({}, True), ({"mode": "streaming"}, False)]
)
def test_strides_stay_where_that_is_asked_for_or_means_nothing(window: dict[str, Any], lossless: bool) -> None:
    cameras: list[Any] = [FakeCamera(lossless=lossless)]
    overload(pace_of(cameras, **window), cameras, 10)
    assert cameras[0].stride == 8


def test_in_streaming_mode_the_double_rate_is_given_up_first() -> None:
    cameras: list[Any] = [FakeCamera()]
    overload(pace_of(cameras, mode="streaming", stride=4), cameras, 10)
    assert cameras[0].stride == 8


def test_a_stride_that_is_asked_for_meanwhile_is_raised_alike() -> None:
    cameras: list[Any] = [FakeCamera()]
    pace = pace_of(cameras)
    overload(pace, cameras, 2)
    pace.retune(WindowConfig(stride=4), cameras)
    assert cameras[0].stride == 5


class FakeTimes(FakeEngine):
    """An engine whose batches take as long as given, by a clock of its own."""

    def __init__(self, seconds: dict[int, float], device: str = "cpu") -> None:
        super().__init__()
        self.facts = EngineFacts(backend="torch", device=device, precision="fp32")
        self.seconds = seconds
        self.now = 0.0

    def run(self, batch: list[NDArray[np.uint8]], states: Sequence[object]) -> tuple[Features, list[Any]]:
        self.now += self.seconds[len(batch)]
        return super().run(batch, states)


def test_on_a_cpu_the_largest_batch_that_pays_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FakeTimes({1: 1.0, 2: 1.5, 4: 3.0})
    monkeypatch.setattr("stream_i3d.inference.worker.batch_limit.time.perf_counter", lambda: engine.now)
    assert measured_limit(engine, 8) == 2
    assert set(engine.warmed) == {1, 2, 4}


def test_nothing_is_measured_for_one_camera_or_on_a_gpu() -> None:
    assert measured_limit(FakeTimes({}), 1) == 1
    assert measured_limit(FakeTimes({}, "cuda:0"), 8) == MAX_BATCH
    assert any_batch(FakeTimes({}), 1) == MAX_BATCH
