"""Webcams and network streams through OpenCV, with its traps disarmed; files are video_file's.

cv2.VideoCapture by itself may hang for ever, uses UDP for RTSP, and says only "no" when it fails: here every open has
a time limit, RTSP goes over TCP, and failures are distinguished (no such host, refused, not authorised, no video).
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import cv2
import numpy as np

from stream_i3d.capture.ffmpeg_options import ffmpeg_options
from stream_i3d.capture.geometry import display_size, pixel_aspect_of
from stream_i3d.capture.image_size import image_size
from stream_i3d.capture.key_frames import KeyFrameGate
from stream_i3d.capture.picture_memory import (
    MemoryLimit,
    automatic_limit_mb,
    bytes_per_pixel,
    size_refusal,
)
from stream_i3d.capture.preflight import check_webcam, find_file, shown
from stream_i3d.capture.preflight import list_webcams as list_webcams
from stream_i3d.capture.stream_answers import comes_in_segments, encoding_hint, explain_silence, server_names_a_length
from stream_i3d.errors import SourceNotFound, SourceUnavailable
from stream_i3d.preprocess import Image
from stream_i3d.redact import redact

if TYPE_CHECKING:
    from stream_i3d.capture.video_file import VideoFile

if "OPENCV_LOG_LEVEL" not in os.environ:
    # Errors only: our own one line says that a file is no video, not OpenCV.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)

_DEFAULT_PORTS: Final[Mapping[str, int]] = {
    "rtsp": 554,
    "rtsps": 322,
    "rtmp": 1935,
    "rtmps": 443,
    "http": 80,
    "https": 443,
}
_NO_STAMP = -9e18  # what CAP_PROP_PTS is for pictures without a time stamp; POS_MSEC makes one up from the rate
_SEGMENT_TIMEOUT_S = 20.0  # a playlist's next segment comes when it is over: 10 s is usual, and some have more
_CLOSE_S = 0.5
_NEWEST_SEGMENT: Final = "live_start_index;-1"
"""Has a live playlist begin with its newest segment: FFmpeg takes the third last, which only makes it late."""

_DECODE_THREADS = 1  # one camera, one process: more threads only add frames in flight (memory, delay)


class VideoSource:
    """A cv2.VideoCapture of a camera or a stream behind the source protocol."""

    live = True
    until = None
    duration_s: float | None = None

    def __init__(
        self,
        capture: cv2.VideoCapture,
        name: str,
        gate: KeyFrameGate | None = None,
        stamped: bool = False,
        memory_limit: MemoryLimit = None,
    ) -> None:
        """Wrap an opened capture.

        Args:
            capture: OpenCV's; closed with this.
            name: What it is called in messages; safe to show (redacted).
            gate: Judges what is sent as differences between pictures.
            stamped: Whether the stream's own time stamps are given.
            memory_limit: Pictures that take more are refused, here and where their size changes.

        Raises:
            SourceUnavailable: The pictures are too large, which may be changed at the camera.
        """
        self._stamped = stamped
        self._grabbing = threading.Lock()
        self._capture = capture
        self._name = name
        self._gate = gate
        self._nominal_fps = capture.get(cv2.CAP_PROP_FPS)
        self._time = -1.0
        width, height = (round(capture.get(key)) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        self.pixel_aspect = self._pixel_aspect()
        self._size = display_size(width, height, self.pixel_aspect)
        count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self._length_s = count / self._nominal_fps if count > 0 and self._nominal_fps > 0 else None
        self._memory_limit = memory_limit
        self._pixel_bytes = bytes_per_pixel(round(capture.get(cv2.CAP_PROP_CODEC_PIXEL_FORMAT)))
        self._decoded_size = width, height
        self._check_size(width, height)

    @property
    def description(self) -> str:  # noqa: D102 (the protocol says it)
        return "{}x{}, nominally {:g} fps".format(*self._size, self._nominal_fps)

    @property
    def memory_limit_mb(self) -> float:  # noqa: D102
        return automatic_limit_mb(*self._decoded_size, self._pixel_bytes)

    @property
    def intact(self) -> bool:  # noqa: D102
        return self._gate is None or self._gate.open

    def doubt(self) -> None:  # noqa: D102
        if self._gate is not None:
            self._gate.damage()

    def grab(self) -> float | None:  # noqa: D102
        with self._grabbing:
            good = self._capture.grab()
        if not good:
            if self._length_s is not None and self._time >= self._length_s - 1:
                return None  # a recording that an RTSP server plays, once
            raise SourceUnavailable(f"{self._name}: the stream ended or sent nothing within the read timeout")
        if self._gate is not None:
            self._gate.picture(round(self._capture.get(cv2.CAP_PROP_FRAME_TYPE)))
        return self._stamp()

    def retrieve(self) -> Image:  # noqa: D102
        good, picture = self._capture.retrieve()
        if not good or picture is None or picture.ndim != 3:
            raise SourceUnavailable(f"{self._name}: a picture could not be decoded")
        size = picture.shape[1], picture.shape[0]
        if size != self._decoded_size:  # a camera may change it while it is open, and so do some files
            self._check_size(*size)
            self._decoded_size = size
        self.pixel_aspect = self._pixel_aspect()
        self._size = display_size(*size, self.pixel_aspect)
        return np.asarray(picture, dtype=np.uint8)

    def close(self) -> None:  # noqa: D102
        # Never while another thread reads, which would crash: one that hangs is left to the end of the process.
        if self._grabbing.acquire(timeout=_CLOSE_S):
            self._capture.release()
            self._grabbing.release()

    def _stamp(self) -> float:
        """Return a live picture's own time stamp in seconds; always 0 where it has none."""
        if not self._stamped or self._capture.get(getattr(cv2, "CAP_PROP_PTS", -1)) < _NO_STAMP:
            return 0.0
        self._time = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000.0
        return self._time

    def _pixel_aspect(self) -> float:
        """Return what the stream says of its pixels; 1 where it says nothing, or nonsense."""
        wide, high = (self._capture.get(key) for key in (cv2.CAP_PROP_SAR_NUM, cv2.CAP_PROP_SAR_DEN))
        return pixel_aspect_of(wide / high if high > 0 else None)[0]

    def _check_size(self, width: int, height: int) -> None:
        refusal = size_refusal(self._memory_limit, width, height, self._pixel_bytes)
        if refusal is not None:
            self.close()
            raise SourceUnavailable(f"{self._name}: {refusal}")


