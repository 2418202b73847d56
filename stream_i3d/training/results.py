"""Result files of evaluations: JSON with the scores of every video, from which all metrics can be computed again.

The results of an RGB and a flow network on the same videos can be fused (Carreira & Zisserman, CVPR 2017: two networks
are trained separately, and their predictions averaged).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec
import torch
from msgspec import Struct
from torch import Tensor

from stream_i3d.errors import ConfigError
from stream_i3d.files import replace_file
from stream_i3d.training.metrics import EVALUATIONS, ConfidenceBin, confidence_bins, measure
from stream_i3d.training.streaming_report import StreamingReport

Average = Literal["prob", "score"]
"""What is averaged over a video's clips: probabilities ("prob") or logits ("score"), as MMAction2 calls them."""

_SHOWN = 5


class Protocol(Struct, frozen=True, kw_only=True):
    """How a video was evaluated.

    Attributes:
        clips: Number of evenly spaced clips of each video.
        crops: Number of crops of each clip.
        average: What was averaged over them.
        clip: Description of a clip, such as "16 frames at 25 fps, 224 x 224".
        engine: Description of the engine.
    """

    clips: int
    crops: int
    average: Average
    clip: str = ""
    engine: str = ""


class VideoResult(Struct, frozen=True, kw_only=True):
    """Result of one video.

    Attributes:
        video: Its path; for a generated scene, its name.
        label: The true class.
        predicted: The most likely class.
        correct: Whether they are the same.
        top5: The most likely classes, best first.
        scores: Mean probability or mean logit of each class, as the protocol says.
    """

    video: str
    label: str
    predicted: str
    correct: bool
    top5: list[str]
    scores: list[float]


class SkippedVideo(Struct, frozen=True, kw_only=True):
    """A video that could not be evaluated, and why."""

    video: str
    reason: str


class Calibration(Struct, frozen=True, kw_only=True):
    """A fitted temperature and its effect on the samples of the fit.

    Attributes:
        temperature: The fitted temperature.
        before: The temperature in use before.
        samples: Number of samples.
        ece_before: Expected calibration error at the old temperature.
        ece: Expected calibration error at the new temperature.
        nll_before: Negative log likelihood at the old temperature.
        nll: Negative log likelihood at the new temperature.
    """

    temperature: float
    before: float
    samples: int
    ece_before: float
    ece: float
    nll_before: float
    nll: float


class Evaluation(Struct, frozen=True, kw_only=True):
    """A checkpoint's results on a set of videos.

    Attributes:
        checkpoint: Name of the file; two names joined by " + " for fused results.
        architecture: Architecture of the network.
        temperature: Divisor of the logits before the softmax.
        calibrated: Whether the temperature was fitted, so that confidences are shares of right answers; None if that
            is not recorded.
        data: The evaluated data, as given.
        labels: The classes, in the order of the scores.
        metrics: Metrics of the videos, by name.
        clip_metrics: Metrics of the middle clip of each video, which is like a live window; empty for fused results.
        reliability: Accuracy of the videos by confidence.
        calibration: The fit, if a temperature was fitted.
        streaming: Results of the live path on the same videos, if asked for.
    """

    schema: Literal["stream-i3d/evaluation/1"] = "stream-i3d/evaluation/1"
    checkpoint: str
    architecture: str
    temperature: float = 1.0
    calibrated: bool | None = None
    data: str
    protocol: Protocol
    labels: tuple[str, ...]
    metrics: dict[str, float]
    clip_metrics: dict[str, float] = {}
    reliability: list[ConfidenceBin] = []
    videos: list[VideoResult]
    skipped: list[SkippedVideo] = []
    calibration: Calibration | None = None
    streaming: StreamingReport | None = None

    @property
    def scores(self) -> Tensor:
        """(videos, classes) float32 scores of all videos, in order."""
        return torch.tensor([video.scores for video in self.videos], dtype=torch.float32)

    @property
    def targets(self) -> Tensor:
        """(videos,) int64 true classes."""
        places = {label: index for index, label in enumerate(self.labels)}
        return torch.tensor([places[video.label] for video in self.videos])


def probabilities_of(scores: Tensor, average: Average, temperature: float = 1.0) -> Tensor:
    """Turn (N, C) scores of videos into (N, C) probabilities."""
    return scores if average == "prob" else (scores / temperature).softmax(dim=1)


def video_results(names: Sequence[str], scores: Tensor, targets: Tensor, labels: Sequence[str]) -> list[VideoResult]:
    """Return the result of each video; `scores` is (N, C), `targets` (N,)."""
    best = scores.topk(min(_SHOWN, scores.shape[1]), dim=1).indices
    return [
        VideoResult(
            video=name,
            label=labels[target],
            predicted=labels[order[0]],
            correct=order[0] == target,
            top5=[labels[place] for place in order],
            scores=[float(f"{score:.7g}") for score in row],  # all digits of a float32
        )
        for name, row, target, order in zip(names, scores.tolist(), targets.tolist(), best.tolist(), strict=True)
    ]


