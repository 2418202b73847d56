"""A folder that keeps the sampled, resized frames of videos, so that each is decoded once and not once an epoch.

    FOLDER/ab/abcdef....npy     (T, H', W', 3) uint8 RGB of one video, at one rate and size

Large: ten seconds at 25 frames/s and 256 x 340 are 65 MB. A file is there whole or not at all, and is never changed, so
any number of processes may read and fill the folder at once. Does not know how frames are made.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import logging
import os
import uuid
from collections.abc import Callable, Iterable
from io import BufferedWriter
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from stream_i3d.errors import ConfigError
from stream_i3d.preprocess import Image

log = logging.getLogger(__name__)

_VERSION = 2
"""Raised whenever the same video gives other frames."""


class FrameCache:
    """Frames on disk by the video they are of, and what was done to it.

    Args:
        folder: Made where it is missing.

    Raises:
        ConfigError: It cannot be written to.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder).expanduser()
        self._full = False
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            writable = os.access(self._folder, os.W_OK)
        except OSError:
            writable = False
        if not writable:
            raise ConfigError(f"data.cache: cannot write to the folder {folder}; give another, or leave it out")

    def get(
        self, path: str, sample_fps: float, short_side: int, make: Callable[[], Iterable[Image]]
    ) -> NDArray[np.uint8] | None:
        """Return all frames of a video, made and kept if they are not there.

        Args:
            path: The video. Another size or time of change is another video.
            sample_fps: Its sampling.
            short_side: Its size.
            make: Gives the frames, all of one shape (H', W', 3) uint8, at least one.

        Returns:
            (T, H', W', 3) uint8, mapped from the file: only what is looked at is read. None where it can be neither
            found nor kept (the disk is full, said once).

        Raises:
            SourceError: From `make`.
        """
        file = self._file(path, sample_fps, short_side)
        if file is None:
            return None
        try:
            found = _load(file)
            if found is not None or self._full:
                return found
            file.parent.mkdir(exist_ok=True)
            _save(file, make())
            return _load(file)
        except OSError as error:
            if not self._full:
                reason = (error.strerror or str(error)).lower()
                log.warning("data.cache: nothing more is kept in %s (%s); videos are decoded", self._folder, reason)
            self._full = True
            return None

    def _file(self, path: str, sample_fps: float, short_side: int) -> Path | None:
        """Return where a video's frames lie; None where there is no such video."""
        absolute = os.path.abspath(path)  # noqa: PTH100 (resolve() would look at every folder on the way)
        try:
            info = os.stat(absolute)  # noqa: PTH116
        except OSError:
            return None
        identity = (_VERSION, absolute, info.st_size, info.st_mtime_ns, sample_fps, short_side)
        name = hashlib.sha256(repr(identity).encode(errors="surrogateescape")).hexdigest()[:32]
        return self._folder / name[:2] / f"{name}.npy"


def _load(file: Path) -> NDArray[np.uint8] | None:
    try:
        frames: NDArray[np.uint8] = np.load(file, mmap_mode="r", allow_pickle=False)
    except (FileNotFoundError, ValueError, EOFError):  # the latter two: cut short when the machine went down
        return None
    return frames if frames.ndim == 4 and frames.dtype == np.uint8 and len(frames) else None


def _save(file: Path, frames: Iterable[Image]) -> None:
    """Write frames as they come, so that no video has to be in memory whole."""
    partial = file.with_name(f".{file.stem}.{uuid.uuid4().hex[:8]}.partial")
    try:
        with partial.open("xb") as stream:
            _write(stream, frames)
        partial.replace(file)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def _write(stream: BufferedWriter, frames: Iterable[Image]) -> None:
    rest = iter(frames)
    first = next(rest)
    _write_header(stream, 0, first)
    length = stream.tell()
    count = 0
    for frame in itertools.chain([first], rest):
        stream.write(np.ascontiguousarray(frame).data)
        count += 1
    stream.seek(0)
    _write_header(stream, count, first)  # the format leaves room for the number to grow
    if stream.tell() != length:
        raise OSError("numpy wrote a header of another length")


def _write_header(stream: BufferedWriter, count: int, frame: Image) -> None:
    npy.write_array_header_1_0(
        stream, {"descr": npy.dtype_to_descr(frame.dtype), "fortran_order": False, "shape": (count, *frame.shape)}
    )
