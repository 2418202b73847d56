"""Reads a source into sampled, prepared frames: the same code for the capture process and for offline `recognize`.

Knows no socket and no process. The clock is an argument.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from msgspec import structs

from stream_i3d.capture.frozen_picture import FrozenPictureWatch
from stream_i3d.capture.source import Source
from stream_i3d.capture.timing import StreamTiming
from stream_i3d.errors import SourceUnavailable
from stream_i3d.messages import Frame, FrameStamp
from stream_i3d.preprocess import Image, Preprocessing, ViewName, prepare_frame, view_share
from stream_i3d.sampling import FileSampler, RateMeter, Sampler

_MAX_REPEATS = 8  # of sampling.Sampler


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

    def show(self, bgr: Image, capture_ns: int, pixel_aspect: float) -> None:
        """Take the (H, W, 3) uint8 BGR picture that was wanted, whose pixels are so many times as wide as high."""


_BURST = 32
"""Repeats of a file's picture that are given at once: a picture may stand for an hour."""


@dataclass(slots=True)
class _Held:
    """A file's picture that is still to be repeated."""

    pixels: Image
    media_time: float
    given: int
    copies: int


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
        stillness: FrozenPictureWatch | None = None,
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
        self._shape: tuple[object, ...] | None = None
        self.view_share: float | None = None
        """Share of the newest picture that its frame shows; None before the first."""
        self._start_s: float | None = None
        self._sampler = Sampler(preprocessing.sample_fps)
        self._file_sampler = FileSampler(preprocessing.sample_fps)
        self._held: _Held | None = None
        self.pictures = 0
        """How many the source gave."""
        self.end_s = 0.0
        """Media time at which the newest picture of a file ends."""
        self._rate = RateMeter()
        self._seq = 0
        self._last_s = 0.0

    @property
    def time_s(self) -> float:
        """Of the newest picture: media time of files, else as `timing.Timing.time_s`."""
        return self._last_s

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

        A file's picture that is shown for long is given by several calls; a paced one's repeats come one by one.

        Raises:
            SourceUnavailable: A live source stopped delivering.
        """
        if self._held is not None:
            return self._repeat(self._held)
        media_time = self._source.grab()
        if media_time is None:
            return None
        media_time += self._media_start_s
        if self._paced and not self._pace(media_time):
            return None
        capture_ns, wall_time = self._clock.monotonic_ns(), self._clock.wall()
        self._last_s = self._time_of(media_time, capture_ns * 1e-9, wall_time)
        self._rate.push(self._last_s)
        self.pictures += 1
        copies = self._copies(self._last_s)
        preview = self._preview
        shown = preview is not None and preview.wants(self._last_s if self._source.live else capture_ns * 1e-9)
        if not self._source.intact:
            self._seq += copies  # left out, and the windows it belongs to are rejected
            return []
        if not copies and not shown:
            return []
        return self._take(copies, shown, capture_ns, wall_time, media_time)

    def _take(self, copies: int, shown: bool, capture_ns: int, wall_time: float, media_time: float) -> list[Frame]:
        """Decode the grabbed picture; show it where `shown`, and return the frames that are its copies."""
        try:
            picture = self._source.retrieve()
        except SourceUnavailable:
            if self._source.live and copies:
                raise
            self._seq += copies  # a damaged picture in a file: left out, and the windows it belongs to are rejected
            return []
        if self._preview is not None and shown:
            self._preview.show(picture, capture_ns, self._source.pixel_aspect)
        if not copies:
            return []
        if self._stillness is not None:
            self._stillness.push(capture_ns * 1e-9 if self._source.live else self._last_s, picture)
        preprocessing = self._preprocessing  # another thread may change it
        shape = (*picture.shape, self._source.pixel_aspect, preprocessing.view)
        if shape != self._shape:
            if self._shape is not None:  # no window may hold frames of two sizes or views
                self._begin_epoch(wall_time)
            aspect = picture.shape[1] * self._source.pixel_aspect / picture.shape[0]
            self._shape, self.view_share = shape, max(0.001, round(view_share(preprocessing, aspect), 3))
        pixels = prepare_frame(picture, preprocessing, self._source.pixel_aspect)
        if self._source.live:
            return self._frames(pixels, range(copies), capture_ns, wall_time, None)
        held = _Held(pixels, media_time, self._batch(copies), copies)
        self._held = held if held.given < copies else None
        return self._frames(pixels, range(held.given), capture_ns, wall_time, media_time)

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

    @property
    def view(self) -> ViewName:
        """What of each picture goes into its frame."""
        return self._preprocessing.view

    def set_view(self, view: ViewName) -> None:
        """Make frames of another part of each picture, from the next picture on, in a new epoch."""
        self._preprocessing = structs.replace(self._preprocessing, view=view)

    def resume(self) -> None:
        """Go on after a pause: a paced file takes up its own speed from where it stands."""
        self._start_s = None

    def _copies(self, now_s: float) -> int:
        """Return how often the grabbed picture enters the sampled stream."""
        if self._source.live:
            return self._sampler.push(now_s)
        until = self._source.until
        assert until is not None, "a file's pictures have an end"
        self.end_s = until + self._media_start_s
        return self._file_sampler.push(now_s, self.end_s)

    def _batch(self, copies: int) -> int:
        return 1 if self._paced else min(copies, _BURST)

    def _repeat(self, held: _Held) -> list[Frame] | None:
        """Give the next repeats of a file's picture; None when told to stop meanwhile."""
        numbers = range(held.given, held.given + self._batch(held.copies - held.given))
        if self._paced and not self._pace(held.media_time + numbers[0] / self._preprocessing.sample_fps):
            return None
        held.given = numbers.stop
        if held.given == held.copies:
            self._held = None
        capture_ns, wall_time = self._clock.monotonic_ns(), self._clock.wall()
        return self._frames(held.pixels, numbers, capture_ns, wall_time, held.media_time)

    def _frames(
        self, pixels: Image, copies: range, capture_ns: int, wall_time: float, media_time: float | None
    ) -> list[Frame]:
        """Return copies of a picture by their numbers; those of a file are a tick of media time apart."""
        tick_s = 1 / self._preprocessing.sample_fps
        frames = [
            Frame(
                FrameStamp(
                    camera=self._camera,
                    epoch=self._epoch,
                    seq=self._seq + place,
                    capture_ns=capture_ns,
                    wall_time=wall_time,
                    media_time=None if media_time is None else media_time + copy * tick_s,
                    repeat=copy > 0,
                ),
                pixels,
            )
            for place, copy in enumerate(copies)
        ]
        self._seq += len(frames)
        return frames

    def _pace(self, media_time: float) -> bool:
        now = self._clock.monotonic_ns() * 1e-9
        if self._start_s is None:
            self._start_s = now - media_time
        return self._clock.sleep_until(self._start_s + media_time)


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong with a camera: the fields of the same names in CameraReport."""

    problem: str = ""
    retry_in_s: int | None = None
    too_slow: bool = False


NO_TROUBLE = Trouble()


def rate_trouble(fps: float, wanted_fps: float, live: bool) -> Trouble:
    """Return what is wrong with the rate of a source.

    Args:
        fps: Pictures per second that it delivers; 0 where not known yet.
        wanted_fps: Frames per second that the model samples.
        live: Whether it is a live source.
    """
    if not fps or fps >= 0.9 * wanted_fps:
        return NO_TROUBLE
    least = wanted_fps / _MAX_REPEATS
    if live and fps < least:
        return Trouble(f"delivers {fps:.1f} fps, too slow to recognise (at least {least:.1f})", too_slow=True)
    return Trouble(f"delivers {fps:.0f} fps, fewer than the model's {wanted_fps:g}: pictures are repeated")
