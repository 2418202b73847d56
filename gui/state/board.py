"""All that the window knows: cameras, their timelines and figures, the history, whether the service lives. Pure.

Knows neither where messages come from nor how any of it looks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from stream_i3d.messages import ActionEvent, CameraStatus, Recognition

from .camera import CameraTrack
from .history import History, HistoryEvent
from .statistics import CameraStatistics
from .timeline import Timeline

Message = Recognition | ActionEvent | CameraStatus

MAX_CAMERAS = 64


@dataclass(slots=True)
class CameraBoard:
    """One camera's part of it."""

    track: CameraTrack
    timeline: Timeline = field(default_factory=Timeline)
    figures: CameraStatistics = field(default_factory=CameraStatistics)


class Board:
    """Takes messages in, gives out what is to be shown."""

    def __init__(self) -> None:
        self.cameras: dict[str, CameraBoard] = {}
        self.history = History()
        self.labels: dict[str, None] = {}
        self.model = ""
        self.malformed = 0
        self.lost_messages = 0
        self.refused_cameras = 0
        self._removed: set[str] = set()

    def camera(self, name: str) -> CameraBoard | None:
        """Return a camera's part, made where it is new; None for one too many (counted)."""
        found = self.cameras.get(name)
        if found is None:
            if len(self.cameras) >= MAX_CAMERAS:
                self.refused_cameras += 1
                return None
            found = self.cameras[name] = CameraBoard(CameraTrack(name))
        return found

    def take(self, message: Message, now: float) -> HistoryEvent | None:
        """Take in a message that arrived at `now`; returns the event it is about, if any."""
        if message.camera in self._removed:
            return None  # its last messages, still under way
        camera = self.camera(message.camera)
        if camera is None:
            return None
        if isinstance(message, Recognition):
            camera.track.take_recognition(message, now)
            camera.timeline.take_recognition(message, now)
            camera.figures.take_recognition(message, now)
            self.model = f"{message.model.name} · {message.model.checkpoint}"
            self.know_labels(score.label for score in message.top_k)
        elif isinstance(message, CameraStatus):
            camera.track.take_status(message, now)
            camera.figures.take_status(message, now)
            if message.state != "live":
                camera.timeline.lost(now)
        else:
            camera.timeline.take_event(message, now)
            self.know_labels([message.label])
            return self.history.take(message)
        return None

    def know_labels(self, labels: Iterable[str]) -> None:
        """Remember labels that can be shown or hidden; 10,000 at most."""
        for label in labels:
            if len(self.labels) < 10_000:
                self.labels.setdefault(label)

    def service_lost(self, reason: str, now: float) -> None:
        """The service is gone: every camera shows it, and what runs will never be seen to end."""
        for camera in self.cameras.values():
            camera.track.service_lost(reason)
            camera.timeline.lost(now)
        self.history.lost()

    def added(self, name: str) -> None:
        """A camera of this name is wanted (again)."""
        self._removed.discard(name)
        self.camera(name)

    def removed(self, name: str) -> None:
        """A camera is gone for good; its events stay in the history."""
        self.cameras.pop(name, None)
        self.history.lost(name)
        self._removed.add(name)

    def renamed(self, old: str, new: str) -> None:
        """A camera has a new name; all that is known of it stays."""
        if old not in self.cameras or old == new:
            return
        board = self.cameras.pop(old)
        board.track.name = new
        self.cameras[new] = board
        self.history.renamed(old, new)
        self._removed.add(old)
        self._removed.discard(new)
