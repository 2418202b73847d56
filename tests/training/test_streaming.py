from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from stream_i3d.config import Config, IdleConfig, PublishConfig, SmoothingConfig, WindowConfig
from stream_i3d.errors import ConfigError, SourceNotFound
from stream_i3d.inference.engine import LoadedModel
from stream_i3d.messages import Window
from stream_i3d.preprocess import Image, Preprocessing
from stream_i3d.recognition.head import Features, PublishedHead, Scores
from stream_i3d.training.config import TrainConfig
from stream_i3d.training.evaluation import Network, load_network
from stream_i3d.training.stream_videos import Pictures, StreamVideo, file_video
from stream_i3d.training.streaming import Playback, evaluate_stream, offline_probabilities, play, replay
from stream_i3d.training.streaming_report import span_of
from tests.inference.fakes import LABELS, FakeEngine
from tests.samples import number_of, pixels

EIGHT = Preprocessing(clip_len=8, short_side=32, crop_size=32)
PLAIN = Config(
    window=WindowConfig(stride=4),
    smoothing=SmoothingConfig(method="none"),
    idle=IdleConfig(min_confidence=0, min_motion=0),
    publish=PublishConfig(top_k=3),
)
Video = Callable[[float, float], Path]


def numbered(label: str, first: int, count: int, fps: float = 25.0) -> StreamVideo:
    """A video whose pictures encode their number: first, first + 1, ..."""
    pictures = np.stack([pixels(number)[:, :, ::-1] for number in range(first, first + count)])

    def frames(numbers: Sequence[int]) -> Mapping[int, Image]:
        return {number: pixels(first + number) for number in numbers}

    return StreamVideo(f"{label} {first}", label, lambda: Pictures(pictures, fps), frames)


def broken() -> StreamVideo:
    def fail() -> Any:
        raise SourceNotFound("gone")

    return StreamVideo("broken", "wave", fail, lambda numbers: {})


