"""Which validation of a training is the best: the policy that chooses the checkpoint to keep. Pure.

On a small validation set many epochs reach the same accuracy. The first of them has the least trained head: right, but
so unsure that live nothing passes the confidence threshold. So equal accuracies are told apart by the loss.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

MetricName = Literal["acc@1", "mean_class_accuracy", "loss"]

Rank = tuple[float, ...]
"""Compares like a tuple; the larger one is the better validation."""


def rank(metrics: Mapping[str, float], metric: MetricName) -> Rank:
    """Return how good a validation is: by `metric`, then the lower loss, then the higher accuracy, then the later step.

    Args:
        metrics: Of one validation: "acc@1", "mean_class_accuracy", "loss" and "step". What is missing (in a run that an
            older version began) or NaN is worse than any number.
        metric: What counts first.
    """
    loss = -_number(metrics, "loss", math.inf)
    first = loss if metric == "loss" else _number(metrics, metric, -math.inf)
    return (first, loss, _number(metrics, "acc@1", -math.inf), _number(metrics, "step", -math.inf))


def is_better(metrics: Mapping[str, float], best: Mapping[str, float], metric: MetricName) -> bool:
    """Tell whether a validation goes before the best one so far; an empty `best` is none."""
    return not best or rank(metrics, metric) > rank(best, metric)


def _number(metrics: Mapping[str, float], name: str, missing: float) -> float:
    value = metrics.get(name, missing)
    return missing if math.isnan(value) else value
