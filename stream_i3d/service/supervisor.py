"""Starts, watches, restarts and ends the processes of the plan. Nothing else in the package starts one.

A process that fails with an error of ours (exit code 2) ends the run with that error: trying again would not mend it.
One that crashes, or is silent too long, is started again with backoff. Start method is spawn: nothing is inherited
by chance.
"""

from __future__ import annotations

import logging
import multiprocessing
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.process import BaseProcess
from typing import Literal, Protocol

from msgspec import structs

from stream_i3d.backoff import Backoff
from stream_i3d.errors import ServiceError
from stream_i3d.logs import current_logging
from stream_i3d.publish.process import PublisherJob
from stream_i3d.service.figures import RunFigures
from stream_i3d.service.plan import Role, StageRow
from stream_i3d.stage import (
    EXIT_FATAL,
    CameraNews,
    Done,
    Failed,
    Order,
    PublisherOrder,
    PublisherSummary,
    Ready,
    StageLink,
    Summary,
    enter_stage,
)

log = logging.getLogger(__name__)

_TICK_S = 0.05
_KILL_WAIT_S = 0.5


Said = Ready | Summary | PublisherSummary | CameraNews


StageState = Literal["waiting", "starting", "running", "ending", "finished", "failed", "gone"]
"""Of a process: waiting for its (next) start, starting, ready, asked to end, ended by itself, cannot go on, retired."""


@dataclass(frozen=True, slots=True)
class StageHealth:
    """How one process fares, for those who watch the service.

    Attributes:
        restarts: How often it was started again because it crashed or fell silent.
        planned_restarts: How often it was started again in order, for the memory it held.
        silent_s: Seconds since its last heartbeat; None while it does not run, as are `rss_bytes` and `pid`.
        rss_bytes: Memory it holds, where that is known.
    """

    name: str
    state: StageState
    restarts: int
    planned_restarts: int
    silent_s: float | None
    rss_bytes: int | None
    pid: int | None


class Desk(Protocol):
    """Who takes requests while the service runs; called by the supervisor's own thread only."""

    def attend(self, supervisor: Supervisor, wait_s: float) -> None:
        """See to what is asked, waiting for it at most `wait_s`."""

    def heard(self, name: str, said: Ready | CameraNews) -> None:
        """Take note of what the process `name` has said."""

    def gave_up(self, supervisor: Supervisor, name: str, failure: str) -> None:
        """Take note that a process which is not essential cannot go on."""

    def gone(self, supervisor: Supervisor, name: str) -> None:
        """Take note that a process which was retired has ended."""


