"""Reads a source into sampled, prepared frames: the same code for the capture process and for offline `recognize`.

Knows no socket and no process. The clock is an argument.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from stream_i3d.capture.source import Source
from stream_i3d.capture.stillness import Stillness
from stream_i3d.capture.timing import StreamTiming
from stream_i3d.errors import SourceUnavailable
from stream_i3d.messages import Frame, FrameStamp
from stream_i3d.preprocess import Image, Preprocessing, prepare_frame
from stream_i3d.sampling import RateMeter, Sampler


@dataclass(frozen=True, slots=True)
class Clock:
    """Where time comes from; tests give their own.

    Attributes:
        monotonic_ns: Nanoseconds that never step.
        wall: Seconds since 1970.
        sleep_until: Wait until a monotonic time in seconds; returns False when told to stop meanwhile.
    """

    monotonic_ns: Callable[[], int]
    wall: Callable[[], float]
    sleep_until: Callable[[float], bool]


class PreviewTap(Protocol):
    """Takes pictures for people who watch, in the camera's own aspect: a `previews.Previewer`."""

    def wants(self, now_s: float) -> bool:
        """Tell whether the picture grabbed at `now_s` (monotonic) should be shown; asked once for each."""

    def show(self, bgr: Image, capture_ns: int) -> None:
        """Take the (H, W, 3) uint8 BGR picture that was wanted."""


class FrameReader:
    """Grabs from one opened source, keeps what the sampling clock asks for, prepares each kept picture once."""

    def __init__(
        self,
        source: Source,
        camera: str,
        epoch: int,
        preprocessing: Preprocessing,
        clock: Clock,
        paced: bool,
        preview: PreviewTap | None = None,
        stillness: Stillness | None = None,
        timing: StreamTiming | None = None,
        media_start_s: float = 0.0,
    ):
        """Prepare to read.

        Args:
            source: What is read.
            camera: Its name.
            epoch: Of its first frames.
            preprocessing: What is made of its pictures.
            clock: Where time comes from.
            paced: Whether a file is held back to its own speed; live sources pace themselves.
            preview: May be shown any picture, also one that is not sampled.
            stillness: Is shown the sampled pictures.
            timing: Follows a live source's own time stamps; None goes by arrival.
            media_start_s: Added to a file's media time.
        """
        self._source = source
        self._camera = camera
        self._epoch = epoch
        self._preprocessing = preprocessing
        self._clock = clock
        self._paced = paced and not source.live
        self._preview = preview
        self._stillness = stillness
        self._timing = timing
        self._media_start_s = media_start_s
        self._shape: tuple[int, ...] | None = None
        self._start_s: float | None = None
        self._sampler = Sampler(preprocessing.sample_fps)
        self._rate = RateMeter()
        self._seq = 0
        self._last_s = 0.0

    @property
    def time_s(self) -> float:
        """Of the newest picture: media time of files, else as `timing.Timing.time_s`."""
        return self._last_s

    @property
    def end_s(self) -> float:
        """When a file that went on after its newest picture would show the next, in seconds of media time."""
        return self._last_s + (1 / self._rate.fps(self._last_s) if self.fps else 1 / self._preprocessing.sample_fps)

    @property
    def delay_s(self) -> float:
        """Seconds for which pictures are held back; see paced.PacedReader."""
        return 0.0

    @property
    def fps(self) -> float:
        """Pictures per second that the source really delivers (of media time, for files)."""
        return self._rate.fps(self._last_s)

    @property
    def epoch(self) -> int:
        """Of the newest frames: another one from where the picture changed its size."""
        return self._epoch

    def read(self) -> list[Frame] | None:
        """Grab one picture; return the frames it makes (none, one, or repeats), or None at the end.

        Raises:
            SourceUnavailable: A live source stopped delivering.
        """
        media_time = self._source.grab()
        if media_time is None or (self._paced and not self._pace(media_time)):
            return None
        capture_ns, wall_time = self._clock.monotonic_ns(), self._clock.wall()
        media_time += self._media_start_s
        self._last_s = self._time_of(media_time, capture_ns * 1e-9, wall_time)
        self._rate.push(self._last_s)
        copies = self._sampler.push(self._last_s)
        preview = self._preview
        shown = preview is not None and preview.wants(self._last_s if self._source.live else capture_ns * 1e-9)
        if not self._source.intact:
            self._seq += copies  # left out, and the windows it belongs to are rejected
            return []
        if not copies and not shown:
            return []
        try:
            picture = self._source.retrieve()
        except SourceUnavailable:
            if self._source.live and copies:
                raise
            self._seq += copies  # a damaged picture in a file: left out, and the windows it belongs to are rejected
            return []
        if preview is not None and shown:
            preview.show(picture, capture_ns)
        if not copies:
            return []
        if self._stillness is not None:
            self._stillness.push(capture_ns * 1e-9 if self._source.live else self._last_s, picture)
        if self._shape not in (None, picture.shape):  # another size is another view: no window may hold both
            self._begin_epoch(wall_time)
        self._shape = picture.shape
        pixels = prepare_frame(picture, self._preprocessing)
        return [Frame(stamp, pixels) for stamp in self._stamps(copies, capture_ns, wall_time, media_time)]

    def _time_of(self, media_time: float, arrival_s: float, wall_time: float) -> float:
        """Return the time to sample by."""
        if not self._source.live:
            return media_time
        if self._timing is None:
            return arrival_s
        timing = self._timing.push(media_time, arrival_s)
        if timing.restarted:
            self._sampler, self._rate = Sampler(self._preprocessing.sample_fps), RateMeter()
            self._begin_epoch(wall_time)
        return timing.time_s

    def _begin_epoch(self, wall_time: float) -> None:
        self._epoch, self._seq = max(self._epoch + 1, int(wall_time * 1000)), 0

    def resume(self) -> None:
        """Go on after a pause: a paced file takes up its own speed from where it stands."""
        self._start_s = None

    def _stamps(self, copies: int, capture_ns: int, wall_time: float, media_time: float) -> list[FrameStamp]:
        stamps = [
            FrameStamp(
                camera=self._camera,
                epoch=self._epoch,
                seq=self._seq + copy,
                capture_ns=capture_ns,
                wall_time=wall_time,
                media_time=None if self._source.live else media_time,
                repeat=copy > 0,
            )
            for copy in range(copies)
        ]
        self._seq += copies
        return stamps

    def _pace(self, media_time: float) -> bool:
        now = self._clock.monotonic_ns() * 1e-9
        if self._start_s is None:
            self._start_s = now - media_time
        return self._clock.sleep_until(self._start_s + media_time)
