"""Messages that must not be lost, kept until the other side says that they are safe. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator


class Backlog:
    """Numbered messages in order, the first being 1. Drop policy: a full backlog drops its oldest, counted."""

    def __init__(self, limit: int) -> None:
        """Args: `limit` is how many are kept at most."""
        self._kept: deque[tuple[int, tuple[bytes, ...]]] = deque()
        self._limit = limit
        self._newest = 0
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def next_number(self) -> int:
        """The number that the next message will get."""
        return self._newest + 1

    @property
    def first(self) -> int:
        """The number of the oldest message that is kept, or of the next one where none is."""
        return self._kept[0][0] if self._kept else self._newest + 1

    def keep(self, parts: tuple[bytes, ...]) -> None:
        """Keep a message, under `next_number`."""
        self._newest += 1
        self._kept.append((self._newest, parts))
        if len(self._kept) > self._limit:
            self._kept.popleft()
            self.dropped += 1

    def settle(self, number: int) -> None:
        """Forget all messages up to `number`: they are safe."""
        while self._kept and self._kept[0][0] <= number:
            self._kept.popleft()

    def since(self, number: int) -> Iterator[tuple[int, tuple[bytes, ...]]]:
        """Yield the messages from `number` on, with their numbers."""
        if not self._kept or number > self._newest:
            return
        # From the newer end: what is asked for is nearly always the last one.
        start = len(self._kept) - min(len(self._kept), self._newest - number + 1)
        for index in range(start, len(self._kept)):
            yield self._kept[index]
