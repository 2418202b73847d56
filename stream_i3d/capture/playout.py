"""A bounded queue of what is to be passed on later, each thing at its due time, in order. Pure: time is an argument.

Drop policy: none below `max_bytes`; above it the oldest leave before they are due, which costs no picture; above twice
that (nobody takes them) the oldest are dropped, and counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Held(Generic[T]):
    item: T
    due_s: Callable[[], float]
    size: int


class PlayoutQueue(Generic[T]):
    """Holds things until they are due, which may be judged anew until they leave."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held: deque[_Held[T]] = deque()
        self.bytes = 0
        self.early = 0
        """Things that left before they were due, for want of room."""
        self.dropped = 0
        """Things that were dropped."""

    def __len__(self) -> int:
        return len(self._held)

    def push(self, item: T, due_s: Callable[[], float], size: int) -> None:
        """Take in a thing of `size` bytes; `due_s` tells when it is due, on the monotonic clock in seconds."""
        self._held.append(_Held(item, due_s, size))
        self.bytes += size
        while self.bytes > 2 * self._max_bytes and len(self._held) > 1:
            self.bytes -= self._held.popleft().size
            self.dropped += 1

    def wait_s(self, now: float) -> float | None:
        """Return for how many seconds the oldest is not due yet; None where nothing is held."""
        if not self._held:
            return None
        return 0.0 if self.bytes > self._max_bytes else max(0.0, self._held[0].due_s() - now)

    def pop(self, now: float) -> T | None:
        """Return the oldest where it is due, else None."""
        wait_s = self.wait_s(now)
        if wait_s is None or wait_s > 0:
            return None
        held = self._held.popleft()
        if held.due_s() > now:
            self.early += 1
        self.bytes -= held.size
        return held.item
