"""Actions that have started and not ended, so that they can be ended for a worker that is gone. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import structs

from stream_i3d.messages import ActionEvent, Recognition


class OpenEvents:
    """At most one running action per camera."""

    def __init__(self, running: Iterable[ActionEvent] = ()) -> None:
        """Args: `running` is what ran before, `end_time` being when it was last seen."""
        self._running = {event.camera: event for event in running}

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

    def compare(self, cameras: Iterable[str], running: Sequence[ActionEvent]) -> list[ActionEvent]:
        """Take note of what runs on these cameras, by who must know; end what does not."""
        known = {event.id for event in running}
        ended = self.end(
            camera for camera in cameras if camera in self._running and self._running[camera].id not in known
        )
        for event in running:
            self._running.setdefault(event.camera, event)
        return ended

    def end(self, cameras: Iterable[str]) -> list[ActionEvent]:
        """End what runs on these cameras, when it was last seen."""
        ended = []
        for camera in cameras:
            if (running := self._running.pop(camera, None)) is not None:
                end_time = running.start_time if running.end_time is None else running.end_time
                ended.append(structs.replace(running, event="end", end_time=end_time))
        return ended
