from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stream_i3d.config import Config, EventsConfig, IdleConfig, SmoothingConfig, convert
from stream_i3d.messages import ActionEvent, ModelName, Prediction, Recognition
from stream_i3d.recognition.head import softmax
from stream_i3d.recognition.postprocess import (
    NO_MOTION,
    UNSEEN_ENDS_ACTION_S,
    Drops,
    Postprocessor,
    PostprocessSettings,
)
from tests.samples import stamp, window

LABELS = ("wave", "clap", "jump")
MODEL = ModelName(name="i3d", checkpoint="tiny")
MOVING = 50.0
NO_DROPS = Drops(0, 0)


class FakeClock:
    """The monotonic clock, which only moves when a test says so."""

    def __init__(self) -> None:
        self.ns = 0

    def __call__(self) -> int:
        return self.ns


def make_settings(**more: Any) -> PostprocessSettings:
    given: dict[str, Any] = {
        "labels": LABELS,
        "model": MODEL,
        "top_k": 3,
        "smoothing": SmoothingConfig(method="none"),
        "idle": IdleConfig(min_confidence=0.5, min_motion=1.0),
        "events": EventsConfig(on_threshold=0.6, off_threshold=0.4, min_on_s=0, min_off_s=0),
    }
    return PostprocessSettings(**{**given, **more})


class Camera:
    """A postprocessor that is fed windows by their end times, in seconds."""

    def __init__(self, clock: FakeClock | None = None, **more: Any) -> None:
        self.postprocessor = Postprocessor("door", make_settings(**more), clock or FakeClock())
        self.events: list[ActionEvent] = []

    def process(self, time: float, probabilities: list[float], motion: float = MOVING, **more: Any) -> Recognition:
        prediction = Prediction(np.asarray(probabilities, np.float32), more.pop("inference_ms", 20.0))
        queue_ms, drops = more.pop("queue_ms", 1.0), more.pop("drops", NO_DROPS)
        newest = stamp(15, time=time, wall_time=time, **more)
        message, events = self.postprocessor.process(window(time), newest, prediction, motion, queue_ms, drops)
        self.events += events
        return message

    def skip(self, time: float, **more: Any) -> Recognition:
        message, events = self.postprocessor.skip(window(time), stamp(15, time=time, wall_time=time, **more), NO_DROPS)
        self.events += events
        return message

    def warm(self, time: float, **more: Any) -> Recognition:
        newest = stamp(7, time=time, wall_time=time, **more)
        message, events = self.postprocessor.warming(window(time), newest, NO_DROPS)
        self.events += events
        return message

    def said(self) -> list[tuple[str, str, float | None]]:
        return [(event.event, event.label, event.end_time) for event in self.events]


WAVE, CLAP, UNSURE = [0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.4, 0.3, 0.3]


# --- softmax


def test_softmax_is_the_exponentials_share():
    np.testing.assert_allclose(softmax(np.log(np.array([[1, 2, 5]], np.float32))), [[0.125, 0.25, 0.625]], rtol=1e-6)


@pytest.mark.parametrize("height", [1e4, -1e4, 3e38])
def test_softmax_of_huge_logits_neither_overflows_nor_vanishes(height):
    logits = np.array([height, height, height / 2], np.float32)
    assert softmax(logits).sum() == pytest.approx(1)
    assert softmax(logits).argmin() == (2 if height > 0 else 0)


def test_softmax_is_not_changed_by_what_is_added_to_all_logits():
    logits = np.linspace(-4, 4, 16, dtype=np.float32)
    np.testing.assert_allclose(softmax(logits + 512), softmax(logits), rtol=1e-4)


def test_softmax_of_half_precision_logits_is_done_in_single_precision():
    halves = np.zeros(100_000, np.float16)
    probabilities = softmax(halves)  # type: ignore[arg-type]
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, 1e-5, rtol=1e-3)  # in half precision the sum would be infinite


def test_softmax_at_a_temperature_is_that_of_the_divided_logits():
    logits = np.array([[1.0, -2.0, 4.0]], np.float32)
    np.testing.assert_allclose(softmax(logits, 2.0), softmax(logits / 2), rtol=1e-6)
    assert softmax(logits, 4.0).max() < softmax(logits).max() < softmax(logits, 0.5).max()
    assert softmax(logits, 4.0).dtype == np.float32


_LOGITS = st.floats(-(2.0**100), 2.0**100, width=32)


