"""Live recognition in this process: a capture thread per source, and the network in the thread that iterates."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Self

from msgspec import structs

from stream_i3d.api.model import Camera, Model
from stream_i3d.capture.address import SourceAddress
from stream_i3d.capture.loop import CaptureJob, CaptureLoop
from stream_i3d.capture.reader import Clock
from stream_i3d.capture.stderr import CapturedStderr
from stream_i3d.config import CaptureConfig, Config
from stream_i3d.messages import ActionEvent, CameraReport, CameraStatus, Frame, Recognition
from stream_i3d.preprocess import Preprocessing
from stream_i3d.stage import Order, Stage, StageMessage
from stream_i3d.status import CameraHealth

log = logging.getLogger(__name__)

Message = Recognition | ActionEvent | CameraStatus

_POLL_S = 0.05
_CLOSE_S = 2.0


class Stream:
    """Predictions of one or more sources, as they come; returned by `Recognizer.stream`.

    An iterator of `Recognition`, and a context manager. The newest window wins: if the loop's body is slower than the
    windows come, the ones in between are dropped and counted in `windows_dropped`. It ends when every source has ended,
    by `close`, at the end of a `with` block, or when the last reference to it goes, as after a `break`.
    """

    def __init__(self, sources: Sequence[LiveSource]) -> None:
        """Start to capture."""
        self._sources = sources
        self._wake = threading.Event()
        self._waiting: deque[Message] = deque()
        self._close = weakref.finalize(self, _stop, sources)
        for source in sources:
            source.start(self._wake)

    @classmethod
    def open(cls, model: Model, config: Config, named: Sequence[tuple[str, SourceAddress, str]]) -> Stream:
        """Load the network and start to capture.

        Args:
            model: The network.
            config: The settings.
            named: Name, parsed source and source text of each camera.
        """
        model.warm_up()
        return cls(
            [LiveSource(name, address, text, model.camera(name), model, config) for name, address, text in named]
        )

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Recognition:
        """Wait for the next prediction.

        Raises:
            SourceError: A source cannot be read.
        """
        while (message := self._next()) is not None:
            if isinstance(message, Recognition):
                return message
        raise StopIteration

    def messages(self) -> Iterator[Message]:
        """Yield predictions, events and statuses in order: what the service publishes.

        Raises:
            SourceError: A source cannot be read.
        """
        while (message := self._next()) is not None:
            yield message

    def close(self) -> None:
        """Stop capturing and close the sources; may be called twice."""
        self._waiting.clear()
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _next(self) -> Message | None:
        """Return the next message; None at the end."""
        while not self._waiting:
            if not self._close.alive:
                return None
            self._wake.clear()
            finished = all(source.finished for source in self._sources)
            for source in self._sources:
                self._waiting += source.step(time.monotonic())
            if not self._waiting:
                self._raise_failure()
                if finished and not any(source.pending for source in self._sources):
                    self._close()
                elif not any(source.pending for source in self._sources):
                    self._wake.wait(_POLL_S)
        return self._waiting.popleft()

    def _raise_failure(self) -> None:
        for source in self._sources:
            if source.failure is not None and not source.pending:
                self.close()
                raise source.failure


class LiveSource:
    """One source: the thread that captures it, and what recognises its frames."""

    def __init__(
        self, name: str, address: SourceAddress, text: str, camera: Camera, model: Model, config: Config
    ) -> None:
        """Prepare; nothing is opened before `start`.

        Args:
            name: Name of the camera.
            address: The parsed source.
            text: The source as given.
            camera: Takes the frames.
            model: The network; its preprocessing is used.
            config: The settings.
        """
        self._name = name
        self._address = address
        self._camera = camera
        self._job = _job(name, text, model.preprocessing, config.capture)
        self._health = CameraHealth(name, config.capture.stall_timeout_s, config.publish.status_interval_s)
        self._stride = config.window.stride
        self._lossless = config.capture.fast and not address.live
        self._taken = threading.Event()
        self._lock = threading.Lock()  # guards the health, which the capture thread reports to
        self._stage = _InProcessStage(name)
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"capture {name}", daemon=True)
        self._first, self._warned = True, ""
        self._done = False
        self.failure: Exception | None = None

    def start(self, wake: threading.Event) -> None:
        """Start the thread; `wake` is set whenever `step` has something to do."""
        self._wake = wake
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end; does not wait."""
        self._stage.stopping.set()

    def join(self, timeout_s: float) -> None:
        """Wait for the thread to end; one that hangs in a driver is left behind, as a daemon."""
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)

    @property
    def finished(self) -> bool:
        """Whether no frame will follow."""
        with self._lock:
            return self._done or self._health.finished

    @property
    def pending(self) -> bool:
        """Whether a window waits to be run."""
        return self._camera.pending

    def step(self, now: float) -> list[Message]:
        """Run the window that is due; return what is to be published, as the service's worker does.

        Args:
            now: Monotonic time in seconds.
        """
        messages: list[Message] = [*self._camera.run()]
        self._taken.set()
        with self._lock:
            status = self._health.due(now, self._camera.frames_dropped)
        if status is not None:
            self._log(status)
            messages.append(structs.replace(status, stride=self._stride, windows_failed=self._camera.windows_failed))
        if (status is not None and status.state != "live") or (self.finished and not self.pending):
            messages += self._camera.finish()
        return messages

    def connected(self, wait_s: float) -> bool:
        """Tell the capture loop that its frames are read."""
        return True

    def send(self, frame: Frame, wait_s: float = 0.0) -> bool:
        """Take a frame from the capture loop; a file at full speed waits up to `wait_s` seconds for its turn."""
        if self._lossless:
            self._taken.clear()
            if self._camera.pending:
                self._taken.wait(wait_s)
                if self._camera.pending:
                    return False
        if not frame.stamp.repeat:
            with self._lock:
                self._health.frame(time.monotonic())
        if self._camera.push(frame):
            self._wake.set()
        return True

    def report(self, report: CameraReport, wait_s: float = 0.0) -> bool:
        """Take a report from the capture loop."""
        self._lossless = self._lossless or report.lossless
        with self._lock:
            self._health.report(report)
        self._wake.set()
        return True

    def _run(self) -> None:
        """Capture until stopped; runs in the thread."""
        clock = Clock(time.monotonic_ns, time.time, self._sleep_until)
        try:
            CaptureLoop(self._stage, self._job, self._address, self, clock, _NoStderr()).run()
        except Exception as error:  # raised again where predictions are read
            self.failure = error
        finally:
            self._done = True
            self._wake.set()

    def _sleep_until(self, until_s: float) -> bool:
        return not self._stage.stopping.wait(max(0.0, until_s - time.monotonic()))

    def _log(self, status: CameraStatus) -> None:
        """Warn once when a source delivers nothing: the caller only sees that no prediction comes."""
        first, self._first = self._first, False
        if status.state in ("live", "stopped"):
            self._warned = ""
        elif not first and status.state != self._warned:
            self._warned = status.state
            log.warning("%s: %s: %s", status.camera, status.state, status.detail)


