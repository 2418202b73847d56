"""How a decoded picture is to be shown: turned, mirrored, and with pixels that are not square.

A container's display matrix (of `tkhd` in MP4, `Projection` in Matroska, the display orientation SEI of H.264, or EXIF)
says how the stored picture is turned. Its sample aspect ratio says how much wider than high a pixel is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import cv2
import numpy as np

from stream_i3d.preprocess import Image

_MOST_ASPECT: Final = 4
"""Real pixels are 0.45 to 2.2 times as wide as high; half as much again and more stands in damaged headers only."""

_EXACT: Final = 0.985
"""Cosine of 10 degrees: up to there a matrix counts as a multiple of a quarter turn."""


@dataclass(frozen=True, slots=True)
class Orientation:
    """One of the eight ways to lay a picture down: transposed first, then flipped.

    Attributes:
        transpose: Rows become columns.
        flip_x: Left and right change places, after that.
        flip_y: Top and bottom change places, after that.
    """

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    def apply(self, image: Image) -> Image:
        """(H, W, 3) uint8 -> (H, W, 3), or (W, H, 3) where transposed; the same array where nothing is to be done."""
        if self.transpose:
            image = np.asarray(cv2.transpose(image), np.uint8)
        if self.flip_x or self.flip_y:
            image = np.asarray(cv2.flip(image, -1 if self.flip_x and self.flip_y else int(self.flip_x)), np.uint8)
        return image


UPRIGHT: Final = Orientation()

_ALL: Final = tuple(Orientation(t, x, y) for t in (False, True) for x in (False, True) for y in (False, True))


def orientation_of(matrix: Sequence[int]) -> tuple[Orientation, bool]:
    """Return the orientation nearest to a display matrix, and whether the matrix is that one.

    Args:
        matrix: FFmpeg's nine numbers (a, b, u, c, d, v, x, y, w): the point (p, q) of the stored picture is shown at
            (a p + c q + x, b p + d q + y). Scale and place are left out of account: a scale that differs between the
            axes reaches us as a sample aspect ratio.

    Returns:
        (UPRIGHT, False) for a matrix that maps all points to a line.
    """
    a, b, c, d = (float(matrix[place]) for place in (0, 1, 3, 4))
    across, down = math.hypot(a, b), math.hypot(c, d)
    if not across or not down or abs(a * d - b * c) < 1e-3 * across * down:
        return UPRIGHT, False
    fits = [_fit(one, a / across, b / across, c / down, d / down) for one in _ALL]
    best = max(range(len(_ALL)), key=fits.__getitem__)  # the first of several: no transposition, no mirror
    return _ALL[best], fits[best] >= 2 * _EXACT


def _fit(orientation: Orientation, a: float, b: float, c: float, d: float) -> float:
    """Return how well an orientation matches a matrix whose rows have length 1: 2 where it is the same."""
    x, y = (-1 if orientation.flip_x else 1), (-1 if orientation.flip_y else 1)
    return x * c + y * b if orientation.transpose else x * a + y * d


def pixel_aspect_of(ratio: Fraction | float | None) -> tuple[float, bool]:
    """Return a pixel's width over its height, and whether the given ratio made sense.

    Args:
        ratio: Sample aspect ratio; None or 0 where the file says nothing, which is no fault.

    Returns:
        (1.0, False) for one that no real video has.
    """
    if not ratio:
        return 1.0, True
    value = float(ratio)
    if not 1 / _MOST_ASPECT <= value <= _MOST_ASPECT:  # also nan
        return 1.0, False
    return value, True


def display_size(width: int, height: int, pixel_aspect: float) -> tuple[int, int]:
    """Return (width, height) in square pixels: one side stays, the other grows."""
    if pixel_aspect >= 1:
        return round(width * pixel_aspect), height
    return width, round(height / pixel_aspect)


def square_pixels(image: Image, pixel_aspect: float) -> Image:
    """Return a (H, W, 3) uint8 picture with square pixels; the same array where they are."""
    height, width = image.shape[:2]
    size = display_size(width, height, pixel_aspect)
    if size == (width, height):
        return image
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), np.uint8)
