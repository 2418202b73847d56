"""Starts, watches, restarts and ends the processes of the plan. Nothing else in the package starts one.

A process that fails with an error of ours (exit code 2) ends the run with that error: trying again would not mend it.
One that crashes, or is silent too long, is started again with backoff (service/child.py). Nothing here waits for a
process: one that hangs delays neither the others nor the control channel. Start method is spawn: nothing is
inherited by chance.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import wait as wait_for_end
from typing import Protocol

from msgspec import structs

from stream_i3d.errors import ServiceError
from stream_i3d.inference.cores import allowed_cores
from stream_i3d.publish.process import PublisherJob
from stream_i3d.service.camera_names import camera_of
from stream_i3d.service.child import Child, Said
from stream_i3d.service.plan import Role, StageRow
from stream_i3d.service.run_totals import RunTotals
from stream_i3d.service.stage_health import StageHealth
from stream_i3d.stage import CameraNews, Order, PublisherOrder, PublisherSummary, Ready, Summary

_TICK_S = 0.05
_SHUTDOWN_S = 5.0
_AFTER_KILL_S = 0.5
_STARTING_BESIDE = 2
"""Cameras that may start at once beyond one a core: a start also waits for the disk."""

_STARTING_S = 30.0
"""Seconds after which a process that still starts holds up no other."""


class ControlSide(Protocol):
    """Who takes requests while the service runs; called by the supervisor's own thread only."""

    def attend(self, supervisor: Supervisor, wait_s: float) -> None:
        """See to what is asked, waiting for it at most `wait_s`."""

    def on_message(self, name: str, message: Ready | CameraNews) -> None:
        """Record what the process `name` has sent."""

    def gave_up(self, supervisor: Supervisor, name: str, failure: str) -> None:
        """Record that a process which is not essential cannot go on."""

    def gone(self, supervisor: Supervisor, name: str) -> None:
        """Record that a process which was retired has ended."""


def may_start_another(starting_for: Sequence[float], at_once: int) -> bool:
    """Tell whether one more process may be started beside those that start; pure.

    Starting takes a core for a second or more, so many at once are all late, and none is earlier for it.

    Args:
        starting_for: For how many seconds each of the others has been starting.
        at_once: How many may start at the same time.
    """
    return sum(seconds < _STARTING_S for seconds in starting_for) < at_once


