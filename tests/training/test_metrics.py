from __future__ import annotations

import math

import pytest
import torch

from stream_i3d.errors import ConfigError
from stream_i3d.training.metrics import (
    confidence_bins,
    confusion_matrix,
    expected_calibration_error,
    mean_class_accuracy,
    measure,
    negative_log_likelihood,
    per_class,
    top_k_accuracy,
)

# Five samples of four classes. Predicted: 0, 0, 1, 2, 0. Nothing is of class 3, and nothing is taken for it.
PROBABILITIES = torch.tensor(
    [
        [0.70, 0.10, 0.15, 0.05],
        [0.60, 0.06, 0.30, 0.04],
        [0.20, 0.50, 0.20, 0.10],
        [0.15, 0.20, 0.55, 0.10],
        [0.40, 0.35, 0.15, 0.10],
    ]
)
LABELS = torch.tensor([0, 2, 1, 2, 1])


def test_top_k_counts_the_class_among_the_k_likeliest() -> None:
    assert top_k_accuracy(PROBABILITIES, LABELS, 1) == pytest.approx(3 / 5)
    assert top_k_accuracy(PROBABILITIES, LABELS, 2) == 1.0
    assert top_k_accuracy(PROBABILITIES, torch.tensor([3, 3, 3, 3, 3]), 3) == 0.0


def test_more_than_all_classes_is_all_of_them() -> None:
    assert top_k_accuracy(PROBABILITIES, LABELS, 5) == 1.0
    assert top_k_accuracy(PROBABILITIES.log(), LABELS, 1) == pytest.approx(3 / 5)


def test_confusion_has_the_truth_in_rows() -> None:
    assert confusion_matrix(PROBABILITIES, LABELS).tolist() == [
        [1, 0, 0, 0],
        [1, 1, 0, 0],
        [1, 0, 1, 0],
        [0, 0, 0, 0],
    ]


def test_every_class_with_samples_counts_alike() -> None:
    assert mean_class_accuracy(PROBABILITIES, LABELS) == pytest.approx((1 + 1 / 2 + 1 / 2) / 3)
    mistaken = PROBABILITIES.clone()
    mistaken[1] = torch.tensor([0.1, 0.1, 0.1, 0.7])  # wrong as before, for a class that has no sample
    assert mean_class_accuracy(mistaken, LABELS) == pytest.approx((1 + 1 / 2 + 1 / 2) / 3)


def test_likelihood_is_of_the_true_class() -> None:
    wanted = -sum(map(math.log, (0.70, 0.30, 0.50, 0.55, 0.35))) / 5
    assert negative_log_likelihood(PROBABILITIES, LABELS) == pytest.approx(wanted, rel=1e-6)


def test_a_class_that_was_excluded_costs_much_but_not_everything() -> None:
    sure = torch.tensor([[1.0, 0.0]])
    assert 80 < negative_log_likelihood(sure, torch.tensor([1])) < 90
    assert negative_log_likelihood(sure, torch.tensor([0])) == 0


def test_calibration_error_by_hand() -> None:
    # In two bins: confidence 0.4 and 0.5 (the edge belongs to the lower), one of two right;
    # 0.7, 0.6, 0.55, two of three right.
    lower = 2 * abs(0.45 - 1 / 2)
    upper = 3 * abs((0.7 + 0.6 + 0.55) / 3 - 2 / 3)
    assert expected_calibration_error(PROBABILITIES, LABELS, bins=2) == pytest.approx((lower + upper) / 5, abs=1e-6)


def test_full_confidence_shares_the_last_bin_and_rounding_does_no_harm() -> None:
    sure = torch.tensor([[1.0000001, 0.0], [1.0, 0.0], [0.95, 0.05]])
    bins = confidence_bins(sure, torch.tensor([0, 0, 1]))
    assert len(bins) == 15
    assert [one.count for one in bins] == [0] * 14 + [3]
    assert bins[-1].accuracy == pytest.approx(2 / 3)
    assert bins[-1].confidence == pytest.approx(2.95 / 3)
    assert (bins[-1].low, bins[-1].high) == pytest.approx((14 / 15, 1.0))


def test_a_perfectly_calibrated_coin_has_no_error() -> None:
    coin = torch.full((10, 2), 0.5)
    coin[:, 0] += 1e-6
    assert expected_calibration_error(coin, torch.tensor([0, 1] * 5)) == pytest.approx(0, abs=1e-5)


def test_each_class_has_its_recall_precision_and_count() -> None:
    rows = per_class(confusion_matrix(PROBABILITIES, LABELS), ("a", "b", "c", "d"))
    assert [(row.label, row.count, row.predicted, row.correct) for row in rows] == [
        ("a", 1, 3, 1), ("b", 2, 1, 1), ("c", 2, 1, 1), ("d", 0, 0, 0),
    ]  # fmt: skip
    assert [row.accuracy for row in rows] == [1.0, 0.5, 0.5, None]
    assert [row.precision for row in rows] == [pytest.approx(1 / 3), 1.0, 1.0, None]


def test_metrics_are_chosen_by_name() -> None:
    assert measure(PROBABILITIES, LABELS, ["mean_class_accuracy", "top_k_accuracy"]) == {
        "mean_class_accuracy": pytest.approx(2 / 3),
        "acc@1": pytest.approx(0.6),
        "acc@5": 1.0,
    }
    assert list(measure(PROBABILITIES, LABELS)) == ["acc@1", "acc@5", "mean_class_accuracy", "nll", "ece"]


def test_an_unknown_metric_is_an_error_with_a_suggestion() -> None:
    with pytest.raises(
        ConfigError, match=r"^no metric 'top_k_acc' \(did you mean 'top_k_accuracy'\?\): give some of top"
    ):
        measure(PROBABILITIES, LABELS, ["top_k_acc"])
