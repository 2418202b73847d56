"""One clip of the recorder: JPEGs with their times in, an MP4 out. Works in the caller's thread."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange

from stream_i3d.mp4 import MILLISECOND, Mp4Writer, even

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
            fps: The highest rate of the pictures; their own times are kept.
            max_side: Longest side in pixels; larger pictures are scaled down.
            crf: x264's constant rate factor: lower is better and larger.
            title: Written into the file, for players.
            wall_time: Time of the first picture, in seconds since 1970; likewise.

        Raises:
            OSError: The file cannot be made.
        """
        self.path = path
        about = {"title": title, "creation_time": f"{datetime.fromtimestamp(wall_time, UTC):%Y-%m-%dT%H:%M:%SZ}"}
        self._file = Mp4Writer(path, fps, time_base=MILLISECOND, crf=crf, mode=mode, metadata=about)
        self._max_side = max_side
        self._jpegs: Any = av.CodecContext.create("mjpeg", "r")
        self._began = 0.0
        self._last_ms = -1

    @property
    def size(self) -> int:
        """Bytes of the file by now."""
        return self._file.size_bytes

    @property
    def pictures(self) -> int:
        """Number of pictures in the file."""
        return self._file.frames

    def add(self, jpeg: bytes, time: float) -> bool:
        """Append a picture.

        Args:
            jpeg: The picture.
            time: When it was captured, in seconds on any one clock.

        Returns:
            Whether it could be decoded.

        Raises:
            OSError: The file cannot be written.
        """
        frame = self._decode(jpeg)
        if frame is None:
            return False
        if self._file.frame_size is None:
            scale = min(1.0, self._max_side / max(frame.width, frame.height))
            self._file.begin(even(frame.width * scale), even(frame.height * scale))
            self._began = time
        ms = round((time - self._began) * 1000)
        if ms > self._last_ms:
            self._file.add(self._fitted(frame), ms)
            self._last_ms = ms
        return True

    def finish(self) -> None:
        """Write the end of the file and close it. OSError where that fails: then `abort` is still to be called."""
        self._file.finish()

    def abort(self) -> None:
        """Close the file as it is."""
        self._file.abort()

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
        assert self._file.frame_size is not None
        width, height = self._file.frame_size
        scale = min(width / frame.width, height / frame.height)
        w, h = min(width, even(frame.width * scale)), min(height, even(frame.height * scale))
        if abs(w - width) <= 2 and abs(h - height) <= 2:
            w, h = width, height
        colours = {"src_color_range": ColorRange.JPEG, "dst_color_range": ColorRange.MPEG}
        fitted = frame.reformat(width=w, height=h, format="yuv420p", **colours)
        return fitted if (w, h) == (width, height) else _on_black(fitted, width, height)


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