def make_folder(path: Path) -> None:
    """Create the folder of a file.

    Raises:
        ConfigError: It cannot be created.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from None


def write_results(path: Path, evaluation: Evaluation) -> None:
    """Write an evaluation as JSON; the file appears whole or not at all.

    Raises:
        ConfigError: It cannot be written.
    """
    # One line per video; inside a JSON string the quote would be escaped.
    data = msgspec.json.encode(evaluation).replace(b'{"video":', b'\n{"video":')
    make_folder(path)
    try:
        replace_file(path, data)
    except OSError as error:
        raise _unwritable(path, error) from None


def _unwritable(path: Path, error: OSError) -> ConfigError:
    return ConfigError(f"cannot write {path}: {error.strerror}; give a file in a folder that you can write to")


def read_results(path: Path) -> Evaluation:
    """Read what `write_results` wrote.

    Raises:
        ConfigError: The file cannot be read, or is not an evaluation.
    """
    remedy = "give a file that `stream-i3d evaluate --out` wrote"
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Evaluation)
    except OSError as error:
        raise ConfigError(f"cannot read the results {path}: {error.strerror}; {remedy}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} holds no results of an evaluation ({error}); {remedy}") from None
    classes = len(found.labels)
    if not found.videos or any(
        len(video.scores) != classes or video.label not in found.labels for video in found.videos
    ):
        raise ConfigError(f"{path} is damaged: its videos' labels or scores do not fit its {classes} classes; {remedy}")
    return found


def fuse(
    first: Evaluation,
    second: Evaluation,
    weights: tuple[float, float] = (1.0, 1.0),
    average: Average = "prob",
    names: Sequence[str] = tuple(EVALUATIONS),
) -> Evaluation:
    """Fuse two networks' results on the same videos.

    Args:
        first: Results of one network.
        second: Results of the other; the order of its videos may differ.
        weights: Weight of each; not negative, and not both 0.
        average: "prob": the weighted mean of the probabilities, as in the paper. "score": the weighted sum of the
            logits, as in the released code and in `run --fusion logits`; both files must contain logits.
        names: The metrics to compute.

    Raises:
        ConfigError: The videos or classes of the files differ, or a file does not contain logits.
    """
    total = sum(weights)
    if min(weights) < 0 or not total > 0:
        raise ConfigError(f"fusion weights {weights[0]:g} {weights[1]:g}: give two that are not negative, such as 1 1")
    _check_same_classes(first, second)
    rows = _matched(first, second)
    scores = sum(
        (weight / total if average == "prob" else weight) * _fusable(evaluation, scores, average)
        for weight, evaluation, scores in zip(
            weights, (first, second), (first.scores, second.scores[rows]), strict=True
        )
    )
    assert isinstance(scores, Tensor)
    probabilities = probabilities_of(scores, average)
    targets = first.targets
    return Evaluation(
        checkpoint=f"{first.checkpoint} + {second.checkpoint}",
        architecture=f"{first.architecture} + {second.architecture}",
        data=first.data,
        protocol=msgspec.structs.replace(
            first.protocol, average=average, engine=f"fused {weights[0]:g} : {weights[1]:g}"
        ),
        labels=first.labels,
        metrics=measure(probabilities, targets, names),
        reliability=confidence_bins(probabilities, targets),
        videos=video_results([video.video for video in first.videos], scores, targets, first.labels),
        skipped=first.skipped,
    )


def _fusable(evaluation: Evaluation, scores: Tensor, average: Average) -> Tensor:
    """(N, C) -> (N, C): an evaluation's scores as probabilities or logits, as `average` needs."""
    if average == "prob":
        return probabilities_of(scores, evaluation.protocol.average, evaluation.temperature)
    if evaluation.protocol.average != "score":
        raise ConfigError(
            f"the results of {evaluation.checkpoint} hold probabilities, and scores are to be fused: evaluate with "
            "--average-clips score, or fuse with --average-clips prob"
        )
    return scores


def _check_same_classes(first: Evaluation, second: Evaluation) -> None:
    if len(first.labels) != len(second.labels):
        raise ConfigError(
            f"results of {len(first.labels)} classes and of {len(second.labels)} cannot be fused: give two of networks "
            "that were trained on the same classes"
        )
    for index, (ours, theirs) in enumerate(zip(first.labels, second.labels, strict=True)):
        if ours != theirs:
            raise ConfigError(
                f"class {index} is {ours!r} in the first file and {theirs!r} in the second: give two of networks that "
                "were trained on the same classes in the same order"
            )


def _matched(first: Evaluation, second: Evaluation) -> list[int]:
    """Return the index in `second` of each video of `first`."""
    places = _places(second)
    videos = list(_places(first))
    missing = [name for name in videos if name not in places] or [name for name in places if name not in set(videos)]
    if missing:
        raise ConfigError(
            f"the two files are not of the same videos ({len(videos)} and {len(places)}; {missing[0]!r} is in one of "
            "them only): evaluate both networks on the same list"
        )
    for name, video in zip(videos, first.videos, strict=True):
        if (label := second.videos[places[name]].label) != video.label:
            raise ConfigError(
                f"{name!r} is {video.label!r} in the first file and {label!r} in the second: evaluate both networks on "
                "the same list"
            )
    return [places[name] for name in videos]


def _places(evaluation: Evaluation) -> Mapping[str, int]:
    """Return the index of each video by name; the second entry of the same video is named "NAME #2", and so on."""
    places: dict[str, int] = {}
    for place, video in enumerate(evaluation.videos):
        name, again = video.video, 1
        while name in places:
            again += 1
            name = f"{video.video} #{again}"
        places[name] = place
    return places
