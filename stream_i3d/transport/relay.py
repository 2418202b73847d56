"""The channel between workers and the publisher: private, bounded, and no event is lost where either end is killed.

DEALER and ROUTER rather than PUSH and PULL: ZeroMQ does not report which messages reached a process that was killed, so
the publisher confirms messages, and a worker keeps events and statuses until then. Recognitions are not kept: the next
one replaces one that is lost.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence

import zmq
from msgspec import structs

from stream_i3d.errors import TransportError, WireError
from stream_i3d.messages import ActionEvent
from stream_i3d.transport.addresses import RELAY
from stream_i3d.transport.relay_wire import (
    Answer,
    Backlog,
    Greeting,
    Publication,
    decode_answer,
    decode_from_worker,
    encode_control,
    encode_publication,
    must_arrive,
)
from stream_i3d.transport.sockets import BoundedSocket, connect
from stream_i3d.transport.wire import MAX_PUBLISHED_BYTES, Published

log = logging.getLogger(__name__)

RELAY_HWM = 1000
KEPT_MESSAGES = 10_000
"""Events and statuses that a worker keeps while the publisher is away: hours of them."""

_GREET_S = 1.0
_GREET_AGAIN_S = 0.1
_MAX_WORKERS = 256


class RelaySender(BoundedSocket):
    """A worker's end; of one thread. Never blocks but in `close`.

    Drop policy: while the publisher is away, or does not keep up, recognitions are dropped, the newest first; of events
    and statuses the newest `kept` are kept. Both are counted.
    """

    def __init__(self, address: str, worker: str, cameras: Sequence[str], kept: int = KEPT_MESSAGES) -> None:
        super().__init__(zmq.DEALER)
        self._socket.setsockopt(zmq.SNDHWM, RELAY_HWM)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_PUBLISHED_BYTES)
        self._socket.setsockopt(zmq.IMMEDIATE, 1)  # nothing is queued for a publisher that is not there
        try:
            connect(self._socket, address, None)
        except TransportError:
            self.close()
            raise
        self._worker = worker
        self._cameras = list(cameras)
        self._life = time.time_ns() // 1000
        self._backlog = Backlog(kept)
        self._running: dict[str, ActionEvent] = {}  # of each camera; an action ends before the next one starts
        self._next = 1  # number of the first message of the backlog that was not sent to this session
        self._session = 0
        self._welcome = False
        self._greet_at = 0.0
        self._leaving = False
        self._lost = 0

    @property
    def dropped(self) -> int:
        """Messages that were lost."""
        return self._lost + self._backlog.dropped

    @property
    def waiting(self) -> int:
        """Number of messages that are kept until they are confirmed."""
        return len(self._backlog)

    def write(self, message: Published) -> None:
        """Send a message to be published."""
        if isinstance(message, ActionEvent):
            self._note(message)
        if must_arrive(message):
            self._backlog.keep(encode_publication(self._backlog.next_number, message))
            self._flush()
        elif not (self._welcome and self._send(encode_publication(0, message))):
            self._lost += 1

    def process_answers(self) -> None:
        """Read the publisher's answers, and send what it has not received; call it often."""
        while (part := self._receive()) is not None:
            try:
                self._process(decode_answer(part))
            except WireError as error:
                log.warning("the publisher's answer is rejected: %s", error)
        if time.monotonic() >= self._greet_at:
            self._greet()
        self._flush()

    def set_cameras(self, cameras: Sequence[str]) -> None:
        """Set the cameras whose messages this worker publishes."""
        self._cameras = list(cameras)
        self._greet()

    def arrive(self, wait_s: float) -> bool:
        """Wait at most `wait_s` seconds for the publisher; return whether it is connected."""
        until = time.monotonic() + wait_s
        self.process_answers()
        while not self._welcome:
            if not self._wait(until):
                return False
        return True

    def leave(self, wait_s: float) -> bool:
        """Announce the end of this worker, and wait at most `wait_s` seconds until all kept messages are confirmed.

        Returns:
            Whether they are.
        """
        self._leaving, until = True, time.monotonic() + wait_s
        self._greet_at = 0.0
        self.process_answers()
        while len(self._backlog) or not self._welcome:
            if not self._wait(until):
                return False
        return True

    def _wait(self, until: float) -> bool:
        """Wait a little for an answer and attend to it; return False once it is `until`."""
        if (left := until - time.monotonic()) <= 0:
            return False
        self._socket.poll(max(1, int(min(left, _GREET_AGAIN_S) * 1000)), zmq.POLLIN)
        self.process_answers()
        return True

    def _process(self, answer: Answer) -> None:
        if answer.session == self._session:
            self._backlog.settle(answer.settled)
        if not answer.known or answer.session != self._session:  # it knows nothing of what was sent so far
            self._session, self._next = answer.session, self._backlog.first
            self._welcome = self._greet()

    def _greet(self) -> bool:
        """Send a greeting; return whether it could be sent."""
        greeting = Greeting(
            worker=self._worker,
            pid=os.getpid(),
            life=self._life,
            session=self._session,
            first=self._backlog.first,
            next=self._backlog.next_number,
            cameras=self._cameras,
            running=list(self._running.values()),
            leaving=self._leaving,
        )
        sent = self._send((encode_control(greeting),))
        self._greet_at = time.monotonic() + (_GREET_S if sent and self._welcome else _GREET_AGAIN_S)
        return sent

    def _note(self, event: ActionEvent) -> None:
        if event.event == "start":
            self._running[event.camera] = event
        else:
            self._running.pop(event.camera, None)

    def _flush(self) -> None:
        """Send what was not sent yet, in order."""
        if not self._welcome:
            return
        for number, parts in self._backlog.since(self._next):
            if not self._send(parts):
                return
            self._next = number + 1

    def _send(self, parts: tuple[bytes, ...]) -> bool:
        try:
            self._socket.send_multipart(parts, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def _receive(self) -> bytes | None:
        try:
            return self._socket.recv_multipart(zmq.NOBLOCK)[-1]
        except zmq.Again:
            return None


class _Peer:
    """One connection of a worker, as the receiver knows it."""

    def __init__(self, greeting: Greeting, expected: int) -> None:
        self.greeting = greeting
        self.expected = expected
        self.gap_reported = False  # since its last greeting


class RelayReceiver(BoundedSocket):
    """The publisher's end: of all workers, each known by its connection once it has greeted.

    Events and statuses are returned in order and once in the life of a worker and this receiver. A message before a
    greeting, or after a gap, is not accepted, and its worker sends it again.
    """

    most_connections = 32

    def __init__(self, address: str) -> None:
        super().__init__(zmq.ROUTER)
        self._socket.setsockopt(zmq.RCVHWM, RELAY_HWM)
        self._socket.setsockopt(zmq.SNDHWM, RELAY_HWM)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_PUBLISHED_BYTES)
        self._session = time.time_ns() // 1000
        self._peers: dict[bytes, _Peer] = {}
        self.rejected = 0
        self._bind(address, None, RELAY)

    def poll(self, timeout_s: float) -> bool:
        """Wait for a message at most `timeout_s` seconds; return whether there is one."""
        return bool(self._socket.poll(int(timeout_s * 1000), zmq.POLLIN))

    def receive(self) -> tuple[Greeting, Greeting | Publication] | None:
        """Return the next message with the newest greeting of its worker; None where there is none.

        Messages that are not valid are counted and skipped.
        """
        while True:
            try:
                identity, *parts = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return None
            try:
                taken = self._take(identity, decode_from_worker(parts))
            except WireError as error:
                self.rejected += 1
                if self.rejected == 1:
                    log.warning("the publisher rejected %s; further ones are only counted", error)
                continue
            if taken is not None:
                return taken

    def settle(self, life: int, number: int) -> None:
        """Confirm to a worker its messages up to `number`."""
        for identity, peer in self._peers.items():
            if peer.greeting.life == life:
                self._answer(identity, Answer(session=self._session, known=True, settled=number))

    def _take(self, identity: bytes, message: Greeting | Publication) -> tuple[Greeting, Greeting | Publication] | None:
        if isinstance(message, Greeting):
            return self._register(identity, message)
        peer = self._peers.get(identity)
        if peer is None or message.number > peer.expected:
            if peer is None or not peer.gap_reported:
                self._answer(identity, Answer(session=self._session, known=False))
            if peer is not None:
                peer.gap_reported = True
            return None
        if message.number:
            if message.number < peer.expected:
                return None
            peer.expected += 1
        return peer.greeting, message

    def _register(self, identity: bytes, greeting: Greeting) -> tuple[Greeting, Greeting] | None:
        """Register a worker under this connection, and remove its earlier connection."""
        if greeting.session != self._session:
            self._answer(identity, Answer(session=self._session, known=False))
            return None
        expected = greeting.first
        for other, peer in list(self._peers.items()):
            if peer.greeting.worker == greeting.worker:
                if peer.greeting.life == greeting.life:
                    expected = max(expected, peer.expected)
                del self._peers[other]
        if len(self._peers) >= _MAX_WORKERS:
            raise WireError(f"a worker beyond the {_MAX_WORKERS} that are allowed")
        self._peers[identity] = _Peer(greeting, expected)
        message = greeting if expected >= greeting.next else structs.replace(greeting, running=None)
        return greeting, message

    def _answer(self, identity: bytes, answer: Answer) -> None:
        try:
            self._socket.send_multipart((identity, encode_control(answer)), zmq.NOBLOCK)
        except zmq.Again:
            log.debug("a worker does not read its answers; it will be answered again")
