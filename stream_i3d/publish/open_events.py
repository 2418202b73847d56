"""Actions that have started and not ended, so that they can be ended for a worker that is gone. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import structs

from stream_i3d.messages import ActionEvent, Recognition


class OpenEvents:
    """At most one running action per camera."""

    def __init__(self) -> None:
        self._running: dict[str, ActionEvent] = {}

    def event(self, event: ActionEvent) -> None:
        """Note the start or the end of an action."""
        if event.event == "start":
            self._running[event.camera] = event
        elif (running := self._running.get(event.camera)) is not None and running.id == event.id:
            del self._running[event.camera]

    def recognition(self, recognition: Recognition) -> None:
        """Note how long the camera's action has been seen, and how surely."""
        running = self._running.get(recognition.camera)
        if running is not None and recognition.label == running.label:
            self._running[recognition.camera] = structs.replace(
                running,
                end_time=max(running.start_time, recognition.window.end_time),
                peak_confidence=max(running.peak_confidence, recognition.confidence),
            )

    def end(self, cameras: Iterable[str]) -> list[ActionEvent]:
        """End what runs on these cameras, when it was last seen."""
        ended = []
        for camera in cameras:
            if (running := self._running.pop(camera, None)) is not None:
                end_time = running.start_time if running.end_time is None else running.end_time
                ended.append(structs.replace(running, event="end", end_time=end_time))
        return ended
