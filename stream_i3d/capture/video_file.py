"""Video files through PyAV: the right track, true times, and pictures turned as the file says.

OpenCV decodes the same pictures bit for bit, but tells neither a mirrored display matrix nor how long a picture lasts,
and always reads the first track.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import av
import numpy as np
from av.sidedata.sidedata import SideDataContainer
from av.sidedata.sidedata import Type as SideData
from av.stream import Disposition

from stream_i3d.capture.frame_times import CUT_STILL_S, FrameTimes
from stream_i3d.capture.geometry import UPRIGHT, display_size, orientation_of, pixel_aspect_of
from stream_i3d.capture.picture_memory import MemoryLimit, automatic_limit_mb, size_refusal
from stream_i3d.capture.preflight import FILE_OPTIONS
from stream_i3d.capture.stream_answers import broke_off
from stream_i3d.errors import SourceNotFound, SourceUnavailable, brief
from stream_i3d.preprocess import Image

if TYPE_CHECKING:
    from av.buffer import Buffer
    from av.container import InputContainer

log = logging.getLogger(__name__)

_CONVERT: Final = "convert it to H.264 MP4"
_MOST_DAMAGED: Final = 2000
"""Packets in a row that cannot be decoded, from the start of a file, before the file is given up."""

_TEXT_FORMATS: Final = frozenset({"tty", "bin", "xbin", "adf", "idf"})  # FFmpeg draws the letters of a text file
_STILL_CODECS: Final = frozenset({"mjpeg", "png", "bmp", "gif", "webp", "tiff", "jpegls", "jpeg2000", "targa"})
_NO_FILM: Final = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
_HTTP_OPTIONS: Final = {"protocol_whitelist": "http,https,tls,tcp,crypto,httpproxy,data"}
"""What a file behind an http(s) URL may lead to, as a playlist's segments do: never to a local file."""


def _unknown_side_data(kinds: type[SideData], value: object) -> SideData:
    kind: Any = object.__new__(kinds)
    kind._name_, kind._value_ = f"UNKNOWN_{value}", value
    return cast("SideData", kind)


# WORKAROUND https://github.com/PyAV-Org/PyAV/pull/2392: up to 18.1, a picture's side data cannot be looked at where one
# of them is of a kind that is not in PyAV's table, such as EXIF.
SideData._missing_ = classmethod(_unknown_side_data)  # type: ignore[assignment, method-assign]


