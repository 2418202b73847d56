"""Writes pictures to an MP4 in a thread of its own: the window never waits for a disk or a codec."""

from __future__ import annotations

import queue
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PyQt6.QtCore import QCoreApplication, Qt
from PyQt6.QtGui import QImage

from .state.recording import FPS, Pace, even

if TYPE_CHECKING:
    from stream_i3d.mp4 import Mp4Writer

_WAITING = 8
_END_WITHIN_S = 20.0


class RecordingError(Exception):
    """A recording that cannot be started or went wrong; one line that says why."""


class Recorder:
    """One recording. Drop policy: a picture that finds 8 waiting is left out, counted; the pace stays right."""

    def __init__(self, path: str, first: QImage, now: float) -> None:
        """Open the file for pictures of the size of `first`.

        Args:
            path: The file; one that exists is overwritten.
            first: The first picture.
            now: The time, in seconds, monotonic.

        Raises:
            RecordingError: The file cannot be written, or there is no encoder for H.264.
        """
        from stream_i3d.mp4 import Mp4Writer, can_write_mp4  # a window that records nothing need not load FFmpeg

        if not can_write_mp4():
            raise RecordingError(
                QCoreApplication.translate(
                    "Recorder", "Recording needs H.264, which this PyAV cannot write: pip install av"
                )
            )
        self.path = path
        self.dropped = 0
        self.problem = ""
        self._size = even(first.width(), first.height())
        self._pace = Pace(now)
        self._pictures: queue.Queue[tuple[bytes, int] | None] = queue.Queue(_WAITING)
        try:
            file = Mp4Writer(Path(path), FPS)
            file.begin(*self._size)
        except OSError as error:
            words = QCoreApplication.translate("Recorder", "cannot write {path}: {why}")
            raise RecordingError(words.format(path=path, why=error.strerror or error)) from None
        self._writer = threading.Thread(target=self._write, args=(file,), name="recorder", daemon=True)
        self._writer.start()
        self.add(first, now)

    @property
    def interval_ms(self) -> int:
        """How often a picture is wanted."""
        return 1000 // FPS

    def add(self, picture: QImage, now: float) -> None:
        """Add the picture of `now`, as often as the pace asks for it."""
        times = self._pace.due(now)
        if not times:
            return
        if picture.format() != QImage.Format.Format_RGB32:
            picture = picture.convertToFormat(QImage.Format.Format_RGB32)
        if (picture.width(), picture.height()) != self._size:
            picture = picture.scaled(
                *self._size, Qt.AspectRatioMode.IgnoreAspectRatio, Qt.TransformationMode.SmoothTransformation
            )
        bits = picture.constBits()
        if bits is None:
            return
        data = bits.asstring(picture.sizeInBytes())
        try:
            self._pictures.put_nowait((data, times))
        except queue.Full:
            self.dropped += times
            self._pace.written -= times  # the next picture stands in for it

    def finish(self) -> str:
        """End the recording and wait for the file to be complete.

        Returns:
            What went wrong, in one line; "" where nothing did.
        """
        try:
            self._pictures.put(None, timeout=_END_WITHIN_S)
            self._writer.join(_END_WITHIN_S)
        except queue.Full:  # a disk that hangs
            pass
        if self._writer.is_alive() and not self.problem:
            words = QCoreApplication.translate("Recorder", "the disk has not taken the file within {seconds:g} s")
            self.problem = words.format(seconds=_END_WITHIN_S)
        return self.problem

    @property
    def failed(self) -> bool:
        """Whether the recording has ended by itself."""
        return bool(self.problem)

    def _write(self, file: Mp4Writer) -> None:
        """Encode pictures until the None that ends them; after a failure only take them away."""
        from stream_i3d.mp4 import frame_of

        width, height = self._size
        while (item := self._pictures.get()) is not None:
            data, times = item
            try:
                if not self.problem:
                    for _ in range(times):
                        pixels = np.frombuffer(data, np.uint8).reshape(height, width, 4)
                        file.add(frame_of(pixels, "bgra"), file.frames)
            except OSError as error:  # a full disk
                self.problem = error.strerror or str(error)
        try:
            if not self.problem:
                file.finish()
                return
        except OSError as error:
            self.problem = error.strerror or str(error)
        file.abort()
