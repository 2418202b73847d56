"""Writes one clip: JPEGs with their times in, H.264 in MP4 out. PyAV's FFmpeg does the work, in the caller's thread."""

from __future__ import annotations

import contextlib
import io
import os
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange

_MS = Fraction(1, 1000)
_MAX_PIXELS = 8192 * 8192


class ClipWriter:
    """One file. The first picture decides its size; later ones of another size are fitted in, with black bars."""

    def __init__(
        self, path: Path, mode: int, fps: float, max_side: int, crf: int, title: str, wall_time: float
    ) -> None:
        """Open the file.

        Args:
            path: Where to write; must not be there yet.
            mode: The file's mode.
            fps: What the pictures are at most; their own times count.
            max_side: Of larger pictures, what the longer side becomes.
            crf: x264's constant rate factor: lower is better and larger.
            title: Written into the file, for players.
            wall_time: Of the first picture; likewise.

        Raises:
            OSError: The file cannot be made.
        """
        self.path = path
        self._file = _File(path, mode)
        self._fps = fps
        self._max_side = max_side
        self._crf = crf
        self._about = {"title": title, "creation_time": f"{datetime.fromtimestamp(wall_time, UTC):%Y-%m-%dT%H:%M:%SZ}"}
        self._container: Any = None
        self._stream: Any = None
        self._jpegs: Any = av.CodecContext.create("mjpeg", "r")
        self._began = 0.0
        self._last_ms = -1
        self.pictures = 0

    @property
    def size(self) -> int:
        """Bytes of the file by now."""
        return self._file.size

    def add(self, jpeg: bytes, time: float) -> bool:
        """Append a picture captured at `time` (seconds, on any one clock); return whether it could be decoded.

        Raises:
            OSError: The file cannot be written.
        """
        frame = self._decode(jpeg)
        if frame is None:
            return False
        if self._container is None:
            self._begin(frame, time)
        ms = round((time - self._began) * 1000)
        if ms > self._last_ms:
            frame = self._fitted(frame)
            frame.pts, frame.time_base, self._last_ms = ms, _MS, ms
            self._write(self._stream.encode(frame))
            self.pictures += 1
        return True

    def finish(self) -> None:
        """Write the end of the file and close it. OSError where that fails: then `abort` is still to be called."""
        if self._container is not None:
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

    def _begin(self, frame: Any, time: float) -> None:
        scale = min(1.0, self._max_side / max(frame.width, frame.height))
        self._container = av.open(self._file, "w", format="mp4")
        self._container.metadata.update(self._about)
        stream = self._container.add_stream("libx264", rate=Fraction(self._fps).limit_denominator(1000))
        stream.width, stream.height = _even(frame.width * scale), _even(frame.height * scale)
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": str(self._crf), "preset": "veryfast"}
        stream.codec_context.time_base = _MS
        stream.codec_context.thread_count = 1  # beside inference
        stream.codec_context.color_range = ColorRange.MPEG
        self._stream, self._began = stream, time

    def _decode(self, jpeg: bytes) -> Any:
        if not jpeg:  # an empty packet would end the decoder
            return None
        try:
            frames = self._jpegs.decode(av.Packet(jpeg))
        except av.FFmpegError:
            self._jpegs = av.CodecContext.create("mjpeg", "r")
            return None
        frame = frames[0] if frames else None
        return None if frame is None or frame.width * frame.height > _MAX_PIXELS else frame

    def _fitted(self, frame: Any) -> Any:
        """Return a picture in the clip's size and colours, its own aspect kept."""
        width, height = self._stream.width, self._stream.height
        scale = min(width / frame.width, height / frame.height)
        w, h = min(width, _even(frame.width * scale)), min(height, _even(frame.height * scale))
        if abs(w - width) <= 2 and abs(h - height) <= 2:
            w, h = width, height
        colours = {"src_color_range": ColorRange.JPEG, "dst_color_range": ColorRange.MPEG}
        fitted = frame.reformat(width=w, height=h, format="yuv420p", **colours)
        return fitted if (w, h) == (width, height) else _on_black(fitted, width, height)

    def _write(self, packets: Any) -> None:
        for packet in packets:
            self._container.mux(packet)
        self._file.check()


class _File:
    """What FFmpeg writes to. An error is kept rather than raised through it, for `check` to raise."""

    def __init__(self, path: Path, mode: int) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
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


def _on_black(frame: Any, width: int, height: int) -> Any:
    """Return a yuv420p picture in the middle of a larger black one; all sizes are even."""
    luma = np.full((height, width), 16, np.uint8)
    chroma = np.full((2, height // 2, width // 2), 128, np.uint8)
    w, h = frame.width, frame.height
    x, y = (width - w) // 4 * 2, (height - h) // 4 * 2
    planes = frame.to_ndarray()
    luma[y : y + h, x : x + w] = planes[:h]
    parts = planes[h:].reshape(2, h // 2, w // 2)
    chroma[:, y // 2 : (y + h) // 2, x // 2 : (x + w) // 2] = parts
    whole = np.concatenate([luma.ravel(), chroma.ravel()]).reshape(height * 3 // 2, width)
    made = av.VideoFrame.from_ndarray(whole, format="yuv420p")
    made.color_range = ColorRange.MPEG
    return made


def _even(size: float) -> int:
    return max(2, round(size / 2) * 2)
