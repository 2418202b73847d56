"""Raises strides, fairly over all cameras of a worker, when the machine cannot keep up. Pure: time is an argument.

Without it a machine that is too slow drops the windows of whichever cameras come at a bad moment. Latency is bounded
either way: the newest window wins.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

FACTORS = (1.0, 1.25, 1.5, 2.0, 3.0, 4.0)
"""Of the stride that was asked for, by level: 8, 10, 12, 16, 24, 32."""

BUSY_WITH_DROPS = 0.7
BUSY_ALONE = 0.97
ROOM = 0.8
"""A lower level is tried when the engine would be busy for less than this share of the time at it."""

_RAISE_AFTER = 2  # periods
_LOWER_AFTER = 10
_LOWER_AFTER_MOST = 320


@dataclass(frozen=True, slots=True)
class Load:
    """How one period of the worker went.

    Attributes:
        busy: Share of the time for which the engine ran, in [0, 1].
        windows: Windows that were recognised.
        replaced: Windows that were dropped because a newer one of their camera was due.
    """

    busy: float
    windows: int
    replaced: int


class Admission:
    """Follows a worker's load, one period (a second) after the other; the level says by how much strides are raised.

    Raised after two bad periods in a row; lowered after ten good ones at which there would be room on the lower level,
    and after twice as many each time that lowering proved too early, so that it does not swing.
    """

    def __init__(self, strides: tuple[int, ...]) -> None:
        """Args: `strides` are those allowed, by level, the first being what was asked for (see `allowed_strides`)."""
        self._strides = strides
        self._level = 0
        self._bad = self._good = 0
        self._lower_after = _LOWER_AFTER
        self._since_lowered: int | None = None
        self._short = False  # at the largest stride windows are still left out
        self._kept_up = 0

    @property
    def stride(self) -> int:
        """The stride in force."""
        return self._strides[self._level]

    @property
    def overloaded(self) -> bool:
        """Whether less is recognised than asked for: at a larger stride, or with windows left out at the largest."""
        return self.raised or self._short

    @property
    def raised(self) -> bool:
        """Whether it is more than was asked for."""
        return self._level > 0

    def retune(self, strides: tuple[int, ...]) -> None:
        """Take other strides, at the same level where there is one."""
        self._strides = strides
        self._level = min(self._level, len(strides) - 1)

    def update(self, load: Load) -> bool:
        """Take in a period; return whether the stride has changed."""
        if self._since_lowered is not None:
            self._since_lowered += 1
        bad = self._cannot_keep_up(load)
        self._kept_up = 0 if bad else self._kept_up + 1
        if self._kept_up >= _LOWER_AFTER:
            self._short = False
        if bad:
            self._good, self._bad = 0, self._bad + 1
            return self._bad >= _RAISE_AFTER and self._raise()
        self._bad = 0
        self._good = self._good + 1 if self._has_room(load) else 0
        return self._good >= self._lower_after and self._lower()

    def _cannot_keep_up(self, load: Load) -> bool:
        return load.busy > (BUSY_WITH_DROPS if load.replaced else BUSY_ALONE)

    def _has_room(self, load: Load) -> bool:
        """Tell whether the level below could be borne: work grows as strides shrink."""
        if not self._level or load.replaced:
            return False
        return load.busy * self.stride / self._strides[self._level - 1] < ROOM

    def _raise(self) -> bool:
        self._bad = 0
        if self._since_lowered is not None and self._since_lowered <= 2 * _LOWER_AFTER:
            self._lower_after = min(2 * self._lower_after, _LOWER_AFTER_MOST)
        self._since_lowered = None
        if self._level + 1 >= len(self._strides):
            self._short = True
            return False
        self._level += 1
        return True

    def _lower(self) -> bool:
        self._good, self._since_lowered = 0, 0
        self._level -= 1
        return True


def allowed_strides(asked: int, streaming: bool, adaptive: bool) -> tuple[int, ...]:
    """Return the strides by level, the one that was asked for first.

    A network that is carried along sees every frame whatever the stride, and knows only the strides 4 and 8: there
    only 4 can be raised.
    """
    if not adaptive:
        return (asked,)
    if streaming:
        return (4, 8) if asked == 4 else (asked,)
    return tuple(dict.fromkeys(math.ceil(asked * factor) for factor in FACTORS))
