"""The one place where ZeroMQ meets Qt: a thread that reads messages, previews and answers, and emits one signal.

Everything it opens it opens and closes itself. The window gives it requests and wishes under a lock, and takes what
came out of the mailbox. Pictures are decoded here, at the size they are shown in, so that the window only paints.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

from PyQt6.QtCore import QBuffer, QCoreApplication, QIODevice, QSize, Qt, QThread, pyqtSignal
from PyQt6.QtGui import QImage, QImageReader

from stream_i3d.errors import ConfigError, ServiceError, StreamI3DError, TransportError, WireError
from stream_i3d.transport.control import (
    ErrorReply,
    GetSettings,
    HelloReply,
    ListCameras,
    Reply,
    Request,
    SayHello,
)
from stream_i3d.transport.control_sockets import ControlClient
from stream_i3d.transport.keys import ClientKeys
from stream_i3d.transport.preview import PreviewReceivers
from stream_i3d.transport.sockets import SocketOwner, Subscriber, wait_for_any
from stream_i3d.transport.wire import Preview, decode_published

from .mailbox import Mailbox
from .picture import Picture

_WAIT_S = 0.05
_ASK_EVERY_S = 1.0
_ANSWER_WITHIN_S = 5.0
_NEW_CLIENT_AFTER_S = 2.5
_MAX_SIDE = 8192


def decode_picture(preview: Preview, wanted: QSize | None) -> Picture | None:
    """Return the preview decoded to fit `wanted` (None: as it is; never larger), or None where it is no picture."""
    buffer = QBuffer()
    buffer.setData(preview.jpeg)
    buffer.open(QIODevice.OpenModeFlag.ReadOnly)
    reader = QImageReader(buffer, b"jpeg")
    size = reader.size()
    if not size.isValid() or max(size.width(), size.height()) > _MAX_SIDE:
        return None
    if wanted is not None and wanted.isValid():
        fitted = size.scaled(wanted, Qt.AspectRatioMode.KeepAspectRatio)
        if fitted.width() < size.width() and fitted.width() > 0 and fitted.height() > 0:
            reader.setScaledSize(fitted)
    image = reader.read()
    if image.isNull():
        return None
    if image.format() != QImage.Format.Format_RGB32:  # the one that paints without a conversion
        image = image.convertToFormat(QImage.Format.Format_RGB32)
    return Picture(image, preview.jpeg, preview.capture_ns, preview.seq)


class Reader(QThread):
    """Reads one service until it is told to stop.

    Signals:
        arrived: The mailbox has something; not emitted again before it was emptied.
        failed: The address cannot be used at all; a line.
        refused: The service does not let us in, for want of the right keys; a line. It is tried again.
    """

    arrived = pyqtSignal()
    failed = pyqtSignal(str)
    refused = pyqtSignal(str)

    def __init__(
        self, control: str, clock: Callable[[], float] = time.monotonic, keys: ClientKeys | None = None
    ) -> None:
        super().__init__()
        self.mailbox = Mailbox()
        self._control = control
        self._clock = clock
        self._keys = keys
        self._say_again_at = float("-inf")
        self._requests: queue.SimpleQueue[Request] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._followed: dict[str, str] = {}
        self._sizes: dict[str, QSize | None] = {}

    def ask(self, request: Request) -> None:
        """Send a request; its answer comes through the mailbox. From any thread."""
        self._requests.put(request)

    def follow(self, previews: dict[str, str], sizes: dict[str, QSize | None]) -> None:
        """Say whose previews are wanted (camera to address), and how large (None: in full). From any thread."""
        with self._lock:
            self._followed, self._sizes = dict(previews), dict(sizes)

    def stop(self) -> None:
        """Ask the thread to end, and wait for it."""
        self.requestInterruption()
        self.wait()

    def run(self) -> None:
        """Read until told to stop."""
        try:
            connection = _Connection(self._control, self._clock, self._keys)
        except StreamI3DError as error:
            self.failed.emit(str(error))
            return
        try:
            while not self.isInterruptionRequested():
                self._turn(connection)
        finally:
            connection.close()

    def _turn(self, connection: _Connection) -> None:
        with self._lock:
            followed, sizes = self._followed, self._sizes
        connection.follow(followed)
        connection.wait(_WAIT_S)
        now = self._clock()
        tell = False
        while not self._requests.empty():
            refusal = connection.ask(self._requests.get_nowait(), now)
            if refusal is not None:
                tell |= self.mailbox.put_answer(*refusal, now)
        for request, reply in connection.answers(now):
            tell |= self.mailbox.put_answer(request, reply, now)
        for camera, preview in connection.previews.receive():
            picture = decode_picture(preview, sizes.get(camera))
            if picture is None:
                connection.malformed += 1
            else:
                tell |= self.mailbox.put_picture(camera, picture)
        tell |= connection.read_messages(self.mailbox, now)
        tell |= self.mailbox.set_malformed(connection.all_malformed)
        if tell:
            self.arrived.emit()
        if connection.refusal and now >= self._say_again_at:
            self._say_again_at = now + _ASK_EVERY_S
            self.refused.emit(connection.refusal)
        connection.refusal = ""


class _Connection:
    """The sockets of one service, and the questions that keep it known to be alive."""

    def __init__(self, control: str, clock: Callable[[], float], keys: ClientKeys | None) -> None:
        self._client = ControlClient(control, keys)  # first: it raises where the address means nothing
        self.previews = PreviewReceivers(keys)
        self.malformed = 0
        self.refusal = ""
        self._keys = keys
        self._rejected_before = 0
        self._control = control
        self._clock = clock
        self._subscriber: Subscriber | None = None
        self._publish = ""
        self._run: tuple[int, float] | None = None
        self._pending: dict[int, tuple[Request, float]] = {}
        self._asked_at = float("-inf")
        self._heard_at = clock()
        self._followed: dict[str, str] = {}

    def close(self) -> None:
        self._client.close()
        self.previews.close()
        if self._subscriber is not None:
            self._subscriber.close()

    @property
    def all_malformed(self) -> int:
        return self.malformed + self.previews.rejected + self._client.rejected + self._rejected_before

    def follow(self, addresses: dict[str, str]) -> None:
        if addresses == self._followed:
            return
        self._followed = dict(addresses)
        try:
            self.previews.follow(addresses)
        except (ConfigError, TransportError):
            self.malformed += 1  # an address that a service should not have given

    def wait(self, timeout_s: float) -> None:
        ends: list[SocketOwner] = [self._client, self.previews]
        if self._subscriber is not None:
            ends.append(self._subscriber)
        wait_for_any(ends, timeout_s)

    def ask(self, request: Request, now: float) -> tuple[Request, ErrorReply] | None:
        try:
            self._pending[self._client.send(request)] = (request, now + _ANSWER_WITHIN_S)
        except ServiceError as error:
            return request, ErrorReply(message=str(error))
        except TransportError as error:
            self.refusal = str(error)
        return None

    def answers(self, now: float) -> list[tuple[Request, Reply]]:
        """Return what was answered, and what was not in time; asks anew once a second."""
        answered: list[tuple[Request, Reply]] = []
        while (reply := self._next_reply()) is not None:
            self._heard_at = now
            request, _ = self._pending.pop(reply.id, (None, 0.0))
            if isinstance(reply, HelloReply):
                self._greet(reply, now)
            if request is not None:
                answered.append((request, reply))
        for number, (request, until) in list(self._pending.items()):
            if now > until:
                del self._pending[number]
                if not isinstance(request, SayHello | ListCameras | GetSettings):
                    words = QCoreApplication.translate("Reader", "the service did not answer")
                    answered.append((request, ErrorReply(message=words)))
        self._keep_asking(now)
        return answered

    def _next_reply(self) -> Reply | None:
        try:
            return self._client.receive(0.0)
        except TransportError as error:
            self.refusal = str(error)
            return None

    def _keep_asking(self, now: float) -> None:
        if now - self._asked_at < _ASK_EVERY_S:
            return
        self._asked_at = now
        if now - self._heard_at > _NEW_CLIENT_AFTER_S:
            # What waits in the old one would all be answered at once, and late, when a service comes.
            self._rejected_before += self._client.rejected
            self._client.close()
            self._client = ControlClient(self._control, self._keys)
            self._heard_at = now
        self.ask(SayHello(), now)
        self.ask(ListCameras(), now)

    def _greet(self, hello: HelloReply, now: float) -> None:
        """Record which run of the service this is: another one publishes anew, with settings of its own."""
        if (hello.pid, hello.started_at) != self._run:
            self._run = (hello.pid, hello.started_at)
            self._publish = ""
            self.ask(GetSettings(), now)
        if hello.publish and hello.publish != self._publish:
            if self._subscriber is not None:
                self._subscriber.close()
                self._subscriber = None
            try:
                self._subscriber = Subscriber(hello.publish, keys=self._keys)
                self._publish = hello.publish
            except StreamI3DError:
                self.malformed += 1

    def _drop_subscriber(self, why: str) -> None:
        """Let go of a subscriber that was refused; the next greeting makes another."""
        assert self._subscriber is not None
        self._subscriber.close()
        self._subscriber, self._publish, self.refusal = None, "", why

    def read_messages(self, mailbox: Mailbox, now: float) -> bool:
        """Move what was published into the mailbox; at most a thousand at a time, so that pictures get their turn."""
        tell = False
        if self._subscriber is None:
            return tell
        for _ in range(1000):
            try:
                parts = self._subscriber.receive(0.0)
            except TransportError as error:
                self._drop_subscriber(str(error))
                break
            if parts is None:
                break
            try:
                tell |= mailbox.put_message(decode_published(parts), now)
            except WireError:
                self.malformed += 1
        return tell
