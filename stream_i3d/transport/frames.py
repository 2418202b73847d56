"""The frame channels' sockets: pictures and reports from a camera's capture process to its worker, on one host.

Knows bytes and bounds; what they mean is wire.py's.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import zmq

from stream_i3d.errors import TransportError
from stream_i3d.messages import CameraReport, Frame
from stream_i3d.transport.addresses import FRAMES
from stream_i3d.transport.sockets import BoundedSocket, SocketOwner, bind, connect
from stream_i3d.transport.wire import MAX_FRAME_BYTES, encode_frame, encode_report

FRAME_HWM = 8  # as many as the sampler repeats at most, all at once, where a network comes in bursts


class FrameSender(BoundedSocket):
    """PUSH end of one camera's frame channel. Drop policy: a full channel drops the frame being sent, counted."""

    def __init__(self, address: str) -> None:
        super().__init__(zmq.PUSH)
        self._socket.setsockopt(zmq.SNDHWM, FRAME_HWM)
        # Without a worker there is no queue at all: frames from before it came are of no use to it.
        self._socket.setsockopt(zmq.IMMEDIATE, 1)
        try:
            connect(self._socket, address, None)
        except TransportError:
            self.close()
            raise
        self.dropped = 0

    def connected(self, wait_s: float) -> bool:
        """Wait at most `wait_s` for a worker with room at the other end; return whether there is one."""
        return bool(self._socket.poll(int(wait_s * 1000), zmq.POLLOUT))

    def send(self, frame: Frame, wait_s: float = 0.0) -> bool:
        """Send one frame; returns False when the channel is full.

        Without `wait_s` the frame is dropped and counted; with it the caller still has the frame, and may try again.
        """
        if wait_s and not self._socket.poll(int(wait_s * 1000), zmq.POLLOUT):
            return False
        try:
            self._socket.send_multipart(encode_frame(frame), zmq.NOBLOCK)
        except zmq.Again:
            self.dropped += 1
            return False
        return True

    def report(self, report: CameraReport, wait_s: float = 0.0) -> bool:
        """Send a camera report; returns False when the channel stayed full for `wait_s`."""
        if wait_s and not self._socket.poll(int(wait_s * 1000), zmq.POLLOUT):
            return False
        try:
            self._socket.send(encode_report(report), zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True


class FrameReceivers(SocketOwner):
    """PULL ends of several cameras' frame channels, read together by one drain thread.

    Channels are known by number, in the order in which they were added. `add` may be called by another thread; all
    else is the reading thread's.
    """

    most_connections = 8

    def __init__(self, addresses: Sequence[str]) -> None:
        super().__init__()
        self._sockets: dict[int, zmq.Socket[bytes]] = {}
        self._added = 0
        try:
            for address in addresses:
                self.add(address)
        except TransportError:
            self.close()
            raise

    @property
    def readable(self) -> Sequence[zmq.Socket[bytes]]:
        """The sockets of all channels."""
        return tuple(self._sockets.values())

    def add(self, address: str) -> int:
        """Bind one more channel; return its number.

        Raises:
            TransportError: It cannot be bound; the others go on.
        """
        puller: zmq.Socket[bytes] = self._context.socket(zmq.PULL)
        puller.setsockopt(zmq.LINGER, 0)
        puller.setsockopt(zmq.RCVHWM, FRAME_HWM)
        puller.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
        self._limit_connections(puller, keyed=False)
        try:
            bind(puller, address, FRAMES)
        except TransportError:
            puller.close()
            raise
        number, self._added = self._added, self._added + 1
        self._sockets[number] = puller
        return number

    def remove(self, number: int) -> None:
        """Close one channel; messages in its queue are lost."""
        self._sockets.pop(number).close()

    def poll(self, timeout_s: float, wanted: Collection[int]) -> list[int]:
        """Return which of the wanted channels (by number) have a message, waiting at most `timeout_s`."""
        poller = zmq.Poller()
        numbers = {self._sockets[number]: number for number in wanted}
        for puller in numbers:
            poller.register(puller, zmq.POLLIN)
        return sorted(numbers[puller] for puller, _ in poller.poll(int(timeout_s * 1000)))

    def receive(self, number: int) -> list[memoryview] | None:
        """Return the parts of a channel's next message as views of ZeroMQ's own memory, or None if there is none."""
        try:
            parts = self._sockets[number].recv_multipart(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return None
        return [part.buffer for part in parts]
