"""What one process of the service is given: a way to receive orders, to show that it lives, and to report its state.

Both ends of the link are here: `StageLink` crosses from supervisor to child, `Stage` is the child's side. Which stages
there are, and when they are restarted, is the supervisor's business.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import multiprocessing
import pickle
import socket
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import msgspec
from msgspec import Struct

from stream_i3d.config import Config
from stream_i3d.errors import brief
from stream_i3d.histogram import Histogram
from stream_i3d.message_pipe import MessagePipe
from stream_i3d.messages import CameraStatus, EngineFacts, ModelName, ViewName
from stream_i3d.overload import Overload

log = logging.getLogger(__name__)


class RejectedEngine(Struct, frozen=True, kw_only=True):
    """A way to run the network that failed its self-check and is not used.

    Attributes:
        backend: "torch", "openvino", "onnxruntime" or "tensorrt".
        precision: "fp32", "bf16" or "fp16".
        device: Such as "cpu" or "cuda:0".
        finite: Whether its output was finite.
        difference: Largest difference of a probability from float32; null where the output was not finite.
    """

    backend: str
    precision: str
    device: str
    finite: bool
    difference: float | None = None


class EngineCheck(Struct, frozen=True, kw_only=True):
    """How the engine in use compares with float32 of the same weights, found on fixed clips when it was loaded.

    Attributes:
        backend: "torch", "openvino", "onnxruntime" or "tensorrt".
        precision: "fp32", "bf16" or "fp16".
        device: Such as "cpu" or "cuda:0".
        compared: Whether reference values were at hand; without them only finite output is demanded.
        difference: Largest difference of a probability from float32; null where nothing was compared.
        logits_difference: Root mean square of the logits' differences, in deviations of the reference's logits.
        tolerance: What `difference` may be at most.
        rejected: What was tried before and failed.
    """

    backend: str
    precision: str
    device: str
    compared: bool
    difference: float | None = None
    logits_difference: float | None = None
    tolerance: float
    rejected: list[RejectedEngine] = []


def describe_check(check: EngineCheck) -> str:
    """Return an engine's check in one line for people."""
    found = "nothing to compare it with"
    if check.difference is not None:
        found = f"within {check.difference:.2g} of fp32 (at most {check.tolerance:g})"
    parts = [f"{check.backend} {check.precision} on {check.device}: {found}"]
    for way in check.rejected:
        how = "not finite" if not way.finite else f"off by {way.difference:.2g}"
        parts.append(f"not used: {way.backend} {way.precision} on {way.device}, {how}")
    return "; ".join(parts)


class Ready(Struct, frozen=True, kw_only=True, tag="ready"):
    """The stage does its work now.

    Attributes:
        detail: What it is, for people.
        address: Where the publisher publishes, or a capture process its previews; "" where neither.
        model: Of the worker, the network it runs; `labels` are its.
        engine: Of the worker, what runs the network, for people.
        facts: Of the worker, the same as fields.
        check: Of the worker, how its engine compares with float32.
        control: Where the supervisor takes requests; filled in by the supervisor, as is `monitor`.
        monitor: Where metrics and health are, over HTTP.
    """

    detail: str
    address: str = ""
    model: ModelName | None = None
    labels: list[str] = []
    engine: str = ""
    facts: EngineFacts | None = None
    check: EngineCheck | None = None
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
        stride: Sampled frames from one window to the next as it is now; None where it is not known.
        waiting: Whether it waits for its turn at the network, since the machine cannot keep up; None as before.
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
    waiting: bool | None = None


class Summary(Struct, frozen=True, kw_only=True, tag="summary"):
    """A worker's figures so far: counts, rates per second, milliseconds.

    `sink_dropped` are messages that were not published, or by some sink not written; `stride` is the one in force,
    `busy` the share of the last second for which the engine ran; `ended` is whether one of several workers has cameras
    and all of them have ended, and of a whole run, whether it ended for that; `overload` is how the cameras are served
    while the machine cannot keep up.
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
    overload: Overload | None = None
    cameras: dict[str, CameraFigures] = {}


class SinkFigures(Struct, frozen=True, kw_only=True):
    """Counts of one sink, since it was made.

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


class SourceNews(Struct, frozen=True, kw_only=True, tag="source"):
    """A capture process has opened its source, its pictures have another size now, or it has read it to the end.

    Attributes:
        memory_limit_mb: MiB above which the process holds more than pictures of this size need.
        ended: Whether everything of it was sent.
        plays_once: Whether a URL turned out to be a file, which must not be read from its start again.
    """

    memory_limit_mb: float
    ended: bool = False
    plays_once: bool = False


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
    """What a capture process should do now.

    Attributes:
        paused: Whether it should pause.
        view: What of the picture the network should see; None as before.
    """

    number: int
    paused: bool
    view: ViewName | None = None


class PublisherOrder(Struct, frozen=True, kw_only=True, tag="publisher"):
    """The cameras that there are now, and where their previews are ("" where that is not known)."""

    number: int
    cameras: dict[str, str]


