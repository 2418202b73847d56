"""Messages of a running service, typed."""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self, get_args

from stream_i3d.config import PublishConfig
from stream_i3d.errors import ConfigError, TransportError, WireError, did_you_mean
from stream_i3d.transport.addresses import check_address
from stream_i3d.transport.curve import load_client_keys
from stream_i3d.transport.sockets import Subscriber
from stream_i3d.transport.wire import TOPICS, Published, decode_published

Kind = Literal["prediction", "event", "status"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_POLL_S = 0.25  # between two looks at the signals that Python handles


class Subscription:
    """An iterator of a service's messages, and a context manager; returned by `subscribe`.

    Attributes:
        rejected: Number of received messages that were not valid messages of stream-i3d; they are skipped.
    """

    def __init__(self, subscriber: Subscriber, address: str, kinds: Sequence[Kind], timeout_s: float | None) -> None:
        """Take over a connected socket.

        Args:
            subscriber: Closed with this.
            address: Its address, for messages.
            kinds: Kinds of messages to return; none means all.
            timeout_s: Seconds to wait for a message while iterating; None waits for ever.
        """
        self._subscriber = subscriber
        self._address = address
        self._kinds = frozenset(kinds or KINDS)
        self._timeout_s = math.inf if timeout_s is None else timeout_s
        self._close = weakref.finalize(self, subscriber.close)
        self.rejected = 0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Published:
        """Wait for the next message; the iteration ends once the subscription is closed.

        Raises:
            TransportError: No message came within the timeout, or the service refuses this client.
        """
        message = self.receive(self._timeout_s)
        if message is not None:
            return message
        if not self._close.alive:
            raise StopIteration
        raise TransportError(
            f"no message from {self._address} within {self._timeout_s:g} s: check the address and that the service "
            "runs, or give a longer timeout_s"
        )

    def receive(self, timeout_s: float) -> Published | None:
        """Return the next message, or None if none came in time or the subscription is closed.

        Args:
            timeout_s: Seconds to wait at most.

        Raises:
            TransportError: The service refuses this client: its key is not allowed, or it needs one.
        """
        until = time.monotonic() + timeout_s
        while self._close.alive:
            parts = self._subscriber.receive(min(_POLL_S, max(0.0, until - time.monotonic())))
            message = None if parts is None else self._decode(parts)
            if message is not None or (parts is None and time.monotonic() >= until):
                return message
        return None

    def close(self) -> None:
        """Close the connection; may be called twice."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _decode(self, parts: list[bytes]) -> Published | None:
        """Return a message; None for an invalid one, which is counted, and for one of another kind."""
        try:
            message = decode_published(parts)
        except WireError:
            self.rejected += 1
            return None
        return message if TOPICS[type(message)] in self._kinds else None


def subscribe(
    address: str = PublishConfig().address,
    *,
    cameras: Sequence[str] = (),
    kinds: Sequence[Kind] = (),
    key: str | Path | None = None,
    server_key: str | Path | None = None,
    timeout_s: float | None = None,
) -> Subscription:
    """Subscribe to what a running service publishes.

    Args:
        address: `tcp://HOST:PORT` or `ipc://PATH` of the service's predictions (its `publish.address`).
        cameras: Names of cameras to receive; none means all.
        kinds: "prediction", "event" or "status"; none means all.
        key: Your secret key file, if the service wants keys.
        server_key: The service's public key file; belongs with `key`.
        timeout_s: Seconds without a message after which iterating raises TransportError; None waits for ever.

    Returns:
        An iterator of `Recognition`, `ActionEvent` and `CameraStatus` messages. It connects in the background, and
        again whenever the service comes back. Close it, use `with`, or leave the loop.

    Raises:
        ConfigError: The address, a kind, the timeout or a key file is not valid.
    """
    _refuse_string("cameras", cameras)
    _refuse_string("kinds", kinds)
    for camera in cameras:
        if not camera.isprintable():  # a lone surrogate among them, which no message can hold
            raise ConfigError(f"cameras: {camera!r} is no text (UTF-8) that a camera could be called")
    for kind in kinds:
        if kind not in KINDS:
            raise ConfigError(f"kinds: {kind!r}{did_you_mean(str(kind), KINDS)}; allowed are {', '.join(KINDS)}")
    if timeout_s is not None and not timeout_s >= 0:
        raise ConfigError(f"timeout_s {timeout_s!r}: give a number of seconds, or None to wait for ever")
    keys = load_client_keys(_path(key), _path(server_key))
    # Topics are prefixes, and the camera comes first: without cameras the kinds are sorted out after receiving.
    topics = [f"v1/{camera}/{kind}" for camera in cameras for kind in kinds or ("",)] or ["v1/"]
    return Subscription(Subscriber(check_address(address), topics, keys), address, kinds, timeout_s)


def _refuse_string(option: str, given: Sequence[str]) -> None:
    """Refuse a string where a list is meant: its letters would be taken for names."""
    if isinstance(given, str):
        raise ConfigError(f"{option}={given!r}: give a list, such as {option}=[{given!r}]")


def _path(given: str | Path | None) -> Path | None:
    return None if given is None else Path(given)