def has_ffmpeg() -> bool:
    """Tell whether this OpenCV can read files and streams at all."""
    return any("FFMPEG:" in line and "YES" in line for line in cv2.getBuildInformation().splitlines())


def open_webcam(target: str) -> VideoSource:
    """Open a webcam by index ("0") or device path.

    Raises:
        SourceNotFound: There is no such device.
        SourceUnavailable: It exists but gives no picture (busy, no permission).
    """
    device = check_webcam(target, list_webcams)
    backend = cv2.CAP_V4L2 if sys.platform.startswith("linux") else cv2.CAP_ANY
    capture = cv2.VideoCapture(int(target), backend) if target.isdigit() else cv2.VideoCapture(device, backend)
    if not capture.isOpened():
        capture.release()
        raise SourceUnavailable(
            f"webcam {target}: {device} gives no picture; close other programs that use it, check access"
        )
    return VideoSource(capture, name=f"webcam {target}")


def open_file(path: str, memory_limit: MemoryLimit = "auto") -> VideoFile:
    """Open a video file: that file alone, whatever its name or content asks FFmpeg for.

    Args:
        path: Of the file.
        memory_limit: As `capture.max_memory_mb`: pictures that take more to decode are refused before one is decoded.

    Raises:
        SourceNotFound: There is no such file, no video in it, or its pictures are too large.
    """
    name, file = shown(path), find_file(path)
    with Path(file).open("rb") as content:  # FFmpeg decodes a still picture to open it
        still = image_size(content)
    if still is not None and (refusal := size_refusal(memory_limit, *still, pictures=1)) is not None:
        raise SourceNotFound(f"{name}: {refusal}")
    from stream_i3d.capture.video_file import open_video_file  # here: cameras do without PyAV, 17 MB and 0.1 s

    return open_video_file(file, name, memory_limit)