@settings(deadline=None, max_examples=150)
@given(hnp.arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 50)), elements=_LOGITS))
def test_softmax_of_any_logits_is_a_distribution_that_keeps_their_order(logits):
    probabilities = softmax(logits)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, rtol=1e-5)
    assert (np.take_along_axis(probabilities, logits.argmax(-1)[:, None], -1)[:, 0] == probabilities.max(-1)).all()


# --- action or idle


def test_a_sure_prediction_of_a_moving_scene_is_an_action():
    message = Camera().process(1.0, WAVE)
    assert (message.state, message.label) == ("action", "wave")
    assert message.confidence == pytest.approx(0.8)


def test_under_the_confidence_threshold_the_scene_is_idle_but_the_likeliest_is_shown():
    message = Camera().process(1.0, UNSURE)
    assert (message.state, message.label, message.skipped) == ("idle", None, None)
    assert message.confidence == pytest.approx(0.4)
    assert message.top_k[0].label == "wave"


def test_at_the_confidence_threshold_it_is_an_action():
    assert Camera().process(1.0, [0.5, 0.25, 0.25]).state == "action"


@pytest.mark.parametrize(("motion", "state"), [(0.0, "idle"), (0.99, "idle"), (1.0, "action")])
def test_a_motionless_scene_is_idle_however_sure_the_network_is(motion, state):
    message = Camera().process(1.0, WAVE, motion=motion)
    assert message.state == state
    assert message.label == (None if state == "idle" else "wave")
    assert message.confidence == pytest.approx(0.8)


def test_a_skipped_window_is_idle_and_says_why():
    message = Camera().skip(1.0)
    assert (message.state, message.label, message.skipped, message.confidence) == ("idle", None, NO_MOTION, 0)
    assert message.top_k == []
    assert (message.latency_ms.queue, message.latency_ms.inference) == (0, 0)


def test_a_stride_without_a_whole_window_is_warming():
    message = Camera().warm(0.3)
    assert (message.state, message.label, message.confidence, message.top_k) == ("warming", None, 0, [])
    assert message.skipped is None


# --- the message


def test_the_message_says_which_window_camera_model_and_losses_it_is_about():
    message = Camera().process(7.0, WAVE, epoch=42, drops=Drops(3, 5))
    assert (message.camera, message.epoch, message.seq, message.model) == ("door", 42, 15, MODEL)
    assert message.window == window(7.0)
    assert (message.frames_dropped, message.windows_dropped) == (3, 5)


def test_the_top_k_are_the_likeliest_first_with_smoothed_and_raw_probabilities():
    camera = Camera(top_k=2, smoothing=SmoothingConfig(method="mean", last=2))
    camera.process(1.0, [0.8, 0.0, 0.2])
    message = camera.process(2.0, [0.1, 0.3, 0.6])
    assert [(score.index, score.label) for score in message.top_k] == [(0, "wave"), (2, "jump")]
    np.testing.assert_allclose([score.probability for score in message.top_k], [0.45, 0.4], atol=1e-6)
    np.testing.assert_allclose([score.raw_probability for score in message.top_k], [0.1, 0.6], atol=1e-6)
    assert message.confidence == message.top_k[0].probability


def test_equal_probabilities_are_listed_in_the_order_of_the_labels():
    assert [score.index for score in Camera().process(1.0, [0.2, 0.4, 0.4]).top_k] == [1, 2, 0]


def test_no_more_labels_are_listed_than_there_are():
    settings_of = PostprocessSettings.of(convert({"publish": {"top_k": 50}}), LABELS, MODEL)
    assert settings_of.top_k == 3
    assert PostprocessSettings.of(convert({"publish": {"top_k": 2}}), LABELS, MODEL).top_k == 2


def test_the_settings_come_from_the_configuration():
    config = convert({"smoothing": {"last": 7}, "idle": {"min_motion": 2}, "events": {"min_on_s": 1}})
    taken = PostprocessSettings.of(config, LABELS, MODEL)
    assert (taken.smoothing, taken.idle, taken.events) == (config.smoothing, config.idle, config.events)
    assert taken.labels == LABELS
    assert taken.smoothing != Config().smoothing


def test_a_sum_just_over_one_is_published_as_one():
    message = Camera().process(1.0, [np.nextafter(np.float32(1), np.float32(2)), 0, 0])
    assert message.confidence == 1 and message.top_k[0].raw_probability == 1


def test_latencies_are_measured_from_the_newest_frames_capture():
    clock = FakeClock()
    clock.ns = 5_123_456_789
    camera = Camera(clock)
    message = camera.process(5.0, WAVE, queue_ms=3.25, inference_ms=87.6543)
    assert (message.latency_ms.queue, message.latency_ms.inference) == (3.25, 87.654)
    assert message.latency_ms.total == 123.457
    assert camera.skip(5.1).latency_ms.total == pytest.approx(23.457)


