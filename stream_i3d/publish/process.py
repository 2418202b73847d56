"""The publisher process: passes on messages of the workers to subscribers and sinks. Imports no torch.

Workers are restarted while the address of subscribers stays the same; a slow sink does not stall a worker.
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
from stream_i3d.publish.worker_presence import WorkerPresence
from stream_i3d.stage import CameraNews, Done, PublisherOrder, PublisherSummary, Ready, Stage
from stream_i3d.transport.relay import RelayReceiver
from stream_i3d.transport.relay_wire import Greeting
from stream_i3d.transport.wire import Published

_POLL_S = 0.05
_AT_ONCE = 500  # messages taken before other work
_CHECK_S = 0.25
_SUMMARY_S = 1.0
_QUIET_S = 0.05
_DRAIN_S = 0.5


class PublisherJob(Struct, frozen=True, kw_only=True):
    """The work of a publisher process.

    Attributes:
        channel: Private address at which the workers send messages.
        config: The configuration; its cameras are ignored.
        run: Identity of this run of the service, by which the event store recognises a restart.
        cameras: The cameras and the addresses of their previews ("" where not known yet).
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
    """Publish until the stage is stopped."""
    sinks = Sinks(job.config, job.run)  # first: a port in use is reported at once
    try:
        if job.cameras:
            sinks.follow(job.cameras)
        with RelayReceiver(job.channel) as receiver:
            stage.say(Ready(detail="publishing", address=sinks.address))
            PublisherLoop(stage, receiver, sinks, job.config.publish.status_interval_s).run()
    finally:
        sinks.close()


class PublisherLoop:
    """Receives and publishes messages, confirms them to workers, and publishes for workers that are away."""

    def __init__(self, stage: Stage, receiver: RelayReceiver, sinks: Sinks, status_interval_s: float) -> None:
        self._stage = stage
        self._receiver = receiver
        self._sinks = sinks
        self._presence = WorkerPresence(status_interval_s, sinks.running)
        # A worker's life and what durable sinks had been given -> its newest message; as many as their queues are long.
        self._unsettled: dict[tuple[int, tuple[int, ...]], int] = {}
        self._check_at = self._summary_at = 0.0

    def run(self) -> None:
        """Serve until the stage is stopped, and then until the workers' last messages are published."""
        while not self._stage.stopping.is_set():
            self._stage.beat()
            if (order := self._stage.order()) is not None:
                if isinstance(order, PublisherOrder):
                    self._sinks.follow(order.cameras)
                self._stage.say(Done(number=order.number))
            self.step(_POLL_S)
        until = time.monotonic() + _DRAIN_S
        while self._receiver.poll(_QUIET_S) and time.monotonic() < until:
            self._take()
        self._stage.say(self._summary())

    def step(self, wait_s: float) -> None:
        """Wait for messages at most `wait_s` seconds, and do everything that is due."""
        if self._receiver.poll(wait_s):
            self._take()
        self._settle()
        now = time.monotonic()
        if now >= self._check_at:
            self._check_at = now + _CHECK_S
            for message in self._presence.due(now, _lives):
                self._publish(message)
        if now >= self._summary_at:
            self._summary_at = now + _SUMMARY_S
            self._stage.say(self._summary())

    def _take(self) -> None:
        for _ in range(_AT_ONCE):
            taken = self._receiver.receive()
            if taken is None:
                return
            greeting, received = taken
            now = time.monotonic()
            if isinstance(received, Greeting):
                for message in self._presence.take_greeting(received, now):
                    self._publish(message)
                continue
            mark = self._publish(received.message, received.parts)
            self._presence.take_message(greeting, received.message, now)
            if received.number:
                self._unsettled[greeting.life, mark] = received.number

    def _publish(self, message: Published, parts: tuple[bytes, bytes] | None = None) -> tuple[int, ...]:
        mark = self._sinks.write(message, parts)
        if isinstance(message, CameraStatus):
            self._stage.say(CameraNews(status=message))
        return mark

    def _settle(self) -> None:
        """Confirm to workers the messages that all durable sinks have handled."""
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
            workers_away=self._presence.away,
            subscriptions_refused=self._sinks.subscriptions_refused,
        )


def _lives(pid: int) -> bool:
    """Return whether a process runs; True where that cannot be read, as when too many files are open."""
    try:
        return psutil.pid_exists(pid)
    except OSError:
        return True


_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # of malloc.h
_MAPPED_FROM = 64 * 1024
_KEPT_AT_MOST = 128 * 1024
_ARENAS = 2


def give_back_freed_memory() -> None:
    """Have malloc return freed memory to the system. Call it before threads start.

    A clip takes megabytes for seconds, in a process that runs for months. glibc raises its limits to the largest piece
    that was ever freed, and holes in its heap stay. With another malloc (macOS, Windows, musl) nothing changes.
    """
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in ((_MMAP_THRESHOLD, _MAPPED_FROM), (_TRIM_THRESHOLD, _KEPT_AT_MOST), (_ARENA_MAX, _ARENAS)):
            mallopt(option, value)
