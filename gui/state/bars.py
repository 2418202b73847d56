"""Bars that move smoothly to their values: an exponential approach, the same at every frame rate. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

TIME_CONSTANT_S = 0.12
_CLOSE = 0.004


class Bars:
    """Shown values per label; a label that is no longer wanted shrinks to nothing and goes."""

    def __init__(self, time_constant_s: float = TIME_CONSTANT_S) -> None:
        self._time_constant_s = time_constant_s
        self._targets: tuple[tuple[str, float], ...] = ()
        self._values: dict[str, float] = {}

    def aim(self, targets: Sequence[tuple[str, float]]) -> None:
        """Set where the bars move to: labels, best first, and values in [0, 1]."""
        self._targets = tuple(targets)
        wanted = dict(targets)
        for label in list(self._values):
            if label not in wanted:
                del self._values[label]
        for label in wanted:
            self._values.setdefault(label, 0.0)

    def step(self, seconds: float) -> bool:
        """Move on by `seconds`; returns whether anything still moves."""
        share = 1 - math.exp(-max(0.0, seconds) / self._time_constant_s)
        moving = False
        for label, target in self._targets:
            value = self._values[label] + share * (target - self._values[label])
            if abs(target - value) < _CLOSE:
                value = target
            moving = moving or value != target
            self._values[label] = value
        return moving

    def settle(self) -> None:
        """Jump to the end of the movement (for stills)."""
        self._values = dict(self._targets)

    @property
    def moving(self) -> bool:
        """Whether a bar is not where it is to be."""
        return any(self._values[label] != target for label, target in self._targets)

    @property
    def shown(self) -> list[tuple[str, float]]:
        """Labels and the values to draw now, best first."""
        return [(label, self._values[label]) for label, _ in self._targets]
