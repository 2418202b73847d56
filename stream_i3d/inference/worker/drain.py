"""The worker's cameras, and the thread that always reads their frames, so that nothing is stale in a socket."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from msgspec import Struct, structs

from stream_i3d.config import Config
from stream_i3d.errors import WireError
from stream_i3d.inference.feed import Feed
from stream_i3d.inference.flow_frames import RGB_CHANNELS, make_augment
from stream_i3d.inference.ring import HostMemory, MakeMemory
from stream_i3d.inference.runner import CameraWindows
from stream_i3d.inference.setup import ModelSetup, why_square
from stream_i3d.messages import CameraReport, CameraStatus
from stream_i3d.preprocess import is_frame_size
from stream_i3d.recognition.postprocess import Postprocessor, PostprocessSettings
from stream_i3d.stage import CameraSlot
from stream_i3d.status import CameraHealth
from stream_i3d.thread_names import name_background_thread
from stream_i3d.transport.frames import FRAME_HWM, FrameReceivers
from stream_i3d.transport.wire import ReceivedFrame, decode_capture

log = logging.getLogger(__name__)

_POLL_S = 0.05
_PAUSED_POLL_S = 0.001  # while a lossless source is held back: it must go on soon after its window was taken
_LEAVE_S = 1.0


class WorkerJob(Struct, frozen=True, kw_only=True):
    """What a worker process is to do.

    Attributes:
        relay: Where the publisher takes what is to be published.
        linger: Whether it only says that all its cameras have ended, instead of ending, as one of several workers does:
            another camera may be given to it.
    """

    cameras: list[CameraSlot]
    relay: str
    setup: ModelSetup
    config: Config
    linger: bool = False


class Camera:
    """One camera's windows and health, shared by the two threads under its lock."""

    def __init__(
        self, slot: CameraSlot, job: WorkerJob, settings: PostprocessSettings, make_memory: MakeMemory = HostMemory
    ) -> None:
        """Args: `make_memory` makes what its ring keeps frames in."""
        window, config = job.config.window, job.config
        preprocessing = job.setup.preprocessing
        self.slot = slot
        self._preprocessing, self._square = preprocessing, why_square(job.setup) is not None
        self.windows = CameraWindows(
            Feed(preprocessing, window, make_augment(job.setup), make_memory),
            Postprocessor(slot.name, settings, time.monotonic_ns),
        )
        self.health = CameraHealth(slot.name, config.capture.stall_timeout_s, config.publish.status_interval_s)
        self.stride = window.stride
        self.overloaded = False
        self.waiting_since: float | None = None  # seconds since 1970
        self._published = self._recognition
        self.gone = threading.Event()  # set once the drain thread reads it no more
        self.give_up(slot)

    def retune(self, settings: PostprocessSettings) -> None:
        """Apply other settings, between two windows."""
        self.windows.postprocessor.retune(settings)

    def set_stride(self, stride: int) -> None:
        """Recognise a window at every so many frames from now on."""
        if stride == self.stride:
            return
        self.stride = stride
        with self.windows.lock:
            self.windows.feed.set_stride(stride)

    def serve(self, served: bool, stride: int, frame_interval: float) -> bool:
        """In streaming mode, go on with the camera or have it wait for its turn.

        Args:
            served: Whether its chunks are run.
            stride: Frames between predictions, of those that the network sees.
            frame_interval: Frames for each one that the network sees.

        Returns:
            Whether its stream was cut, so that nothing is known of it until the network is warm again.
        """
        feed = self.windows.feed
        with self.windows.lock:
            cut = feed.serve(served, frame_interval)
            if self.stride != round(stride * frame_interval):
                feed.set_stride(stride)
        self.stride = round(stride * frame_interval)
        if cut:
            self.windows.carried = None  # some megabytes
        return cut

    @property
    def _recognition(self) -> tuple[int, bool, float | None, bool]:
        """How often it is recognised, and whether results fail; a change is published at once."""
        return self.stride, self.overloaded, self.waiting_since, self.windows.failing

    def status(self, now: float, only_due: bool = True) -> CameraStatus | None:
        """Return the status to publish now: where it is due, or how it is recognised has changed."""
        recognition = self._recognition
        with self.windows.lock:
            dropped = self.windows.feed.frames_dropped
            status = self.health.due(now, dropped)
            if status is None and not (only_due and self._published == recognition):
                status = self.health.status(now, dropped)
        if status is None:
            return None
        self._published = recognition
        detail = status.detail
        if self.windows.failing and status.state == "live":
            detail = f"nothing is recognised: the network's output is not finite ({self.windows.failed} windows so far)"
        return structs.replace(
            status,
            stride=self.stride,
            overloaded=self.overloaded,
            waiting_since=self.waiting_since,
            detail=detail,
            windows_failed=self.windows.failed,
        )

    def give_up(self, slot: CameraSlot) -> None:
        """Record a capture process that cannot go on, where that is so."""
        if slot.failure is not None:
            self.end(slot.failure)

    def end(self, detail: str) -> None:
        """Make the next status say that no frame will follow."""
        report = CameraReport(camera=self.slot.name, state="stopped", fps=0.0, reconnects=0, detail=detail, final=True)
        with self.windows.lock:
            self.health.report(report)

    @property
    def held_back(self) -> bool:
        """Whether its frames must wait until its due window is taken."""
        return self.slot.lossless and self.windows.feed.pending

    def accept(self, message: ReceivedFrame | CameraReport) -> bool:
        """Take in a checked message; return True when the main thread has something to do.

        Raises:
            WireError: It is of another camera, or of a shape the model does not take.
        """
        name = message.stamp.camera if isinstance(message, ReceivedFrame) else message.camera
        if name != self.slot.name:
            raise WireError(f"a message of camera {name!r} on the channel of {self.slot.name!r}")
        if isinstance(message, CameraReport):
            if message.lossless:  # of a URL that is known once it is opened
                self.slot = structs.replace(self.slot, lossless=True)
            with self.windows.lock:
                self.health.report(message)
            return True
        self._check_shape(message.pixels.shape)
        # With two streams, flow is computed here, before the lock is taken: measured at 224 x 224 on one core of this
        # class, 5 ms of work a frame by DIS, 10 by Farneback, 84 by TV-L1 (scripts/bench_flow.py). All cameras share
        # this thread. A method slower than the cameras together backs frames up to the sockets' bound: capture then
        # drops live frames (a file waits), the scheduler counts them, and rejects and counts windows over such a gap.
        pixels = self.windows.feed.augment(message.stamp, message.pixels)
        with self.windows.lock:
            if not message.stamp.repeat:
                self.health.frame(time.monotonic())
            return self.windows.feed.store(message.stamp, pixels)

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        """Refuse a frame that the network does not take."""
        height, width, channels = shape
        allowed = is_frame_size(self._preprocessing, height, width) and (height == width or not self._square)
        if channels != RGB_CHANNELS or not allowed:
            side = self._preprocessing.crop_size
            longer = "" if self._square else ", or longer in one direction"
            raise WireError(f"a frame of shape {shape}; the model takes {(side, side, RGB_CHANNELS)}{longer}")


