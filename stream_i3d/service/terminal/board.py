"""What `watch` shows of each camera, from the messages it has received. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from stream_i3d.messages import ActionEvent, CameraStatus, Recognition
from stream_i3d.transport.wire import Published


@dataclass(slots=True)
class BoardRow:
    """The newest of everything about one camera."""

    camera: str
    status: CameraStatus | None = None
    recognition: Recognition | None = None
    event: ActionEvent | None = None

    def cells(self) -> tuple[str, ...]:
        """Return the row as text: camera, state, action, confidence, latency, drops, last event, detail."""
        status, seen = self.status, self.recognition
        state = "" if status is None else _state(status)
        if seen is None:
            return (self.camera, state, "", "", "", "", self._last_event(), status.detail if status else "")
        action = seen.label or (seen.skipped or seen.state)
        drops = f"{seen.frames_dropped}/{seen.windows_dropped}"
        confidence = f"{seen.confidence:.2f}" if seen.top_k else ""
        latency = f"{seen.latency_ms.total:.0f} ms"
        return (
            self.camera,
            state,
            action,
            confidence,
            latency,
            drops,
            self._last_event(),
            status.detail if status else "",
        )

    def _last_event(self) -> str:
        if self.event is None:
            return ""
        if self.event.end_time is None:
            return f"{self.event.label}, going on"
        return f"{self.event.label} for {self.event.end_time - self.event.start_time:.1f} s"


def _state(status: CameraStatus) -> str:
    """Return a camera's state: with its rate where it is live, and whether it waits for its turn."""
    words = status.state + (f" {status.fps:.0f} fps" if status.state == "live" else "")
    return words if status.waiting_since is None else f"{words}, waits its turn"


COLUMNS = ("camera", "state", "action", "confidence", "latency", "lost frames/windows", "last event", "detail")
"""What `BoardRow.cells` returns."""


class Board:
    """All cameras seen so far, by name."""

    def __init__(self) -> None:
        self._rows: dict[str, BoardRow] = {}

    def take(self, message: Published) -> None:
        """Take in one message."""
        row = self._rows.setdefault(message.camera, BoardRow(message.camera))
        if isinstance(message, Recognition):
            row.recognition = message
        elif isinstance(message, ActionEvent):
            row.event = message
        else:
            row.status = message

    def rows(self) -> list[BoardRow]:
        """Return the cameras in the order of their names."""
        return [self._rows[name] for name in sorted(self._rows)]
