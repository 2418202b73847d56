"""Keeps one message that comes again and again from filling a log: the first few are let through, the rest are counted.

Pure: `now` is the monotonic clock in seconds, given by the caller.
"""

from __future__ import annotations

from dataclasses import dataclass

Place = tuple[str | int, ...]
"""Where a message comes from: a logger, a level, a line of code."""


@dataclass(slots=True)
class _Period:
    """What came under one key since `begun`."""

    begun: float
    passed: int = 0
    held: int = 0
    text: str = ""


@dataclass(frozen=True, slots=True)
class RepeatedMessage:
    """What was held back in one period: `count` messages like `text` (`alike`: just that one) from one place."""

    place: Place
    text: str
    count: int
    alike: bool

    def describe(self, period_s: float) -> str:
        """Return the line to log in place of all those."""
        what = "times more" if self.alike else "more like this"
        return f"{self.text} … {self.count} {what} in the last {period_s:g} s"


class LogThrottle:
    """Lets so many messages of one text, and so many of any text from one place, through in each period.

    Holds at most `most` counts; beyond, new texts are only counted by their place, and at twice as many not at all.
    """

    def __init__(self, same: int = 5, place: int = 200, period_s: float = 60.0, most: int = 1000) -> None:
        self.period_s = period_s
        self._same = same
        self._place = place
        self._most = most
        self._periods: dict[tuple[Place, str | None], _Period] = {}

    @property
    def holds_back(self) -> bool:
        """Whether something was held back that has not been told."""
        return any(period.held for period in self._periods.values())

    def take(self, place: Place, text: str, now: float) -> bool:
        """Tell whether this message may pass; `due` comes first."""
        of_text = self._period((place, text), now, self._most)
        if of_text is not None and not _passes(of_text, self._same, text):
            return False
        of_place = self._period((place, None), now, 2 * self._most)
        return of_place is None or _passes(of_place, self._place, text)

    def due(self, now: float) -> list[RepeatedMessage]:
        """Return what was held back in the periods that are over, and forget those."""
        over = [key for key, period in self._periods.items() if now - period.begun >= self.period_s]
        return self._ended(over)

    def rest(self) -> list[RepeatedMessage]:
        """Return all that was held back, at the end."""
        return self._ended(list(self._periods))

    def _ended(self, keys: list[tuple[Place, str | None]]) -> list[RepeatedMessage]:
        ended = []
        for key in keys:
            period = self._periods.pop(key)
            if period.held:
                ended.append(RepeatedMessage(key[0], period.text, period.held, alike=key[1] is not None))
        return ended

    def _period(self, key: tuple[Place, str | None], now: float, most: int) -> _Period | None:
        if key not in self._periods and len(self._periods) >= most:
            return None
        return self._periods.setdefault(key, _Period(now))


def _passes(period: _Period, limit: int, text: str) -> bool:
    if period.passed < limit:
        period.passed += 1
        return True
    period.held += 1
    period.text = text
    return False
