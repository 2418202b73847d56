"""Which workers are there, and what is to be said of the cameras of one that is not. Pure: time is an argument.

Subscribers cannot see processes. While a worker is away, they are told the state of its cameras all the same, and an
action that ran when it was killed is ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from msgspec import structs

from stream_i3d.messages import ActionEvent, CameraStatus, Recognition
from stream_i3d.publish.open_events import OpenEvents
from stream_i3d.transport.relay_wire import Greeting
from stream_i3d.transport.wire import Published

SILENT_S = 20.0
"""A worker that lives but has not been heard for so long is away too; it greets every second, between two windows."""

STARTING_AGAIN = "the worker is starting again"
NOT_ANSWERING = "the worker does not answer"
REMOVED = "removed"


class _Worker:
    def __init__(self, greeting: Greeting) -> None:
        self.greeting = greeting
        self.heard_at = 0.0
        self.away = ""  # why, for the status of its cameras
        self.said_at = 0.0


class _LastStatus:
    def __init__(self, status: CameraStatus, at: float) -> None:
        self.status = status
        self.at = at


class Attendance:
    """Follows the workers by what they say; `now` is the monotonic clock in seconds."""

    def __init__(self, interval_s: float, running: Iterable[ActionEvent] = ()) -> None:
        """Args: `interval_s` is how often a camera's status is published, `running` what a publisher before left so."""
        self._interval_s = interval_s
        self._workers: dict[str, _Worker] = {}
        self._statuses: dict[str, _LastStatus] = {}
        self._open = OpenEvents(running)

    @property
    def away(self) -> int:
        """How many workers are away."""
        return sum(bool(worker.away) for worker in self._workers.values())

    def greeted(self, greeting: Greeting, now: float) -> list[Published]:
        """Take in a greeting.

        Returns:
            What is to be published: of cameras that the worker no longer has, and of actions that it knows nothing of,
            as it was killed since, maybe together with the publisher before this one.
        """
        before = self._workers.get(greeting.worker)
        said: list[Published] = []
        if before is not None:
            if before.greeting.life != greeting.life:
                said += self._open.end(before.greeting.cameras)
            left = [camera for camera in before.greeting.cameras if camera not in greeting.cameras]
            said += self._part_with([camera for camera in left if not self._is_of_another(camera, greeting.worker)])
        worker = self._workers[greeting.worker] = _Worker(greeting)
        worker.heard_at = now
        if greeting.running is not None:
            said += self._open.compare(greeting.cameras, greeting.running)
        return said

    def said(self, greeting: Greeting, message: Published, now: float) -> None:
        """Take in what a worker publishes."""
        if (worker := self._workers.get(greeting.worker)) is not None and worker.greeting.life == greeting.life:
            worker.heard_at, worker.away = now, ""
        if isinstance(message, ActionEvent):
            self._open.event(message)
        elif isinstance(message, Recognition):
            self._open.recognition(message)
        else:
            self._statuses[message.camera] = _LastStatus(message, now)

    def due(self, now: float, lives: Callable[[int], bool]) -> list[Published]:
        """Return what is to be published now for workers that are away.

        Args:
            now: The time.
            lives: Whether the process of a number still runs.
        """
        said: list[Published] = []
        for worker in self._workers.values():
            greeting = worker.greeting
            if greeting.leaving:
                continue
            if not lives(greeting.pid):
                reason = STARTING_AGAIN
            elif now - worker.heard_at > SILENT_S:
                reason = NOT_ANSWERING
            else:
                worker.away = ""
                continue
            if reason != worker.away:
                worker.away, worker.said_at = reason, float("-inf")
                said += self._open.end(greeting.cameras)
            if now - worker.said_at >= self._interval_s:
                worker.said_at = now
                said += [self._away_status(camera, reason, now) for camera in greeting.cameras]
        return said

    def _part_with(self, cameras: Sequence[str]) -> list[Published]:
        said: list[Published] = list(self._open.end(cameras))
        for camera in cameras:
            last = self._statuses.pop(camera, None)
            if last is not None and (last.status.state != "stopped" or last.status.paused):
                said.append(
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
        return said

    def _is_of_another(self, camera: str, name: str) -> bool:
        return any(
            camera in worker.greeting.cameras for worker in self._workers.values() if worker.greeting.worker != name
        )

    def _away_status(self, camera: str, reason: str, now: float) -> CameraStatus:
        """Return the camera's last status as it is without its worker; one that has stopped stays so."""
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
