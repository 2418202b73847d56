"""Metrics of predictions: accuracy, confusion, likelihood and calibration, from (N, C) probabilities and (N,) labels.

Where torchmetrics has a metric, it is used. It takes seconds to import, so functions import it when they need it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import torch
from msgspec import Struct
from torch import Tensor

from stream_i3d.errors import ConfigError, did_you_mean

CALIBRATION_BINS = 15
"""The number of bins of Guo et al., On Calibration of Modern Neural Networks (ICML 2017)."""


class ClassResult(Struct, frozen=True, kw_only=True):
    """Result of one class.

    Attributes:
        label: The class.
        count: Samples of this class.
        predicted: Samples predicted as this class.
        correct: Samples of this class predicted as this class.
        accuracy: correct / count (recall); None without samples.
        precision: correct / predicted; None without predictions.
    """

    label: str
    count: int
    predicted: int
    correct: int
    accuracy: float | None
    precision: float | None


class ConfidenceBin(Struct, frozen=True, kw_only=True):
    """Samples with a confidence in (low, high], their mean confidence and accuracy; means are 0 if there are none."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


def top_k_accuracy(probabilities: Tensor, labels: Tensor, k: int = 1) -> float:
    """Return the share of samples whose class is among the k most likely.

    Args:
        probabilities: (N, C) float, N >= 1; logits or scores work as well.
        labels: (N,) int64 in [0, C).
        k: At least 1; limited to C.
    """
    from torchmetrics.functional.classification import multiclass_accuracy

    classes = probabilities.shape[1]
    share = multiclass_accuracy(probabilities, labels, num_classes=classes, average="micro", top_k=min(k, classes))
    return float(share)


def confusion_matrix(probabilities: Tensor, labels: Tensor) -> Tensor:
    """(N, C) float and (N,) int64 -> (C, C) int64: row the true class, column the predicted one."""
    from torchmetrics.functional.classification import multiclass_confusion_matrix

    counts: Tensor = multiclass_confusion_matrix(probabilities, labels, num_classes=probabilities.shape[1])
    return counts


def mean_class_accuracy(probabilities: Tensor, labels: Tensor) -> float:
    """Return the mean of the accuracies of the classes, so that rare classes count as much as common ones.

    Classes without samples are left out. (torchmetrics' macro average counts such a class as wrong once it was
    predicted.)
    """
    confusion = confusion_matrix(probabilities, labels).double()
    counts = confusion.sum(dim=1)
    return float((confusion.diagonal()[counts > 0] / counts[counts > 0]).mean())


def negative_log_likelihood(probabilities: Tensor, labels: Tensor) -> float:
    """(N, C) float in [0, 1] and (N,) int64 -> the mean of -log p of the true class, each limited to 87."""
    own = probabilities.gather(1, labels[:, None]).double()
    return float(-own.clamp_min(torch.finfo(torch.float32).tiny).log().mean())


def confidence_bins(probabilities: Tensor, labels: Tensor, bins: int = CALIBRATION_BINS) -> list[ConfidenceBin]:
    """Return accuracy by confidence: the bars of a reliability diagram.

    Not from torchmetrics, which puts samples of confidence 1 into a bin of their own, and applies a softmax to
    probabilities that rounding has raised above 1.
    """
    confidence, predicted = probabilities.double().cpu().max(dim=1)
    right = (predicted == labels.cpu()).double()
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64)
    place = torch.bucketize(confidence, edges[1:-1])  # edges belong to the bin below, as in Guo et al.
    found = []
    for index in range(bins):
        inside = place == index
        count = int(inside.sum())
        found.append(
            ConfidenceBin(
                low=float(edges[index]),
                high=float(edges[index + 1]),
                count=count,
                confidence=float(confidence[inside].mean()) if count else 0.0,
                accuracy=float(right[inside].mean()) if count else 0.0,
            )
        )
    return found


def expected_calibration_error(probabilities: Tensor, labels: Tensor, bins: int = CALIBRATION_BINS) -> float:
    """Return the expected calibration error: the mean of |accuracy - confidence| over bins, weighted by their samples.

    Args:
        probabilities: (N, C) float in [0, 1].
        labels: (N,) int64.
        bins: Number of equal bins of confidence.
    """
    found = confidence_bins(probabilities, labels, bins)
    return sum(one.count * abs(one.confidence - one.accuracy) for one in found) / max(1, len(labels))


def per_class(confusion: Tensor, labels: Sequence[str]) -> list[ClassResult]:
    """Return the result of each class, in order; `confusion` is (C, C), from `confusion_matrix`."""
    rows = []
    for index, label in enumerate(labels):
        count, predicted = int(confusion[index].sum()), int(confusion[:, index].sum())
        correct = int(confusion[index, index])
        rows.append(
            ClassResult(
                label=label,
                count=count,
                predicted=predicted,
                correct=correct,
                accuracy=correct / count if count else None,
                precision=correct / predicted if predicted else None,
            )
        )
    return rows


_Metric = Callable[[Tensor, Tensor], float]

EVALUATIONS: Mapping[str, Mapping[str, _Metric]] = MappingProxyType(
    {
        "top_k_accuracy": {
            "acc@1": lambda probabilities, labels: top_k_accuracy(probabilities, labels, 1),
            "acc@5": lambda probabilities, labels: top_k_accuracy(probabilities, labels, 5),
        },
        "mean_class_accuracy": {"mean_class_accuracy": mean_class_accuracy},
        "negative_log_likelihood": {"nll": negative_log_likelihood},
        "calibration": {"ece": expected_calibration_error},
    }
)
"""The names of `evaluate --metrics` (as in MMAction2) and the metrics of each."""


def check_evaluations(names: Sequence[str]) -> None:
    """Check that all names are in `EVALUATIONS`.

    Raises:
        ConfigError: A name is not.
    """
    for name in names:
        if name not in EVALUATIONS:
            raise ConfigError(
                f"no metric {name!r}{did_you_mean(name, EVALUATIONS)}: give some of {', '.join(EVALUATIONS)}"
            )


def measure(probabilities: Tensor, labels: Tensor, names: Sequence[str] = tuple(EVALUATIONS)) -> dict[str, float]:
    """Return the metrics of the named evaluations.

    Args:
        probabilities: (N, C) float in [0, 1], N >= 1.
        labels: (N,) int64.
        names: Keys of `EVALUATIONS`.

    Raises:
        ConfigError: A name is not in `EVALUATIONS`.
    """
    check_evaluations(names)
    return {key: metric(probabilities, labels) for name in names for key, metric in EVALUATIONS[name].items()}
