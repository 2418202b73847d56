from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from stream_i3d.config import Config, IdleConfig, PublishConfig, SmoothingConfig, WindowConfig
from stream_i3d.inference.feed import Feed
from stream_i3d.inference.runner import CameraWindows, Runner, WindowResult
from stream_i3d.messages import ModelName, Recognition
from stream_i3d.preprocess import Preprocessing
from stream_i3d.recognition.postprocess import Postprocessor, PostprocessSettings
from tests.inference.fakes import LABELS, FakeStreamEngine
from tests.samples import pixels, stamp

SIXTEEN = Preprocessing(short_side=32, crop_size=32)


def camera(name: str = "door", stride: int = 8, averaging: int = 1, min_motion: float = 0.0) -> CameraWindows:
    window = WindowConfig(mode="streaming", stride=stride, averaging=averaging)
    config = Config(
        smoothing=SmoothingConfig(method="none"),
        idle=IdleConfig(min_confidence=0, min_motion=min_motion),
        publish=PublishConfig(top_k=3),
    )
    settings = PostprocessSettings.of(config, LABELS, ModelName(name="i3d", checkpoint="fake"))
    return CameraWindows(Feed(SIXTEEN, window), Postprocessor(name, settings, lambda: 0))


def runner(
    engine: FakeStreamEngine,
    averaging: int = 1,
    min_motion: float = 0.0,
    skip: bool = False,
    now_ns: Callable[[], int] = lambda: 0,
) -> Runner:
    window = WindowConfig(mode="streaming", averaging=averaging)
    idle = IdleConfig(min_motion=min_motion, skip_inference=skip)
    return Runner(engine.model, Config(window=window, idle=idle), now_ns)


def play(one: CameraWindows, runner: Runner, first: int, last: int, epoch: int = 1) -> list[Recognition]:
    """Push frames first..last, run what is due at once; return all that is to be published."""
    results: list[WindowResult] = []
    for seq in range(first, last + 1):
        if one.feed.push(stamp(seq, epoch=epoch), pixels(seq)):
            results += one.warming()
            if (clip := one.take()) is not None:
                results += runner.run([(one, clip)])
    return [recognition for recognition, _ in results if recognition is not None]


def states(recognitions: list[Recognition]) -> list[tuple[int, str]]:
    return [(one.seq, one.state) for one in recognitions]


def test_the_network_is_carried_along_and_speaks_once_it_is_warm() -> None:
    engine = FakeStreamEngine()
    published = play(camera(), runner(engine), 0, 79)
    assert engine.fed == [tuple(range(end + 1)) for end in range(7, 80, 8)]
    assert states(published) == [(seq, "warming") for seq in range(7, 63, 8)] + [
        (seq, "action") for seq in (63, 71, 79)
    ]
    assert [one.label for one in published[7:]] == [LABELS[seq % 3] for seq in (63, 71, 79)]
    assert [(one.window.first_frame, one.window.last_frame) for one in published[-2:]] == [(0, 71), (0, 79)]


def test_with_stride_4_two_phases_are_carried_each_by_itself() -> None:
    engine = FakeStreamEngine()
    published = play(camera(stride=4), runner(engine), 0, 79)
    first = [numbers for numbers in engine.fed if numbers[0] == 0]
    second = [numbers for numbers in engine.fed if numbers[0] == 4]
    assert first == [tuple(range(end + 1)) for end in range(7, 80, 8)]
    assert second == [tuple(range(4, end + 1)) for end in range(11, 80, 8)]
    assert len(first) + len(second) == len(engine.fed)
    assert [one.seq for one in published] == list(range(3, 80, 4))
    assert [one.seq for one in published if one.state == "action"] == [63, 67, 71, 75, 79]


@pytest.mark.parametrize(("stride", "averaging"), [(8, 3), (4, 3), (8, 1)])
def test_logits_of_the_newest_predictions_are_averaged(stride: int, averaging: int) -> None:
    engine = FakeStreamEngine(choose=lambda numbers: 0 if numbers[-1] == 79 else 1)
    published = play(camera(stride=stride, averaging=averaging), runner(engine, averaging), 0, 79)
    last = published[-1]
    logits = np.array([5 / averaging, 5 - 5 / averaging, 0])
    expected = np.exp(logits) / np.exp(logits).sum()
    found = {score.label: score.probability for score in last.top_k}
    assert found == pytest.approx(dict(zip(LABELS, expected, strict=True)), abs=1e-6)
    first = next(one for one in published if one.state == "action")  # of as many as there are
    assert first.confidence == pytest.approx(np.exp(5) / (np.exp(5) + 2), abs=1e-6)


