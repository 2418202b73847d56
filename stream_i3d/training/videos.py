"""Reads frames of video files by number, decoded, sampled and resized by the live path's own code.

The centre crop of a frame is bit for bit what `FrameReader` gives for the file. Only the wanted pictures are converted
and kept in memory. Files are read from the start, because a picture's number in the sampled stream depends on the time
stamps before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from stream_i3d.capture.source import Source
from stream_i3d.capture.video import open_file
from stream_i3d.errors import SourceUnavailable
from stream_i3d.preprocess import Image, resize_short_side
from stream_i3d.sampling import FileSampler
from stream_i3d.training.frame_cache import FrameCache

Numbers = NDArray[np.int64]
Choice = Callable[[int], Numbers]
"""Chooses frame numbers, given the number of frames; a pure function of it."""

_LONGEST_S = 24 * 3600.0  # a longer duration is taken as unknown
_CACHED_S = 60.0


def claimed_frames(duration_s: float | None, sample_fps: float) -> int | None:
    """Return the approximate number of sampled frames by the container's duration; None if that is unknown."""
    if duration_s is None or not 0 < duration_s <= _LONGEST_S:
        return None
    return max(1, round(duration_s * sample_fps))


class VideoReader:
    """Reads frames of video files. It may be pickled before its first use only.

    Args:
        sample_fps: Rate of the sampled stream in frames per second.
        short_side: The shorter side of the frames in pixels.
        cache: Cache for the frames of videos of up to a minute; None decodes every time.
    """

    def __init__(self, sample_fps: float, short_side: int, cache: FrameCache | None = None) -> None:
        self._sample_fps = sample_fps
        self._short_side = short_side
        self._cache = cache
        self._counts: dict[str, int] = {}
        self._too_long: set[str] = set()

    def read(
        self, path: str, claimed: int | None, choose: Choice, previous: bool = False
    ) -> tuple[Numbers, dict[int, Image]]:
        """Read the frames of a video that `choose` selects.

        `choose` is called with the claimed number of frames first. If it selects a frame that does not exist, it is
        called again with the true number. The choice therefore depends on the file only, not on earlier reads.

        Args:
            path: The file.
            claimed: Number of frames by the container's duration; None counts them first.
            choose: Given a number of frames, returns the wanted frame numbers, each below it, in any shape.
            previous: Whether to read the frame before each wanted one as well.

        Returns:
            The result of `choose`, and the frames by number: (H', W', 3) uint8 RGB, min(H', W') == short_side. A
            damaged picture is replaced by the one before it among these, or by the next.

        Raises:
            SourceError: The file cannot be read, or has no picture.
        """
        cached = self._cached(path, claimed)
        if cached is not None:
            self._counts[path] = len(cached)
        count = claimed if claimed is not None else self.count(path)
        while True:
            numbers = choose(count)
            wanted = sorted(_wanted(numbers, previous))
            known = self._counts.get(path)
            if known is None or wanted[-1] < known:
                frames = self._frames(path, wanted) if cached is None else {n: np.array(cached[n]) for n in wanted}
                if len(frames) == len(wanted):
                    return numbers, frames
            count = self._counts[path]

    def count(self, path: str) -> int:
        """Return the true number of sampled frames; reads the whole file the first time.

        Raises:
            SourceError: The file cannot be read, or has no picture.
        """
        if path not in self._counts:
            source = open_file(path)
            try:
                self._counts[path] = sum(len(numbers) for numbers in _sampled(source, self._sample_fps))
            finally:
                source.close()
        return self._counts[path]

    def _frames(self, path: str, wanted: Sequence[int]) -> dict[int, Image]:
        """Decode up to the last wanted frame; if the video ends before, store its length and return {}."""
        source = open_file(path)
        try:
            frames: dict[int, Image | None] = {}
            end, asked = 0, set(wanted)
            for numbers in _sampled(source, self._sample_fps):
                end = numbers[-1] + 1
                if not asked.isdisjoint(numbers):
                    picture = self._retrieve(source)
                    frames |= {number: picture for number in numbers if number in asked}
                if end > wanted[-1]:
                    break
            else:
                self._counts[path] = end
        finally:
            source.close()
        return _repaired(frames, path) if len(frames) == len(wanted) else {}

    def _retrieve(self, source: Source) -> Image | None:
        """Return the grabbed picture, resized, as RGB; None if it is damaged."""
        try:
            picture = source.retrieve()
        except SourceUnavailable:
            return None
        return resize_short_side(picture, self._short_side, source.pixel_aspect)[:, :, ::-1].copy()

    def _cached(self, path: str, claimed: int | None) -> NDArray[np.uint8] | None:
        """Return all frames of a video through the cache, (T, H', W', 3); None if they are not cached."""
        if self._cache is None or claimed is None or claimed > _CACHED_S * self._sample_fps:
            return None
        if path in self._too_long:
            return None
        try:
            return self._cache.get(path, self._sample_fps, self._short_side, lambda: self._all_frames(path))
        except _TooLongError:
            self._too_long.add(path)
            return None

    def _all_frames(self, path: str) -> Iterator[Image]:
        """Yield every sampled frame of a video, damaged ones replaced as in `read`."""
        source = open_file(path)
        try:
            last: Image | None = None
            waiting = 0
            for numbers in _sampled(source, self._sample_fps):
                picture = self._retrieve(source)
                picture = picture if picture is not None else last
                if picture is None:
                    waiting += len(numbers)
                    continue
                if last is not None:
                    picture = _resized_like(picture, last)
                if numbers.stop > 2 * _CACHED_S * self._sample_fps:  # its container claims less
                    raise _TooLongError
                for _ in range(waiting + len(numbers)):
                    yield picture
                last, waiting = picture, 0
            if last is None:
                raise _no_good_picture(path)
        finally:
            source.close()


class _TooLongError(Exception):
    """A video has many more frames than its container claims, too many for the cache."""


def _sampled(source: Source, sample_fps: float) -> Iterator[range]:
    """Grab pictures; yield the frame numbers of each in the sampled stream, while it can be retrieved."""
    sampler, number = FileSampler(sample_fps), 0
    while (time := source.grab()) is not None:
        until = source.until
        assert until is not None, "a file's pictures have an end"
        copies = sampler.push(time, until)
        if copies:
            yield range(number, number + copies)
            number += copies


def _wanted(numbers: Numbers, previous: bool) -> set[int]:
    wanted: set[int] = set(numbers.ravel().tolist())
    return wanted | {number - 1 for number in wanted if number > 0} if previous else wanted


def _repaired(frames: dict[int, Image | None], path: str) -> dict[int, Image]:
    """Replace each damaged picture by the last good one, or the next at the start; all get the size of the first."""
    good = next((picture for picture in frames.values() if picture is not None), None)
    if good is None:
        raise _no_good_picture(path)
    repaired: dict[int, Image] = {}
    for number, picture in frames.items():  # in the order in which they were decoded
        good = good if picture is None else _resized_like(picture, good)
        repaired[number] = good
    return repaired


def _resized_like(picture: Image, first: Image) -> Image:
    """Return the picture in the size of `first`, because the size of a few videos changes."""
    if picture.shape == first.shape:
        return picture
    size = (first.shape[1], first.shape[0])
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR), np.uint8)


def _no_good_picture(path: str) -> SourceUnavailable:
    return SourceUnavailable(f"{path}: no picture of it could be decoded; convert it to H.264 MP4")
