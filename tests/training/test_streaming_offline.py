from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stream_i3d.config import Config, IdleConfig, PublishConfig, SmoothingConfig, WindowConfig
from stream_i3d.errors import ConfigError
from stream_i3d.messages import Window
from stream_i3d.models.i3d import I3D
from stream_i3d.models.spec import ModelSpec
from stream_i3d.preprocess import Image, Preprocessing
from stream_i3d.scenes import LABELS
from stream_i3d.settings import convert_settings
from stream_i3d.training.config import TrainConfig
from stream_i3d.training.evaluation import Network
from stream_i3d.training.stream_videos import StreamVideo, file_video
from stream_i3d.training.streaming import Playback, evaluate_stream, play
from stream_i3d.training.streaming_offline import Step, averaged_steps, carried_probabilities
from stream_i3d.training.streaming_report import Span, span_of
from tests.models.conftest import ruled

Video = Callable[[float, float], Path]


def live(stride: int = 8, averaging: int = 1) -> Config:
    return Config(
        window=WindowConfig(mode="streaming", stride=stride, averaging=averaging),
        smoothing=SmoothingConfig(method="none"),
        idle=IdleConfig(min_confidence=0, min_motion=0),
        publish=PublishConfig(top_k=10),
    )


@pytest.fixture
def network() -> Network:
    """A network whose output depends on every frame, with logits small enough to see it in the probabilities."""
    config = convert_settings(TrainConfig, {"run": {"device": "cpu", "precision": "fp32", "threads": 1}})
    spec = ModelSpec(
        num_classes=10,
        width=1 / 16,
        labels=tuple(LABELS),
        preprocessing=Preprocessing(short_side=40, crop_size=32),
        temperature=10.0,
    )
    return Network(ruled(I3D(10, width=spec.width)), spec, config, "ruled")


def within(playback: Playback) -> list[tuple[Window, Span, np.ndarray]]:
    """Window, video and probabilities of each prediction that depends on one video only."""
    found = []
    for one in playback.predictions:
        span = span_of(playback.spans, one.window.first_frame, one.window.last_frame)
        if one.prediction is not None and span is not None:
            found.append((one.window, span, one.prediction.probabilities))
    return found


@pytest.mark.parametrize(("stride", "averaging"), [(8, 1), (4, 1), (8, 3), (4, 3)])
def test_carried_live_predictions_are_those_of_the_whole_clip_network_offline(
    network: Network, make_video: Video, stride: int, averaging: int
) -> None:
    config = live(stride, averaging)
    rates = (25.0, 29.97)
    videos = [file_video(str(make_video(fps, 6.0)), network.labels[0], network.preprocessing) for fps in rates]
    playback = play(videos, network.live_model("streaming"), network.preprocessing, config, 20.0)
    compared = within(playback)
    # The first video's from its first 64 frames on, the second's once what it sees no longer reaches into the first.
    first = range(63, 150, stride)
    assert [window.last_frame for window, span, _ in compared if span.video == 0] == list(first)
    assert compared[0][0].first_frame == 0
    second = [window for window, span, _ in compared if span.video == 1]
    assert len(second) >= 3
    assert all(window.last_frame - window.first_frame == 106 + stride * (averaging - 1) for window in second)
    windows = [(window, span) for window, span, _ in compared]
    offline = carried_probabilities(network, videos, windows, config.window)
    ours = np.stack([probabilities for *_, probabilities in compared])
    np.testing.assert_allclose(ours, offline, rtol=0, atol=3e-5)
    assert np.ptp(offline, axis=0).max() > 1e-3  # the predictions differ


def test_a_stream_of_files_is_measured_in_streaming_mode(network: Network, make_video: Video) -> None:
    videos = [
        file_video(str(make_video(fps, 6.0)), network.labels[place], network.preprocessing)
        for place, fps in enumerate((25.0, 29.97))
    ]
    told: list[tuple[str, int, int]] = []
    report = evaluate_stream(network, videos, live(), progress=lambda *what: told.append(what))
    assert (report.mode, report.stride, report.videos, report.judged_videos) == ("streaming", 8, 2, 2)
    assert report.windows == (300 - 64) // 8 + 1
    assert report.largest_difference < 1e-5
    assert report.window_accuracy == report.offline_window_accuracy
    assert report.video_accuracy == report.offline_video_accuracy
    assert ("the same windows offline", report.whole_windows, report.whole_windows) in told


def test_videos_shorter_than_a_predictions_frames_are_an_error(network: Network, make_video: Video) -> None:
    videos = [file_video(str(make_video(25.0, 2.0)), label, network.preprocessing) for label in network.labels[:2]]
    with pytest.raises(ConfigError, match="no video is as long as what a prediction sees, 115 frames"):
        evaluate_stream(network, videos, live(averaging=2))


@pytest.mark.parametrize(
    ("first", "last", "stride", "averaging", "steps"),
    [
        (500, 606, 8, 1, [(500, 606)]),
        (492, 606, 8, 2, [(500, 606), (492, 598)]),
        (0, 63, 8, 3, [(0, 63)]),
        (0, 71, 8, 3, [(0, 71), (0, 63)]),
        (0, 67, 4, 3, [(4, 67), (0, 63)]),
        (16, 127, 8, 2, [(21, 127), (16, 119)]),
        (490, 608, 4, 4, [(502, 608), (498, 604), (494, 600), (490, 596)]),
    ],
)
def test_a_prediction_is_the_average_of_its_steps(
    first: int, last: int, stride: int, averaging: int, steps: list[tuple[int, int]]
) -> None:
    window = Window(first_frame=first, last_frame=last, start_time=0, end_time=1)
    settings = WindowConfig(mode="streaming", stride=stride, averaging=averaging)
    assert list(averaged_steps(window, settings)) == [Step(*step) for step in steps]


def test_neighbours_share_a_clip_and_frames_are_read_once(network: Network) -> None:
    asked: list[list[int]] = []

    def frames(numbers: Sequence[int]) -> Mapping[int, Image]:
        asked.append(list(numbers))
        return {number: np.full((40, 40, 3), number % 251, np.uint8) for number in numbers}

    lengths: list[int] = []
    temporal_logits = network.temporal_logits

    def counted(clips: Any) -> Any:
        lengths.append(clips.shape[1])
        return temporal_logits(clips)

    network.temporal_logits = counted  # type: ignore[method-assign]
    video = StreamVideo("numbers", network.labels[0], lambda: None, frames)  # type: ignore[arg-type, return-value]
    span = Span(video=0, label=network.labels[0], first=1000, last=1300, start=0, end=12)
    windows = [
        (Window(first_frame=end - 106, last_frame=end, start_time=0, end_time=1), span) for end in range(1119, 1200, 8)
    ]
    carried_probabilities(network, [video], windows, live().window)
    assert lengths == [112 + 7 * 8, 112 + 2 * 8]
    assert asked == [list(range(13, 200))]
