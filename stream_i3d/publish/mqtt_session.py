"""One connection to an MQTT broker, from its beginning to its loss. Used by one thread; knows topics only as text."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import ssl
import struct
import time
from collections import deque
from typing import Any, NamedTuple, Self

import msgspec
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from stream_i3d.deadline import call_within
from stream_i3d.errors import ConfigError, brief
from stream_i3d.publish.outbox import Pending
from stream_i3d.sink_settings import MqttSettings

_CONNECT_S = 10.0
_CONFIRM_S = 30.0
LEAVE_S = 0.3
"""How long a goodbye takes at most."""
_TICK_S = 0.05
MAX_PACKET_BYTES = 64 * 1024
"""Of what a broker sends: a camera's state has a thousand. The protocol allows 256 MB, which paho reads whole."""
_KEPT_BYTES = 64
_MAX_ARRIVED = 10_000


class PacketTooLong(ValueError):
    """A packet that will not be read."""


class Oversized(OSError):
    """The connection was ended for a packet that is too long, by another client on our topics or a hostile broker."""


class _Client(paho.Client):
    """A client that reads no packet of any length, and whose connecting can be given up."""

    given_up = False
    _tls: ssl.SSLContext
    _raw: socket.socket | None = None

    def use_tls(self, context: ssl.SSLContext) -> None:
        """Encrypt the connection."""
        self._tls = context
        self.tls_set_context(context)

    def give_up(self) -> None:
        """Make the connecting thread fail now, or once it has looked the host up."""
        self.given_up = True
        if self._raw is not None:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(self._raw, socket.SHUT_RDWR)  # of TLS too, without its close message

    def _create_socket_connection(self) -> socket.socket:
        raw: socket.socket = super()._create_socket_connection()
        self._raw = raw
        if self.given_up:
            raw.close()
            raise TimeoutError("given up")
        return raw

    def _ssl_wrap_socket(self, tcp_sock: socket.socket) -> ssl.SSLSocket:
        """Shake hands; unlike in paho, that can be given up, and the connection is closed where it fails."""
        wrapped = self._tls.wrap_socket(tcp_sock, server_hostname=self._host, do_handshake_on_connect=False)
        self._raw = wrapped  # `tcp_sock` has no connection any more
        try:
            wrapped.settimeout(self.connect_timeout)
            if self.given_up:
                raise TimeoutError("given up")
            wrapped.do_handshake()
        except BaseException:
            wrapped.close()
            raise
        return wrapped

    def _sock_recv(self, bufsize: int) -> bytes:  # WORKAROUND: paho has no limit; what it asks for is a packet's rest
        if bufsize > MAX_PACKET_BYTES:
            raise PacketTooLong(f"a packet of {bufsize:,} bytes; allowed are {MAX_PACKET_BYTES:,}")
        received: bytes = super()._sock_recv(bufsize)
        return received

    def _handle_publish(self) -> MQTTErrorCode:
        if self._in_packet["command"] & 0x06:  # paho would keep those of QoS 2 until the broker releases them
            raise ValueError("a message of a higher QoS than was asked for")
        return super()._handle_publish()


class Arrived(NamedTuple):
    """A message from the broker; `retained`: it was there before we asked."""

    topic: str
    payload: bytes
    retained: bool


