"""What the tests of the supervisor are made of: rows of toys, and a control that does what a test says."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stream_i3d.messages import CameraStatus
from stream_i3d.service.plan import Role, StageRow
from stream_i3d.service.supervisor import Supervisor
from stream_i3d.stage import CameraNews, CaptureOrder, Order, Ready, Stage
from tests.service.supervisor.toys import WAIT_S


def row(
    main: Callable[[Stage, Any], None],
    log: Path,
    name: str = "worker",
    silent_limit_s: float = WAIT_S,
    startup_limit_s: float = WAIT_S,
    grace_s: float = 20.0,
) -> StageRow:
    order = {"worker": 1, "publisher": 2}.get(name, 0)
    role: Role = "publisher" if name == "publisher" else "worker" if name.startswith("worker") else "capture"
    return StageRow(name, main, log, silent_limit_s, startup_limit_s, order, grace_s, role)


def stopper() -> tuple[Callable[[Ready], None], list[Supervisor], list[Ready]]:
    """Return what stops a run once its worker is ready, the list to put the supervisor in, and what was said."""
    supervisors: list[Supervisor] = []
    said: list[Ready] = []

    def on_ready(ready: Ready) -> None:
        said.append(ready)
        supervisors[0].stop()

    return on_ready, supervisors, said


class FakeControl:
    """Does what the test says at each turn; notes what it is told."""

    def __init__(self, *turns: Callable[[Supervisor], bool]) -> None:
        """Args: each of `turns` is called at every look until it returns True; then the next; then the run ends."""
        self.told: list[tuple[str, str]] = []
        self.statuses: list[CameraStatus] = []
        self._turns = list(turns)
        self._paused = threading.Event()

    def attend(self, supervisor: Supervisor, wait_s: float) -> None:
        self._paused.wait(0.01)
        if not self._turns:
            supervisor.stop()
        elif self._turns[0](supervisor):
            self._turns.pop(0)

    def on_message(self, name: str, said: Ready | CameraNews) -> None:
        if isinstance(said, CameraNews):
            self.statuses.append(said.status)
        else:
            self.told.append(("ready", name))

    def gave_up(self, supervisor: Supervisor, name: str, failure: str) -> None:
        self.told.append((failure, name))

    def gone(self, supervisor: Supervisor, name: str) -> None:
        self.told.append(("gone", name))


def at_once(change: Callable[[Supervisor], object]) -> Callable[[Supervisor], bool]:
    def turn(supervisor: Supervisor) -> bool:
        change(supervisor)
        return True

    return turn


def all_ready(*names: str) -> Callable[[Supervisor], bool]:
    return lambda supervisor: all(supervisor.is_ready(name) for name in names)


def pausing(paused: bool) -> Callable[[int], Order]:
    return lambda number: CaptureOrder(number=number, paused=paused)


def said_in(log: Path, *lines: str) -> Callable[[Supervisor], bool]:
    return lambda supervisor: all(line in log.read_text() for line in lines)


def state_of(supervisor: Supervisor, name: str) -> str:
    return next(one.state for one in supervisor.health() if one.name == name)
