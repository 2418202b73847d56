"""A preview picture as the window holds it."""

from __future__ import annotations

from dataclasses import dataclass

from PyQt6.QtGui import QImage


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded preview.

    Attributes:
        image: Owns its pixels; decoded at the size it is shown in, or larger.
        jpeg: As it came, for a snapshot in full size.
        capture_ns: Monotonic clock of the camera's host when it was captured, in nanoseconds.
        seq: Number among the previews offered by the camera.
    """

    image: QImage
    jpeg: bytes
    capture_ns: int
    seq: int


def full_size(picture: Picture) -> QImage:
    """Return the picture in the size in which it came."""
    decoded = QImage.fromData(picture.jpeg)
    return picture.image if decoded.isNull() else decoded