def by_hundreds(clip: NDArray[np.uint8]) -> int:
    """The class of most of a clip's pictures: 0 .. 99 wave, 100 .. 199 clap, 200 .. jump."""
    return int(np.bincount([number_of(picture) // 100 for picture in clip], minlength=3).argmax())


def played(videos: Sequence[StreamVideo], engine: FakeEngine, seconds: float = 20.0) -> Playback:
    return play(videos, engine.model, EIGHT, PLAIN, seconds)


def test_videos_follow_each_other_as_one_camera_would_show_them() -> None:
    engine = FakeEngine()
    playback = played([numbered("wave", 0, 20), numbered("clap", 100, 21)], engine)
    assert [(span.video, span.label, span.first, span.last) for span in playback.spans] == [
        (0, "wave", 0, 19), (1, "clap", 20, 40),
    ]  # fmt: skip
    assert [(span.start, span.end) for span in playback.spans] == [
        pytest.approx((0.0, 0.76)), pytest.approx((0.8, 1.6)),
    ]  # fmt: skip
    # Windows of eight frames, every four: the sixth takes in four frames of either video.
    assert engine.newest == [7, 11, 15, 19, 103, 107, 111, 115, 119]
    crossing = [number_of(picture) for picture in engine.batches[4][0]]
    assert crossing == [16, 17, 18, 19, 100, 101, 102, 103]


def test_time_goes_on_from_video_to_video() -> None:
    playback = played([numbered("wave", 0, 20), numbered("clap", 100, 20)], FakeEngine())
    times = [one.newest.elapsed for one in playback.predictions]
    assert np.diff(times) == pytest.approx(np.full(len(times) - 1, 4 / 25))
    assert {one.newest.epoch for one in playback.predictions} == {0}


def test_the_first_stride_is_warming_and_no_other_is() -> None:
    predictions = played([numbered("wave", 0, 20), numbered("clap", 100, 20)], FakeEngine()).predictions
    assert [one.prediction is None for one in predictions] == [True] + [False] * (len(predictions) - 1)


def test_a_long_video_is_cut_off() -> None:
    engine = FakeEngine()
    playback = played([numbered("wave", 0, 60), numbered("clap", 100, 10)], engine, seconds=1.0)
    assert [(span.first, span.last) for span in playback.spans] == [(0, 24), (25, 34)]


def test_an_unreadable_video_is_skipped_and_recorded() -> None:
    playback = played([numbered("wave", 0, 10), broken(), numbered("clap", 100, 10)], FakeEngine())
    assert [(span.video, span.first) for span in playback.spans] == [(0, 0), (2, 10)]
    assert playback.skipped == ["broken: gone"]


def test_replayed_without_change_the_stream_is_judged_as_it_was() -> None:
    engine = FakeEngine(choose=by_hundreds)
    playback = played([numbered("wave", 0, 40), numbered("clap", 100, 40)], engine)
    batches = len(engine.batches)
    recognitions, events = replay(playback.predictions, LABELS, PLAIN)
    assert len(engine.batches) == batches  # the network is not asked again
    labels = [recognition.label for recognition in recognitions]
    assert labels == [LABELS[by_hundreds(batch[0])] for batch in engine.batches]
    assert [(one.event, one.label) for one in events] == [
        ("start", "wave"), ("end", "wave"), ("start", "clap"), ("end", "clap"),
    ]  # fmt: skip


def test_smoothing_is_what_is_replayed() -> None:
    playback = played([numbered("wave", 0, 40), numbered("clap", 100, 40)], FakeEngine(choose=by_hundreds))
    slow = Config(
        window=PLAIN.window,
        smoothing=SmoothingConfig(method="ema", time_constant_s=1.0),
        idle=PLAIN.idle,
        publish=PLAIN.publish,
    )
    at_once, later = (replay(playback.predictions, LABELS, config)[0] for config in (PLAIN, slow))
    first = [next(one.window.end_time for one in found if one.label == "clap") for found in (at_once, later)]
    assert first[0] == pytest.approx(47 / 25)  # the first with more than half of its frames
    assert first[1] > first[0] + 0.5


class FakeNetwork:
    """A network of three classes that predicts the class of most of the pictures; not a torch module."""

    labels = LABELS
    preprocessing = EIGHT

    def __init__(self, temperature: float = 1.0) -> None:
        self.engine = FakeEngine(choose=by_hundreds)
        self.spec = type("Spec", (), {"temperature": temperature})()
        self.engine.temperature = temperature

    def live_model(self, mode: str) -> LoadedModel:
        assert mode == "window"
        return self.engine.model

    def logits(self, clips: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return torch.from_numpy(FakeEngine(choose=by_hundreds).logits(list(clips["rgb"].numpy())))


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_a_perfect_network_is_right_live_and_offline_and_reacts_in_half_a_window(temperature: float) -> None:
    videos = [numbered(label, 100 * place + 10 * again, 50) for again in range(3) for place, label in enumerate(LABELS)]
    network: Any = FakeNetwork(temperature)
    told: list[tuple[str, int, int]] = []
    report = evaluate_stream(network, videos, PLAIN, progress=lambda *what: told.append(what))
    assert (report.videos, report.judged_videos, report.stride) == (9, 9, 4)
    assert report.seconds == pytest.approx((9 * 50 - 1) / 25)
    assert (report.window_accuracy, report.video_accuracy) == (1.0, 1.0)
    assert (report.offline_window_accuracy, report.offline_video_accuracy) == (1.0, 1.0)
    assert report.largest_difference < 1e-6
    ways = {one.smoothing: one for one in report.smoothings}
    assert ways["none"].switches == 8
    assert ways["none"].never == 0
    # Five of eight frames are new at the latest when a window ends seven frames after the change.
    assert 3 / 25 <= (ways["none"].reaction_median_s or 0) <= 7 / 25
    assert (ways["ema 1 s"].reaction_median_s or 0) > (ways["none"].reaction_median_s or 0)
    assert {what for what, _, _ in told} == {"streaming", "the same windows offline"}
    assert all(done <= total for _, done, total in told)


def test_a_wrong_network_is_wrong_everywhere() -> None:
    videos = [numbered("clap", 0, 50), numbered("wave", 100, 50)]
    network: Any = FakeNetwork()
    report = evaluate_stream(network, videos, PLAIN)
    assert (report.window_accuracy, report.video_accuracy, report.offline_video_accuracy) == (0, 0, 0)
    assert report.smoothings[0].never == 1.0
    assert report.smoothings[0].reaction_median_s is None
    assert report.smoothings[0].wrong_events_per_minute > 0


def test_videos_shorter_than_a_window_are_an_error() -> None:
    network: Any = FakeNetwork()
    with pytest.raises(ConfigError, match="no video is as long as a window of 8 frames"):
        evaluate_stream(network, [numbered("wave", 0, 6), numbered("clap", 100, 6)], PLAIN)
    with pytest.raises(ConfigError, match="no video is as long as"):
        evaluate_stream(network, [broken()], PLAIN)


@pytest.fixture
def network(tiny_checkpoint: Path) -> Network:
    from stream_i3d.settings import convert_settings

    config = convert_settings(TrainConfig, {"run": {"device": "cpu", "precision": "fp32", "threads": 1}})
    return load_network(str(tiny_checkpoint), config)


class Remembering(PublishedHead):
    """A head that records the logits of each window."""

    def __init__(self, head: PublishedHead) -> None:
        super().__init__(head.heads)
        self.seen: list[NDArray[np.float32]] = []

    def __call__(self, features: Features) -> Scores:
        scores = super().__call__(features)
        self.seen.append(scores.logits[0])
        return scores


def test_a_window_live_has_the_logits_of_the_same_frames_offline(network: Network, make_video: Video) -> None:
    """Live accuracy is offline accuracy: at any frame rate, and whatever was played before."""
    rates = (25.0, 19.62, 29.97, 60.0)
    videos = [file_video(str(make_video(fps, 2.0)), network.labels[0], network.preprocessing) for fps in rates]
    model = network.live_model("window")
    head = Remembering(model.head)
    playback = play(videos, replace(model, head=head), network.preprocessing, Config(), 20.0)
    predicted = [one for one in playback.predictions if one.prediction is not None]
    live, whole = [], []
    for logits, one in zip(head.seen, predicted, strict=True):
        window: Window = one.window
        span = span_of(playback.spans, window.first_frame, window.last_frame)
        if span is not None:
            live.append(logits - np.logaddexp.reduce(logits))  # probabilities' logarithms: logits but for a constant
            whole.append((one, span))
    assert len({span.video for _, span in whole}) == 4
    assert len(whole) >= 16
    offline = np.log(offline_probabilities(network, videos, whole))
    np.testing.assert_allclose(np.stack(live), offline, rtol=0, atol=1e-4)
    assert np.ptp(offline, axis=0).max() > 1e-3  # the windows differ


def test_a_stream_of_files_is_measured(network: Network, make_video: Video) -> None:
    videos = [
        file_video(str(make_video(fps, 2.0)), network.labels[place], network.preprocessing)
        for place, fps in enumerate((25.0, 29.97))
    ]
    report = evaluate_stream(network, videos, Config())
    assert (report.videos, report.judged_videos) == (2, 2)
    assert report.windows > report.whole_windows >= 8
    assert report.largest_difference < 1e-5
    assert report.window_accuracy == report.offline_window_accuracy
