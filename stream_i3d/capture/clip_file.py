"""Labelled clips on disk: a folder per class, files that are either whole or not there, and never one overwritten.

Knows nothing of cameras or of when to record.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from stream_i3d.capture.geometry import display_size
from stream_i3d.errors import ConfigError
from stream_i3d.mp4 import Mp4Writer, can_write_mp4, frame_of
from stream_i3d.preprocess import Image

_CRF: Final = 18  # clips are trained on
_LABEL: Final = re.compile(r"(?!\.)[\w .-]{1,100}(?<![ .])")
_MIN_SIDE: Final = 64
_MAX_SIDE: Final = 4096


def check_label(label: str) -> str:
    """Return `label` if it can be a folder's name on any system.

    Raises:
        ConfigError: It holds another character, or begins or ends as a folder must not.
    """
    if not _LABEL.fullmatch(label) or label != label.strip():
        raise ConfigError(
            f"label {label!r}: it names a folder; allowed are letters, digits, blanks, '-', '_' and '.', up to 100, "
            "no '.' or blank at either end"
        )
    return label


def parse_side(size: str) -> int:
    """Return the longer side that a size such as "640x480" allows, in pixels; raises ConfigError."""
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", size.strip().lower(), re.ASCII)
    side = max(int(match[1]), int(match[2])) if match else 0
    if not _MIN_SIDE <= side <= _MAX_SIDE:
        raise ConfigError(
            f"--size {size}: give WIDTHxHEIGHT such as 640x480; the longer side may be {_MIN_SIDE} to {_MAX_SIDE}"
        )
    return side


def fitted_size(picture: Image, side: int, pixel_aspect: float = 1.0) -> tuple[int, int]:
    """Return the (width, height) of a clip of such pictures, (H, W, 3): at most `side`, even, with square pixels."""
    width, height = display_size(picture.shape[1], picture.shape[0], pixel_aspect)
    scale = min(1.0, side / max(width, height))
    return max(2, int(width * scale) // 2 * 2), max(2, int(height * scale) // 2 * 2)


class ClipFile:
    """A clip being written under a hidden name; it gets its own when it is whole."""

    def __init__(self, partial: Path, path: Path, size: tuple[int, int], fps: float) -> None:
        """Open the file.

        Args:
            partial: The hidden name; what is there is overwritten.
            path: The name it gets.
            size: Width and height, even.
            fps: Frames per second.

        Raises:
            ConfigError: The file cannot be written, or PyAV cannot encode H.264.
        """
        self._partial, self._path, self._size = partial, path, size
        if not can_write_mp4():
            partial.unlink(missing_ok=True)
            raise ConfigError(f"cannot write {path}: this PyAV cannot encode H.264: pip install av")
        try:
            self._writer = Mp4Writer(partial, fps, crf=_CRF)
            self._writer.begin(*size)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise _cannot_write(path.parent, error) from None
        self._failure: OSError | None = None

    @property
    def frames(self) -> int:
        """Number of frames written."""
        return self._writer.frames

    def write(self, picture: Image) -> None:
        """Append a picture; where that fails, `keep` raises.

        Args:
            picture: (H, W, 3) uint8 BGR; resized where it has another size.
        """
        if picture.shape[1::-1] != self._size:
            picture = np.asarray(cv2.resize(picture, self._size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        try:
            self._writer.add(frame_of(picture, "bgr24"), self._writer.frames)
        except OSError as error:
            self._failure = self._failure or error

    def keep(self) -> Path:
        """Close the file and give it its name.

        Raises:
            ConfigError: A frame or the end of the file could not be written; the file is removed.
        """
        try:
            if self._failure is not None:
                raise self._failure
            self._writer.finish()
        except OSError as error:
            self.discard()
            raise ConfigError(
                f"cannot write {self._path}: {_reason(error)}; make room on the disk, or give another --output"
            ) from None
        self._partial.rename(self._path)
        return self._path

    def discard(self) -> None:
        """Close the file and remove it."""
        self._writer.abort()
        self._partial.unlink(missing_ok=True)


class ClipFolder:
    """The folder of a class, and the names of one session's clips: LABEL-YYYYmmdd-HHMMSS-NNN.mp4."""

    def __init__(self, output: Path, label: str, stamp: str) -> None:
        """Make the folder where it is missing.

        Args:
            output: Folder of all classes.
            label: A checked label.
            stamp: The session's time, for names.

        Raises:
            ConfigError: The folder cannot be made.
        """
        self.path = output / label
        self._stem = f"{label}-{stamp}"
        self._made = not self.path.exists()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _cannot_write(self.path, error) from None

    def start(self, size: tuple[int, int], fps: float) -> ClipFile:
        """Open the next clip under the first number that is free.

        Raises:
            ConfigError: Nothing can be written here.
        """
        for number in itertools.count(1):
            path = self.path / f"{self._stem}-{number:03d}.mp4"
            partial = self.path / f".{path.stem}.partial.mp4"
            try:
                # Made exclusively, and looked at before the clip's own name: of two sessions one gets the number.
                partial.touch(exist_ok=False)
            except FileExistsError:
                continue
            except OSError as error:
                raise _cannot_write(self.path, error) from None
            if not path.exists():
                return ClipFile(partial, path, size, fps)
            partial.unlink()
        raise AssertionError("numbers do not end")

    def leave(self) -> None:
        """Remove the folder where this session made it and nothing is in it: an empty class is a mistake to `train`."""
        if self._made:
            with contextlib.suppress(OSError):
                self.path.rmdir()


def _cannot_write(folder: Path, error: OSError) -> ConfigError:
    return ConfigError(f"cannot write in {folder}: {_reason(error)}; give another --output")


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
