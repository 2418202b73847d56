"""Things that stand still in front of what moves: bars, posts, corners.

Does not know what moves, only where it will be.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from stream_i3d.scenes.motions import Pose
from stream_i3d.scenes.noise import Pixels
from stream_i3d.scenes.shapes import random_shape
from stream_i3d.scenes.textures import texture

_MOST = 0.35
"""Largest share of the objects' places that may be hidden."""


def draw_occluder(rng: np.random.Generator, height: int, width: int, seen: Sequence[Pose], unit: int) -> Pixels | None:
    """Return a (height, width, 4) uint8 BGRA layer with one thing in it, colours multiplied by alpha.

    Args:
        rng: Source of every choice.
        height: Of the layer, in pixels.
        width: Of the layer, in pixels.
        seen: Poses of what moves, at several times.
        unit: Pixels per shorter side of the picture; the layer's middle is the picture's.

    Returns:
        None where it would hide too much of what moves.
    """
    mask = _bar(rng, height, width, unit) if rng.random() < 0.6 else _lump(rng, height, width, unit)
    if hidden_share(mask, seen, unit) > _MOST:
        return None
    colours = texture(rng, height, width)
    return np.dstack([cv2.multiply(colours, cv2.cvtColor(mask, cv2.COLOR_GRAY2BGR), scale=1 / 255), mask])


def hidden_share(mask: Pixels, seen: Sequence[Pose], unit: int) -> float:
    """Return which share of the objects' squares, as far as in the picture, an (H, W) alpha mask hides, in [0, 1]."""
    height, width = mask.shape
    shares = []
    for pose in seen:
        x, y, half = width / 2 + pose.x * unit, height / 2 + pose.y * unit, max(1.0, 0.7 * pose.radius * unit)
        box = mask[max(0, round(y - half)) : max(0, round(y + half)), max(0, round(x - half)) : max(0, round(x + half))]
        if box.size:
            shares.append(float(box.mean()) / 255)
    return float(np.mean(shares)) if shares else 0.0


def _bar(rng: np.random.Generator, height: int, width: int, unit: int) -> Pixels:
    """Draw a post, a rail or a bough from edge to edge."""
    mask = np.zeros((height, width), np.uint8)
    angle, thick = rng.choice([0.0, np.pi / 2]) + rng.normal(0, 0.15), rng.uniform(0.04, 0.13) * unit
    x, y = width / 2 + rng.uniform(-0.5, 0.5) * unit, height / 2 + rng.uniform(-0.5, 0.5) * unit
    far = 2 * max(width, height)
    dx, dy = far * np.cos(angle), far * np.sin(angle)
    cv2.line(
        mask, (round(x - dx), round(y - dy)), (round(x + dx), round(y + dy)), 255, max(1, round(thick)), cv2.LINE_AA
    )
    return mask


def _lump(rng: np.random.Generator, height: int, width: int, unit: int) -> Pixels:
    """Draw some shape anywhere."""
    mask = np.zeros((height, width), np.uint8)
    side = min(int(rng.uniform(0.15, 0.4) * unit), height, width)
    top, left = int(rng.integers(0, height - side + 1)), int(rng.integers(0, width - side + 1))
    mask[top : top + side, left : left + side] = random_shape(rng, side)
    return mask
