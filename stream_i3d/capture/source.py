"""The protocol all sources share, and the factory that picks one. Sources give BGR pictures and, where they have
one, media time; sampling, pacing and retrying are others' work.
"""

from __future__ import annotations

from typing import Protocol

from stream_i3d.capture.address import SourceAddress
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
        """Take note that the decoder has complained: what follows is not intact, up to the next key picture."""

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
    # Imported here: only the process that opens a source pays for OpenCV.
    if address.kind == "synthetic":
        from stream_i3d.capture.synthetic import SyntheticSource

        return SyntheticSource(address.target)
    from stream_i3d.capture import video

    if address.kind == "webcam":
        return video.open_webcam(address.target)
    if address.kind == "file":
        return video.open_file(address.target, config.max_memory_mb)
    return video.open_url(address.target, config.open_timeout_s, config.read_timeout_s, config.max_memory_mb)
