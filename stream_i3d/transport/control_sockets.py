"""The control channel's two ends: ROUTER in the service, DEALER in the client. They read no requests."""

from __future__ import annotations

import time
from collections.abc import Callable

import zmq
from msgspec import structs

from stream_i3d.errors import ServiceError, WireError
from stream_i3d.transport.addresses import CONTROL, check_address, reachable
from stream_i3d.transport.control import (
    MAX_REPLY_BYTES,
    MAX_REQUEST_BYTES,
    CameraInfo,
    CamerasReply,
    ErrorReply,
    HelloReply,
    Reply,
    Request,
    decode_reply,
    decode_request,
    encode_control,
)
from stream_i3d.transport.keys import ClientKeys, ServerKeys
from stream_i3d.transport.sockets import BoundedSocket, ConnectingSocket, set_heartbeats

DEFAULT_CONTROL = "tcp://127.0.0.1:5557"
"""Where a service with the default `publish.address` takes requests."""

_HWM = 100
_MAX_AT_ONCE = 100
"""Requests answered in one go, so that a flood of them does not keep the service from its work."""


class ControlServer(BoundedSocket):
    """ROUTER end. Drop policy: a client that does not read its replies loses them; it alone."""

    def __init__(self, address: str, keys: ServerKeys | None = None) -> None:
        super().__init__(zmq.ROUTER, linger_ms=100)
        self._socket.setsockopt(zmq.SNDHWM, _HWM)
        self._socket.setsockopt(zmq.RCVHWM, _HWM)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_REQUEST_BYTES)
        set_heartbeats(self._socket)
        self.address = self._bind(address, keys, CONTROL)
        self.rejected = 0

    def serve(self, timeout_s: float, answer: Callable[[Request], Reply]) -> None:
        """Answer the requests that are there, waiting for one at most `timeout_s`.

        What is no request is answered with an ErrorReply where it can be, and counted.
        """
        wait_ms = int(timeout_s * 1000)
        for _ in range(_MAX_AT_ONCE):
            if not self._socket.poll(wait_ms, zmq.POLLIN):
                return
            wait_ms = 0
            # A DEALER's message is [client, body], a REQ's [client, "", body]; the answer goes back the same way.
            *envelope, body = self._socket.recv_multipart(zmq.NOBLOCK)
            if envelope[1:] not in ([], [b""]):
                self.rejected += 1
                continue
            self._send(envelope, self._reply_to(body, answer))

    def _reply_to(self, body: bytes, answer: Callable[[Request], Reply]) -> Reply:
        try:
            request = decode_request(body)
        except WireError as error:
            self.rejected += 1
            return ErrorReply(message=str(error))
        return structs.replace(answer(request), id=request.id)

    def _send(self, envelope: list[bytes], reply: Reply) -> None:
        try:
            self._socket.send_multipart([*envelope, encode_control(reply)], zmq.NOBLOCK)
        except zmq.ZMQError:  # a client that is gone, or does not read
            self.rejected += 1


class ControlClient(ConnectingSocket):
    """DEALER end; used by one thread. Connects in the background, so a service that is not there yet is no error."""

    def __init__(self, address: str = DEFAULT_CONTROL, keys: ClientKeys | None = None) -> None:
        """Raises ConfigError or TransportError where the address means nothing."""
        check_address(address)
        super().__init__(zmq.DEALER)
        self._socket.setsockopt(zmq.SNDHWM, _HWM)
        self._socket.setsockopt(zmq.RCVHWM, _HWM)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_REPLY_BYTES)
        set_heartbeats(self._socket)
        self.address = address
        self.rejected = 0
        self._sent = 0
        self._connect(address, keys)

    def send(self, request: Request) -> int:
        """Send a request, or keep it until the service is there; never blocks. Return the id of its reply.

        Raises:
            ServiceError: As many as are kept wait already.
            TransportError: The service refuses this client.
        """
        self._check_let_in()
        self._sent += 1
        try:
            self._socket.send(encode_control(structs.replace(request, id=self._sent)), zmq.NOBLOCK)
        except zmq.Again:
            raise ServiceError(f"{_HWM} requests wait for a service on {self.address}; is it running?") from None
        return self._sent

    def receive(self, timeout_s: float = 0.0) -> Reply | None:
        """Return the next reply, an ErrorReply too, or None where none came in time; other bytes are counted.

        Addresses in it are such as can be connected to from here.

        Raises:
            TransportError: There is none, and the service refuses this client: for its key, or for having none.
        """
        until = time.monotonic() + timeout_s
        while self._wait(until - time.monotonic()):
            try:
                return _from_here(decode_reply(self._socket.recv_multipart(zmq.NOBLOCK)[-1]), self.address)
            except WireError:
                self.rejected += 1
        return None

    def request(self, request: Request, timeout_s: float = 2.0) -> Reply:
        """Send a request and return its reply; replies to earlier ones that come late are let go.

        Raises:
            ServiceError: It was refused, or not answered in time.
            TransportError: The service refuses this client.
        """
        number, until = self.send(request), time.monotonic() + timeout_s
        while (reply := self.receive(max(0.0, until - time.monotonic()))) is not None:
            if reply.id != number:
                continue
            if isinstance(reply, ErrorReply):
                raise ServiceError(reply.message)
            return reply
        raise ServiceError(f"no answer from {self.address} within {timeout_s:g} s; is the service running?")


def _from_here(reply: Reply, asked: str) -> Reply:
    """Return a reply with its addresses as the client can use them that asked at the address `asked`."""
    if isinstance(reply, HelloReply):
        return structs.replace(reply, publish=reachable(reply.publish, asked))
    if isinstance(reply, CamerasReply):
        return structs.replace(reply, cameras=[_camera_from_here(camera, asked) for camera in reply.cameras])
    return reply


def _camera_from_here(camera: CameraInfo, asked: str) -> CameraInfo:
    if camera.preview is None:
        return camera
    return structs.replace(camera, preview=reachable(camera.preview, asked))
