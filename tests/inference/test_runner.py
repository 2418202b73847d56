from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from msgspec import structs
from numpy.typing import NDArray

from stream_i3d.config import Config, IdleConfig, SmoothingConfig, WindowConfig
from stream_i3d.inference.engine import LoadedModel
from stream_i3d.inference.feed import Feed
from stream_i3d.inference.runner import CameraWindows, Runner
from stream_i3d.messages import ActionEvent, Clip, ModelName
from stream_i3d.preprocess import Preprocessing
from stream_i3d.recognition.head import Features, PublishedHead
from stream_i3d.recognition.postprocess import Postprocessor, PostprocessSettings
from tests.inference.fakes import LABELS, FakeEngine, plain_head
from tests.samples import number_of, pixels, stamp

EIGHT = Preprocessing(clip_len=8, short_side=32, crop_size=32)
STRIDE = 4


def camera(name: str = "door", min_motion: float = 0.0) -> CameraWindows:
    config = Config(smoothing=SmoothingConfig(method="none"), idle=IdleConfig(min_confidence=0, min_motion=min_motion))
    settings = PostprocessSettings.of(config, LABELS, ModelName(name="i3d", checkpoint="fake"))
    return CameraWindows(Feed(EIGHT, WindowConfig(stride=STRIDE)), Postprocessor(name, settings, lambda: 0))


def runner(
    engine: FakeEngine, min_motion: float = 0.0, skip: bool = False, now_ns: Callable[[], int] = lambda: 0
) -> Runner:
    idle = IdleConfig(min_motion=min_motion, skip_inference=skip)
    return Runner(engine.model, Config(idle=idle), now_ns)


def feed(camera: CameraWindows, first: int, last: int, pictures: NDArray[np.uint8] | None = None) -> None:
    """Push frames first..last; each picture tells its number, unless `pictures` are given."""
    for seq in range(first, last + 1):
        camera.feed.push(stamp(seq), pixels(seq) if pictures is None else pictures[seq])


def due(camera: CameraWindows) -> tuple[CameraWindows, Clip]:
    clip = camera.take()
    assert clip is not None
    return camera, clip


def moving_pictures(count: int) -> NDArray[np.uint8]:
    """A bright block that jumps across the picture."""
    pictures = np.zeros((count, 32, 32, 3), np.uint8)
    for index, picture in enumerate(pictures):
        left = 8 * (index % 4)
        picture[8:24, left : left + 8] = 250
    return pictures


def test_windows_of_several_cameras_are_one_batch_and_each_gets_its_own_answer() -> None:
    engine, cameras = FakeEngine(), [camera(name) for name in ("a", "b", "c")]
    for number, one in enumerate(cameras):
        feed(one, 0, 7 + 4 * number)
    results = runner(engine).run([due(one) for one in cameras])
    assert len(engine.batches) == 1
    assert engine.newest == [7, 11, 15]
    assert [(one.camera, one.seq, one.label) for one, _ in results] == [
        ("a", 7, LABELS[7 % 3]),
        ("b", 11, LABELS[11 % 3]),
        ("c", 15, LABELS[15 % 3]),
    ]


def test_a_clip_holds_its_windows_frames_in_order() -> None:
    engine, one = FakeEngine(), camera()
    feed(one, 0, 11)
    runner(engine).run([due(one)])
    assert [number_of(picture) for picture in engine.batches[0][0]] == list(range(4, 12))


def test_with_nothing_due_the_engine_is_left_alone() -> None:
    engine = FakeEngine()
    assert runner(engine).run([]) == []
    assert engine.batches == []


def test_motionless_windows_are_spared_the_network_where_that_is_wanted() -> None:
    engine, still, moving = FakeEngine(choose=lambda clip: 1), camera("still", 1.0), camera("moving", 1.0)
    feed(still, 0, 7)
    feed(moving, 0, 7, moving_pictures(8))
    results = {one.camera: one for one, _ in runner(engine, 1.0, skip=True).run([due(still), due(moving)])}
    assert [len(batch) for batch in engine.batches] == [1]
    assert (results["still"].state, results["still"].skipped, results["still"].top_k) == ("idle", "no motion", [])
    assert (results["moving"].state, results["moving"].skipped, results["moving"].label) == ("action", None, "clap")