def test_a_capture_clock_slightly_ahead_gives_no_negative_latency():
    assert Camera(FakeClock()).process(5.0, WAVE).latency_ms.total == 0


# --- smoothing


@pytest.mark.parametrize("time_constant_s", [0.2, 1.0])
def test_confidence_is_the_same_at_equal_times_for_strides_of_four_and_eight(time_constant_s):
    def confidences(stride: int) -> dict[int, float]:
        camera = Camera(smoothing=SmoothingConfig(method="ema", time_constant_s=time_constant_s))
        messages = {seq: camera.process(seq / 25, WAVE if seq <= 48 else CLAP) for seq in range(0, 160, stride)}
        return {
            seq: message.top_k[[s.label for s in message.top_k].index("clap")].probability
            for seq, message in messages.items()
        }

    fine, coarse = confidences(4), confidences(8)
    assert coarse[56] < coarse[80] < coarse[152] == pytest.approx(0.8, abs=0.02)
    for seq, confidence in coarse.items():
        assert fine[seq] == pytest.approx(confidence, abs=1e-5)


def test_idle_is_decided_on_the_smoothed_confidence():
    camera = Camera(smoothing=SmoothingConfig(method="mean", last=3))
    camera.process(1.0, WAVE)
    camera.process(2.0, WAVE)
    assert camera.process(3.0, CLAP).label == "wave"
    assert camera.process(4.0, CLAP).label == "clap"
    assert camera.process(5.0, [0.1, 0.1, 0.8]).label == "clap"


@pytest.mark.parametrize("between", ["skip", "warm", "epoch"])
def test_smoothing_starts_anew_after_a_break(between):
    camera = Camera(smoothing=SmoothingConfig(method="mean", last=50))
    for time in (1.0, 2.0, 3.0):
        camera.process(time, WAVE)
    epoch = 1
    if between == "skip":
        camera.skip(4.0)
    elif between == "warm":
        camera.warm(4.0)
    else:
        epoch = 2
    message = camera.process(5.0, CLAP, epoch=epoch)
    assert message.label == "clap" and message.confidence == pytest.approx(0.8)


# --- events


def test_an_action_that_is_sure_enough_starts_and_ends():
    camera = Camera()
    camera.process(1.0, WAVE)
    camera.process(2.0, UNSURE)
    camera.process(3.0, [0.1, 0.45, 0.45])
    assert camera.said() == [("start", "wave", None), ("end", "wave", 2.0)]


def test_the_running_actions_own_probability_keeps_it_up_while_another_label_leads():
    camera = Camera(idle=IdleConfig(min_confidence=0, min_motion=1))
    camera.process(1.0, WAVE)
    camera.process(2.0, [0.42, 0.58, 0.0])
    assert camera.said() == [("start", "wave", None)]
    camera.process(3.0, [0.38, 0.59, 0.03])
    assert camera.said()[1:] == [("end", "wave", 3.0)]


def test_no_motion_ends_an_action():
    for still in (lambda camera: camera.skip(2.0), lambda camera: camera.process(2.0, WAVE, motion=0.0)):
        camera = Camera()
        camera.process(1.0, WAVE)
        still(camera)
        assert camera.said() == [("start", "wave", None), ("end", "wave", 2.0)]


def test_a_new_epoch_ends_the_action_where_it_was_last_seen():
    camera = Camera()
    camera.process(1.0, WAVE)
    camera.process(2.0, WAVE)
    camera.process(60.0, CLAP, epoch=2)
    assert camera.said() == [("start", "wave", None), ("end", "wave", 2.0), ("start", "clap", None)]


@pytest.mark.parametrize("first", ["process", "skip", "warm"])
def test_whatever_comes_first_in_a_new_epoch_ends_the_action(first):
    camera = Camera()
    camera.process(1.0, WAVE)
    if first == "process":
        camera.process(9.0, UNSURE, epoch=2)
    else:
        getattr(camera, first)(9.0, epoch=2)
    assert camera.said() == [("start", "wave", None), ("end", "wave", 1.0)]


def test_actions_of_different_epochs_have_different_identities():
    camera = Camera()
    camera.process(1.0, WAVE)
    camera.process(9.0, WAVE, epoch=2)
    starts = [event.id for event in camera.events if event.event == "start"]
    assert len(set(starts)) == 2
    assert camera.events[0].id == camera.events[1].id
    assert all("door" in identity for identity in starts)