def open_url(
    url: str, open_timeout_s: float, read_timeout_s: float, memory_limit: MemoryLimit = "auto"
) -> VideoSource | VideoFile:
    """Open a network stream, or a video file behind an http(s) URL.

    What FFmpeg knows the length of is a file, and so is what the server knows the length of. RTSP and RTMP are always
    live: there a length may be an announcement that a camera does not keep.

    Raises:
        SourceUnavailable: The host is unknown, refuses, does not answer in time, sends no video, or pictures that take
            more than `memory_limit` to decode. The message holds no password.
        SourceNotFound: It is a file that can not be read as a video.
    """
    _check_reachable(url, open_timeout_s)
    segmented = comes_in_segments(url)
    read_timeout_s = max(read_timeout_s, _SEGMENT_TIMEOUT_S) if segmented else read_timeout_s
    with ffmpeg_options(_NEWEST_SEGMENT if segmented else ""):
        capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG, stream_options(open_timeout_s, read_timeout_s))
    if not capture.isOpened():
        capture.release()
        raise SourceUnavailable(f"{redact(url)}: {explain_silence(url, open_timeout_s)}{encoding_hint(url)}")
    name = redact(url)
    if urlsplit(url).scheme.lower() in ("http", "https"):
        finite = capture.get(cv2.CAP_PROP_FRAME_COUNT) > 0
        if finite or (not segmented and server_names_a_length(url, open_timeout_s)):
            capture.release()
            from stream_i3d.capture.video_file import open_remote_file

            return open_remote_file(url, name, open_timeout_s, read_timeout_s, memory_limit)
    gate = KeyFrameGate()
    return VideoSource(capture, name=name, gate=gate, stamped=True, memory_limit=memory_limit)


def stream_options(open_timeout_s: float, read_timeout_s: float) -> Sequence[int]:
    """Return the options a network stream is opened with; without time-outs a dead camera hangs for 30 s."""
    return [
        cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
        int(open_timeout_s * 1000),
        cv2.CAP_PROP_READ_TIMEOUT_MSEC,
        int(read_timeout_s * 1000),
        cv2.CAP_PROP_N_THREADS,
        _DECODE_THREADS,
    ]


def _check_reachable(url: str, timeout_s: float) -> None:
    """Connect once by TCP: OpenCV would not say why it failed."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = parts.port or _DEFAULT_PORTS[parts.scheme.lower()]
    except ValueError:
        raise SourceUnavailable(
            f"{redact(url)}: not a URL, or the port is no number from 0 to 65535{encoding_hint(url)}"
        ) from None
    # An unencoded '/' in a password makes the user name look like the host: what redact() hides is not shown.
    host_shown = host if host and host in redact(url) else "***"
    hint = encoding_hint(url)
    try:
        socket.create_connection((host, port), timeout=timeout_s).close()
    except (socket.gaierror, UnicodeError):  # the latter: a name that cannot be one ("a..b")
        raise SourceUnavailable(
            f"{redact(url)}: host {host_shown!r} is unknown; check the name and the network{hint}"
        ) from None
    except TimeoutError:
        raise SourceUnavailable(
            f"{redact(url)}: no answer from {host_shown}:{port} within {timeout_s:g} s{hint}"
        ) from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise SourceUnavailable(
            f"{redact(url)}: {host_shown}:{port}: {reason}; is the camera on, and the port right?{hint}"
        ) from None
