"""The one number that makes confidence mean what it says: the temperature, fitted on samples that were not trained on.

Guo et al., On Calibration of Modern Neural Networks (ICML 2017), section 4.2: logits are divided by a temperature
before the softmax; which class comes first does not change. Knows neither networks nor files.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from msgspec import Struct
from torch import Tensor

from stream_i3d.training.metrics import expected_calibration_error, negative_log_likelihood

MIN_SAMPLES = 20
MIN_SAMPLES_PER_CLASS = 2
"""Fewer samples (on average over the classes) say nothing of how often a confident prediction is right."""

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.25, 20.0
"""Where all samples are right, ever surer is ever better, and no set is large enough to say that. Four times surer than
the network's own word is the most that is granted."""

_GOLDEN = (math.sqrt(5) - 1) / 2
_TOLERANCE = 1e-6  # of the logarithm of the temperature


class Calibration(Struct, frozen=True, kw_only=True):
    """What a fit found, on the samples it was made on.

    Attributes:
        temperature: The new one.
        before: The one that was in use.
        samples: How many were looked at.
        ece_before: Expected calibration error at the old temperature.
        ece: At the new one.
        nll_before: Negative log likelihood at the old temperature.
        nll: At the new one.
    """

    temperature: float
    before: float
    samples: int
    ece_before: float
    ece: float
    nll_before: float
    nll: float


def enough_samples(samples: int, classes: int) -> bool:
    """Say whether a temperature can be fitted on so many samples of so many classes."""
    return samples >= max(MIN_SAMPLES, MIN_SAMPLES_PER_CLASS * classes)


def fit_temperature(logits: Tensor, labels: Tensor) -> float | None:
    """Return the temperature at which the true classes are likeliest.

    The logits must be of single clips, one a video, as live windows are: an average over a video's clips is another
    thing to be sure of.

    Args:
        logits: (N, C) float, finite, as the network gives them; of samples that it was not trained on.
        labels: (N,) int64 in [0, C).

    Returns:
        In [MIN_TEMPERATURE, MAX_TEMPERATURE]; None where there are too few samples, see `enough_samples`.
    """
    if not enough_samples(*logits.shape):
        return None
    logits = logits.double().cpu()
    labels = labels.cpu()

    def loss(log_temperature: float) -> float:
        return float(torch.nn.functional.cross_entropy(logits / math.exp(log_temperature), labels))

    # The loss is convex in 1 / T, so it has one valley over log T as well.
    return math.exp(_lowest(loss, math.log(MIN_TEMPERATURE), math.log(MAX_TEMPERATURE)))


def calibrate(logits: Tensor, labels: Tensor, before: float = 1.0) -> Calibration | None:
    """Fit a temperature and say what it changes.

    Args:
        logits: (N, C) float of single clips.
        labels: (N,) int64.
        before: The temperature in use.

    Returns:
        None where there are too few samples.
    """
    temperature = fit_temperature(logits, labels)
    if temperature is None:
        return None
    old, new = (logits.double().div(value).softmax(dim=1) for value in (before, temperature))
    return Calibration(
        temperature=temperature,
        before=before,
        samples=len(labels),
        ece_before=expected_calibration_error(old, labels),
        ece=expected_calibration_error(new, labels),
        nll_before=negative_log_likelihood(old, labels),
        nll=negative_log_likelihood(new, labels),
    )


def _lowest(loss: Callable[[float], float], low: float, high: float) -> float:
    """Return where a function of one valley is lowest, by golden section; an end of the range where it only falls."""
    ends = (low, high)
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = loss(left), loss(right)
    while high - low > _TOLERANCE:
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = loss(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = loss(right)
    return min((*ends, (low + high) / 2), key=loss)