class Drain:
    """The thread that always reads, so that nothing is stale in a socket. Drop policy: the ring's (newest wins)."""

    def __init__(self, cameras: Sequence[Camera]) -> None:
        self._receivers = FrameReceivers([camera.slot.channel for camera in cameras])
        self._cameras = dict(enumerate(cameras))
        self._leaving: deque[Camera] = deque()
        self._stopping = threading.Event()
        self._thread = ThreadPoolExecutor(1, "drain")
        self._running: Future[None] | None = None
        self._lock = threading.Lock()  # of `_cameras`, which both threads exchange
        self.wake = threading.Event()
        self.rejected = 0

    def __enter__(self) -> Drain:
        self._running = self._thread.submit(self._run)
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.shutdown()
        self._receivers.close()

    @property
    def cameras(self) -> list[Camera]:
        """The cameras that are read."""
        return list(self._cameras.values())

    def check(self) -> None:
        """Raise what ended the thread, where something did: nothing would ever be read again."""
        if self._running is not None and self._running.done():
            self._running.result()

    def add(self, camera: Camera) -> None:
        """Read one more camera; TransportError where its channel cannot be bound."""
        number = self._receivers.add(camera.slot.channel)
        with self._lock:
            self._cameras = {**self._cameras, number: camera}

    def remove(self, camera: Camera) -> None:
        """Read what a camera has still sent, and then no more of it."""
        self._leaving.append(camera)
        camera.gone.wait(_LEAVE_S)

    def _run(self) -> None:
        name_background_thread("drain")
        while not self._stopping.is_set():
            while self._leaving:
                self._part_with(self._leaving.popleft())
            cameras = self._cameras
            wanted = [number for number, camera in cameras.items() if not camera.held_back]
            for number in self._receivers.poll(_POLL_S if len(wanted) == len(cameras) else _PAUSED_POLL_S, wanted):
                self._read(number)

    def _part_with(self, camera: Camera) -> None:
        number = next(number for number, one in self._cameras.items() if one is camera)
        for _ in range(FRAME_HWM * 2):
            if not self._read(number):
                break
        self._receivers.remove(number)
        with self._lock:
            self._cameras = {other: one for other, one in self._cameras.items() if other != number}
        camera.gone.set()

    def _read(self, number: int) -> bool:
        """Take in a channel's next message; return whether there was one."""
        parts = self._receivers.receive(number)
        if parts is None:
            return False
        camera = self._cameras[number]
        try:
            if camera.accept(decode_capture(parts)):
                self.wake.set()
        except WireError as error:
            self.rejected += 1
            if self.rejected == 1:
                log.warning("%s: rejected %s; further ones are only counted", camera.slot.name, error)
        return True
