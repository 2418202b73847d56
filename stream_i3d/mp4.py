"""Writes MP4 files with H.264, by the FFmpeg of PyAV and in the caller's thread."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange
from numpy.typing import NDArray

MILLISECOND = Fraction(1, 1000)


def can_write_mp4() -> bool:
    """Tell whether the installed PyAV has an encoder for H.264."""
    try:
        av.codec.Codec("libx264", "w")
    except (av.FFmpegError, av.codec.codec.UnknownCodecError):
        return False
    return True


def even(size: float) -> int:
    """Return the nearest even number of pixels, at least 2: H.264 with 4:2:0 colours has even sides."""
    return max(2, round(size / 2) * 2)


def frame_of(pixels: NDArray[np.uint8], pixel_format: str) -> av.VideoFrame:
    """Return pixels as a frame for `Mp4Writer.add`.

    Args:
        pixels: (H, W, C) uint8; H and W are even.
        pixel_format: FFmpeg's name of their order, such as "bgr24".
    """
    frame = av.VideoFrame.from_ndarray(pixels, format=pixel_format)
    return frame.reformat(format="yuv420p", dst_color_range=ColorRange.MPEG)


class Mp4Writer:
    """One file.

    Attributes:
        frames: Number of frames added.
    """

    def __init__(
        self,
        path: Path,
        fps: float,
        *,
        time_base: Fraction | None = None,
        crf: int = 20,
        mode: int | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Open the file.

        Args:
            path: Where to write. With `mode` the file must not exist; else an existing one is overwritten.
            fps: Frames per second.
            time_base: Unit of the frames' times, in seconds; None for 1 / `fps`.
            crf: x264's constant rate factor: lower is better and larger.
            mode: The file's mode; None for what the umask allows.
            metadata: Tags of the file, such as "title".

        Raises:
            OSError: The file cannot be opened.
        """
        self._file = _File(path, mode)
        self._rate = Fraction(fps).limit_denominator(1001)
        self._time_base = time_base or 1 / self._rate
        self._crf = crf
        self._metadata = dict(metadata or {})
        self._container: Any = None
        self._stream: Any = None
        self.frames = 0

    @property
    def size_bytes(self) -> int:
        """Size of the file by now."""
        return self._file.size

    @property
    def frame_size(self) -> tuple[int, int] | None:
        """Width and height; None before `begin`."""
        return None if self._stream is None else (self._stream.width, self._stream.height)

    def begin(self, width: int, height: int) -> None:
        """Set the size of all frames, which is even; comes before the first `add`. OSError where that fails."""
        with _ffmpeg_errors():
            self._open(width, height)

    def _open(self, width: int, height: int) -> None:
        self._container = av.open(self._file, "w", format="mp4")
        self._container.metadata.update(self._metadata)
        stream = self._container.add_stream("libx264", rate=self._rate)
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": str(self._crf), "preset": "veryfast"}
        stream.codec_context.time_base = self._time_base
        stream.codec_context.thread_count = 1  # beside inference
        stream.codec_context.color_range = ColorRange.MPEG
        self._stream = stream

    def add(self, frame: Any, time: int) -> None:
        """Append a frame.

        Args:
            frame: A yuv420p frame of the size given to `begin`.
            time: Its time in units of `time_base`; later than that of the frame before.

        Raises:
            OSError: The file cannot be written.
        """
        frame.pts, frame.time_base = time, self._time_base
        with _ffmpeg_errors():
            self._write(self._stream.encode(frame))
        self.frames += 1

    def finish(self) -> None:
        """Write the end of the file and close it. OSError where that fails: then `abort` is still to be called."""
        if self._container is not None:
            with _ffmpeg_errors():
                self._write(self._stream.encode(None))
                self._container.close()
            self._file.check()
        self._file.sync()
        self._file.close()

    def abort(self) -> None:
        """Close the file as it is."""
        self._file.ignore_all = True  # the container writes its end when it is closed
        if self._container is not None:
            with contextlib.suppress(av.FFmpegError, OSError):
                self._container.close()
        self._file.close()

    def _write(self, packets: Any) -> None:
        for packet in packets:
            self._container.mux(packet)
        self._file.check()


@contextlib.contextmanager
def _ffmpeg_errors() -> Iterator[None]:
    """Raise OSError for what FFmpeg raises."""
    try:
        yield
    except av.FFmpegError as error:
        raise OSError(error.errno, error.strerror) from error


class _File:
    """What FFmpeg writes to. An error is kept rather than raised through it, for `check` to raise."""

    def __init__(self, path: Path, mode: int | None) -> None:
        how = os.O_TRUNC if mode is None else os.O_EXCL
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | how, 0o666 if mode is None else mode)
        if mode is not None:
            os.fchmod(descriptor, mode)  # whatever the umask is
        self._raw = io.FileIO(descriptor, "r+")
        self._error: OSError | None = None
        self.size = 0
        self.ignore_all = False

    def write(self, data: bytes) -> int:
        rest = memoryview(data)
        try:
            while rest and self._error is None and not self.ignore_all:
                rest = rest[self._raw.write(rest) :]
            self.size = max(self.size, self._raw.tell())
        except OSError as error:
            self._error = error
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        return self._raw.tell()

    def check(self) -> None:
        if self._error is not None:
            raise self._error

    def sync(self) -> None:
        os.fsync(self._raw.fileno())

    def close(self) -> None:
        if not self._raw.closed:
            self._raw.close()