def test_after_a_gap_it_begins_anew_and_what_was_said_before_is_not_averaged_in() -> None:
    engine = FakeStreamEngine(choose=lambda numbers: 0 if numbers[-1] < 80 else 1)
    one, run = camera(averaging=4), runner(engine, 4)
    play(one, run, 0, 79)
    published = play(one, run, 84, 159)
    assert engine.fed[10] == tuple(range(88, 96))
    assert states(published) == [(seq, "warming") for seq in range(87, 151, 8)] + [(151, "action"), (159, "action")]
    assert published[-2].window.first_frame == 88
    assert published[-2].top_k[0].label == "clap"
    assert published[-2].confidence == pytest.approx(np.exp(5) / (np.exp(5) + 2), abs=1e-6)
    assert published[-1].windows_dropped == len(range(87, 151, 8))
    assert published[-1].frames_dropped == 4


def test_a_new_epoch_begins_anew() -> None:
    engine = FakeStreamEngine()
    one, run = camera(), runner(engine)
    play(one, run, 0, 79)
    published = play(one, run, 0, 71, epoch=2)
    assert engine.fed[10:] == [tuple(range(end + 1)) for end in range(7, 72, 8)]
    assert [one.seq for one in published if one.state == "action"] == [63, 71]


def test_cameras_are_one_batch_in_any_order_and_each_has_its_own_memory() -> None:
    engine, cameras = FakeStreamEngine(), [camera("a"), camera("b")]
    run = runner(engine)
    for number in range(9):
        due = []
        for offset, one in zip((0, 1000), cameras, strict=True):
            for seq in range(8 * number, 8 * number + 8):
                one.feed.push(stamp(seq), pixels(offset + seq))
            clip = one.take()
            assert clip is not None
            due.append((one, clip))
        results = run.run(due if number % 2 else due[::-1])
    assert engine.batches == [2] * 9
    assert {one.camera: one.label for one, _ in results} == {"a": LABELS[71 % 3], "b": LABELS[1071 % 3]}
    assert set(engine.fed[-2:]) == {tuple(range(1000, 1072)), tuple(range(72))}


def test_a_chunk_overwritten_while_it_was_read_leaves_no_trace_in_the_memory() -> None:
    engine, one = FakeStreamEngine(), camera()
    run = runner(engine)
    play(one, run, 0, 79)
    for seq in range(80, 88):
        one.feed.push(stamp(seq), pixels(seq))
    clip = one.take()
    assert clip is not None

    def overwrite() -> None:
        engine.while_preparing = lambda: None
        for seq in range(88, 208):
            one.feed.push(stamp(seq), pixels(seq))

    engine.while_preparing = overwrite
    assert run.run([(one, clip)]) == []
    assert one.feed.windows_dropped["overrun"] == 1
    published = play(one, run, 208, 290)
    fed = engine.fed[11:]
    assert fed[0] == tuple(range(208, 216))
    assert [one.seq for one in published if one.state == "action"] == [271, 279, 287]


def test_a_phase_that_begins_later_is_silent_until_it_is_warm() -> None:
    engine, one = FakeStreamEngine(), camera()
    run = runner(engine)
    play(one, run, 0, 79)
    one.feed.set_stride(4)
    published = play(one, run, 80, 159)
    assert {one.state for one in published} == {"action"}
    assert [one.seq for one in published] == [*range(87, 139, 8), *range(139, 160, 4)]


