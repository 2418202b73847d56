"""Smooths probabilities over time. Pure: (probabilities, time) in, probabilities out.

A rule is a class with the methods of `Smoother` and a row in `SMOOTHERS`; its name stands in `config.SmoothingName`. A
smoother is reset at a new epoch.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from stream_i3d.config import SmoothingConfig, SmoothingName

Probabilities = NDArray[np.float32]
"""(num_classes,) float32, each in [0, 1], summing to 1."""


class Smoother(Protocol):
    """One camera's smoother."""

    def update(self, probabilities: Probabilities, time: float) -> Probabilities:
        """Take in one window's probabilities, which ended at `time` seconds; return the smoothed ones."""

    def reset(self) -> None:
        """Forget what came before."""

    def resume(self, other: Self) -> None:
        """Go on from where another of the same class is: its settings were changed."""


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

    def resume(self, other: Self) -> None:  # noqa: D102
        self._mean, self._time = other._mean, other._time


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

    def resume(self, other: Self) -> None:  # noqa: D102
        self._last.extend(other._last)


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

    def resume(self, other: Self) -> None:  # noqa: D102
        self._votes.extend(other._votes)


class NoSmoother:
    """Every window stands for itself."""

    def update(self, probabilities: Probabilities, time: float) -> Probabilities:  # noqa: D102
        return probabilities

    def reset(self) -> None:  # noqa: D102
        return

    def resume(self, other: Self) -> None:  # noqa: D102
        return


SMOOTHERS: Mapping[SmoothingName, Callable[[SmoothingConfig], Smoother]] = MappingProxyType(
    {
        "ema": lambda config: ExponentialSmoother(config.time_constant_s),
        "mean": lambda config: MeanSmoother(config.last),
        "vote": lambda config: VoteSmoother(config.last),
        "none": lambda config: NoSmoother(),
    }
)
"""What makes a smoother, by `smoothing.method`."""


def make_smoother(config: SmoothingConfig) -> Smoother:
    """Return a fresh smoother as `config` says."""
    return SMOOTHERS[config.method](config)


def retune_smoother(smoother: Smoother, config: SmoothingConfig) -> Smoother:
    """Return a smoother as `config` says, which goes on from where `smoother` is if it is of the same rule."""
    tuned = make_smoother(config)
    if type(tuned) is type(smoother):
        tuned.resume(smoother)
    return tuned