class VideoFile:
    """A file behind the source protocol. The first picture is decoded at once, and always one ahead."""

    live = False
    intact = True

    def __init__(
        self, container: InputContainer, name: str, memory_limit: MemoryLimit = "auto", remote: bool = False
    ) -> None:
        """Choose a track and decode its first picture.

        Args:
            container: Opened; closed with this, also where this fails.
            name: What messages call it.
            memory_limit: Pictures that take more to decode are refused, here and where their size changes.
            remote: Whether it comes over a network: where it breaks off, that is an error, not a warning.

        Raises:
            SourceNotFound: There is no video in it, no picture of it can be decoded, or they are too large.
        """
        self._container = container
        self._name = name
        self._memory_limit: MemoryLimit = memory_limit
        self._remote = remote
        self._read_failed = False
        self._until = 0.0
        try:
            self._stream = choose_track(container, name)
            self.duration_s = _duration(container, self._stream)
            context = self._stream.codec_context
            self._check_size(context.width, context.height, context.format)
            self._stream.thread_type = "NONE"  # one camera, one process: threads only add frames in flight
            self._nominal_fps = float(self._stream.guessed_rate or self._stream.average_rate or 0)
            self._times = FrameTimes(self._nominal_fps)
            self._damaged = 0
            self._encrypted = False
            self._pictures = self._decoded()
            self._frame: av.VideoFrame | None = None
            self._ahead = next(self._pictures, None)
            if self._ahead is None:
                raise SourceNotFound(self._no_picture())
        except BaseException:
            container.close()
            raise
        self._geometry_of(self._ahead)
        self._ahead_s = self._time_of(self._ahead)

    @property
    def description(self) -> str:  # noqa: D102 (the protocol says it)
        return "{}x{}, nominally {:g} fps".format(*self._size, self._nominal_fps)

    @property
    def pixel_aspect(self) -> float:  # noqa: D102
        return self._pixel_aspect

    @property
    def until(self) -> float | None:  # noqa: D102
        return self._until

    @property
    def memory_limit_mb(self) -> float:  # noqa: D102
        width, height, pixel_bytes = self._decoded_size
        return automatic_limit_mb(width, height, pixel_bytes)

    def doubt(self) -> None:  # noqa: D102
        return

    def grab(self) -> float | None:  # noqa: D102
        self._frame, time = self._ahead, self._ahead_s
        if self._frame is None:
            if self._remote and (self._read_failed or self._broke_off()):
                raise SourceNotFound(self._lost())
            return None
        self._ahead = next(self._pictures, None)
        if self._ahead is not None:
            self._ahead_s = self._until = self._time_of(self._ahead)
        else:
            self._until = time + self._times.lasts(_seconds(self._frame.duration or None, self._frame.time_base))
            self._warn_at_end()
        return time

    def retrieve(self) -> Image:  # noqa: D102
        assert self._frame is not None, "nothing was grabbed"
        self._geometry_of(self._frame)
        try:
            picture = self._frame.to_ndarray(format="bgr24")
        except (av.FFmpegError, ValueError) as error:
            raise SourceUnavailable(f"{self._name}: a picture could not be decoded ({brief(error)})") from None
        return self._orientation.apply(np.asarray(picture, np.uint8))

    def close(self) -> None:  # noqa: D102
        self._frame = self._ahead = None
        self._container.close()

    def _decoded(self) -> Iterator[av.VideoFrame]:
        """Yield every picture that can be decoded; damaged packets are left out, as players do."""
        packets = self._container.demux(self._stream)
        any_yet = False
        while True:
            try:
                packet = self._next_packet(packets)
                if packet is not None and packet.has_sidedata("encryption_info"):
                    self._encrypted = True
                    return
                frames = [] if packet is None else packet.decode()
            except av.FFmpegError:
                self._damaged += 1
                if not any_yet and self._damaged > _MOST_DAMAGED:
                    return
                continue  # where reading failed, not decoding, the packets have ended
            if packet is None:
                break
            for frame in frames:
                any_yet = True
                yield frame
        with contextlib.suppress(av.FFmpegError):  # EOFError where the end was read in order
            yield from self._stream.codec_context.decode(None)

    def _next_packet(self, packets: Iterator[av.Packet[Any]]) -> av.Packet[Any] | None:
        try:
            return next(packets, None)
        except av.FFmpegError:
            self._read_failed = True
            raise

    def _time_of(self, frame: av.VideoFrame) -> float:
        return self._times.push(_seconds(frame.pts, frame.time_base), _seconds(frame.dts, frame.time_base))

    def _check_size(self, width: int, height: int, pixels: av.VideoFormat | None) -> None:
        """Raise SourceNotFound where pictures of this size may not be held."""
        bits = 12 if pixels is None else pixels.padded_bits_per_pixel
        self._decoded_size = width, height, bits / 8
        if (refusal := size_refusal(self._memory_limit, *self._decoded_size)) is not None:
            raise SourceNotFound(f"{self._name}: {refusal}")

    def _geometry_of(self, frame: av.VideoFrame) -> None:
        """Record how a picture is to be shown; a few files change it on the way."""
        self._orientation = UPRIGHT
        # Not frame.side_data: what that keeps in the frame refers to the frame, so that pictures pile up until Python's
        # garbage collector comes round (seen: 130 MB after 400 small ones).
        matrix = SideDataContainer(frame).get("DISPLAYMATRIX")  # type: ignore[call-arg]  # PyAV's stub lacks its argument
        if matrix is not None:
            self._orientation, exact = orientation_of(np.frombuffer(bytes(cast("Buffer", matrix)), np.int32).tolist())
            if not exact:
                _warn_once(f"{self._name}: its display matrix is no quarter turn; shown in the nearest orientation")
        ratio = self._stream.sample_aspect_ratio or self._stream.codec_context.sample_aspect_ratio
        self._pixel_aspect, sane = pixel_aspect_of(ratio)
        if not sane:
            _warn_once(f"{self._name}: its sample aspect ratio {_ratio(ratio)} is not believed; pixels count as square")
        width, height = frame.width, frame.height
        if (width, height) != self._decoded_size[:2]:
            self._check_size(width, height, frame.format)
        if self._orientation.transpose:
            width, height, self._pixel_aspect = height, width, 1 / self._pixel_aspect
        self._size = display_size(width, height, self._pixel_aspect)

    def _warn_at_end(self) -> None:
        for time, seconds in self._times.jumps:
            done = f"cut to {CUT_STILL_S:g} s" if seconds > 0 else "left out"
            _warn_once(f"{self._name}: its time stamps jump by {seconds:.0f} s at {time:.1f} s; the jump is {done}")
        if not self._remote and self._broke_off():
            _warn_once(
                f"{self._name}: its video ends at {self._until:.1f} s of {self.duration_s:.1f} s; the file is damaged "
                "or cut off, as after a download that broke off"
            )

    def _broke_off(self) -> bool:
        """Tell whether the video has ended before the length that it declares."""
        own = bool(self._stream.duration) or len(self._container.streams) == 1  # else it may be that of the sound
        return own and not self._times.jumps and broke_off(self._until, self.duration_s)

    def _lost(self) -> str:
        length = "" if self.duration_s is None else f" of {self.duration_s:.1f} s"
        return (
            f"{self._name} broke off at {self._until:.1f} s{length}: the connection was lost, or the file is not "
            "whole; try again, or download it first"
        )

    def _no_picture(self) -> str:
        if self._remote and self._read_failed:
            return self._lost()
        if self._encrypted:
            return f"{self._name} is encrypted; give a copy without protection"
        return f"{self._name} holds no picture that FFmpeg can decode; {_CONVERT}"


