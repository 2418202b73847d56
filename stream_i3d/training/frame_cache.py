"""A cache folder of sampled, resized frames, so that each video is decoded once instead of once an epoch.

    FOLDER/ab/abcdef....npy     (T, H', W', 3) uint8 RGB of one video, at one rate and size

It is large: ten seconds at 25 frames/s and 256 x 340 take 65 MB. Files appear whole and are never changed, so any
number of processes may read and fill the folder at once.
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
"""Increased whenever the same video gives other frames."""


class FrameCache:
    """Decoded frames on disk, by video, sampling rate and size.

    Args:
        folder: Created if it does not exist.

    Raises:
        ConfigError: The folder is not writable.
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
        """Return all frames of a video, from the cache or else from `make`.

        Args:
            path: The video file. If its size or modification time changes, it is decoded again.
            sample_fps: Sampling rate in frames per second.
            short_side: Shorter side of the frames in pixels.
            make: Returns the frames, all of one shape (H', W', 3) uint8, at least one.

        Returns:
            (T, H', W', 3) uint8, memory-mapped. None if the frames are not in the cache and cannot be stored (such as
            on a full disk, which is logged once).

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
        """Return the cache file of a video; None if there is no such video."""
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
    except (FileNotFoundError, ValueError, EOFError):  # the latter two: incomplete after a crash of the machine
        return None
    return frames if frames.ndim == 4 and frames.dtype == np.uint8 and len(frames) else None


def _save(file: Path, frames: Iterable[Image]) -> None:
    """Write frames one by one, so that no whole video is in memory."""
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
    _write_header(stream, count, first)  # the header has room for a larger number
    if stream.tell() != length:
        raise OSError("numpy wrote a header of another length")


def _write_header(stream: BufferedWriter, count: int, frame: Image) -> None:
    npy.write_array_header_1_0(
        stream, {"descr": npy.dtype_to_descr(frame.dtype), "fortran_order": False, "shape": (count, *frame.shape)}
    )
