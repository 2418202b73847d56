"""One process of the plan: started, watched, ended, reaped and started again, without ever waiting for it.

A state machine that is looked at again and again; what one process does not do holds up nobody else. What runs, and
in which order it ends, is the supervisor's business.
"""

from __future__ import annotations

import logging
import multiprocessing
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from typing import Literal

from stream_i3d.backoff import Backoff
from stream_i3d.capture.picture_memory import LEAST_LIMIT_MB
from stream_i3d.errors import ServiceError
from stream_i3d.logs import current_logging
from stream_i3d.service.footprint import FootprintWatch
from stream_i3d.service.hang import HangWatch, look_at_activity
from stream_i3d.service.plan import StageRow
from stream_i3d.service.stage_health import StageHealth, StageState
from stream_i3d.stage import (
    CameraNews,
    Done,
    Failed,
    Order,
    PublisherSummary,
    Ready,
    SourceNews,
    StageLink,
    Summary,
)
from stream_i3d.stage_entry import EXIT_FATAL, start_stage

log = logging.getLogger(__name__)

Said = Ready | Summary | PublisherSummary | CameraNews

Cause = Literal["retired", "replaced", "hung", "memory", "given up"]
"""Why a process is asked to end."""

_UNKILLABLE_S = 5.0
_TRIES_TO_OPEN = 3


