"""Natural-looking pictures that can be moved exactly by any known flow."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.float32]
Points = NDArray[np.float64]
Motion = Callable[[Points, Points], tuple[Points, Points]]
"""A function from x, y in pixels to the flow in pixels."""

SIZE = 160
BORDER = 20
"""Pixels at each border whose counterpart may have left the picture."""


def textured(x: Points, y: Points, seed: int = 0, waves: int = 160) -> Picture:
    """The brightness, about 0 to 255, of one endless texture at any points.

    Waves of random direction, of 4 to 128 pixels, with an amplitude that grows with the wavelength as in photographs.
    """
    random = np.random.default_rng(seed)
    lengths = 4 * 32 ** random.uniform(0, 1, waves)
    angles, phases = random.uniform(0, 2 * np.pi, (2, waves))
    value = np.zeros_like(x)
    for length, angle, phase in zip(lengths, angles, phases, strict=True):
        value += length**0.7 * np.cos(2 * np.pi / length * (x * np.cos(angle) + y * np.sin(angle)) + phase)
    value *= 45 / np.sqrt((lengths**1.4).sum() / 2)
    return np.clip(127 + value, 0, 255).astype(np.float32)


def points(height: int = SIZE, width: int = SIZE) -> tuple[Points, Points]:
    """The pixels' x and y, from the middle of the picture."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    return x - (width - 1) / 2, y - (height - 1) / 2


def pair(motion: Motion, *, size: int = SIZE, seed: int = 0) -> tuple[Picture, Picture, Picture]:
    """A picture, the same after `motion`, and the true flow (H, W, 2).

    What is at x in the first is at x + flow(x) in the second. The texture is warped in the first, at x + flow(x), and
    straight in the second, so that no motion needs to be inverted.
    """
    x, y = points(size, size)
    flow_x, flow_y = motion(x, y)
    previous, current = textured(x + flow_x, y + flow_y, seed), textured(x, y, seed)
    return previous, current, np.stack([flow_x, flow_y], axis=-1).astype(np.float32)


def shift(by_x: float, by_y: float) -> Motion:
    return lambda x, y: (np.full_like(x, by_x), np.full_like(y, by_y))


def rotation(degrees: float) -> Motion:
    angle = np.deg2rad(degrees)
    cos, sin = np.cos(angle) - 1, np.sin(angle)
    return lambda x, y: (cos * x - sin * y, sin * x + cos * y)


def zoom(factor: float) -> Motion:
    return lambda x, y: (x * (factor - 1), y * (factor - 1))


def inner(field: NDArray[np.float32]) -> NDArray[np.float32]:
    """The part of (H, W, ...) away from the border."""
    return field[BORDER:-BORDER, BORDER:-BORDER]


def mean_error(flow: NDArray[np.float32], truth: NDArray[np.float32]) -> float:
    """Mean end-point error, in pixels, away from the border."""
    return float(np.linalg.norm(inner(flow) - inner(truth), axis=-1).mean())
