"""Smooths probabilities over time. Pure: (probabilities, time) in, probabilities out.

Three ways behind one small protocol. Each starts anew at `reset()`, which the recognizer calls at a new epoch.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stream_i3d.config import SmoothingConfig

Probabilities = NDArray[np.float32]
"""(num_classes,) float32, each in [0, 1], summing to 1."""


class Smoother(Protocol):
    """One camera's smoother."""

    def update(self, probabilities: Probabilities, time: float) -> Probabilities:
        """Take in one window's probabilities, which ended at `time` seconds; return the smoothed ones."""

    def reset(self) -> None:
        """Forget what came before."""


class ExponentialSmoother:
    """Exponential moving average with a time constant in seconds, so that it does not change with the stride.

    After a step in the input the output has gone 63 % of the way after `time_constant_s`.
    """

    def __init__(self, time_constant_s: float) -> None:
        self._time_constant_s = time_constant_s
        self._mean: Probabilities | None = None
        self._time = 0.0

    def update(self, probabilities: Probabilities, time: float) -> Probabilities:  # noqa: D102 (the protocol says it)
        if self._mean is None:
            self._mean = probabilities.copy()
        else:
            weight = 1 - math.exp(-max(time - self._time, 0.0) / self._time_constant_s)
            self._mean = self._mean + np.float32(weight) * (probabilities - self._mean)
        self._time = time
        return self._mean

    def reset(self) -> None:  # noqa: D102
        self._mean = None


class MeanSmoother:
    """Mean of the last `count` windows."""

    def __init__(self, count: int) -> None:
        self._last: deque[Probabilities] = deque(maxlen=count)

    def update(self, probabilities: Probabilities, time: float) -> Probabilities:  # noqa: D102
        self._last.append(probabilities)
        mean: Probabilities = np.mean(np.stack(self._last), axis=0, dtype=np.float32)
        return mean

    def reset(self) -> None:  # noqa: D102
        self._last.clear()


class VoteSmoother:
    """Majority vote of the last `count` windows: a label's probability is its share of the votes.

    Ties go to the label voted for last.
    """

    def __init__(self, count: int) -> None:
        self._votes: deque[int] = deque(maxlen=count)

    def update(self, probabilities: Probabilities, time: float) -> Probabilities:  # noqa: D102
        self._votes.append(int(np.argmax(probabilities)))
        shares = np.bincount(np.asarray(self._votes), minlength=len(probabilities)).astype(np.float32)
        shares /= np.float32(len(self._votes))
        best = shares.max()
        winner = next(vote for vote in reversed(self._votes) if shares[vote] == best)
        # The least that breaks the tie in float32 without changing what is shown.
        shares[winner] = min(np.float32(1), np.nextafter(shares[winner], np.float32(2)))
        return shares

    def reset(self) -> None:  # noqa: D102
        self._votes.clear()


class NoSmoother:
    """Every window stands for itself."""

    def update(self, probabilities: Probabilities, time: float) -> Probabilities:  # noqa: D102
        return probabilities

    def reset(self) -> None:  # noqa: D102
        return


def retune_smoother(smoother: Smoother, config: SmoothingConfig) -> Smoother:
    """Return a smoother as `config` says, which goes on from where `smoother` stood if it is of the same method."""
    tuned = make_smoother(config)
    if isinstance(smoother, ExponentialSmoother) and isinstance(tuned, ExponentialSmoother):
        tuned._mean, tuned._time = smoother._mean, smoother._time
    elif isinstance(smoother, MeanSmoother) and isinstance(tuned, MeanSmoother):
        tuned._last.extend(smoother._last)
    elif isinstance(smoother, VoteSmoother) and isinstance(tuned, VoteSmoother):
        tuned._votes.extend(smoother._votes)
    return tuned


def make_smoother(config: SmoothingConfig) -> Smoother:
    """Return a fresh smoother as `config` says."""
    if config.method == "ema":
        return ExponentialSmoother(config.time_constant_s)
    if config.method == "mean":
        return MeanSmoother(config.last)
    if config.method == "vote":
        return VoteSmoother(config.last)
    return NoSmoother()
