"""The MQTT sink: each camera's state (retained), events (QoS 1, in order), predictions (QoS 0); docs/sinks.md.

Its thread connects, and does all of a connection by itself; each connection is a client of its own. What the one before
had sent and the broker had not confirmed is sent again from the outbox, so that the order stays.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence

from stream_i3d.backoff import Backoff
from stream_i3d.messages import ActionEvent, Recognition
from stream_i3d.publish.mqtt_session import LEAVE_S, Oversized, Session, tls_context
from stream_i3d.publish.mqtt_topics import MAX_CAMERAS, OFFLINE, ONLINE, MqttState, MqttStates, Topics
from stream_i3d.publish.outbox import Outbox, Pending
from stream_i3d.publish.sink import Outlet, Reachable, SinkContext
from stream_i3d.redact import redact
from stream_i3d.sink_settings import MqttSettings
from stream_i3d.stage import SinkFigures
from stream_i3d.thread_names import name_background_thread
from stream_i3d.transport.wire import Published

log = logging.getLogger(__name__)

_IN_FLIGHT = 20
_STORE_AGAIN_S = 1.0


class MqttSink(Outlet):
    """Publishes from a thread of its own.

    Drop policies: of events the outbox's; a full queue of predictions drops the oldest, counted; of a camera's states
    only the newest counts.
    """

    def __init__(self, settings: MqttSettings, name: str, outbox: Outbox, running: Sequence[ActionEvent] = ()) -> None:
        """Begin to connect.

        Args:
            settings: Of the broker.
            name: Of this sink.
            outbox: This sink's from now on.
            running: Actions that go on, as a publisher before this one left them: they are part of cameras' states.

        Raises:
            ConfigError: A file of TLS cannot be read.
        """
        self.name = name
        self._settings = settings
        self._outbox = outbox
        self._tls = tls_context(settings)
        self._topics = Topics(settings.base_topic, settings.discovery)
        self._backoff = Backoff(random.Random(), settings.backoff_first_s, settings.backoff_limit_s)
        self._lock = threading.Lock()  # of what `write` and `follow` fill, and the thread empties
        self._states = MqttStates()
        for event in running:
            self._states.take(event)
        self._predictions: deque[Recognition] = deque(maxlen=settings.queue)
        self._cameras: frozenset[str] | None = None
        self._retained: set[str] = set()  # cameras of which the broker keeps a state
        self._announced: set[str] = set()
        self._confirmed: list[Pending] = []
        self._store_again_at = 0.0
        self._ending = threading.Event()
        self._until = float("inf")
        self._failure = "not connected yet"
        self._said = False
        self._listens = True
        self._written = self._dropped = 0
        self._thread = threading.Thread(target=self._run, name=f"sink-{name}", daemon=True)
        self._thread.start()

    def write(self, message: Published) -> None:
        """Take one message."""
        with self._lock:
            if self._cameras is None or message.camera in self._cameras:
                self._states.take(message)
            if isinstance(message, Recognition) and self._settings.predictions:
                self._dropped += len(self._predictions) == self._predictions.maxlen
                self._predictions.append(message)
        if isinstance(message, ActionEvent):
            self._outbox.offer(message)

    def follow(self, cameras: Mapping[str, str]) -> None:
        """Take note of the cameras that there are; what the broker keeps of others is taken back."""
        with self._lock:
            self._cameras = frozenset(cameras)
            for camera in self._states.cameras:
                if camera not in cameras:
                    self._states.forget(camera)

    def figures(self) -> SinkFigures:
        """Return how it fares; `queued` are events."""
        return SinkFigures(
            name=self.name,
            queued=self._outbox.waiting,
            written=self._written,
            dropped=self._dropped + self._outbox.dropped,
            failing=bool(self._failure),
            detail=self._failure,
        )

    def close(self, timeout_s: float = 1.0) -> None:
        """Deliver what waits and say goodbye, for at most `timeout_s` in all."""
        self._until = time.monotonic() + timeout_s - LEAVE_S
        self._ending.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        name_background_thread("mqtt")
        while not self._ending.is_set():
            began = time.monotonic()
            try:
                with Session(self._settings, self.name, self._tls, (self._topics.availability, OFFLINE)) as session:
                    session.connect()
                    began = time.monotonic()
                    self._greet(session)
                    self._serve(session)
            except OSError as error:
                if not self._failure:
                    self._backoff.healthy_for(time.monotonic() - began)
                # Else a long message that somebody left on one of our topics would end every connection.
                self._listens = not isinstance(error, Oversized)
                self._lost(error)
        self._outbox.close()

    def _greet(self, session: Session) -> None:
        """Say that the service is there, and have everything retained told again."""
        host, port = self._settings.address
        if self._said or self._failure:
            log.info("%s: connected to %s:%d", self.name, host, port)
        self._failure, self._said = "", False
        self._announced.clear()
        session.say(self._topics.availability, ONLINE, retain=True)
        if self._listens:
            session.subscribe(self._topics.all_states, self._topics.availability)
        with self._lock:
            self._states.tell_all()

    def _lost(self, error: OSError) -> None:
        """Say so once, and wait for the next try."""
        host, port = self._settings.address
        self._failure = redact(str(error)) or type(error).__name__
        if not self._said:
            log.warning(
                "%s: no connection to %s:%d (%s); events wait, and it is tried again",
                self.name,
                host,
                port,
                self._failure,
            )
        self._said = True
        self._ending.wait(self._backoff.failed())

    def _serve(self, session: Session) -> None:
        """Publish what there is until the connection is lost, or the end."""
        while time.monotonic() < self._until:
            session.turn()
            self._hear(session)
            self._tell(session)
            self._deliver(session)
            if self._ending.is_set() and not self._outbox.waiting and not self._predictions:
                break
        session.leave(self._topics.availability, OFFLINE)

    def _hear(self, session: Session) -> None:
        """Learn what the broker keeps, and answer a will that was said late."""
        while session.arrived:
            message = session.arrived.popleft()
            if message.topic == self._topics.availability:
                if message.payload == OFFLINE:
                    session.say(self._topics.availability, ONLINE, retain=True)
            elif message.retained and message.payload:
                camera = self._topics.camera_of(message.topic)
                if camera is not None and len(self._retained) < MAX_CAMERAS:
                    self._retained.add(camera)

    def _tell(self, session: Session) -> None:
        """Publish what is not delivered: discovery, states, predictions, and that cameras are gone."""
        with self._lock:
            known = self._cameras
            cameras = set(self._states.cameras) | (known or frozenset())
        for camera in cameras - self._announced:
            for topic, payload in self._topics.discovery(camera):
                session.say(topic, payload, retain=True)
            self._announced.add(camera)
        while session.has_room and (state := self._next_state()) is not None:
            session.say(self._topics.of(state.camera, "state"), state, retain=True)
            self._retained.add(state.camera)
        for camera in (self._retained | self._announced) - known if known is not None else ():
            for topic in self._topics.of_removed(camera):
                session.say(topic, b"", retain=True)
            self._retained.discard(camera)
            self._announced.discard(camera)
        while session.has_room and self._predictions:
            prediction = self._predictions.popleft()
            session.say(self._topics.of(prediction.camera, "prediction"), prediction)

    def _next_state(self) -> MqttState | None:
        with self._lock:
            return self._states.next_due()

    def _deliver(self, session: Session) -> None:
        """Mark what the broker has confirmed, then send what is next, a few at a time."""
        self._confirmed += session.confirmed()
        now = time.monotonic()
        if now < self._store_again_at:
            return
        try:
            if self._confirmed:
                self._outbox.done(self._confirmed)
                self._written += len(self._confirmed)
                self._confirmed = []
            room = _IN_FLIGHT - session.in_flight
            if room > 0 and self._outbox.waiting > session.in_flight:
                for pending in self._outbox.fetch(room, after=session.newest):
                    session.deliver(self._topics.of(pending.event.camera, "event"), pending)
        except OSError:  # of the store, whose own sink says it
            self._store_again_at = now + _STORE_AGAIN_S


def make_sink(settings: MqttSettings, context: SinkContext) -> MqttSink:
    """Return the sink at work; ConfigError where its certificates cannot be read."""
    return MqttSink(settings, context.name, context.outbox, () if context.store is None else context.store.running)


def needs(settings: MqttSettings) -> Reachable:
    """Return the broker."""
    return Reachable(*settings.address)
