"""Writes pictures to an MP4 through FFmpeg, in a thread of its own: the window never waits for a disk or a codec."""

from __future__ import annotations

import contextlib
import queue
import shutil
import subprocess
import threading
from collections.abc import Callable

from PyQt6.QtCore import QCoreApplication, Qt
from PyQt6.QtGui import QImage

from .state.recording import FPS, Pace, even, ffmpeg_command

_WAITING = 8
_END_WITHIN_S = 20.0


class RecordingError(Exception):
    """A recording that cannot be started or went wrong; one line that says why."""


class Recorder:
    """One recording. Drop policy: a picture that finds 8 waiting is left out, counted; the pace stays right."""

    def __init__(self, path: str, first: QImage, now: float, find: Callable[[str], str | None] = shutil.which) -> None:
        """Start FFmpeg for pictures of the size of `first`.

        Raises:
            RecordingError: There is no FFmpeg, or it cannot be started.
        """
        program = find("ffmpeg")
        if program is None:
            raise RecordingError(
                QCoreApplication.translate(
                    "Recorder",
                    "Recording needs the program ffmpeg, which is not installed"
                    " (on Debian or Ubuntu: apt install ffmpeg)",
                )
            )
        self.path = path
        self.dropped = 0
        self.problem = ""
        self._size = even(first.width(), first.height())
        self._pace = Pace(now)
        self._pictures: queue.Queue[tuple[bytes, int] | None] = queue.Queue(_WAITING)
        try:
            self._process = subprocess.Popen(
                ffmpeg_command(program, self._size, path), stdin=subprocess.PIPE, stderr=subprocess.PIPE
            )
        except OSError as error:
            words = QCoreApplication.translate("Recorder", "cannot start {program}: {why}")
            raise RecordingError(words.format(program=program, why=error.strerror)) from None
        self._errors: list[bytes] = []
        self._listener = threading.Thread(target=self._listen, name="ffmpeg-errors", daemon=True)
        self._listener.start()
        self._writer = threading.Thread(target=self._write, name="recorder", daemon=True)
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
        """End the recording; returns what went wrong, or an empty string. Waits for the file to be complete."""
        try:
            self._pictures.put(None, timeout=_END_WITHIN_S)
        except queue.Full:  # FFmpeg takes nothing any more (a disk that hangs); without it the writer ends
            self._process.kill()
            self._pictures.put(None)
        self._writer.join(_END_WITHIN_S)
        try:
            code = self._process.wait(_END_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._listener.join(1.0)
        if code:
            lines = b"".join(self._errors).decode(errors="replace").split("\n")
            output = [line.strip() for line in lines if line.strip()]
            words = QCoreApplication.translate("Recorder", "ffmpeg ended with code {code}")
            self.problem = output[-1] if output else words.format(code=code)
        return self.problem

    @property
    def failed(self) -> bool:
        """Whether FFmpeg has ended by itself."""
        return self._process.poll() is not None

    def _write(self) -> None:
        stream = self._process.stdin
        assert stream is not None
        while (item := self._pictures.get()) is not None:
            data, times = item
            try:
                for _ in range(times):
                    stream.write(data)
            except OSError:  # FFmpeg is gone (a full disk); `finish` says why
                while self._pictures.get() is not None:
                    pass
                break
        with contextlib.suppress(OSError):
            stream.close()

    def _listen(self) -> None:
        stream = self._process.stderr
        assert stream is not None
        for line in stream:
            self._errors.append(line)
            del self._errors[:-20]
        stream.close()