class Child:
    """One row of the plan and its process. All methods return at once; `look` is to be called often."""

    def __init__(self, row: StageRow, context: multiprocessing.context.SpawnContext) -> None:
        """The process is started at the first `look` that may."""
        self.row = row
        self.state: StageState = "waiting"
        self.failure = ""
        self.pid = 0  # of the newest process, also once it has ended
        self.ready: Ready | None = None
        self.restarts = 0
        self.planned_restarts = 0
        self._context = context
        self._backoff = Backoff(random.Random(), at_once=True)
        self._start_at = 0.0
        self._started = 0.0
        self._again = False
        self._process: BaseProcess | None = None
        self._link: StageLink | None = None
        self._unheard: list[Said] = []
        self._orders = 0
        self._wish: Order | None = None
        self._outstanding: int | None = None
        self._ending: Cause | None = None
        self._kill_at = 0.0
        self._kills = 0
        self._watch = FootprintWatch()
        self._source: SourceNews | None = None
        self._crashes = 0
        self._hangs = HangWatch()
        self._hung = ""

    @property
    def alive(self) -> bool:
        """Whether there is a process, as of the last look."""
        return self.state in ("starting", "running", "ending")

    @property
    def is_retired(self) -> bool:
        """Whether the process is to end for good, or has."""
        return self.state == "gone" or self._ending == "retired"

    @property
    def sentinel(self) -> int | None:
        """What becomes readable when the process ends; None where there is none."""
        return None if self._process is None else self._process.sentinel

    def starting_for(self, now: float) -> float | None:
        """Return the seconds for which it has been starting; None where it is not."""
        return now - self._started if self.state == "starting" else None

    def due(self, now: float) -> bool:
        """Tell whether it should be started now."""
        return self.state == "waiting" and now >= self._start_at

    def look(self, now: float, may_start: bool = True) -> None:
        """Take the next step, whatever that is.

        Raises:
            ServiceError: It is essential, and met an error of ours that a restart will not mend.
        """
        if self.state == "waiting":
            if may_start and now >= self._start_at:
                self._start(now)
        elif self._process is not None and self._process.exitcode is not None:
            self._ended(now)
        elif self.state == "ending":
            self._press(now)
        elif self.alive:
            self._check(now)

    def health(self) -> StageHealth:
        """Return its state, as of the last look; may be called from any thread."""
        link, held = self._link, self._watch.footprint
        return StageHealth(
            name=self.row.name,
            state=self.state,
            restarts=self.restarts,
            planned_restarts=self.planned_restarts,
            silent_s=None if link is None else max(0.0, link.silent_for(time.monotonic())),
            rss_bytes=held.rss_bytes,
            open_files=held.open_files,
            pid=self.pid if self.alive else None,
            long_call_s=0.0 if link is None else link.long_call_s,
        )

    # ------------------------------------------------------------------------------------------------ words and orders

    def listen(self) -> list[Said]:
        """Return what the process has said since; a fatal failure is kept for `look`."""
        said, self._unheard = self._unheard, []
        for message in self._link.receive() if self._link is not None else []:
            if isinstance(message, Failed):
                self.failure = message.message
                continue
            if isinstance(message, Done):
                self._outstanding = None
                continue
            if isinstance(message, SourceNews):
                self._source = message
                continue
            if isinstance(message, Ready):
                self.ready = message
                if self.state == "starting":
                    self.state = "running"
            said.append(message)
        return said

    def want(self, row: StageRow, order: Callable[[int], Order]) -> None:
        """Have the process do what `row` says: by order while it runs, as its job where it is started again."""
        self.row = row
        self._orders += 1
        self._wish = order(self._orders)
        self.pass_on()

    def pass_on(self) -> None:
        """Send the newest order, once the process listens and has carried out the last one; never blocks."""
        wish, link = self._wish, self._link
        if wish is not None and link is not None and self.ready is not None and self._outstanding is None:
            link.order(wish)
            self._wish, self._outstanding = None, wish.number

    # ---------------------------------------------------------------------------------------------- starting and ending

    def retire(self, now: float, grace_s: float | None = None) -> None:
        """Begin to end the process for good; its state is "gone" once it has ended.

        Args:
            now: Monotonic clock, in seconds.
            grace_s: Seconds until it is killed, where they are not those of its row.
        """
        if not self.alive:
            self.state = "gone"
            return
        self._begin_to_end(now, "retired", self.row.grace_s if grace_s is None else grace_s)

    def replace(self, now: float, row: StageRow) -> None:
        """Have the process started anew, in order, as `row` says: another camera under the same name."""
        self.row = row
        self.failure = ""
        self._again, self._crashes = False, 0
        if self.alive:
            self._begin_to_end(now, "replaced", row.grace_s)
        else:
            self.state, self._start_at = "waiting", now

    def _start(self, now: float) -> None:
        self.ready = None
        self._wish, self._outstanding = None, None  # the job holds what the row says
        self._ending, self._kills, self._source = None, 0, None
        self._started = now
        link = None
        try:
            link = StageLink(self._context)
            self._process = self._context.Process(
                target=start_stage,
                args=(self.row.name, self.row.main, link.child_side(), current_logging(), self._again),
                name=self.row.name,
                daemon=True,
            )
            # Ctrl-C reaches the whole process group: a child must ignore it from its first instruction on.
            with _ignoring_interrupt():
                self._process.start()
        except OSError as error:  # no more processes or files, or no memory for one
            self._process = None
            if link is not None:
                link.close()
            self._start_again_later(now, f"could not be started ({error.strerror})")
            return
        link.give_job(self.row.job)
        link.close_child_side()
        self._link, self.pid = link, self._process.pid or 0
        self._hangs = HangWatch()
        self.state = "starting"

    def _begin_to_end(self, now: float, cause: Cause, grace_s: float) -> None:
        """Ask the process to end; it is killed where it has not after `grace_s`."""
        assert self._process is not None
        self._kill_at = now + grace_s if self.state != "ending" else min(self._kill_at, now + grace_s)
        self._ending = cause
        self.state = "ending"
        if self._process.exitcode is None:
            self._process.terminate()

    def _press(self, now: float) -> None:
        """Kill a process that was asked to end and had its time; one in the hands of a driver may outlive even that."""
        if now < self._kill_at or self._process is None:
            return
        self._process.kill()
        self._kills += 1
        self._kill_at = now + _UNKILLABLE_S
        if self._kills == 2:
            log.error("%s was killed and does not end: something in the kernel holds it", self.row.name)

    def _ended(self, now: float) -> None:
        """Reap a process that has ended, and decide what comes next."""
        assert self._process is not None
        code = self._process.exitcode
        self._unheard = self.listen()  # its last messages; returned by the next `listen`
        self._let_go()
        if self._ending == "retired":
            self.state = "gone"
        elif self._ending == "memory" and not self._may_begin_again:
            self._crashed(now, "held too much memory and was ended")  # it began to send while it was being ended
        elif self._ending in ("memory", "replaced"):
            self.planned_restarts += self._ending == "memory"
            self._again = self._ending == "memory"
            self.state, self._start_at = "waiting", now
        elif self._ending == "given up":
            self._fail()
        elif self._ending == "hung":
            how = "was killed" if self._kills else "ended when asked to"
            self._crashed(now, f"{self._hung} and {how}")
        elif code == 0:
            self.state = "finished"
        elif code == EXIT_FATAL:
            self.failure = self.failure or f"{self.row.name} gave up"
            if self.row.essential:
                self.state = "failed"
                raise ServiceError(self.failure)
            self._fail()
        elif self.row.plays_once and self._source is None and self._crashes >= _TRIES_TO_OPEN:
            self.failure = f"the capture process ended with code {code} each time it opened its file"
            self._fail()
        else:
            self._crashes += 1
            self._crashed(now, f"ended with code {code}")

    def _let_go(self) -> None:
        """Give back what the ended process held here: its entry in the system's table, pipes, its sentinel."""
        if self._process is not None:
            self._process.join()  # it has ended: this waits for nothing
            self._process.close()
        if self._link is not None:
            self._link.close()
        self._process, self._link = None, None
        self._watch.forget()

    @property
    def _may_begin_again(self) -> bool:
        """Whether its work may be done from the beginning: not where a file has been read in part."""
        return self._source is None or not (self.row.plays_once or self._source.plays_once)

    def _fail(self) -> None:
        """Record that the process is not started again, for `self.failure`."""
        self.state = "failed"
        log.error("%s: %s", self.row.name, self.failure)

    def _crashed(self, now: float, what: str) -> None:
        """Start a process again that ended by mistake, where that is allowed."""
        if self._may_begin_again:
            self._restart(now, what)
        elif self._source is not None and self._source.ended:
            self.state = "finished"  # its work is done
        else:
            self.failure = (
                f"the capture process {what} in the middle of its file, which is not read from its start again"
            )
            self._fail()

    def abandon(self) -> None:
        """Wait no more for a process that was killed and does not end: something in the kernel holds it."""
        if self._process is not None and self._process.exitcode is None:
            log.error("%s (process %d) was killed and does not end; it is left behind", self.row.name, self.pid)
            # WORKAROUND https://github.com/python/cpython/blob/3.11/Lib/multiprocessing/util.py (_exit_function): at
            # its exit multiprocessing waits for every child, without a limit.
            multiprocessing.process._children.discard(self._process)  # type: ignore[attr-defined]
        if self._link is not None:
            self._link.close()

    def _restart(self, now: float, what: str) -> None:
        self.restarts += 1
        self._again = True
        self._start_again_later(now, what)

    def _start_again_later(self, now: float, what: str) -> None:
        delay = self._backoff.failed()
        log.error("%s %s; starting it again in %.1f s", self.row.name, what, delay)
        self.state, self._start_at = "waiting", now + delay

    # --------------------------------------------------------------------------------------------------------- watching

    def _check(self, now: float) -> None:
        """Have a process end that hangs, or that holds more memory than it may."""
        assert self._link is not None
        limits = self.row.hang_limits(started=self.ready is not None).within(self._link.long_call_s)
        self._hung = self._hangs.judge(now, self._link.beat_at, limits, lambda: look_at_activity(self.pid))
        if self._hung:
            self._begin_to_end(now, "hung", self.row.grace_s)
            return
        self._backoff.healthy_for(now - self._started if self.ready else 0.0)
        again, limit = self._may_begin_again, self._memory_limit()
        if not self._watch.holds_too_much(now, self.row.name, self.pid, limit, again):
            return
        if again:
            self._begin_to_end(now, "memory", self.row.grace_s)
        elif self._source is None or not self._source.ended:
            held = (self._watch.footprint.rss_bytes or 0) / 2**20
            self.failure = (
                f"the capture process holds {held:.0f} MB of memory, more than its max_memory_mb of {limit:g}, in the "
                "middle of its file, which is not read from its start again; allow more, or scale the video down"
            )
            self._begin_to_end(now, "given up", self.row.grace_s)

    def _memory_limit(self) -> float | None:
        """Return the MiB that it may hold now."""
        if self.row.memory_limit_mb != "auto":
            return self.row.memory_limit_mb
        return LEAST_LIMIT_MB if self._source is None else max(LEAST_LIMIT_MB, self._source.memory_limit_mb)


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