class _Running:
    """One row of the plan and its process."""

    def __init__(self, row: StageRow, context: multiprocessing.context.SpawnContext) -> None:
        self.row = row
        self.finished = False
        self._context = context
        self._backoff = Backoff(random.Random())
        self._restart_at: float | None = None
        self.failure = ""
        self.restarts = 0
        self._unheard: list[Said] = []
        self._orders = 0
        self._retired_until: float | None = None
        self.start()

    def start(self) -> None:
        self.ready: Ready | None = None
        self._wish: Order | None = None  # what is in the row is told by the job
        self._outstanding: int | None = None
        self._link = StageLink(self._context)
        self._started = time.monotonic()
        self.process: BaseProcess = self._context.Process(
            target=enter_stage,
            args=(self.row.name, self.row.main, self.row.job, self._link.child_side(), current_logging()),
            name=self.row.name,
            daemon=True,
        )
        # Ctrl-C reaches the whole process group: a child must ignore it from its first instruction on.
        with _ignoring_interrupt():
            self.process.start()
        self._link.close_child_side()
        self._restart_at = None

    def want(self, row: StageRow, order: Callable[[int], Order]) -> None:
        """Have the process do what `row` says: by order while it runs, as its job where it is started again."""
        self.row = row
        self._orders += 1
        self._wish = order(self._orders)
        self.pass_on()

    def pass_on(self) -> None:
        """Send the newest order, once the process listens and has carried out the last one."""
        wish = self._wish
        if wish is not None and self.ready is not None and self._outstanding is None:
            self._link.order(wish)
            self._wish, self._outstanding = None, wish.number

    def retire(self) -> None:
        """Begin to end the process for good; `gone` tells when it has."""
        self._retired_until = time.monotonic() + self.row.grace_s
        self._restart_at = None
        self.ask_to_end()

    @property
    def is_retired(self) -> bool:
        """Whether the process is to end for good."""
        return self._retired_until is not None

    def preview(self, before: Mapping[str, str]) -> tuple[str, str]:
        """Return a capture process's camera, and where its previews are or, while it is started again, were."""
        camera = self.row.name.removeprefix("capture ")
        return camera, before.get(camera, "") if self.ready is None else self.ready.address

    def gone(self, now: float) -> bool:
        """Tell whether a retired process has ended, killing it where its time is over."""
        if self._retired_until is None or (self.process.exitcode is None and now < self._retired_until):
            return False
        self.end(now)
        return True

    def listen(self) -> list[Said]:
        """Return what the process has said; a fatal failure is kept for `check`."""
        said, self._unheard = self._unheard, []
        for message in self._link.receive():
            if isinstance(message, Failed):
                self.failure = message.message
                continue
            if isinstance(message, Done):
                self._outstanding = None
                continue
            if isinstance(message, Ready):
                self.ready = message
            said.append(message)
        return said

    def check(self, now: float) -> None:
        """Restart the process where it needs that; raises ServiceError where an essential one met an error of ours."""
        if self.finished or self._retired_until is not None:
            return
        if self._restart_at is not None:
            if now >= self._restart_at:
                self.start()
            return
        if self.process.exitcode is None:
            self._check_alive(now)
            return
        self.process.join()
        self._unheard = self.listen()  # its last words; given out by the next `listen`
        if self.process.exitcode == 0:
            self.finished = True
        elif self.process.exitcode == EXIT_FATAL:
            self.failure = self.failure or f"{self.row.name} gave up"
            if self.row.essential:
                raise ServiceError(self.failure)
            log.error("%s: %s", self.row.name, self.failure)
            self.finished = True
        else:
            self._plan_restart(now, f"ended with code {self.process.exitcode}")

    def health(self) -> StageHealth:
        """Return how it fares; may be called from any thread."""
        runs = self._restart_at is None and self.process.exitcode is None
        return StageHealth(
            name=self.row.name,
            state=self._state(runs),
            restarts=self.restarts,
            planned_restarts=0,
            silent_s=max(0.0, self._link.silent_for(time.monotonic())) if runs else None,
            rss_bytes=None,
            pid=self.process.pid if runs else None,
        )

    def _state(self, runs: bool) -> StageState:
        if self.finished:
            return "failed" if self.failure else "finished"
        if self._retired_until is not None:
            return "ending" if runs else "gone"
        if not runs:
            return "waiting"
        return "starting" if self.ready is None else "running"

    def _check_alive(self, now: float) -> None:
        limit = self.row.silent_limit_s if self.ready else self.row.startup_limit_s
        if self._link.silent_for(now) > limit:
            self.process.kill()
            self.process.join(_KILL_WAIT_S)
            self._plan_restart(now, f"was silent for over {limit:g} s and was killed")
        else:
            self._backoff.healthy_for(now - self._started if self.ready else 0.0)

    def _plan_restart(self, now: float, what: str) -> None:
        self.restarts += 1
        delay = self._backoff.failed()
        log.error("%s %s; starting it again in %.1f s", self.row.name, what, delay)
        self._restart_at = now + delay

    def end(self, deadline: float) -> None:
        """Reap the process, killing it where it still runs at `deadline`."""
        self.process.join(max(0.0, deadline - time.monotonic()))
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join(_KILL_WAIT_S)

    def ask_to_end(self) -> None:
        if self.process.exitcode is None:
            self.process.terminate()


