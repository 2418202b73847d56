"""The end of a training: the checkpoint is calibrated, and tried on the live path with validation videos.

Each validation video is played as a camera of its own: windows at the live stride, smoothed, and filtered by
confidence and motion as `run` does. The result says how many windows would be idle in live use, which the accuracy
alone does not show.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, cast

import msgspec
import numpy as np
from msgspec import Struct, structs

from stream_i3d.config import DEFAULT_MIN_CONFIDENCE, Config, IdleConfig
from stream_i3d.messages import ModelName
from stream_i3d.models.checkpoint import load_checkpoint, update_spec
from stream_i3d.models.spec import ModelSpec
from stream_i3d.recognition.postprocess import Drops, Postprocessor, PostprocessSettings
from stream_i3d.training.calibration import MIN_SAMPLES, MIN_SAMPLES_PER_CLASS, fit_temperature
from stream_i3d.training.config import TrainConfig
from stream_i3d.training.datasets import Datasets
from stream_i3d.training.evaluation import NamedDataset, Network, Progress
from stream_i3d.training.head_only import HeadTraining
from stream_i3d.training.stream_videos import stream_order, stream_videos
from stream_i3d.training.streaming import WindowPrediction, play

OUTLOOK = "outlook.json"
"""File name in the run's folder."""


class Summary(Struct, frozen=True, kw_only=True):
    """Calibration and live check of a trained checkpoint.

    Attributes:
        architecture: Architecture of the network.
        streams: Input streams of the network.
        calibration: How the temperature was fitted; "none" if it was not.
        samples: Videos used for the fit.
        needed: Videos that a fit needs.
        live: Result of the live check; None if there was none.
    """

    schema: Literal["stream-i3d/outlook/1"] = "stream-i3d/outlook/1"
    architecture: str
    streams: tuple[str, ...]
    calibration: Literal["validation", "cross-validation", "none"]
    samples: int
    needed: int
    live: Outlook | None

    def lines(self) -> list[str]:
        """Return the result as lines of text."""
        if self.calibration == "none":
            few = f"{self.samples or 'no'} validation videos, {self.needed} are needed"
            text = (
                f"not calibrated ({few}): confidences are no shares of right answers; give more by data.val or "
                "data.val_fraction, or train with model.regime=head, which calibrates by cross-validation"
            )
        else:
            text = f"calibrated by {self.calibration} on {self.samples} videos"
        return [text, *(self.live.lines() if self.live else [])]


def finish(
    checkpoint: Path, config: TrainConfig, data: Datasets, head: HeadTraining | None, progress: Progress
) -> Summary:
    """Calibrate a trained checkpoint if its validation set was too small for that, and run the live check.

    The temperature and its origin are written into the checkpoint; if it could not be fitted, a recommended live
    threshold is.

    Args:
        checkpoint: The checkpoint of the run.
        config: Settings of the training.
        data: The videos of the training.
        head: Given if only the head was trained, which makes cross-validation affordable.
        progress: Called with the name of the work, the units done and the units in all.

    Returns:
        The result.
    """
    model, spec = load_checkpoint(checkpoint)
    held_out = 0 if data.val is None else len(data.val)
    samples = held_out
    if spec.calibration == "none" and head is not None:
        logits, labels = head.cross_validate(progress)
        temperature = fit_temperature(logits, labels)
        if temperature is not None:
            samples = len(labels)
            spec = structs.replace(spec, temperature=temperature, calibration="cross-validation")
    network = Network(model, spec, config, checkpoint.name)
    live = None
    if data.val is not None and config.run.live_check and network.streams == ("rgb",):
        live, spec = _try_live(network, spec, cast("NamedDataset", data.val), config, progress)
    how = f"by {spec.calibration} on" if spec.calibrated else "none:"
    note = f"{how} {samples} videos"
    spec = structs.replace(spec, provenance={**spec.provenance, "calibration": note})
    update_spec(checkpoint, spec)
    assert spec.calibration is not None
    return Summary(
        architecture=spec.architecture,
        streams=network.streams,
        calibration=spec.calibration,
        samples=samples,
        needed=max(MIN_SAMPLES, MIN_SAMPLES_PER_CLASS * spec.num_classes),
        live=live,
    )


def _try_live(
    network: Network, spec: ModelSpec, dataset: NamedDataset, config: TrainConfig, progress: Progress
) -> tuple[Outlook, ModelSpec]:
    """Run the live check; return its result, and the spec with a recommended threshold if it is not calibrated."""
    videos, windows = play_validation(
        network,
        dataset,
        config.data.source == "scenes",
        config.run.seed,
        lambda done, total: progress("live check", done, total),
    )
    threshold = None if spec.calibrated else recommend_threshold(windows, spec.num_classes)
    spec = structs.replace(spec, min_confidence=threshold)
    used = DEFAULT_MIN_CONFIDENCE if threshold is None else threshold
    return make_outlook(videos, windows, used, threshold is not None), spec


