"""Keeps what is seen: snapshots as PNG, recordings as MP4."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from PyQt6.QtCore import QObject, QStandardPaths, QTimer, pyqtSignal

from ..recorder import Recorder, RecordingError
from ..state.recording import file_name
from .camera_view import CameraView


class MediaSaver(QObject):
    """Saves and records cameras' views.

    Signals:
        notice: A line for people, and whether it is bad news.
        recording_changed: The camera that is recorded now; empty when none is.
    """

    notice = pyqtSignal(str, bool)
    recording_changed = pyqtSignal(str)

    def __init__(self, view_of: Callable[[str], object], parent: QObject | None = None) -> None:
        """Args: `view_of` returns a camera's CameraView, or None."""
        super().__init__(parent)
        self._view_of = view_of
        self._recorder: Recorder | None = None
        self._ending: list[threading.Thread] = []
        self.camera = ""
        self.make: Callable[..., Recorder] = Recorder
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._add)

    def snapshot(self, camera: str, folder: str) -> Path | None:
        """Save a camera's picture with its overlay; returns the file."""
        view = self._view_of(camera)
        if not isinstance(view, CameraView):
            return None
        path = _free(_folder(folder), camera, "png")
        if path is None or not view.snapshot().save(str(path), "PNG"):
            self.notice.emit(self.tr("Cannot write {path}").format(path=path or _folder(folder)), True)
            return None
        self.notice.emit(self.tr("Saved {path}").format(path=path), False)
        return path

    def record(self, camera: str, folder: str) -> None:
        """Begin to record a camera; an empty name ends the recording."""
        self._finish()
        view = self._view_of(camera)
        if not camera or not isinstance(view, CameraView):
            self.recording_changed.emit("")
            return
        path = _free(_folder(folder), camera, "mp4")
        try:
            if path is None:
                raise RecordingError(self.tr("Cannot write to {folder}").format(folder=_folder(folder)))
            self._recorder = self.make(str(path), view.snapshot(), time.monotonic())
        except RecordingError as error:
            self.notice.emit(str(error), True)
            self.recording_changed.emit("")
            return
        self.camera = camera
        self._timer.start(self._recorder.interval_ms)
        self.notice.emit(self.tr("Recording {camera} to {path}").format(camera=camera, path=path), False)
        self.recording_changed.emit(camera)

    def renamed(self, old: str, new: str) -> None:
        """A camera has a new name; its recording goes on."""
        if self.camera == old:
            self.camera = new

    def _add(self) -> None:
        view = self._view_of(self.camera)
        if self._recorder is None:
            return
        if self._recorder.failed or not isinstance(view, CameraView):
            self._finish()
            self.recording_changed.emit("")
            return
        self._recorder.add(view.snapshot(full=False), time.monotonic())

    def _finish(self) -> None:
        """End the recording in the background: the codec may need seconds to finish."""
        self._timer.stop()
        recorder, self._recorder, self.camera = self._recorder, None, ""
        if recorder is not None:
            self._ending = [thread for thread in self._ending if thread.is_alive()]
            thread = threading.Thread(target=self._end, args=(recorder,), name="recording-end")
            self._ending.append(thread)
            thread.start()

    def _end(self, recorder: Recorder) -> None:
        problem = recorder.finish()
        if problem:
            self.notice.emit(self.tr("Recording failed: {why}").format(why=problem), True)
        else:
            self.notice.emit(self.tr("Recorded {path}").format(path=recorder.path), False)

    def close(self) -> None:
        """End the recording and wait until its file is whole."""
        self._finish()
        for thread in self._ending:
            thread.join()


def _folder(chosen: str) -> Path:
    """Return where files go: what was chosen, or the user's pictures."""
    pictures = QStandardPaths.writableLocation(QStandardPaths.StandardLocation.PicturesLocation)
    return Path(chosen) if chosen else Path(pictures) / "stream-i3d"


def _free(folder: Path, camera: str, suffix: str) -> Path | None:
    """Return a path that no file has yet, in a folder that can be made; None where it cannot."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    first = path = folder / file_name(camera, time.time(), suffix)
    number = 2
    while path.exists():
        path = first.with_stem(f"{first.stem}_{number}")
        number += 1
    return path
