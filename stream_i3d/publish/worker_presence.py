"""Which workers are connected, and what is published for the cameras of one that is not. Pure: time is an argument.

Subscribers cannot see processes. While a worker is away, the state of its cameras is still published, and an action
that ran when it was killed is ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from msgspec import structs

from stream_i3d.messages import ActionEvent, CameraStatus, Recognition
from stream_i3d.transport.relay_wire import Greeting
from stream_i3d.transport.wire import Published


class OpenEvents:
    """At most one running action per camera."""

    def __init__(self, running: Iterable[ActionEvent] = ()) -> None:
        """Args: `running` has actions that run already, with `end_time` as the time they were last seen."""
        self._running = {event.camera: event for event in running}

    def event(self, event: ActionEvent) -> None:
        """Note the start or the end of an action."""
        if event.event == "start":
            self._running[event.camera] = event
        elif (running := self._running.get(event.camera)) is not None and running.id == event.id:
            del self._running[event.camera]

    def recognition(self, recognition: Recognition) -> None:
        """Update the time and the confidence of the camera's running action."""
        running = self._running.get(recognition.camera)
        if running is not None and recognition.label == running.label:
            self._running[recognition.camera] = structs.replace(
                running,
                end_time=max(running.start_time, recognition.window.end_time),
                peak_confidence=max(running.peak_confidence, recognition.confidence),
            )

    def compare(self, cameras: Iterable[str], running: Sequence[ActionEvent]) -> list[ActionEvent]:
        """Set the running actions of these cameras; return ends of those that no longer run."""
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


SILENT_S = 20.0
"""Seconds without a message after which a worker whose process runs is away too; it greets every second."""

STARTING_AGAIN = "the worker is starting again"
NOT_ANSWERING = "the worker does not answer"
REMOVED = "removed"


class _Worker:
    def __init__(self, greeting: Greeting) -> None:
        self.greeting = greeting
        self.last_message_at = 0.0
        self.away = ""  # why, for the status of its cameras
        self.published_at = 0.0


class _LastStatus:
    def __init__(self, status: CameraStatus, at: float) -> None:
        self.status = status
        self.at = at


class WorkerPresence:
    """Follows workers by their messages; `now` is the monotonic clock in seconds."""

    def __init__(self, interval_s: float, running: Iterable[ActionEvent] = ()) -> None:
        """Start without workers.

        Args:
            interval_s: Seconds between two statuses of a camera.
            running: Actions that were running when the publisher before this one ended.
        """
        self._interval_s = interval_s
        self._workers: dict[str, _Worker] = {}
        self._statuses: dict[str, _LastStatus] = {}
        self._open = OpenEvents(running)

    @property
    def away(self) -> int:
        """Number of workers that are away."""
        return sum(bool(worker.away) for worker in self._workers.values())

    def take_greeting(self, greeting: Greeting, now: float) -> list[Published]:
        """Process a greeting.

        Returns:
            Messages to publish: statuses of cameras that the worker no longer has, and ends of actions that it does
            not know, because it was killed since (possibly with the publisher before this one).
        """
        before = self._workers.get(greeting.worker)
        messages: list[Published] = []
        if before is not None:
            if before.greeting.life != greeting.life:
                messages += self._open.end(before.greeting.cameras)
            left = [camera for camera in before.greeting.cameras if camera not in greeting.cameras]
            messages += self._removed([camera for camera in left if not self._is_of_another(camera, greeting.worker)])
        worker = self._workers[greeting.worker] = _Worker(greeting)
        worker.last_message_at = now
        if greeting.running is not None:
            messages += self._open.compare(greeting.cameras, greeting.running)
        return messages

    def take_message(self, greeting: Greeting, message: Published, now: float) -> None:
        """Process a message that a worker publishes."""
        if (worker := self._workers.get(greeting.worker)) is not None and worker.greeting.life == greeting.life:
            worker.last_message_at, worker.away = now, ""
        if isinstance(message, ActionEvent):
            self._open.event(message)
        elif isinstance(message, Recognition):
            self._open.recognition(message)
        else:
            self._statuses[message.camera] = _LastStatus(message, now)

    def due(self, now: float, lives: Callable[[int], bool]) -> list[Published]:
        """Return the messages that are due for workers that are away.

        Args:
            now: The time.
            lives: Returns whether a process id still runs.
        """
        messages: list[Published] = []
        for worker in self._workers.values():
            greeting = worker.greeting
            if greeting.leaving:
                continue
            if not lives(greeting.pid):
                reason = STARTING_AGAIN
            elif now - worker.last_message_at > SILENT_S:
                reason = NOT_ANSWERING
            else:
                worker.away = ""
                continue
            if reason != worker.away:
                worker.away, worker.published_at = reason, float("-inf")
                messages += self._open.end(greeting.cameras)
            if now - worker.published_at >= self._interval_s:
                worker.published_at = now
                messages += [self._away_status(camera, reason, now) for camera in greeting.cameras]
        return messages

    def _removed(self, cameras: Sequence[str]) -> list[Published]:
        messages: list[Published] = list(self._open.end(cameras))
        for camera in cameras:
            last = self._statuses.pop(camera, None)
            if last is not None and (last.status.state != "stopped" or last.status.paused):
                messages.append(
                    structs.replace(
                        last.status,
                        state="stopped",
                        fps=0.0,
                        detail=REMOVED,
                        problem="",
                        retry_in_s=None,
                        too_slow=False,
                        paused=False,
                    )
                )
        return messages

    def _is_of_another(self, camera: str, name: str) -> bool:
        return any(
            camera in worker.greeting.cameras for worker in self._workers.values() if worker.greeting.worker != name
        )

    def _away_status(self, camera: str, reason: str, now: float) -> CameraStatus:
        """Return the camera's last status, changed for a worker that is away; one that is stopped stays so."""
        last = self._statuses.get(camera)
        if last is None:
            return CameraStatus(
                camera=camera,
                state="stalled",
                fps=0.0,
                last_frame_age_s=None,
                reconnects=0,
                frames_dropped=0,
                detail=reason,
                problem=reason,
            )
        if last.status.state == "stopped":
            return last.status
        age = last.status.last_frame_age_s
        aged = None if age is None else round(age + now - last.at, 3)
        return structs.replace(
            last.status,
            state="stalled",
            fps=0.0,
            last_frame_age_s=aged,
            detail=reason,
            problem=reason,
            retry_in_s=None,
            too_slow=False,
            stride=None,
            overloaded=False,
            waiting_since=None,
        )