def open_video_file(path: str, name: str | None = None, memory_limit: MemoryLimit = "auto") -> VideoFile:
    """Open a regular file that exists.

    Args:
        path: Of the file.
        name: What messages call it; its path by default.
        memory_limit: As `VideoFile`.

    Raises:
        SourceNotFound: It is no video, or there is none in it, or its pictures are too large.
    """
    name = path if name is None else name
    # As a file whatever it is called: FFmpeg takes "a:b.mp4" for a protocol, and "%03d.png" for many files.
    try:
        # Titles are of any encoding; nobody reads them here.
        container = av.open(f"file:{path}", options=dict(FILE_OPTIONS), metadata_errors="replace")
    except (av.FFmpegError, OSError, ValueError):
        raise SourceNotFound(_unreadable(path, name)) from None
    if container.format.name in _TEXT_FORMATS:
        container.close()
        raise SourceNotFound(_unreadable(path, name))
    _refuse_still(container, name)
    return VideoFile(container, name, memory_limit)


def open_remote_file(
    url: str, name: str, open_timeout_s: float, read_timeout_s: float, memory_limit: MemoryLimit = "auto"
) -> VideoFile:
    """Open a video file behind an http(s) URL.

    Args:
        url: Of the file; may hold a password.
        name: What messages call it; holds no password.
        open_timeout_s: Seconds that the server may take to answer.
        read_timeout_s: Seconds that a read may take.
        memory_limit: As `VideoFile`.

    Raises:
        SourceNotFound: It is no video, or there is none in it, or its pictures are too large.
    """
    try:
        timeout = (open_timeout_s, read_timeout_s)
        container = av.open(url, options=_HTTP_OPTIONS, timeout=timeout, metadata_errors="replace")
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = brief(getattr(error, "strerror", None) or type(error).__name__)  # its own text holds the URL
        raise SourceNotFound(
            f"{name} is not a video that FFmpeg can read ({reason}); download it, and try that"
        ) from None
    if container.format.name in _TEXT_FORMATS:
        container.close()
        raise SourceNotFound(f"{name} is not a video that FFmpeg can read: it holds text; give the video itself")
    _refuse_still(container, name)
    return VideoFile(container, name, memory_limit, remote=True)


