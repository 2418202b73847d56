"""One camera's newest pictures as JPEGs, so that a clip can begin before its event was known. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from stream_i3d.sampling import Sampler


@dataclass(frozen=True, slots=True)
class Picture:
    """A JPEG, its number among those of its camera, and when it was captured (monotonic, seconds)."""

    number: int
    time: float
    jpeg: bytes


class PictureRing:
    """Bounded by time and by bytes. Drop policy: the oldest go."""

    def __init__(self, fps: float, seconds: float, max_bytes: int) -> None:
        """Args: of faster previews only `fps` pictures a second are kept."""
        self._pace = Sampler(fps)
        self._seconds = seconds
        self._max_bytes = max_bytes
        self._pictures: deque[Picture] = deque()
        self._bytes = 0
        self._taken = 0

    def __len__(self) -> int:
        return len(self._pictures)

    def add(self, time: float, jpeg: bytes) -> None:
        """Take in a picture captured at `time`; one that is not later than the newest is left out."""
        if (self._pictures and time <= self._pictures[-1].time) or not self._pace.push(time):
            return
        self._pictures.append(Picture(self._taken, time, jpeg))
        self._taken += 1
        self._bytes += len(jpeg)
        while self._bytes > self._max_bytes or self._pictures[0].time < time - self._seconds:
            self._bytes -= len(self._pictures.popleft().jpeg)
            if not self._pictures:
                return

    def between(self, number: int, start: float, end: float) -> Sequence[Picture]:
        """Return the pictures from `number` on that were captured from `start` to `end`, in order."""
        return [one for one in self._pictures if one.number >= number and start <= one.time <= end]

    @property
    def newest(self) -> float:
        """When the newest picture was captured; -inf before the first."""
        return self._pictures[-1].time if self._pictures else float("-inf")
