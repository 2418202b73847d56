"""Plays videos one after another through the live path of one camera, and measures the result.

The live path is used as it is, in window or streaming mode: reader, ring, windows, batches of one, postprocessor.
Windows may span two videos, as they do when the scene before a camera changes. The network runs once; the smoothing
methods are then replayed over its predictions. `streaming_report` defines the measures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
import torch
from msgspec import structs
from numpy.typing import NDArray

from stream_i3d.capture.reader import Clock, FrameReader
from stream_i3d.config import Config, IdleConfig, SmoothingConfig
from stream_i3d.errors import ConfigError, SourceError
from stream_i3d.inference.engine import LoadedModel
from stream_i3d.inference.feed import Feed
from stream_i3d.inference.runner import CameraWindows, Runner
from stream_i3d.messages import ActionEvent, Frame, FrameStamp, ModelName, Prediction, Recognition, Window
from stream_i3d.models.streaming_plan import SEEN_FRAMES
from stream_i3d.preprocess import Preprocessing, centre_crop
from stream_i3d.recognition.postprocess import Drops, Postprocessor, PostprocessSettings
from stream_i3d.training.stream_videos import StreamVideo, stream_order
from stream_i3d.training.streaming_offline import carried_probabilities, check_finite
from stream_i3d.training.streaming_report import (
    Span,
    StreamingReport,
    accuracy,
    measure_smoothing,
    span_of,
    video_accuracy,
)

if TYPE_CHECKING:
    from stream_i3d.training.evaluation import Network

_CAMERA = "stream"
_CLOCK = Clock(lambda: 0, lambda: 0.0, lambda until: True)

SMOOTHINGS: Mapping[str, SmoothingConfig] = {
    "none": SmoothingConfig(method="none"),
    "ema 0.25 s": SmoothingConfig(method="ema", time_constant_s=0.25),
    "ema 0.5 s (default)": SmoothingConfig(method="ema", time_constant_s=0.5),
    "ema 1 s": SmoothingConfig(method="ema", time_constant_s=1.0),
    "mean of 5": SmoothingConfig(method="mean", last=5),
}
"""The smoothing methods that are compared; the default is that of `run`."""


@dataclass(frozen=True, slots=True)
class WindowPrediction:
    """The network's prediction for one window; `prediction` is None while there is no whole window yet.

    `motion` is in gray levels (`motion.motion_measure`); infinite if it was not measured.
    """

    window: Window
    newest: FrameStamp
    prediction: Prediction | None
    motion: float = float("inf")


@dataclass(slots=True)
class Playback:
    """A played stream: the span of each video, and the prediction for each window."""

    spans: list[Span] = field(default_factory=list)
    predictions: list[WindowPrediction] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


class _Recording(Postprocessor):
    """A postprocessor that records its inputs."""

    def __init__(self, settings: PostprocessSettings, recorded: list[WindowPrediction]) -> None:
        super().__init__(_CAMERA, settings, lambda: 0)
        self._recorded = recorded

    def process(
        self, window: Window, newest: FrameStamp, prediction: Prediction, motion: float, queue_ms: float, drops: Drops
    ) -> tuple[Recognition, list[ActionEvent]]:
        self._recorded.append(WindowPrediction(window, newest, prediction, motion))
        return super().process(window, newest, prediction, motion, queue_ms, drops)

    def warming(self, window: Window, newest: FrameStamp, drops: Drops) -> tuple[Recognition, list[ActionEvent]]:
        self._recorded.append(WindowPrediction(window, newest, None))
        return super().warming(window, newest, drops)


def play(
    videos: Sequence[StreamVideo],
    model: LoadedModel,
    preprocessing: Preprocessing,
    config: Config,
    seconds_per_video: float,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Playback:
    """Play videos in the given order as one stream, as fast as the engine can.

    Args:
        videos: The videos; unreadable ones are skipped and recorded.
        model: The network, loaded for the configuration's mode.
        preprocessing: Preprocessing of its frames.
        config: Settings of windows and recognition.
        seconds_per_video: Limit; longer videos are cut.
        progress: Called with the number of videos done and the number in all.

    Returns:
        The spans of the videos and the predictions.
    """
    playback = Playback()
    settings = _settings(model.labels, config)
    camera = CameraWindows(
        Feed(preprocessing, config.window),
        _Recording(settings, playback.predictions),
    )
    runner = Runner(model, config, lambda: 0)
    seq, time = 0, 0.0
    for place, video in enumerate(videos):
        stamps: list[FrameStamp] = []
        try:
            for frame in _frames(video, preprocessing, seq, time, seconds_per_video):
                stamps.append(frame.stamp)
                if camera.feed.push(frame.stamp, frame.pixels):
                    camera.warming()
                    if (clip := camera.take()) is not None:
                        runner.run([(camera, clip)])
        except SourceError as error:
            playback.skipped.append(f"{video.name}: {error}")
        if stamps:
            first, last = stamps[0], stamps[-1]
            playback.spans.append(Span(place, video.label, seq, last.seq, first.elapsed, last.elapsed))
            seq, time = last.seq + 1, last.elapsed + 1 / preprocessing.sample_fps
        progress(place + 1, len(videos))
    if camera.failed:
        playback.skipped.append(f"{camera.failed} windows: the network's output was not finite")
    return playback


def _frames(video: StreamVideo, preprocessing: Preprocessing, seq: int, time: float, seconds: float) -> Iterator[Frame]:
    """Yield a video's sampled frames, with numbers and times that continue a stream at `seq` and `time`."""
    source = video.open()
    try:
        reader = FrameReader(source, _CAMERA, 0, preprocessing, _CLOCK, paced=False)
        begin: float | None = None
        while (frames := reader.read()) is not None:
            for frame in frames:
                stamp = frame.stamp
                begin = stamp.elapsed if begin is None else begin
                if stamp.elapsed - begin >= seconds:
                    return
                moved = structs.replace(stamp, seq=seq + stamp.seq, media_time=time + stamp.elapsed - begin)
                yield Frame(moved, frame.pixels)
    finally:
        source.close()