def test_motionless_windows_are_run_and_are_idle_where_sparing_is_not_wanted() -> None:
    engine, still = FakeEngine(), camera(min_motion=1.0)
    feed(still, 0, 7)
    [(recognition, _)] = runner(engine, 1.0).run([due(still)])
    assert len(engine.batches) == 1
    assert (recognition.state, recognition.label, recognition.skipped) == ("idle", None, None)
    assert recognition.top_k[0].label == LABELS[7 % 3]


def test_without_a_least_motion_a_still_picture_may_be_an_action_and_is_never_skipped() -> None:
    engine, still = FakeEngine(), camera()
    feed(still, 0, 7)
    [(recognition, _)] = runner(engine, skip=True).run([due(still)])
    assert (recognition.state, recognition.skipped) == ("action", None)


def test_a_window_overwritten_while_it_was_read_is_dropped_and_counted() -> None:
    engine, slow, other = FakeEngine(choose=lambda clip: 0), camera("slow"), camera("other")
    feed(slow, 0, 7)
    feed(other, 0, 7)
    windows = [due(slow), due(other)]
    engine.while_preparing = lambda: feed(slow, 8, 200)
    results = runner(engine).run(windows)
    assert [one.camera for one, _ in results] == ["other"]
    assert slow.feed.windows_dropped["overrun"] == 1
    assert other.feed.windows_dropped.total() == 0


def test_a_window_overwritten_once_it_was_read_is_good() -> None:
    engine, one = FakeEngine(), camera()
    feed(one, 0, 7)
    engine.while_running = lambda: feed(one, 8, 200)
    [(recognition, _)] = runner(engine).run([due(one)])
    assert recognition.seq == 7
    assert one.feed.windows_dropped["overrun"] == 0


def test_a_stride_without_a_whole_window_is_published_as_warming() -> None:
    engine, one = FakeEngine(), camera()
    feed(one, 0, 7)
    [(recognition, events)] = one.warming()
    assert (recognition.state, recognition.seq, recognition.window.first_frame) == ("warming", 3, 0)
    assert events == []
    assert one.warming() == []
    assert engine.batches == []


class FusingFake(FakeEngine):
    """Two networks that say the same, at temperatures of their own; their logits are added."""

    def run(self, batch: list[NDArray[np.uint8]], states: Sequence[object]) -> tuple[Features, list[Any]]:
        rgb = self.logits(batch)
        return {"rgb": rgb[:, None, None], "flow": self.flow(rgb)[:, None, None]}, [None] * len(batch)

    def flow(self, rgb: NDArray[np.float32]) -> NDArray[np.float32]:
        """Flow's own logits."""
        return rgb

    @property
    def model(self) -> LoadedModel:
        heads = {"rgb": plain_head().heads["rgb"], "flow": plain_head(temperature=5.0).heads["rgb"]}
        return LoadedModel(self, PublishedHead(heads, "logits"))


def test_probabilities_are_at_the_engines_temperature() -> None:
    engine, one = FakeEngine(choose=lambda clip: 1), camera()
    engine.temperature = 5.0  # the logits are 0, 5, 0
    feed(one, 0, 7)
    [(recognition, _)] = runner(engine).run([due(one)])
    wanted = np.e / (np.e + 2)
    assert recognition.confidence == pytest.approx(wanted, abs=1e-6)
    assert recognition.top_k[0].raw_probability == pytest.approx(wanted, abs=1e-6)


def test_each_streams_own_word_is_at_its_own_temperature() -> None:
    engine, one = FusingFake(choose=lambda clip: 1), camera()
    feed(one, 0, 7)
    [(recognition, _)] = runner(engine).run([due(one)])
    sharp, calm = np.exp(5) / (np.exp(5) + 2), np.e / (np.e + 2)
    assert recognition.confidence == pytest.approx(np.exp(10) / (np.exp(10) + 2), abs=1e-6)  # of the sum
    assert {top.stream: top.probability for top in recognition.streams} == pytest.approx(
        {"rgb": sharp, "flow": calm}, abs=1e-6
    )


