"""Exponential backoff with jitter. Pure: the caller owns the clock and the randomness."""

from __future__ import annotations

import random


class Backoff:
    """Delays between tries: `first_s`, doubled each time up to `limit_s`, each with +-`jitter` of itself.

    Call `failed()` after each failure for the seconds to wait; call `healthy_for(seconds)` while things go well:
    only *sustained* health resets the delay (`reset_after_s`, and no less than the last delay), so that a camera that
    connects and drops at once is not hammered. With `at_once` the first failure after such health is no reason to wait:
    the next try follows within a fifth of `first_s`.
    """

    def __init__(
        self,
        rng: random.Random,
        first_s: float = 1.0,
        limit_s: float = 60.0,
        jitter: float = 0.2,
        reset_after_s: float = 10.0,
        at_once: bool = False,
    ) -> None:
        self._rng = rng
        self._first_s = first_s
        self._limit_s = limit_s
        self._jitter = jitter
        self._reset_after_s = reset_after_s
        self._at_once = at_once
        self._next_s = first_s
        self._last_s = 0.0
        self.failures = 0

    def failed(self) -> float:
        """Return the seconds to wait before the next try."""
        self.failures += 1
        if self._at_once and self.failures == 1:
            return self._rng.uniform(0.0, self._jitter) * self._first_s
        delay = self._next_s * (1 + self._rng.uniform(-self._jitter, self._jitter))
        self._next_s = min(self._next_s * 2, self._limit_s)
        self._last_s = min(delay, self._limit_s)
        return self._last_s

    def healthy_for(self, seconds: float) -> None:
        """Note that all has been well for `seconds`; resets the delay once that is long enough."""
        if seconds >= max(self._reset_after_s, self._last_s):
            self._next_s, self._last_s = self._first_s, 0.0
            self.failures = 0