def replay(
    predictions: Sequence[WindowPrediction], labels: Sequence[str], config: Config
) -> tuple[list[Recognition], list[ActionEvent]]:
    """Run the postprocessor over recorded predictions with another configuration. Pure.

    Returns:
        The recognition of every window with a prediction, and the events.
    """
    postprocessor = Postprocessor(_CAMERA, _settings(labels, config), lambda: 0)
    recognitions: list[Recognition] = []
    events: list[ActionEvent] = []
    drops = Drops(0, 0)
    for one in predictions:
        if one.prediction is None:
            _, more = postprocessor.warming(one.window, one.newest, drops)
        else:
            # Infinite motion: no window is idle because of stillness, which may be one of the classes.
            recognition, more = postprocessor.process(one.window, one.newest, one.prediction, float("inf"), 0.0, drops)
            recognitions.append(recognition)
        events += more
    return recognitions, events + postprocessor.finish()


def evaluate_stream(
    network: Network,
    videos: Sequence[StreamVideo],
    config: Config,
    *,
    model: LoadedModel | None = None,
    seed: int = 0,
    seconds_per_video: float = 20.0,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> StreamingReport:
    """Play videos through the live path and measure its accuracy and reaction times.

    Args:
        network: The network, which takes RGB.
        videos: The videos, in any order; they are shuffled.
        config: Settings of the live path. The smoothing methods are `SMOOTHINGS`, and no window is idle for lack of
            motion.
        model: What runs live, in the configuration's mode; None uses the network itself.
        seed: Seed of the order.
        seconds_per_video: Limit; longer videos are cut.
        progress: Called as the work proceeds.

    Returns:
        The measures.

    Raises:
        ConfigError: The network has other inputs than RGB or does not support streaming mode, or no video can be read
            or is as long as a window.
    """
    config = structs.replace(config, idle=IdleConfig(min_confidence=config.idle.threshold, min_motion=0))
    model = model or network.live_model(config.window.mode)
    ordered = [videos[place] for place in stream_order([video.label for video in videos], seed)]
    playback = play(ordered, model, network.preprocessing, config, seconds_per_video, partial(progress, "streaming"))
    whole = _whole_windows(playback)
    if not whole:
        raise ConfigError(
            f"no video is as long as {_needed(network, config)}: give longer ones, or leave out --streaming"
        )
    offline = _offline(network, ordered, whole, config, partial(progress, "the same windows offline"))
    return _report(playback, whole, offline, network.labels, config)


def _whole_windows(playback: Playback) -> list[tuple[WindowPrediction, Span]]:
    """Return the windows with a prediction that are within one video, and the spans of these videos."""
    predicted = [one for one in playback.predictions if one.prediction is not None]
    return [(one, span) for one in predicted if (span := _span(playback.spans, one)) is not None]


def _report(
    playback: Playback,
    whole: Sequence[tuple[WindowPrediction, Span]],
    offline: NDArray[np.float32],
    labels: Sequence[str],
    config: Config,
) -> StreamingReport:
    """Measure what was played, with each of `SMOOTHINGS`; `offline` is what the whole windows give without it."""
    spans = playback.spans
    owners = [span for _, span in whole]
    live = np.stack([one.prediction.probabilities for one, _ in whole if one.prediction is not None])
    smoothings = []
    for name, smoothing in SMOOTHINGS.items():
        recognitions, events = replay(playback.predictions, labels, structs.replace(config, smoothing=smoothing))
        smoothings.append(measure_smoothing(name, spans, recognitions, events))
    return StreamingReport(
        mode=config.window.mode,
        videos=len(spans),
        seconds=spans[-1].end - spans[0].start,
        stride=config.window.stride,
        windows=sum(one.prediction is not None for one in playback.predictions),
        whole_windows=len(whole),
        window_accuracy=_window_accuracy(owners, live, labels),
        judged_videos=len({owner.video for owner in owners}),
        video_accuracy=video_accuracy(spans, owners, live, labels),
        offline_window_accuracy=_window_accuracy(owners, offline, labels),
        offline_video_accuracy=video_accuracy(spans, owners, offline, labels),
        largest_difference=float(np.abs(live - offline).max()),
        smoothings=smoothings,
        skipped=playback.skipped,
    )


def _needed(network: Network, config: Config) -> str:
    """Return the least length of a video, as text."""
    if config.window.mode == "streaming":
        seen = SEEN_FRAMES + config.window.stride * (config.window.averaging - 1)
        return f"what a prediction sees, {seen} frames"
    return f"a window of {network.preprocessing.window_frames} frames"


def _offline(
    network: Network,
    videos: Sequence[StreamVideo],
    whole: Sequence[tuple[WindowPrediction, Span]],
    config: Config,
    progress: Callable[[int, int], None],
) -> NDArray[np.float32]:
    """Run the frames of the predictions again without the live path."""
    if config.window.mode == "streaming":
        windows = [(one.window, span) for one, span in whole]
        return carried_probabilities(network, videos, windows, config.window, progress)
    return offline_probabilities(network, videos, whole, progress)


def offline_probabilities(
    network: Network,
    videos: Sequence[StreamVideo],
    whole: Sequence[tuple[WindowPrediction, Span]],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> NDArray[np.float32]:
    """Run the frames of windows again, read and batched as in an evaluation.

    Args:
        network: The network that ran live.
        videos: The videos in the order in which they were played.
        whole: Windows that are within one video each, and the spans of these videos, in order.
        progress: Called with the number of windows done and the number in all.

    Returns:
        (windows, classes) float32.
    """
    made = network.preprocessing
    rows: list[torch.Tensor] = []
    for span, group in groupby(whole, key=lambda pair: pair[1]):
        numbers = [
            range(one.window.first_frame - span.first, one.window.last_frame - span.first + 1, made.frame_interval)
            for one, _ in group
        ]
        frames = videos[span.video].frames(sorted({number for clip in numbers for number in clip}))
        clips = np.stack([np.stack([centre_crop(frames[n], made.crop_size) for n in clip]) for clip in numbers])
        logits = network.logits({"rgb": torch.from_numpy(clips)})
        check_finite(logits, network)
        rows.append((logits / network.spec.temperature).softmax(dim=1))
        progress(sum(map(len, rows)), len(whole))
    return np.asarray(torch.cat(rows).numpy(), np.float32)


def _settings(labels: Sequence[str], config: Config) -> PostprocessSettings:
    return PostprocessSettings.of(config, labels, ModelName(name="", checkpoint=""))


def _span(spans: Sequence[Span], one: WindowPrediction) -> Span | None:
    return span_of(spans, one.window.first_frame, one.window.last_frame)


def _window_accuracy(owners: Sequence[Span], probabilities: NDArray[np.float32], labels: Sequence[str]) -> float:
    best = probabilities.argmax(axis=1).tolist()
    return accuracy([labels[place] == owner.label for place, owner in zip(best, owners, strict=True)])