class _InProcessStage(Stage):
    """What the capture loop needs of a process of the service, without a supervisor."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.again = False
        self.stopping = threading.Event()

    def beat(self) -> None:
        """Nobody watches the thread."""

    @contextlib.contextmanager
    def long_call(self, limit_s: float) -> Iterator[None]:
        """Nobody watches the thread."""
        yield

    def say(self, message: StageMessage) -> None:
        """Nobody listens."""

    def order(self) -> Order | None:
        """Return None: there are no orders."""
        return None


class _NoStderr(CapturedStderr):
    """Leaves the process's standard error alone: it belongs to the user's program."""

    def __init__(self) -> None:
        pass

    def reason(self) -> str | None:
        """Return None."""
        return None

    def damage(self) -> bool:
        """Return False; the gate for key pictures still works."""
        return False


def _job(name: str, source: str, preprocessing: Preprocessing, config: CaptureConfig) -> CaptureJob:
    return CaptureJob(camera=name, source=source, channel="", preprocessing=preprocessing, config=config)


def _stop(sources: Sequence[LiveSource]) -> None:
    """Stop all sources; waits for them at most `_CLOSE_S` together."""
    for source in sources:
        source.stop()
    until = time.monotonic() + _CLOSE_S
    for source in sources:
        source.join(max(0.0, until - time.monotonic()))
