"""What one process of the service is given: a way to be told to stop, to show that it lives, and to say how it fares.

Both ends of the link are here: `StageLink` crosses from supervisor to child, `Stage` is the child's side. Which stages
there are, and when they are restarted, is the supervisor's business.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import multiprocessing
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

import msgspec
from msgspec import Struct

from stream_i3d.config import Config
from stream_i3d.errors import brief
from stream_i3d.histogram import Histogram
from stream_i3d.messages import CameraStatus, ModelName

_MAX_MESSAGE_BYTES = 64 * 2**20  # a network with a million labels fits

log = logging.getLogger(__name__)


class Ready(Struct, frozen=True, kw_only=True, tag="ready"):
    """The stage does its work now.

    Attributes:
        detail: What it is, for people.
        address: Where the publisher publishes, or a capture process its previews; "" where neither.
        model: Of the worker, the network it runs; `labels` are its.
        control: Where the supervisor takes requests; filled in by the supervisor, as is `monitor`.
        monitor: Where metrics and health are, over HTTP.
    """

    detail: str
    address: str = ""
    model: ModelName | None = None
    labels: list[str] = []
    engine: str = ""
    control: str = ""
    monitor: str = ""


class Failed(Struct, frozen=True, kw_only=True, tag="failed"):
    """The stage cannot go on; one line that says why."""

    message: str


class CameraFigures(Struct, frozen=True, kw_only=True):
    """What a worker has done for one camera since it took the camera in.

    Attributes:
        windows: Run through the network; `skipped` were spared that for want of motion.
        windows_dropped: Due, and not recognised, by reason.
        predictions: Published, by state.
        events: Published, by kind: "start", "end".
        queue: From the newest frame's capture to inference, as in messages.Latency; `inference` and `total` likewise.
        frame_age_s: Seconds since the last new frame; None before the first.
        stride: Sampled frames from one window to the next as it is now; None where nobody has said.
    """

    frames: int = 0
    frames_dropped: int = 0
    windows: int = 0
    windows_dropped: dict[str, int] = {}
    skipped: int = 0
    predictions: dict[str, int] = {}
    events: dict[str, int] = {}
    queue: Histogram = msgspec.field(default_factory=Histogram)
    inference: Histogram = msgspec.field(default_factory=Histogram)
    total: Histogram = msgspec.field(default_factory=Histogram)
    frame_age_s: float | None = None
    stride: int | None = None


class Summary(Struct, frozen=True, kw_only=True, tag="summary"):
    """A worker's figures so far: counts, rates per second, milliseconds.

    `sink_dropped` are messages that were not published, or by some sink not written; `stride` is the one in force,
    `busy` the share of the last second for which the engine ran; `ended` is whether one of several workers has cameras
    and all of them have ended.
    """

    frames: int = 0
    windows: int = 0
    skipped: int = 0
    seconds: float = 0.0
    latency_p50_ms: float | None = None
    latency_p95_ms: float | None = None
    inference_p50_ms: float | None = None
    overhead_p95_ms: float | None = None
    frames_dropped: int = 0
    windows_dropped: dict[str, int] = {}
    rejected_messages: int = 0
    sink_dropped: int = 0
    stride: int | None = None
    busy: float = 0.0
    ended: bool = False
    cameras: dict[str, CameraFigures] = {}


class SinkFigures(Struct, frozen=True, kw_only=True):
    """How one sink fares, since it was made.

    Attributes:
        queued: Messages that wait now; of one that delivers from the event store, what is not delivered yet.
        written: Messages that its medium has taken; of the recorder, clips.
        dropped: Messages that are lost to it: its queue was full, or its medium failed.
        refused: Messages that the other side refused for good.
        failing: Whether it does not work now.
        detail: Why it does not work now, for people; "" where it does. Never holds a secret.
    """

    name: str
    queued: int
    written: int
    dropped: int
    refused: int = 0
    failing: bool = False
    detail: str = ""


class PublisherSummary(Struct, frozen=True, kw_only=True, tag="publisher"):
    """The publisher's figures so far.

    Attributes:
        published: Messages that went out on the PUB socket.
        sinks: Of every other sink.
        rejected_messages: What came on its channel and was not of a worker.
        workers_away: Workers that are being started again.
        subscriptions_refused: Subscriptions and connections on the PUB socket that were beyond its limits.
    """

    published: int = 0
    sinks: list[SinkFigures] = []
    rejected_messages: int = 0
    workers_away: int = 0
    subscriptions_refused: int = 0


class CameraNews(Struct, frozen=True, kw_only=True, tag="camera"):
    """The publisher has published this status of a camera."""

    status: CameraStatus


class Done(Struct, frozen=True, kw_only=True, tag="done"):
    """The stage has carried out the order of this number."""

    number: int


class CameraSlot(Struct, frozen=True, kw_only=True):
    """One camera as the worker sees it.

    Attributes:
        lossless: Held back rather than dropped from.
        failure: Why its capture process has given up for good; None while it has not.
    """

    name: str
    channel: str
    lossless: bool
    failure: str | None = None


class WorkerOrder(Struct, frozen=True, kw_only=True, tag="worker"):
    """The cameras and settings that the worker should have now; all of them, so that only the newest order counts."""

    number: int
    cameras: list[CameraSlot]
    config: Config


class CaptureOrder(Struct, frozen=True, kw_only=True, tag="capture"):
    """Whether the capture process should pause now."""

    number: int
    paused: bool


class PublisherOrder(Struct, frozen=True, kw_only=True, tag="publisher"):
    """The cameras that there are now, and where their previews are ("" where that is not known)."""

    number: int
    cameras: dict[str, str]


StageMessage = Ready | Failed | Summary | PublisherSummary | CameraNews | Done
Order = WorkerOrder | CaptureOrder | PublisherOrder
_decode = msgspec.json.Decoder(StageMessage).decode
_decode_order: Callable[[bytes], Order] = msgspec.json.Decoder(Order).decode

ChildSide = tuple[Connection, Connection, ctypes.c_double]
"""What a child is given: where it writes, where it reads, its heartbeat."""


class StageLink:
    """Made by the supervisor, one per process: a pipe for the child's words, one for orders, and its last heartbeat.

    Orders never fill their pipe: the supervisor sends the next one when the child has said that the last one is done.
    """

    def __init__(self, context: multiprocessing.context.SpawnContext) -> None:
        self._reader, self._writer = context.Pipe(duplex=False)
        self._orders_out, self._orders = context.Pipe(duplex=False)
        # Without a lock: a child that is killed, or hangs, while it holds one would hang the supervisor too. Eight
        # aligned bytes are written at once on every machine this runs on.
        self._beat = context.RawValue(ctypes.c_double, time.monotonic())

    def child_side(self) -> ChildSide:
        """Return what the child is given."""
        return self._writer, self._orders_out, self._beat

    def close_child_side(self) -> None:
        """Drop the supervisor's copy of the child's ends, so that the pipes end with the child."""
        self._writer.close()
        self._orders_out.close()

    def close(self) -> None:
        """Give the pipes back, once the child has ended."""
        for end in (self._reader, self._orders, self._writer, self._orders_out):
            end.close()

    def order(self, order: Order) -> None:
        """Send an order; one to a child that is gone is lost, and its successor is given all of it as its job."""
        with contextlib.suppress(OSError):
            self._orders.send_bytes(msgspec.json.encode(order))

    def receive(self) -> list[StageMessage]:
        """Return what the child has said since, in order."""
        messages: list[StageMessage] = []
        try:
            while self._reader.poll():
                messages.append(_decode(self._reader.recv_bytes(_MAX_MESSAGE_BYTES)))
        except (EOFError, OSError):
            pass  # the child is gone; its exit code says the rest
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            log.error("a process of this service said what is no message, which was left out: %s", brief(error))
        return messages

    def silent_for(self, now: float) -> float:
        """Return the seconds since the child's last heartbeat."""
        return now - self._beat.value