StageMessage = Ready | Failed | Summary | PublisherSummary | CameraNews | SourceNews | Done
Order = WorkerOrder | CaptureOrder | PublisherOrder
_decode = msgspec.json.Decoder(StageMessage).decode
_decode_order: Callable[[bytes], Order] = msgspec.json.Decoder(Order).decode

ChildSide = tuple[socket.socket, ctypes.c_double, ctypes.c_double]
"""What a child is given: its end of the pipe, its heartbeat, and how long it may be without one (0: as usual)."""


class StageLink:
    """Made by the supervisor, one per process: a pipe for messages both ways, and the child's last heartbeat.

    Nothing here blocks: what a child that hangs does not read waits in this process.
    """

    def __init__(self, context: multiprocessing.context.SpawnContext) -> None:
        """Raises OSError where this process may have no more files, or there is no memory."""
        # Without a lock: a child that is killed, or hangs, while it holds one would hang the supervisor too. Eight
        # aligned bytes are written at once on every machine this runs on.
        self._beat = context.RawValue(ctypes.c_double, time.monotonic())
        self._long_call = context.RawValue(ctypes.c_double, 0.0)
        own, self._child_end = socket.socketpair()
        self._pipe = MessagePipe(own)

    def child_side(self) -> ChildSide:
        """Return what the child is given."""
        return self._child_end, self._beat, self._long_call

    def close_child_side(self) -> None:
        """Drop the supervisor's copy of the child's end, so that the pipe ends with the child."""
        self._child_end.close()

    def close(self) -> None:
        """Give the pipe back, once the child has ended."""
        self._pipe.close()
        self._child_end.close()

    def give_job(self, job: Any) -> None:
        """Send what the child is to do, as the first message.

        Not as an argument of the process: that is written into a pipe of 64 KB, and the supervisor would wait until the
        child has begun to read.
        """
        self._pipe.put(pickle.dumps(job))

    def order(self, order: Order) -> None:
        """Send an order; one to a child that is gone is lost, and its successor is given all of it as its job."""
        self._pipe.put(msgspec.json.encode(order))

    def receive(self) -> list[StageMessage]:
        """Return what the child has said since, in order, and send what waits."""
        self._pipe.flush()
        messages: list[StageMessage] = []
        for message in self._pipe.receive():
            try:
                messages.append(_decode(message))
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                log.error("a process of this service sent what is no message, which was left out: %s", brief(error))
        return messages

    @property
    def beat_at(self) -> float:
        """The child's last heartbeat, by the monotonic clock in seconds."""
        return self._beat.value

    @property
    def long_call_s(self) -> float:
        """Seconds for which the call that the child is in may last without a heartbeat; 0 where it has said nothing."""
        return self._long_call.value

    def silent_for(self, now: float) -> float:
        """Return the seconds since the child's last heartbeat."""
        return now - self._beat.value


class Stage:
    """The child's side of its link. Nothing here blocks but `leave`.

    Attributes:
        again: Whether the same job was begun before, by a process that was ended or crashed.
    """

    def __init__(
        self,
        name: str,
        end: socket.socket | MessagePipe,
        beat: ctypes.c_double,
        long_call: ctypes.c_double,
        again: bool = False,
    ) -> None:
        self.name = name
        self.again = again
        self.stopping = threading.Event()
        self._pipe = end if isinstance(end, MessagePipe) else MessagePipe(end)
        self._beat = beat
        self._long_call = long_call

    def beat(self) -> None:
        """Show that the main loop turns."""
        self._beat.value = time.monotonic()
        self._pipe.flush()

    @contextlib.contextmanager
    def long_call(self, limit_s: float) -> Iterator[None]:
        """Declare a call that waits for something else, such as a camera, and gives no heartbeat for up to `limit_s`.

        Without it a process that neither beats nor computes is taken for one that hangs after a few seconds.
        """
        self._beat.value, before = time.monotonic(), self._long_call.value
        self._long_call.value = max(before, limit_s)
        try:
            yield
        finally:
            self._beat.value = time.monotonic()
            self._long_call.value = before

    def say(self, message: StageMessage) -> None:
        """Send a message to the supervisor; a supervisor that is gone is not an error here.

        To a supervisor that does not read, the newest figures and statuses are kept, and all else.
        """
        self.beat()  # "ready" after a long load must not find an old heartbeat beside it
        self._pipe.put(msgspec.json.encode(message), _key(message), first=isinstance(message, Failed))
        if self._pipe.closed:
            self.stopping.set()

    def leave(self, timeout_s: float) -> bool:
        """Wait at most `timeout_s` until the supervisor has room for all that was said; return whether it had."""
        return self._pipe.drain(timeout_s)

    def order(self) -> Order | None:
        """Return the newest order that has come since, or None; never blocks. Answer with `Done` once it is done."""
        newest = None
        for order in self._pipe.receive():
            try:
                newest = _decode_order(order)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                log.error("%s: an order that is none was left out: %s", self.name, brief(error))
        return newest


def _key(message: StageMessage) -> Hashable | None:
    """Return of which messages only the newest counts."""
    if isinstance(message, Summary | PublisherSummary):
        return type(message).__name__
    return ("camera", message.status.camera) if isinstance(message, CameraNews) else None
