"""The protocol of all sources, and what opens one by the table in address.py.

Sources return BGR pictures and, where they have one, media time. They neither sample, pace nor retry.
"""

from __future__ import annotations

import importlib
from typing import Protocol

from stream_i3d.capture.address import SOURCES, SourceAddress
from stream_i3d.config import CaptureConfig
from stream_i3d.preprocess import Image


class Source(Protocol):
    """One opened camera, stream or file. Opening happens in the constructor; it raises SourceError."""

    live: bool
    """True where arrival time counts; False where `grab` gives media time."""

    @property
    def description(self) -> str:
        """What was opened, for people: resolution and nominal rate. Holds no URL."""

    @property
    def intact(self) -> bool:
        """Whether the grabbed picture is whole, as far as is known."""

    @property
    def until(self) -> float | None:
        """Media time at which the grabbed picture gives way to the next, or ends; None for live sources."""

    @property
    def pixel_aspect(self) -> float:
        """Width of a pixel over its height, of the picture that was retrieved last; 1 where pixels are square."""

    @property
    def memory_limit_mb(self) -> float:
        """MiB above which a process that decodes pictures of this size holds more than it needs."""

    duration_s: float | None
    """Length of the medium in seconds, where it has one and says so."""

    def grab(self) -> float | None:
        """Advance to the next picture.

        Returns:
            Media time in seconds, or None at the end of a file. Of a live source the stream's own time stamp in
            seconds, of any origin; 0.0 for every picture where it has none.

        Raises:
            SourceUnavailable: A live source stopped delivering.
        """

    def doubt(self) -> None:
        """Record that the decoder has complained: what follows is not intact, up to the next key picture."""

    def retrieve(self) -> Image:
        """Return the grabbed picture, (H, W, 3) uint8 BGR, turned and mirrored as it is to be shown."""

    def close(self) -> None:
        """Release the device or file."""


def open_source(address: SourceAddress, config: CaptureConfig) -> Source:
    """Open what `address` names.

    Raises:
        SourceNotFound: It does not exist or is no video; trying again is pointless.
        SourceUnavailable: It cannot be reached now.
    """
    module, _, function = SOURCES[address.kind].opener.partition(":")
    source: Source = getattr(importlib.import_module(module), function)(address.target, config)
    return source


# OpenCV is imported where it is used: only the process that opens a source pays for it.


def open_webcam(target: str, config: CaptureConfig) -> Source:
    """Open a webcam by its index or device path."""
    from stream_i3d.capture import video

    return video.open_webcam(target)


def open_file(target: str, config: CaptureConfig) -> Source:
    """Open a video file."""
    from stream_i3d.capture import video

    return video.open_file(target, config.max_memory_mb)


def open_url(target: str, config: CaptureConfig) -> Source:
    """Open a stream."""
    from stream_i3d.capture import video

    return video.open_url(target, config.open_timeout_s, config.read_timeout_s, config.max_memory_mb)


def open_scene(target: str, config: CaptureConfig) -> Source:
    """Open a synthetic scene by the query of synthetic://."""
    from stream_i3d.capture.synthetic import SyntheticSource

    return SyntheticSource(target)