class Stage:
    """The child's side of its link.

    Attributes:
        again: Whether the same job was begun before, by a process that was ended or crashed.
    """

    def __init__(
        self, name: str, writer: Connection, orders: Connection, beat: ctypes.c_double, again: bool = False
    ) -> None:
        self.name = name
        self.again = again
        self.stopping = threading.Event()
        self._writer = writer
        self._orders = orders
        self._beat = beat

    def beat(self) -> None:
        """Show that the main loop turns."""
        self._beat.value = time.monotonic()

    def say(self, message: StageMessage) -> None:
        """Send a message to the supervisor; a supervisor that is gone is not an error here."""
        self.beat()  # "ready" after a long load must not find an old heartbeat beside it
        try:
            self._writer.send_bytes(msgspec.json.encode(message))
        except OSError:
            self.stopping.set()

    def order(self) -> Order | None:
        """Return the newest order that has come since, or None; never blocks. Answer with `Done` once it is done."""
        newest = None
        try:
            while self._orders.poll():
                newest = _decode_order(self._orders.recv_bytes(_MAX_MESSAGE_BYTES))
        except (EOFError, OSError):
            pass  # the supervisor is gone; the parent watch says so
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            log.error("%s: an order that is none was left out: %s", self.name, brief(error))
        return newest
