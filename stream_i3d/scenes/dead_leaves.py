"""Dead leaves: pictures of things in front of things, with the statistics of photographs.

Many opaque shapes with power-law sizes that hide each other give the edges, flat parts and scale invariance of
natural pictures (Lee, Mumford and Huang, "Occlusion models for natural images", IJCV 2001; density r^-3). Does not
know what the picture is used for.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from stream_i3d.scenes.noise import Pixels, fractal_noise, palette

_ROWS = 112
"""Most rows that are really drawn; larger pictures are enlarged from it, as a lens has its limit too."""


def dead_leaves(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """Return a (height, width, 3) uint8 BGR picture of shaded shapes that lie over each other."""
    rows = min(height, _ROWS)
    columns = max(2, round(width * rows / height))
    count = int(rng.integers(50, 160))
    owner = _owners(rng, rows, columns, count)
    picture = _shade(rng, owner, count)
    picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.3, 0.9))), np.uint8)
    if rows != height:
        picture = np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)
    return picture


def _owners(rng: np.random.Generator, rows: int, columns: int, count: int) -> NDArray[np.uint8]:
    """Return (rows, columns) uint8: which of `count` shapes (< 255) is in front, 0 where there is none."""
    smallest, largest = rng.uniform(0.02, 0.06), rng.uniform(0.25, 0.6)
    share = rng.random((count, 1))
    radii = (smallest**-2 + share * (largest**-2 - smallest**-2)) ** -0.5 * rows  # density r^-3
    corners = 12 if rng.random() < 0.5 else int(rng.integers(3, 7))
    angles = (np.arange(corners) + rng.uniform(-0.35, 0.35, (count, corners))) * (2 * np.pi / corners)
    squeeze, turn = rng.uniform(0.35, 1.0, (count, 1)), rng.uniform(0, np.pi, (count, 1))
    u, v = radii * np.cos(angles), radii * squeeze * np.sin(angles)
    cos, sin = np.cos(turn), np.sin(turn)
    x = rng.uniform(0, columns, (count, 1)) + cos * u - sin * v
    y = rng.uniform(0, rows, (count, 1)) + sin * u + cos * v
    outlines = np.round(np.stack([x, y], -1)).astype(np.int32)
    owner = np.zeros((rows, columns), np.uint8)
    for index, outline in enumerate(outlines, 1):
        cv2.fillConvexPoly(owner, outline, index)
    return owner


def _shade(rng: np.random.Generator, owner: NDArray[np.uint8], count: int) -> Pixels:
    """Colour (rows, columns) owners: each its own colour, a slope of light, and more or less grain."""
    rows, columns = owner.shape
    ramp = palette(rng)[:, 0].astype(np.float32)
    colours = ramp[rng.integers(0, 256, count + 1)] + rng.normal(0, 12, (count + 1, 1)).astype(np.float32)
    slopes = rng.normal(0, 30, (2, count + 1)).astype(np.float32)
    y, x = np.ogrid[0:rows, 0:columns]
    light = slopes[0][owner] * (x / columns - 0.5).astype(np.float32)
    light += slopes[1][owner] * (y / rows - 0.5).astype(np.float32)
    if rng.random() < 0.6:
        grain = fractal_noise(rng, rows, columns).astype(np.float32) - 127.0
        light += grain * (rng.random(count + 1, dtype=np.float32) * np.float32(0.4))[owner]
    return np.asarray(np.clip(colours[owner] + light[:, :, None], 0, 255), np.uint8)
