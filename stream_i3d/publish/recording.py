"""Which stretch of a camera's pictures an event's clip shows, on the pictures' own clock. Pure: time is an argument."""

from __future__ import annotations

from dataclasses import dataclass

from stream_i3d.messages import ActionEvent, Recognition

_LATE_S = 1.0
"""How long a picture may take from its capture to the ring."""


def is_wall_clock(time: float) -> bool:
    """Tell whether an event's time is seconds since 1970, of years that calendars have; else it is a video file's."""
    return 1e9 < time < 2.5e11


class Clocks:
    """From the time of a camera's events (wall clock, or a file's own time) to the monotonic clock of its pictures."""

    def __init__(self) -> None:
        self._offsets: dict[str, float] = {}

    def take(self, recognition: Recognition, now: float) -> None:
        """Learn from a prediction, which carries both, that came at `now` (monotonic, seconds)."""
        captured = now - recognition.latency_ms.total / 1000
        self._offsets[recognition.camera] = captured - recognition.window.end_time

    def of(self, camera: str, time: float, now: float, wall_now: float) -> float:
        """Return an event's `time` on the monotonic clock; before any prediction it is taken for the wall clock's.

        None is of the future: a clip that waited for that would wait for ever.
        """
        return min(now, time + self._offsets.get(camera, now - wall_now))


@dataclass(slots=True)
class Recording:
    """A clip that is being made; times are monotonic, in seconds.

    Attributes:
        event: Its start.
        name: Of its file.
        start: Of the first picture.
        end: Of the last picture, as far as is known now.
        next_number: Of the next picture.
    """

    event: ActionEvent
    name: str
    start: float
    end: float
    next_number: int = 0

    def ends_at(self, end: float) -> None:
        """Take note of when its last picture is due; it may have come to its greatest length before."""
        self.end = min(self.end, max(end, self.start))

    def is_over(self, newest: float, now: float) -> bool:
        """Tell whether no picture of it is still to come: a later one is there, or none comes any more."""
        return newest > self.end or now > self.end + _LATE_S