class Supervisor:
    """Runs a plan until it is told to stop, its time is over, its cameras have ended, or a process cannot go on."""

    def __init__(
        self,
        rows: Sequence[StageRow],
        on_ready: Callable[[Ready], None] = lambda ready: None,
        control: ControlSide | None = None,
        on_turn: Callable[[float], None] = lambda now: None,
        on_said: Sequence[Callable[[str, int, Said], None]] = (),
    ) -> None:
        """Make it; nothing is started yet.

        Args:
            rows: What to run.
            on_ready: Called once, when predictions are published.
            control: May change what runs meanwhile.
            on_turn: Called at every turn of the loop, with the monotonic clock: the supervisor itself lives.
            on_said: Each is called with all that processes say, their stage's name and their number.
        """
        self._rows = rows
        self._on_ready = on_ready
        self._control = control
        self._on_turn = on_turn
        self._on_said = on_said
        self._all_ready = False
        self._ended = False
        self._at_once = allowed_cores() + _STARTING_BESIDE
        self._context = multiprocessing.get_context("spawn")
        self._running: list[Child] = []
        self._stopping = False  # no Event: a signal handler that sets one can wait for a lock that its own thread holds
        self._figures = RunTotals()
        self._previews: dict[str, str] = {}
        self._cut_short: list[str] = []

    def stop(self) -> None:
        """Ask the run to end; may be called from another thread or a signal handler."""
        self._stopping = True

    def run(self, duration_s: float | None = None) -> Summary:
        """Start everything, watch it, end it in order.

        Args:
            duration_s: Seconds to run from when the workers are ready; None is until stopped or ended.

        Returns:
            The figures of the whole run; `ended` where all cameras have ended.

        Raises:
            ServiceError: A process met an error that a restart will not mend, and all others have been ended; or all
                cameras have, and a file among them was not read to its end.
        """
        try:
            for row in self._rows:
                self.add(row)
            self._watch(duration_s)
        finally:
            self._end_in_order()
            for one in self._running:
                one.abandon()
        if self._cut_short and not self._stopping:
            raise ServiceError(self._cut_short[0])
        return structs.replace(self._figures.total(), ended=self._ended)

    def add(self, row: StageRow) -> None:
        """Add a process; it is started in its turn."""
        self._running.append(Child(row, self._context))

    def change(self, row: StageRow, order: Callable[[int], Order]) -> None:
        """Have the process of the row's name do what `row` says, now and after a restart; `order` gets its number."""
        self._named(row.name).want(row, order)

    def replace(self, row: StageRow) -> None:
        """Have the process of the row's name end, and start anew as `row` says."""
        self._named(row.name).replace(time.monotonic(), row)

    def retire(self, name: str) -> None:
        """End a process for good; the control channel is told when it is gone."""
        self._named(name).retire(time.monotonic())

    def is_ready(self, name: str) -> bool:
        """Tell whether a process does its work now."""
        return any(one.state == "running" for one in self._running if one.row.name == name)

    def health(self) -> list[StageHealth]:
        """Return the state of each process; may be called from any thread."""
        return [health for _, health in self.stages()]

    def stages(self) -> list[tuple[StageRow, StageHealth]]:
        """Return every process and its state; may be called from any thread."""
        return [(one.row, one.health()) for one in list(self._running)]

    def _named(self, name: str) -> Child:
        return next(one for one in self._running if one.row.name == name)

    def _watch(self, duration_s: float | None) -> None:
        until = float("inf")
        while not self._stopping:
            now = time.monotonic()
            starts = any(one.due(now) and self._has_room_to_start(one, now) for one in self._running)
            self._attend(0.0 if starts else _TICK_S)
            now = time.monotonic()
            self._on_turn(now)
            may_start = True  # one a turn: where there are many, starting them holds up nobody
            for one in list(self._running):
                starts = may_start and one.due(now) and self._has_room_to_start(one, now)
                self._look_after(one, now, starts)
                may_start = may_start and not starts
            self._tell_ready()
            self._tell_cameras()
            if self._all_ready and until == float("inf") and duration_s is not None:
                until = now + duration_s
            self._ended = self._over()
            if now >= until or self._ended:
                return

    def _has_room_to_start(self, one: Child, now: float) -> bool:
        """Tell whether a process may be started now; cameras wait for those that start already."""
        if one.row.role != "capture":
            return True
        starting = [seconds for other in self._of_role("capture") if (seconds := other.starting_for(now)) is not None]
        return may_start_another(starting, self._at_once)

    def _over(self) -> bool:
        """Tell whether all workers have ended, or, where they linger, all their cameras."""
        workers = self._of_role("worker")
        return all(one.state == "finished" for one in workers) or self._figures.all_ended(
            [one.row.name for one in workers]
        )

    def _of_role(self, role: Role) -> list[Child]:
        return [one for one in self._running if one.row.role == role]

    def _tell_ready(self) -> None:
        """Say once that all workers and the publisher do their work: the first time only, not after a restart."""
        if self._all_ready:
            return
        workers = [one.ready for one in self._of_role("worker")]
        publishers = [one.ready for one in self._of_role("publisher")]
        if workers[0] is None or None in workers or None in publishers:
            return
        self._all_ready = True
        address = publishers[0].address if publishers and publishers[0] else workers[0].address
        self._on_ready(structs.replace(workers[0], address=address))

    def _tell_cameras(self) -> None:
        """Tell the publisher which cameras there are, and where their previews are."""
        cameras = {}
        for one in self._running:
            camera = camera_of(one.row.name)
            if camera is not None and not one.is_retired:  # of one that is started again: where they were
                cameras[camera] = self._previews.get(camera, "") if one.ready is None else one.ready.address
        if cameras == self._previews:
            return
        self._previews = cameras
        for one in self._of_role("publisher"):
            if isinstance(one.row.job, PublisherJob):
                row = replace(one.row, job=structs.replace(one.row.job, cameras=cameras))
                one.want(row, lambda number: PublisherOrder(number=number, cameras=cameras))

    def _attend(self, wait_s: float) -> None:
        """Wait for a request, or a stop, and see to it."""
        if self._control is None:
            time.sleep(wait_s)
        else:
            self._control.attend(self, wait_s)

    def _look_after(self, one: Child, now: float, may_start: bool) -> None:
        """Hear one process, take the next step with it, and tell the control what became of it."""
        self._hear(one)
        before = one.state
        one.look(now, may_start)
        one.pass_on()
        if one.state == "gone":
            self._hear(one)
            self._running.remove(one)
        failed = one.state == "failed" and before != "failed"
        if failed and one.row.essential:
            self._cut_short.append(f"{camera_of(one.row.name) or one.row.name}: {one.failure}")
        if self._control is None:
            if failed and one.row.essential:
                raise ServiceError(self._cut_short[0])
            return
        if failed:
            self._control.gave_up(self, one.row.name, one.failure)
        if one.state == "gone":
            self._control.gone(self, one.row.name)

    def _hear(self, one: Child) -> None:
        for message in one.listen():
            for on_said in self._on_said:
                on_said(one.row.name, one.pid, message)
            if isinstance(message, Summary | PublisherSummary):
                self._figures.take(one.row.name, one.pid, message)
            elif self._control is not None:
                self._control.on_message(one.row.name, message)

    def _end_in_order(self) -> None:
        """End everything, in the order of the plan, within `_SHUTDOWN_S` whatever hangs."""
        until = time.monotonic() + _SHUTDOWN_S - _AFTER_KILL_S
        for order in sorted({one.row.shutdown_order for one in self._running}):
            group = [one for one in self._running if one.row.shutdown_order == order]
            now = time.monotonic()
            for one in group:
                one.retire(now, max(0.0, min(one.row.grace_s, until - now)))
            given_up = min(now + max(one.row.grace_s for one in group), until) + _AFTER_KILL_S
            while (waited_for := [one.sentinel for one in group if one.sentinel is not None]) and now < given_up:
                wait_for_end(waited_for, _TICK_S)
                now = time.monotonic()
                for one in group:
                    self._hear(one)
                    one.look(now, may_start=False)
            for one in group:
                self._hear(one)


@contextmanager
def stop_on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` on SIGINT and SIGTERM while the block runs."""
    before = {number: signal.signal(number, lambda *_: stop()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