def _refuse_still(container: InputContainer, name: str) -> None:
    """Close a container that is a single picture, and raise SourceNotFound."""
    if container.format.name == "image2" or container.format.name.endswith("_pipe"):
        container.close()
        if container.format.name == "webp_pipe":
            raise SourceNotFound(f"{name} is WebP, which cannot be read as a video; convert it to MP4 or GIF")
        raise SourceNotFound(f"{name} is a single picture; give a video, since an action takes time")


def choose_track(container: InputContainer, name: str) -> av.VideoStream:
    """Return the video track that a player would show.

    No cover pictures or thumbnails, where there is anything else; then the one marked as default; then the largest.

    Raises:
        SourceNotFound: There is none, or none that FFmpeg can decode.
    """
    tracks = list(container.streams.video)
    films = [track for track in tracks if not track.disposition & _NO_FILM]
    if not films:
        rest = (["sound"] if container.streams.audio else []) + (["a cover picture"] if tracks else [])
        raise SourceNotFound(f"{name} holds {' and '.join(rest) or 'data'}, but no video; give a video file")
    films = [track for track in films if track.codec_context is not None]
    if not films:
        raise SourceNotFound(f"{name} holds video of a kind that FFmpeg cannot decode; {_CONVERT}")
    moving = [track for track in films if track.frames != 1 and track.codec_context.name not in _STILL_CODECS]
    return max(moving or films, key=_rank)


def _rank(track: av.VideoStream) -> tuple[bool, bool, int]:
    context = track.codec_context
    return track.frames != 1, bool(track.disposition & Disposition.default), context.width * context.height


def _duration(container: InputContainer, stream: av.VideoStream) -> float | None:
    """Return how long the video says that it is, in seconds."""
    if stream.duration and stream.duration > 0:
        return _seconds(stream.duration, stream.time_base)
    if not container.duration or container.duration < 0:
        return None
    # Matroska counts from 0, wherever its first picture stands.
    start = max(0, container.start_time or 0) if container.format.name.startswith("matroska") else 0
    return max(0, container.duration - start) / av.time_base or None


def _seconds(ticks: int | None, time_base: Fraction | None) -> float | None:
    return None if ticks is None or not time_base else float(ticks * time_base)


def _ratio(ratio: Fraction | None) -> str:
    return "" if ratio is None else f"{ratio.numerator}:{ratio.denominator}"


def _unreadable(path: str, name: str) -> str:
    """Return what is wrong with a file that FFmpeg cannot open, as far as its first bytes tell."""
    text = f"{name} is not a video that FFmpeg can read"
    try:
        with Path(path).open("rb") as file:
            head = file.read(512)
    except OSError as error:
        return f"{text}: {(error.strerror or str(error)).lower()}"
    if not head:
        return f"{text}: it is empty; copy or record it again"
    if head[4:8] == b"ftyp":
        return f"{text}: its index (moov) is missing, as after a download that broke off; fetch it again"
    if all(byte >= 32 or byte in b"\t\n\r\f" for byte in head):
        return f"{text}: it holds text; give the video itself"
    return f"{text}; play it elsewhere, or {_CONVERT}"


@functools.lru_cache(maxsize=4096)
def _warn_once(text: str) -> None:
    """Log a warning, once in each process: in training a file is opened at every epoch."""
    log.warning("%s", text)