class Supervisor:
    """Runs a plan until it is told to stop, its time is over, its cameras have ended, or a process cannot go on."""

    def __init__(
        self,
        rows: Sequence[StageRow],
        on_ready: Callable[[Ready], None] = lambda ready: None,
        desk: Desk | None = None,
        on_turn: Callable[[float], None] = lambda now: None,
        on_said: Sequence[Callable[[str, int, Said], None]] = (),
    ) -> None:
        """Make it; nothing is started yet.

        Args:
            rows: What to run.
            on_ready: Called once, when predictions are published.
            desk: May change what runs meanwhile.
            on_turn: Called at every turn of the loop, with the monotonic clock: the supervisor itself lives.
            on_said: Each is called with all that processes say, their stage's name and their number.
        """
        self._rows = rows
        self._on_ready = on_ready
        self._desk = desk
        self._on_turn = on_turn
        self._on_said = on_said
        self._all_ready = False
        self._context = multiprocessing.get_context("spawn")
        self._running: list[_Running] = []
        self._stop = threading.Event()
        self._figures = RunFigures()
        self._previews: dict[str, str] = {}

    def stop(self) -> None:
        """Ask the run to end; may be called from another thread or a signal handler."""
        self._stop.set()

    def run(self, duration_s: float | None = None) -> Summary:
        """Start everything, watch it, end it in order.

        Args:
            duration_s: Seconds to run from when the workers are ready; None is until stopped or ended.

        Returns:
            The figures of the whole run.

        Raises:
            ServiceError: A process met an error that a restart will not mend; all others have been ended.
        """
        try:
            for row in self._rows:
                self.add(row)
            self._watch(duration_s)
        finally:
            self._end_in_order()
        return self._figures.total()

    def add(self, row: StageRow) -> None:
        """Start one more process."""
        self._running.append(_Running(row, self._context))

    def change(self, row: StageRow, order: Callable[[int], Order]) -> None:
        """Have the process of the row's name do what `row` says, now and after a restart; `order` gets its number."""
        self._named(row.name).want(row, order)

    def retire(self, name: str) -> None:
        """End a process for good; the desk is told when it is gone."""
        self._named(name).retire()

    def is_ready(self, name: str) -> bool:
        """Tell whether a process does its work now."""
        return any(one.ready is not None and one.process.is_alive() for one in self._running if one.row.name == name)

    def stages(self) -> list[tuple[StageRow, StageHealth]]:
        """Return every process and how it fares; may be called from any thread."""
        return [(one.row, one.health()) for one in list(self._running)]

    def _named(self, name: str) -> _Running:
        return next(one for one in self._running if one.row.name == name)

    def _watch(self, duration_s: float | None) -> None:
        until = float("inf")
        while not self._stop.is_set():
            if self._desk is None:
                self._stop.wait(_TICK_S)
            else:
                self._desk.attend(self, _TICK_S)
            now = time.monotonic()
            self._on_turn(now)
            for one in list(self._running):
                self._look_after(one, now)
            self._tell_ready()
            self._tell_cameras()
            if self._all_ready and until == float("inf") and duration_s is not None:
                until = now + duration_s
            if now >= until or self._over():
                return

    def _over(self) -> bool:
        """Tell whether all workers have ended, or, where they linger, all their cameras."""
        workers = self._of_role("worker")
        return all(one.finished for one in workers) or self._figures.all_ended([one.row.name for one in workers])

    def _of_role(self, role: Role) -> list[_Running]:
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
        """Have the publisher know the cameras there are, and where their previews are."""
        cameras = dict(one.preview(self._previews) for one in self._of_role("capture") if not one.is_retired)
        if cameras == self._previews:
            return
        self._previews = cameras
        for one in self._of_role("publisher"):
            if isinstance(one.row.job, PublisherJob):
                row = replace(one.row, job=structs.replace(one.row.job, cameras=cameras))
                one.want(row, lambda number: PublisherOrder(number=number, cameras=cameras))

    def _look_after(self, one: _Running, now: float) -> None:
        """Hear one process, restart it where it needs that, and tell the desk what became of it."""
        self._hear(one)
        was_finished = one.finished
        one.check(now)
        one.pass_on()
        if self._desk is None:
            return
        if one.finished and not was_finished and one.failure:
            self._desk.gave_up(self, one.row.name, one.failure)
        if one.gone(now):
            self._hear(one)
            self._running.remove(one)
            self._desk.gone(self, one.row.name)

    def _hear(self, one: _Running) -> None:
        for message in one.listen():
            for on_said in self._on_said:
                on_said(one.row.name, one.process.pid or 0, message)
            if isinstance(message, Summary | PublisherSummary):
                self._figures.take(one.row.name, one.process.pid or 0, message)
            elif self._desk is not None:
                self._desk.heard(one.row.name, message)

    def _end_in_order(self) -> None:
        for order in sorted({one.row.shutdown_order for one in self._running}):
            group = [one for one in self._running if one.row.shutdown_order == order]
            for one in group:
                one.ask_to_end()
            deadline = time.monotonic() + max(one.row.grace_s for one in group)
            for one in group:
                one.end(deadline)
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


@contextmanager
def _ignoring_interrupt() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