def moving(seq: int) -> np.ndarray:
    """A bright block that jumps across the picture."""
    picture = np.zeros((32, 32, 3), np.uint8)
    left = 8 * (seq // 4 % 4)
    picture[8:24, left : left + 8] = 250
    return picture


class Deaf(FakeStreamEngine):
    """Does not read the pictures' numbers."""

    def prepare(
        self, clips: Sequence[NDArray[np.uint8]], device_frames: Sequence[object] = ()
    ) -> list[tuple[int, ...]]:
        return [tuple(range(8)) for _ in clips]


@pytest.mark.parametrize(("still_from", "expected"), [(200, "action"), (64, "idle"), (72, "action"), (70, "action")])
def test_motionless_newest_frames_are_idle_and_are_fed_all_the_same(still_from: int, expected: str) -> None:
    engine, one = Deaf(), camera(min_motion=1.0)
    run = runner(engine, min_motion=1.0)
    published = []
    for seq in range(80):
        if one.feed.push(stamp(seq), moving(min(seq, still_from))):
            clip = one.take()
            assert clip is not None
            published += run.run([(one, clip)])
    assert len(engine.batches) == 10
    assert published[-1][0].state == expected
    assert published[-1][0].skipped is None


def test_that_nothing_can_be_spared_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        run = runner(FakeStreamEngine(), 1, 2.0, skip=True)
        run.set_idle(3.0, True)
    assert [record.getMessage() for record in caplog.records] == [
        "idle.skip_inference has no effect in streaming mode: its network must see every frame"
    ]


def test_latency_is_from_the_newest_frame() -> None:
    now = [0]
    engine, one = FakeStreamEngine(), camera()
    play(one, runner(engine), 0, 56)
    for seq in range(57, 64):
        one.feed.push(stamp(seq), pixels(seq))
    clip = one.take()
    assert clip is not None

    def run_for_50_ms() -> None:
        now[0] += 50_000_000

    engine.while_running = run_for_50_ms
    now[0] = round(63 / 25 * 1e9) + 20_000_000
    [(recognition, _)] = runner(engine, now_ns=lambda: now[0]).run([(one, clip)])
    assert recognition.latency_ms.queue == pytest.approx(20.0)
    assert recognition.latency_ms.inference == pytest.approx(50.0)


def test_with_nothing_due_the_engine_is_left_alone() -> None:
    engine = FakeStreamEngine()
    assert runner(engine).run([]) == []
    assert engine.batches == []


# --- output that is not finite


class Spoilt(FakeStreamEngine):
    """Not finite at the chunks that end with frames in `bad`, and for ever after in the state that gave it."""

    def __init__(self, bad: set[int]) -> None:
        super().__init__()
        self.bad = bad

    def step(
        self, batch: list[tuple[int, ...]], states: Sequence[tuple[int, ...] | None]
    ) -> tuple[NDArray[np.float32], list[tuple[int, ...]]]:
        logits, after = super().step(batch, states)
        for row, numbers in zip(logits, after, strict=True):
            if self.bad & set(numbers[7::8]):
                row[:] = np.nan
        return logits, after


@pytest.mark.parametrize("stride", [8, 4])
def test_the_state_that_gave_what_is_not_finite_is_thrown_away(stride: int) -> None:
    one, engine = camera(stride=stride), Spoilt({71})
    published = play(one, runner(engine), 0, 199)
    seen = states([recognition for recognition in published if recognition is not None])
    assert (71, "action") not in seen
    assert [seq for seq, state in seen if state == "action" and seq < 71][-1:] == [63 if stride == 8 else 67]
    later = [seq for seq, state in seen if state == "action" and seq > 71]
    assert later[0] == (135 if stride == 8 else 131)  # eight new chunks after frame 71, of either phase
    assert all(numbers[0] >= 68 for numbers in engine.fed if numbers[-1] > 79)  # nothing older is remembered
    assert one.failed == 1
    assert one.dropped_for()["not_finite"] >= 1 + 7


def test_a_stream_that_is_not_finite_before_it_is_warm_begins_anew() -> None:
    one, engine = camera(), Spoilt({15})
    published = play(one, runner(engine), 0, 95)
    assert [one.seq for one in published if one is not None and one.state == "action"] == [79, 87, 95]
    assert one.failed == 1


def test_what_waits_of_a_run_that_failed_is_dropped_though_another_has_begun() -> None:
    one, engine = camera(), Spoilt({71})
    run = runner(engine)
    play(one, run, 0, 63)
    for seq in (*range(64, 80), *range(88, 96)):  # two chunks wait, then frames are missing and more chunks come
        one.feed.push(stamp(seq), pixels(seq))
    for _ in range(6):
        one.warming()
        if (clip := one.take()) is not None:
            run.run([(one, clip)])
    assert engine.fed[-1] == tuple(range(88, 96))
    assert one.failed == 1
