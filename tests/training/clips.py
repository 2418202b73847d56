"""Videos whose pictures encode their number, readable after compression, resizing and mirroring."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stream_i3d.errors import SourceNotFound, SourceUnavailable
from stream_i3d.preprocess import Image

BITS = 8


def numbered(number: int, size: tuple[int, int] = (64, 48)) -> Image:
    """A (width, height) picture of eight horizontal bars: the bits of a number, the highest at the top."""
    bits = [number >> bit & 1 for bit in reversed(range(BITS))]
    rows = np.repeat(np.array(bits, np.uint8) * 200 + 28, size[1] // BITS)
    return np.broadcast_to(rows[:, None, None], (size[1], size[0], 3)).copy()


def number_of(picture: NDArray[np.uint8]) -> int:
    """The number that `numbered` drew."""
    height = picture.shape[0] // BITS
    bars = picture.reshape(BITS, height, -1)[:, height // 3 : height - height // 3].mean(axis=(1, 2))
    assert np.abs(bars - 128).min() > 40, "the bars are blurred"
    return int("".join("1" if bar > 128 else "0" for bar in bars), 2)


def numbers_of(clip: Iterable[NDArray[np.uint8]]) -> list[int]:
    """The numbers of a clip's pictures."""
    return [number_of(np.asarray(picture)) for picture in clip]


def write_video(path: Path, count: int = 50, fps: float = 25.0, size: tuple[int, int] = (64, 48)) -> Path:
    """Write a video file of `numbered` pictures; its folder is created."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fourcc = cv2.VideoWriter.fourcc(*("MJPG" if path.suffix == ".avi" else "mp4v"))
    writer = cv2.VideoWriter(str(path), fourcc, fps, size)
    assert writer.isOpened()
    for number in range(count):
        writer.write(numbered(number, size))
    writer.release()
    return path


class FakeFile:
    """A source of `numbered` pictures at 25 frames/s that records its calls; some pictures may be damaged."""

    live = False
    intact = True
    pixel_aspect = 1.0
    description = "fake"

    def __init__(self, count: int, damaged: Iterable[int] = (), duration_s: float | None = None) -> None:
        self.duration_s = duration_s
        self.retrieved: list[int] = []
        self.grabbed = 0
        self.closed = 0
        self._count, self._damaged = count, set(damaged)
        self._index = -1

    def open(self, path: str) -> FakeFile:
        """Start from the beginning, as opening a file does."""
        self._index = -1
        return self

    def grab(self) -> float | None:
        if self._count == 0:
            raise SourceNotFound("nothing.mp4 holds no picture")
        self._index += 1
        self.grabbed += 1
        return self._index / 25 if self._index < self._count else None

    @property
    def until(self) -> float | None:
        return (self._index + 1) / 25

    def retrieve(self) -> Image:
        if self._index in self._damaged:
            raise SourceUnavailable("a picture could not be decoded")
        self.retrieved.append(self._index)
        return numbered(self._index)

    def close(self) -> None:
        self.closed += 1