class Session:
    """A clean session of MQTT 3.1.1, whose will announces that the service is offline. Every failure is an OSError.

    A client of the library for each connection: it would send again what was not confirmed by itself, and behind what
    is new.
    """

    def __init__(self, settings: MqttSettings, name: str, tls: ssl.SSLContext | None, will: tuple[str, bytes]) -> None:
        """Args: `will` is topic and payload that the broker publishes when the connection is lost."""
        self._settings = settings
        self._name = name
        self._client = _Client(
            CallbackAPIVersion.VERSION2,
            client_id=settings.client_id or _client_id(settings, name),
            protocol=paho.MQTTv311,
            clean_session=True,
            reconnect_on_failure=False,
        )
        self._client.connect_timeout = _CONNECT_S / 2
        self._client.max_inflight_messages_set(65535)  # how many are under way is decided by who publishes
        self._client.will_set(*will, qos=1, retain=True)
        if settings.username is not None:
            self._client.username_pw_set(settings.username, settings.password)
        if tls is not None:
            self._client.use_tls(tls)
        self._client.on_connect = self._on_connect
        self._client.on_publish = self._on_publish
        self._client.on_message = self._on_message
        self._answer: Any = None
        self._under_way: deque[tuple[int, float, Pending]] = deque()
        self._confirmed: set[int] = set()
        self.newest = 0
        self.arrived: deque[Arrived] = deque(maxlen=_MAX_ARRIVED)  # read at every turn; the oldest go

    def connect(self) -> None:
        """Connect and wait for the broker's welcome; OSError where it does not come."""
        host, port = self._settings.address
        try:
            call_within(
                _CONNECT_S,
                lambda: self._client.connect(host, port, self._settings.keepalive_s),
                self._client.give_up,
                self._name,
            )
        except ValueError as error:  # a host that is no name
            raise OSError(str(error)) from None
        until = time.monotonic() + _CONNECT_S
        while self._answer is None:
            if time.monotonic() > until:
                raise OSError("no answer to the connection")
            self.turn(_TICK_S)
        if self._answer.is_failure:
            raise OSError(f"the broker says: {self._answer}")

    def turn(self, wait_s: float = _TICK_S) -> None:
        """Send and receive what there is, waiting for it at most `wait_s`. OSError where the connection is lost."""
        try:
            code = self._client.loop(wait_s)
        except PacketTooLong as error:
            raise Oversized(f"the broker sends {error}") from None
        except (ValueError, IndexError, struct.error) as error:  # the library does not check what it is sent
            raise OSError(f"the broker sends what is not MQTT: {brief(error)}") from None
        if self._answer is not None and self._answer.is_failure:
            raise OSError(f"the broker says: {self._answer}")
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise OSError(f"the connection is lost: {paho.error_string(code)}")
        if self._under_way and time.monotonic() - self._under_way[0][1] > _CONFIRM_S:
            raise OSError(f"the broker has not confirmed an event for {_CONFIRM_S:g} s")

    @property
    def in_flight(self) -> int:
        """Events that are sent and not confirmed."""
        return len(self._under_way)

    @property
    def has_room(self) -> bool:
        """Whether the broker reads: nothing waits to be sent."""
        return not self._client.want_write()

    def subscribe(self, *topics: str) -> None:
        """Ask for topics; what comes is put into `arrived`."""
        self._client.subscribe([(topic, 0) for topic in topics])

    def say(self, topic: str, message: msgspec.Struct | dict[str, Any] | bytes, retain: bool = False) -> None:
        """Publish at QoS 0; a retained empty message takes back what was retained."""
        payload = message if isinstance(message, bytes) else msgspec.json.encode(message)
        self._client.publish(topic, payload, 0, retain)

    def deliver(self, topic: str, pending: Pending) -> None:
        """Publish an event at QoS 1; `confirmed` returns it once the broker has it."""
        sent = self._client.publish(topic, msgspec.json.encode(pending.event), 1)
        self._under_way.append((sent.mid, time.monotonic(), pending))
        self.newest = pending.position

    def confirmed(self) -> list[Pending]:
        """Return the events, without a hole between them, that the broker has confirmed since the last call."""
        done = []
        while self._under_way and self._under_way[0][0] in self._confirmed:
            mid, _, pending = self._under_way.popleft()
            self._confirmed.discard(mid)
            done.append(pending)
        return done

    def leave(self, topic: str, last_word: bytes) -> None:
        """Publish a last, retained message and disconnect, so that the will is not published."""
        self._client.publish(topic, last_word, 0, retain=True)
        self._client.disconnect()
        until = time.monotonic() + LEAVE_S
        while self._client.socket() is not None and time.monotonic() < until:
            if self._client.loop(_TICK_S) != MQTTErrorCode.MQTT_ERR_SUCCESS:
                return

    def close(self) -> None:
        """Drop the connection; without `leave` before it, the broker publishes the will."""
        # Else the client and its sockets would wait for the garbage collector.
        self._client.on_connect = self._client.on_publish = self._client.on_message = None
        if (end := self._client.socket()) is not None:
            end.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _on_connect(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        self._answer = reason

    def _on_publish(self, client: Any, userdata: Any, mid: int, reason: Any, properties: Any) -> None:
        if any(mid == sent for sent, _, _ in self._under_way):  # else of QoS 0, reported as soon as it is written
            self._confirmed.add(mid)

    def _on_message(self, client: Any, userdata: Any, message: paho.MQTTMessage) -> None:
        self.arrived.append(Arrived(message.topic, bytes(message.payload[:_KEPT_BYTES]), message.retain))


def tls_context(settings: MqttSettings) -> ssl.SSLContext | None:
    """Return what TLS to the broker goes by, None without TLS; ConfigError where a file cannot be read."""
    tls = settings.tls
    if tls is None:
        return None
    try:
        context = ssl.create_default_context(cafile=tls.ca)
        if tls.cert is not None:
            context.load_cert_chain(tls.cert, tls.key, password=_no_password)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"mqtt {settings.host}: cannot use the files of tls ({error}); give PEM files, the key without a password"
        ) from None
    return context


def _no_password() -> str:
    """Refuse a key with a password; OpenSSL would ask for it on the terminal."""
    raise ValueError("the key has a password")


def _client_id(settings: MqttSettings, name: str) -> str:
    """Return an id that is the same after a restart: the broker then ends the old session before the new one begins."""
    what = f"{socket.gethostname()}|{settings.base_topic}|{name}"
    return f"stream-i3d-{hashlib.sha256(what.encode()).hexdigest()[:10]}"