def test_latency_is_told_apart_in_waiting_and_inference() -> None:
    now = [0]
    engine, one = FakeEngine(), camera()
    feed(one, 0, 7)  # the newest was captured at 7/25 s = 280 ms

    def run_for_50_ms() -> None:
        now[0] += 50_000_000

    engine.while_running = run_for_50_ms
    now[0] = 300_000_000
    [(recognition, _)] = runner(engine, now_ns=lambda: now[0]).run([due(one)])
    assert recognition.latency_ms.queue == pytest.approx(20.0)
    assert recognition.latency_ms.inference == pytest.approx(50.0)


def test_losses_so_far_travel_with_each_recognition() -> None:
    engine, one = FakeEngine(), camera()
    feed(one, 0, 7)
    feed(one, 8, 11)  # the window that ended at 7 is stale now
    feed(one, 14, 23)  # 12 and 13 are missing: the windows that end at 15 and 19 are broken
    run = runner(engine)
    one.warming()
    [(recognition, _)] = run.run([due(one)])
    assert recognition.seq == 23
    assert recognition.frames_dropped == 2
    assert recognition.windows_dropped == one.feed.windows_dropped.total() >= 2


# --- output that is not finite


class Spoilt(FakeEngine):
    """Its logits are not finite for clips whose newest frame's number is in `bad`."""

    def __init__(
        self, bad: set[int], value: float = float("nan"), choose: Callable[[NDArray[np.uint8]], int] | None = None
    ) -> None:
        super().__init__(choose=choose)
        self.bad, self.value = bad, value

    def logits(self, batch: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
        rows = super().logits(batch)
        for row, clip in zip(rows, batch, strict=True):
            if number_of(clip[-1]) in self.bad:
                row[1] = self.value
        return rows


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_nothing_is_published_for_a_window_whose_output_is_not_finite(
    value: float, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = camera("bad"), camera("good")
    engine = Spoilt({7, 11}, value)
    run = runner(engine)
    feed(bad, 0, 7)
    feed(good, 0, 15)
    results = run.run([due(bad), due(good)])
    assert [(one.camera, one.seq) for one, _ in results if one is not None] == [("good", 15)]
    assert (bad.failing, bad.failed, good.failing, good.failed) == (True, 1, False, 0)
    feed(bad, 8, 11)
    assert [one for one, _ in run.run([due(bad)])] == [None]
    assert bad.dropped_for() == {"not_finite": 2}
    feed(bad, 12, 15)
    [(recognition, _)] = run.run([due(bad)])
    assert recognition is not None
    assert (recognition.label, recognition.windows_dropped) == (LABELS[0], 2)
    assert (bad.failing, bad.failed) == (False, 2)
    [record] = caplog.records  # once, not for every window
    assert record.levelname == "ERROR"
    assert record.getMessage().startswith(
        "door: the network's output is not finite for the window that ends with frame 7"
    )


def test_an_action_ends_where_output_stays_not_finite() -> None:
    engine = Spoilt(set(range(40, 400)), choose=lambda clip: 0)
    one, run = camera(), runner(engine)
    feed(one, 0, 3)
    events: list[ActionEvent] = []
    for last in range(7, 240, STRIDE):
        feed(one, last - STRIDE + 1, last)
        [(recognition, new)] = run.run([due(one)])
        assert (recognition is None) == (last >= 40)
        events += new
    assert [event.event for event in events] == ["start", "end"]


class SpoiltStreams(FusingFake):
    """Two networks, of which flow's output is not finite."""

    def flow(self, rgb: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.full_like(rgb, np.nan)


def test_one_network_of_two_whose_output_is_not_finite_spoils_the_window() -> None:
    one = camera()
    feed(one, 0, 7)
    [(recognition, _)] = runner(SpoiltStreams()).run([due(one)])
    assert recognition is None
    assert one.dropped_for() == {"not_finite": 1}


def test_a_window_of_a_camera_that_is_held_back_is_as_urgent_as_any_other() -> None:
    held = camera()
    for seq in range(8):
        held.feed.push(structs.replace(stamp(seq), delay_ns=5 * 10**9), pixels(seq))
    assert held.due_ns() == stamp(7).capture_ns + 5 * 10**9