def write_outlook(path: Path, summary: Summary) -> None:
    """Write the result as JSON."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(summary)) + b"\n")


MAX_VIDEOS, MAX_SCENES = 60, 20
MAX_WINDOWS = 200
"""Limits of what is played; a share of windows need not be exact."""

FEW = 0.7
"""If a smaller share of windows is recognised, live use is idle too often."""

_KEPT = 0.9  # share of the right windows that pass a recommended threshold
_ABOVE_CHANCE = 1.5


class WindowOutcome(Struct, frozen=True):
    """One window of a validation video on the live path: smoothed confidence, correctness and motion."""

    confidence: float
    right: bool
    moving: bool


class Outlook(Struct, frozen=True, kw_only=True):
    """Result of the live check.

    Attributes:
        videos: Number of validation videos played.
        windows: Number of their windows.
        confident: Windows with at least `min_confidence`.
        recognised: Confident windows that also have enough motion; all others are idle.
        right: Recognised windows with the label of their video.
        min_confidence: The threshold used.
        recommended: Whether the threshold is the one that an uncalibrated checkpoint recommends.
    """

    videos: int
    windows: int
    confident: int
    recognised: int
    right: int
    min_confidence: float
    recommended: bool = False

    @property
    def few(self) -> bool:
        """Whether live use would be idle too often (see `FEW`)."""
        return self.recognised < FEW * self.windows

    def lines(self) -> list[str]:
        """Return the result as lines of text, with what to do if few windows pass."""
        if not self.windows:
            return ["live: no validation video is as long as a window, so what live use will be like is not known"]
        origin = " (recommended by this checkpoint)" if self.recommended else ""
        text = (
            f"live: of {self.windows} windows of {self.videos} validation videos, {self.confident} pass min_confidence "
            f"{self.min_confidence:g}{origin}, {self.right} are recognised and right, {self.windows - self.recognised} "
            "are idle"
        )
        return [text, *self._remedies()]

    def _remedies(self) -> list[str]:
        if not self.few:
            return []
        if self.confident >= FEW * self.windows:
            return ["live: many windows have too little motion to be recognised: run them with a lower --min-motion"]
        return [
            "live: few windows pass: train longer (run.epochs) or on more clips of each class, or accept less sure "
            f"answers with --min-confidence {self.min_confidence / 2:.2g}"
        ]


def window_outcomes(
    predictions: Sequence[WindowPrediction], label: str, labels: Sequence[str], config: Config
) -> list[WindowOutcome]:
    """Postprocess the predictions of one video's windows as the live path does. Pure.

    Args:
        predictions: The windows and their predictions, in order.
        label: The class of the video.
        labels: The classes of the network.
        config: Settings of the live path.
    """
    open_config = structs.replace(config, idle=IdleConfig(min_confidence=0, min_motion=0))
    postprocessor = Postprocessor(
        "outlook", PostprocessSettings.of(open_config, labels, ModelName(name="", checkpoint="")), lambda: 0
    )
    outcomes = []
    for one in predictions:
        if one.prediction is None:
            postprocessor.warming(one.window, one.newest, Drops(0, 0))
            continue
        seen, _ = postprocessor.process(one.window, one.newest, one.prediction, one.motion, 0.0, Drops(0, 0))
        moving = one.motion >= config.idle.min_motion
        outcomes.append(WindowOutcome(seen.confidence, seen.label == label, moving))
    return outcomes


def make_outlook(videos: int, windows: Sequence[WindowOutcome], min_confidence: float, recommended: bool) -> Outlook:
    """Count the windows that would be confident, recognised and right in live use."""
    confident = [one for one in windows if one.confidence >= min_confidence]
    recognised = [one for one in confident if one.moving]
    return Outlook(
        videos=videos,
        windows=len(windows),
        confident=len(confident),
        recognised=len(recognised),
        right=sum(one.right for one in recognised),
        min_confidence=min_confidence,
        recommended=recommended,
    )


def recommend_threshold(windows: Sequence[WindowOutcome], classes: int) -> float | None:
    """Return a live threshold for a checkpoint that is not calibrated; None if the default threshold suits it.

    It is the confidence that nine in ten of the right windows reach, but at least 1.5 times that of chance.
    """
    right = [one.confidence for one in windows if one.right]
    if not right:
        return None
    kept = max(float(np.quantile(right, 1 - _KEPT)), _ABOVE_CHANCE / classes)
    return round(kept, 2) if kept < DEFAULT_MIN_CONFIDENCE else None


def play_validation(
    network: Network,
    dataset: NamedDataset,
    scenes: bool,
    seed: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[int, list[WindowOutcome]]:
    """Play validation videos through the live path with its default settings.

    Args:
        network: The trained network, which takes RGB.
        dataset: The validation videos.
        scenes: Whether they are generated scenes.
        seed: Selects videos if there are more than `MAX_VIDEOS`.
        progress: Called with the number of videos done and the number in all.

    Returns:
        The number of videos that could be played, and their windows.
    """
    config = Config()
    made = network.preprocessing
    count = min(len(dataset), MAX_SCENES if scenes else MAX_VIDEOS)
    seconds = (made.window_frames + config.window.stride * (MAX_WINDOWS // count)) / made.sample_fps
    videos = stream_videos(dataset.names, dataset.targets, dataset.labels, made, scenes, seconds)
    chosen = [videos[place] for place in stream_order([video.label for video in videos], seed)[:count]]
    model = network.live_model("window")
    windows: list[WindowOutcome] = []
    played = 0
    for number, video in enumerate(chosen):
        playback = play([video], model, made, config, seconds)
        played += bool(playback.spans)
        windows += window_outcomes(playback.predictions, video.label, network.labels, config)
        progress(number + 1, len(chosen))
    return played, windows
