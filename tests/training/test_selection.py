from __future__ import annotations

import math

import pytest

from stream_i3d.training.selection import MetricName, is_better, rank


def validation(step: int, acc: float, loss: float) -> dict[str, float]:
    return {"step": float(step), "acc@1": acc, "mean_class_accuracy": acc, "loss": loss}


def best_of(validations: list[dict[str, float]], metric: MetricName = "acc@1") -> int:
    """The step that a run keeps which sees these validations one after another."""
    best: dict[str, float] = {}
    for one in validations:
        if is_better(one, best, metric):
            best = one
    return int(best["step"])


def test_equal_accuracies_are_told_apart_by_the_loss_and_not_by_which_came_first() -> None:
    run = [validation(2, 0.9, 1.9), validation(4, 1.0, 1.5), validation(6, 1.0, 0.4), validation(8, 1.0, 0.6)]
    assert best_of(run) == 6


def test_the_later_of_two_equal_validations_is_kept() -> None:
    assert best_of([validation(2, 1.0, 0.5), validation(4, 1.0, 0.5)]) == 4


def test_a_higher_accuracy_goes_before_any_loss() -> None:
    assert best_of([validation(2, 0.8, 0.1), validation(4, 0.9, 3.0), validation(6, 0.85, 0.01)]) == 4


def test_by_loss_the_accuracy_breaks_ties() -> None:
    assert best_of([validation(2, 0.8, 0.5), validation(4, 0.9, 0.5), validation(6, 0.7, 0.6)], "loss") == 4


def test_a_loss_that_is_no_number_is_never_kept_before_one_that_is() -> None:
    assert best_of([validation(2, 1.0, math.nan), validation(4, 1.0, 9.0), validation(6, 1.0, math.nan)]) == 4


@pytest.mark.parametrize("metric", ["acc@1", "mean_class_accuracy", "loss"])
def test_a_run_that_an_older_version_began_goes_on(metric: MetricName) -> None:
    old = {"step": 10.0, "epoch": 5.0, "loss": 1.4, "acc@1": 1.0, "acc@5": 1.0, "mean_class_accuracy": 1.0}
    assert is_better(validation(12, 1.0, 0.9), old, metric)
    assert not is_better(validation(12, 0.9, 1.5), old, metric)
    assert is_better(validation(12, 0.9, 1.5), {}, metric)
    assert rank({"acc@1": 0.5}, "acc@1") < rank(validation(1, 0.5, 99.0), "acc@1")