def test_a_short_break_does_not_end_an_action_and_a_long_one_does():
    camera = Camera()
    camera.process(1.0, WAVE)
    camera.warm(1.0 + UNSEEN_ENDS_ACTION_S)
    assert camera.said() == [("start", "wave", None)]
    camera.warm(1.1 + UNSEEN_ENDS_ACTION_S)
    assert camera.said()[1:] == [("end", "wave", 1.0)]


def test_warming_before_anything_was_judged_says_nothing_of_actions():
    camera = Camera()
    camera.warm(1e9)
    assert camera.said() == []


def test_the_end_of_the_stream_ends_the_action_at_its_last_window():
    camera = Camera()
    camera.process(1.0, WAVE)
    camera.process(2.0, WAVE)
    (end,) = camera.postprocessor.finish()
    assert (end.event, end.label, end.end_time) == ("end", "wave", 2.0)
    assert camera.postprocessor.finish() == []


def test_a_skipped_window_was_seen_too():
    slow_to_end = EventsConfig(on_threshold=0.6, off_threshold=0.4, min_on_s=0, min_off_s=60)
    camera = Camera(events=slow_to_end)
    camera.process(1.0, WAVE)
    camera.skip(2.0)
    (end,) = camera.postprocessor.finish()
    assert end.end_time == 2.0


def test_cameras_are_judged_apart():
    one, other = Camera(), Camera()
    one.process(1.0, WAVE)
    other.process(1.0, CLAP)
    assert (one.said(), other.said()) == ([("start", "wave", None)], [("start", "clap", None)])


def test_a_wall_clock_set_back_an_hour_neither_ends_nor_holds_back_an_action():
    postprocessor = Postprocessor("door", make_settings(events=EventsConfig(min_on_s=0.5, min_off_s=0.5)), FakeClock())
    events: list[ActionEvent] = []
    for tick in range(40):
        seconds = tick * 0.32
        wall = 10_000 + seconds - (3600 if tick >= 10 else 0)
        waving = 5 <= tick < 20
        prediction = Prediction(np.asarray([0.9, 0.1, 0] if waving else [0.1, 0.2, 0.1], np.float32), 1.0)
        newest = stamp(15 + 8 * tick, capture_ns=round(seconds * 1e9), wall_time=wall)
        events += postprocessor.process(window(wall), newest, prediction, MOVING, 0.0, NO_DROPS)[1]
    assert [event.event for event in events] == ["start", "end"]
    assert events[0].start_time == events[1].start_time == pytest.approx(10_000 + 5 * 0.32)
    assert events[1].end_time == pytest.approx(10_000 + 20 * 0.32)


def test_smoothing_goes_on_when_the_wall_clock_is_set_back():
    config = SmoothingConfig(method="ema", time_constant_s=0.5)
    shown = []
    for stepped in (False, True):
        postprocessor = Postprocessor("door", make_settings(smoothing=config), FakeClock())
        for tick in range(6):
            wall = 10_000 + tick * 0.32 - (3600 if stepped and tick >= 3 else 0)
            prediction = Prediction(np.asarray([1, 0, 0] if tick < 3 else [0, 1, 0], np.float32), 1.0)
            newest = stamp(15, capture_ns=round(tick * 0.32 * 1e9), wall_time=wall)
            message, _ = postprocessor.process(window(wall), newest, prediction, MOVING, 0.0, NO_DROPS)
        shown.append(message.confidence)
    assert shown[0] == shown[1]


# --- other settings while it runs


def test_thresholds_and_top_k_change_from_the_next_window_on_and_what_was_smoothed_goes_on():
    smoothing = SmoothingConfig(method="mean", last=4)
    camera = Camera(smoothing=smoothing)
    assert camera.process(1.0, WAVE).state == "action"
    camera.postprocessor.retune(
        make_settings(smoothing=smoothing, top_k=1, idle=IdleConfig(min_confidence=0.9, min_motion=0))
    )
    seen = camera.process(2.0, CLAP)
    assert (seen.state, len(seen.top_k)) == ("idle", 1)
    assert seen.confidence == pytest.approx(0.45)  # the mean of both windows


def test_a_running_action_goes_on_over_a_change_of_smoothing():
    camera = Camera()
    camera.process(1.0, WAVE)
    camera.postprocessor.retune(make_settings(smoothing=SmoothingConfig(method="ema", time_constant_s=0.1)))
    camera.process(2.0, WAVE)
    assert camera.said() == [("start", "wave", None)]
    camera.postprocessor.retune(make_settings(smoothing=SmoothingConfig(method="none")))
    camera.process(3.0, CLAP)
    assert camera.said()[1:] == [("end", "wave", 3.0), ("start", "clap", None)]
