"""How good predictions are: accuracy, confusion, likelihood and calibration, from probabilities and labels.

Knows neither networks nor videos: (N, C) in, numbers out. What torchmetrics has is taken from there; it takes seconds
to import, so that happens in the functions that need it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import torch
from msgspec import Struct
from torch import Tensor

from stream_i3d.errors import ConfigError, did_you_mean

CALIBRATION_BINS = 15
"""As Guo et al. (On Calibration of Modern Neural Networks, ICML 2017) report their errors."""


class ClassResult(Struct, frozen=True, kw_only=True):
    """How one class fares.

    Attributes:
        label: The class.
        count: Samples of it.
        predicted: Samples that were taken for it.
        correct: Samples of it that were.
        accuracy: Share of its samples that were recognised (its recall); None where there are none.
        precision: Share of what was taken for it that was it; None where nothing was.
    """

    label: str
    count: int
    predicted: int
    correct: int
    accuracy: float | None
    precision: float | None


class ConfidenceBin(Struct, frozen=True, kw_only=True):
    """Samples whose confidence lies above `low`, and at or below `high`; means are 0 where there are none."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


def top_k_accuracy(probabilities: Tensor, labels: Tensor, k: int = 1) -> float:
    """Return the share of samples whose class is among the k likeliest.

    Args:
        probabilities: (N, C) float, N >= 1; logits or scores do as well.
        labels: (N,) int64 in [0, C).
        k: At least 1; all classes where there are fewer.
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
    """Return the mean of the classes' own accuracies, so that rare classes count like common ones.

    Classes without a sample are left out. (torchmetrics' macro average counts one of them as wrong where it was
    predicted once.)
    """
    confusion = confusion_matrix(probabilities, labels).double()
    counts = confusion.sum(dim=1)
    return float((confusion.diagonal()[counts > 0] / counts[counts > 0]).mean())


def negative_log_likelihood(probabilities: Tensor, labels: Tensor) -> float:
    """(N, C) float in [0, 1] and (N,) int64 -> the mean of -log p of the true class; at most 87 a sample."""
    own = probabilities.gather(1, labels[:, None]).double()
    return float(-own.clamp_min(torch.finfo(torch.float32).tiny).log().mean())


def confidence_bins(probabilities: Tensor, labels: Tensor, bins: int = CALIBRATION_BINS) -> list[ConfidenceBin]:
    """Return how often samples are right, by how sure the prediction is: a reliability diagram's bars.

    Own code, since torchmetrics puts samples of confidence 1 into a bin of their own, and takes a softmax of
    probabilities that rounding put above 1.
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
    """Return the mean distance between how sure predictions are and how often they are right, over equal bins.

    Args:
        probabilities: (N, C) float in [0, 1].
        labels: (N,) int64.
        bins: Of confidence.
    """
    found = confidence_bins(probabilities, labels, bins)
    return sum(one.count * abs(one.confidence - one.accuracy) for one in found) / max(1, len(labels))


def per_class(confusion: Tensor, labels: Sequence[str]) -> list[ClassResult]:
    """Return how each class fares, in their order. `confusion` is (C, C), as `confusion_matrix` returns."""
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
"""What can be asked for by name (MMAction2's, where it has them), and the metrics that each one is."""


def check_evaluations(names: Sequence[str]) -> None:
    """Refuse a name that is not in `EVALUATIONS`.

    Raises:
        ConfigError: The name, those allowed and the closest of them.
    """
    for name in names:
        if name not in EVALUATIONS:
            raise ConfigError(
                f"no metric {name!r}{did_you_mean(name, EVALUATIONS)}: give some of {', '.join(EVALUATIONS)}"
            )


def measure(probabilities: Tensor, labels: Tensor, names: Sequence[str] = tuple(EVALUATIONS)) -> dict[str, float]:
    """Return the metrics of some evaluations by their own names.

    Args:
        probabilities: (N, C) float in [0, 1], N >= 1.
        labels: (N,) int64.
        names: Keys of `EVALUATIONS`.

    Raises:
        ConfigError: There is none of that name.
    """
    check_evaluations(names)
    return {key: metric(probabilities, labels) for name in names for key, metric in EVALUATIONS[name].items()}
