"""Reads a network stream in a thread, and passes its frames and previews on when they are due.

The thread always reads, whatever is held back: a sender that is not read from drops pictures or the connection, and
only pictures that are read at once tell when they arrived. Frames are held as the network wants them (150 KB each at
224 x 224), previews as JPEG, never whole decoded pictures. A steady camera's frames pass at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from msgspec import structs

from stream_i3d.capture.reader import Clock, FrameReader
from stream_i3d.capture.timing import Mapping, PlayoutQueue, StreamTiming
from stream_i3d.messages import Frame
from stream_i3d.preprocess import Image, ViewName

MAX_BYTES = 96 * 2**20
"""Of frames and previews that are held back; 25 s of frames at 224 x 224."""

_WAIT_S = 0.1
_NOTICEABLE_S = 0.05


class HeldPreviews(Protocol):
    """What makes previews: a `previews.Previewer`."""

    def wants(self, now_s: float) -> bool:
        """Tell whether the picture of that time should be shown, at once."""

    def wants_later(self, now_s: float) -> bool:
        """Tell whether the picture of that time should be encoded now, to be shown later."""

    def show(self, bgr: Image, capture_ns: int, pixel_aspect: float) -> None:
        """Show a picture that was wanted at once."""

    def encode(self, bgr: Image, pixel_aspect: float) -> bytes:
        """Return the JPEG of a picture that is wanted later."""

    def show_encoded(self, jpeg: bytes, capture_ns: int) -> None:
        """Show one."""


@dataclass(frozen=True, slots=True)
class _Batch:
    """What one picture gave, its stream time, and how that is mapped to the monotonic clock."""

    frames: list[Frame]
    jpeg: bytes | None
    time_s: float
    mapping: Mapping

    def due_s(self) -> float:
        """When it is to be passed on."""
        return self.time_s + self.mapping.release_s


class _Tap:
    """Takes previews at the time of reading: shown at once, or encoded for later where pictures are held back."""

    def __init__(self, previews: HeldPreviews, timing: StreamTiming) -> None:
        self._previews = previews
        self._timing = timing
        self.jpeg: bytes | None = None

    def wants(self, now_s: float) -> bool:
        later = self._timing.delay_s > _NOTICEABLE_S
        return self._previews.wants_later(now_s) if later else self._previews.wants(now_s)

    def show(self, bgr: Image, capture_ns: int, pixel_aspect: float) -> None:
        if self._timing.delay_s > _NOTICEABLE_S:
            self.jpeg = self._previews.encode(bgr, pixel_aspect)
        else:
            self._previews.show(bgr, capture_ns, pixel_aspect)

    def take(self) -> bytes | None:
        jpeg, self.jpeg = self.jpeg, None
        return jpeg


class PacedReader:
    """A FrameReader in a thread of its own. `read`, `fps`, `epoch` and `close` are for the capture loop."""

    def __init__(
        self,
        make_reader: Callable[[StreamTiming, _Tap | None], FrameReader],
        timing: StreamTiming,
        clock: Clock,
        previews: HeldPreviews | None = None,
        after_read: Callable[[], None] = lambda: None,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        """Prepare; nothing is read before `start`.

        Args:
            make_reader: Makes the reader, with what follows its time stamps and takes its previews.
            timing: Of the connection.
            clock: Where time comes from.
            previews: Makes previews; None makes none.
            after_read: Called in the thread after each picture, before the next.
            max_bytes: Of what is held back at most.
        """
        self._timing = timing
        self._tap = None if previews is None else _Tap(previews, timing)
        self._previews = previews
        self._reader = make_reader(timing, self._tap)
        self._clock = clock
        self._after_read = after_read
        self._queue: PlayoutQueue[_Batch] = PlayoutQueue(max_bytes)
        self._changed = threading.Condition()
        self._closing = False
        self._ended = False
        self._failure: BaseException | None = None
        self._turned = True
        self._capture_ns = 0
        self.fps = 0.0
        self.epoch = self._reader.epoch
        self._thread = threading.Thread(target=self._run, name="reader", daemon=True)

    @property
    def delay_s(self) -> float:
        """Seconds for which pictures are held back."""
        return self._timing.delay_s

    @property
    def view_share(self) -> float | None:
        """Share of the newest picture that its frame shows; None before the first."""
        return self._reader.view_share

    @property
    def view(self) -> ViewName:
        """What of each picture goes into its frame."""
        return self._reader.view

    def set_view(self, view: ViewName) -> None:
        """Make frames of another part of each picture, from the next one that is read on."""
        self._reader.set_view(view)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def progressed(self) -> bool:
        """Tell whether a picture was read since this was asked last, or the reading is over and cannot hang."""
        turned, self._turned = self._turned, False
        return turned or self._ended

    def read(self, wait_s: float = _WAIT_S) -> list[Frame] | None:
        """Return the frames that are due, waiting for some at most `wait_s`; None at the end.

        Raises:
            SourceUnavailable: The stream stopped delivering; after the last of its frames.
        """
        with self._changed:
            due_in = self._queue.wait_s(self._now())
            if due_in is None and self._ended:
                if self._failure is not None:
                    raise self._failure
                return None
            if due_in != 0:
                self._changed.wait(wait_s if due_in is None else min(wait_s, due_in))
            batch = self._queue.pop(self._now())
        return [] if batch is None else self._passed_on(batch)

    def _passed_on(self, batch: _Batch) -> list[Frame]:
        """Show the preview; return the frames as of when they were taken, as far as that is known by now."""
        now_ns = self._clock.monotonic_ns()
        taken_ns = min(round((batch.time_s + batch.mapping.offset_s) * 1e9), now_ns)
        self._capture_ns = max(self._capture_ns, taken_ns)  # the mapping may have changed
        if batch.jpeg is not None and self._previews is not None:
            self._previews.show_encoded(batch.jpeg, self._capture_ns)
        if batch.frames:
            self.epoch = batch.frames[0].stamp.epoch
        wall_time = self._clock.wall() - (now_ns - self._capture_ns) * 1e-9
        delay_ns = max(0, round(batch.mapping.delay_s * 1e9))
        placed = {"capture_ns": self._capture_ns, "wall_time": wall_time, "delay_ns": delay_ns}
        return [Frame(structs.replace(frame.stamp, **placed), frame.pixels) for frame in batch.frames]

    def _now(self) -> float:
        return self._clock.monotonic_ns() * 1e-9

    def resume(self) -> None:
        """A live stream is not resumed, but opened anew."""

    def close(self, wait_s: float) -> bool:
        """Have the thread end once its read comes back; wait for that at most `wait_s`, and return whether it has."""
        self._closing = True
        if self._thread.is_alive():
            self._thread.join(wait_s)
        return not self._thread.is_alive()

    def turn(self) -> bool:
        """Read one picture; return whether to go on. The thread's work, for tests too."""
        try:
            frames = self._reader.read()
            self._after_read()
        except Exception as error:
            with self._changed:
                self._failure, self._ended = error, True
                self._changed.notify()
            return False
        self._turned = True
        with self._changed:
            if frames is None:
                self._ended = True
                self._changed.notify()
                return False
            self._hold(frames)
        return not self._closing

    def _run(self) -> None:
        while self.turn():
            pass

    def _hold(self, frames: list[Frame]) -> None:
        self.fps = self._reader.fps
        jpeg = None if self._tap is None else self._tap.take()
        if not frames and jpeg is None:
            return
        batch = _Batch(frames, jpeg, self._reader.time_s, self._timing.mapping)
        size = (frames[0].pixels.nbytes if frames else 0) + len(jpeg or b"")
        self._queue.push(batch, batch.due_s, size)
        self._changed.notify()
