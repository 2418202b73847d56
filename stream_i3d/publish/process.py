"""The publisher process: what the workers say, out to whoever subscribes and into the sinks. Imports no torch.

Workers come and go, and the address that others subscribe to stays; a slow sink holds up no worker.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
import time

import psutil
from msgspec import Struct

from stream_i3d.config import Config
from stream_i3d.messages import CameraStatus
from stream_i3d.publish.sinks import Sinks
from stream_i3d.publish.worker_presence import Attendance
from stream_i3d.stage import CameraNews, Done, PublisherOrder, PublisherSummary, Ready, Stage
from stream_i3d.transport.relay import RelayReceiver
from stream_i3d.transport.relay_wire import Greeting
from stream_i3d.transport.wire import Published

_POLL_S = 0.05
_AT_ONCE = 500  # messages between two looks at everything else
_CHECK_S = 0.25
_SUMMARY_S = 1.0
_QUIET_S = 0.05
_LAST_WORDS_S = 0.5


class PublisherJob(Struct, frozen=True, kw_only=True):
    """What the publisher process is to do.

    Attributes:
        channel: Where the workers send what is to be published; private.
        config: Where it goes; its cameras are not looked at.
        run: Identity of this run of the service, by which the event store tells it from the one before.
        cameras: The cameras that there are, and where their previews are ("" where that is not known yet).
    """

    channel: str
    config: Config
    run: str
    cameras: dict[str, str] = {}


def publisher_main(stage: Stage, job: PublisherJob) -> None:
    """Entry point of the process."""
    give_back_freed_memory()
    run_publisher(stage, job)


def run_publisher(stage: Stage, job: PublisherJob) -> None:
    """Publish until told to stop, in whatever process."""
    sinks = Sinks(job.config, job.run)  # first: a port in use is told at once
    try:
        if job.cameras:
            sinks.follow(job.cameras)
        with RelayReceiver(job.channel) as receiver:
            stage.say(Ready(detail="publishing", address=sinks.address))
            PublisherLoop(stage, receiver, sinks, job.config.publish.status_interval_s).run()
    finally:
        sinks.close()


class PublisherLoop:
    """Take, publish, tell the workers what is safe, and speak for those that are away."""

    def __init__(self, stage: Stage, receiver: RelayReceiver, sinks: Sinks, status_interval_s: float) -> None:
        self._stage = stage
        self._receiver = receiver
        self._sinks = sinks
        self._attendance = Attendance(status_interval_s, sinks.running)
        # A worker's life and what durable sinks had been given -> its newest message; as many as their queues are long.
        self._unsettled: dict[tuple[int, tuple[int, ...]], int] = {}
        self._check_at = self._summary_at = 0.0

    def run(self) -> None:
        """Serve until told to stop, and then until the workers' last words are out."""
        while not self._stage.stopping.is_set():
            self._stage.beat()
            if (order := self._stage.order()) is not None:
                if isinstance(order, PublisherOrder):
                    self._sinks.follow(order.cameras)
                self._stage.say(Done(number=order.number))
            self.step(_POLL_S)
        until = time.monotonic() + _LAST_WORDS_S
        while self._receiver.poll(_QUIET_S) and time.monotonic() < until:
            self._take()
        self._stage.say(self._summary())

    def step(self, wait_s: float) -> None:
        """Wait for messages at most `wait_s`, and do all that is due."""
        if self._receiver.poll(wait_s):
            self._take()
        self._settle()
        now = time.monotonic()
        if now >= self._check_at:
            self._check_at = now + _CHECK_S
            for message in self._attendance.due(now, _lives):
                self._publish(message)
        if now >= self._summary_at:
            self._summary_at = now + _SUMMARY_S
            self._stage.say(self._summary())

    def _take(self) -> None:
        for _ in range(_AT_ONCE):
            taken = self._receiver.receive()
            if taken is None:
                return
            greeting, said = taken
            now = time.monotonic()
            if isinstance(said, Greeting):
                for message in self._attendance.greeted(said, now):
                    self._publish(message)
                continue
            mark = self._publish(said.message, said.parts)
            self._attendance.said(greeting, said.message, now)
            if said.number:
                self._unsettled[greeting.life, mark] = said.number

    def _publish(self, message: Published, parts: tuple[bytes, bytes] | None = None) -> tuple[int, ...]:
        mark = self._sinks.write(message, parts)
        if isinstance(message, CameraStatus):
            self._stage.say(CameraNews(status=message))
        return mark

    def _settle(self) -> None:
        """Tell the workers which of their messages the durable sinks have by now."""
        safe: dict[int, int] = {}
        for (life, mark), number in list(self._unsettled.items()):
            if not self._sinks.settled(mark):
                break
            del self._unsettled[life, mark]
            safe[life] = number
        for life, number in safe.items():
            self._receiver.settle(life, number)

    def _summary(self) -> PublisherSummary:
        return PublisherSummary(
            published=self._sinks.published,
            sinks=self._sinks.figures(),
            rejected_messages=self._receiver.rejected,
            workers_away=self._attendance.away,
            subscriptions_refused=self._sinks.subscriptions_refused,
        )


def _lives(pid: int) -> bool:
    """Tell whether a process runs; it does where that cannot be looked at, as when too many files are open."""
    try:
        return psutil.pid_exists(pid)
    except OSError:
        return True


_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # of malloc.h
_MAPPED_FROM = 64 * 1024
_KEPT_AT_MOST = 128 * 1024
_ARENAS = 2


def give_back_freed_memory() -> None:
    """Have malloc map what is larger than 64 KiB by itself, and keep little of what is freed; before threads begin.

    By itself glibc raises both limits to the largest piece that was ever freed, and holes in its heap stay. Where there
    is another malloc (macOS, Windows, musl), nothing changes.
    """
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in ((_MMAP_THRESHOLD, _MAPPED_FROM), (_TRIM_THRESHOLD, _KEPT_AT_MOST), (_ARENA_MAX, _ARENAS)):
            mallopt(option, value)
