"""Outlines of things as alpha masks: ellipses, stars, blobs, boxes, polygons, poles, limbs.

Coordinates of an outline: the middle of the mask is (0, 0), y grows downwards, the unit circle touches the edges.
Does not know what a shape is filled with.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from stream_i3d.scenes.noise import Pixels

_REACH = 0.97
"""Share of half a mask's side that a unit spans: leaves room for a soft edge."""


def fill(side: int, *outlines: NDArray[np.float64]) -> Pixels:
    """Return (side, side) uint8 alpha of closed (N, 2) outlines, with edges placed to 1/16 pixel."""
    mask = np.zeros((side, side), np.uint8)
    for outline in outlines:
        pixels = (side - 1) / 2 + outline * (_REACH * side / 2)
        cv2.fillPoly(mask, [np.round(pixels * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return mask


def random_shape(rng: np.random.Generator, side: int) -> Pixels:
    """Return a (side, side) uint8 alpha mask of a random shape that touches the unit circle."""
    kind = int(rng.integers(6))
    if kind == 0:  # ellipse, never quite round
        angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        outline = np.stack([np.cos(angles), rng.uniform(0.3, 0.85) * np.sin(angles)], -1)
        return fill(side, _turned(outline, rng.uniform(0, np.pi)))
    if kind == 1:  # star, never quite regular
        points, inner = int(rng.integers(3, 8)), float(rng.uniform(0.3, 0.7))
        radii = np.tile([1.0, inner], points) * rng.uniform(0.75, 1.0, 2 * points)
        angles = np.arange(2 * points) * np.pi / points
    elif kind == 2:  # soft blob
        angles = np.linspace(0, 2 * np.pi, 72, endpoint=False)
        order = np.arange(1, 6)[:, None]
        waves = rng.normal(0, 0.35 / order) * np.cos(order * angles + rng.uniform(0, 6.28, (5, 1)))
        radii = np.exp(waves.sum(0))
    elif kind == 3:  # box: also what is cut out of another picture
        half = np.arctan2(rng.uniform(0.25, 1.0), 1.0)
        angles, radii = np.array([half, np.pi - half, np.pi + half, -half]), np.ones(4)
    elif kind == 4:  # ring segment or crescent: one that is not convex
        angles = np.linspace(-1, 1, 24) * rng.uniform(0.9, 2.4)
        inner = rng.uniform(0.35, 0.8)
        angles, radii = np.concatenate([angles, angles[::-1]]), np.repeat([1.0, inner], 24)
    else:  # polygon
        corners = int(rng.integers(3, 9))
        angles = np.sort(np.arange(corners) + rng.uniform(-0.35, 0.35, corners)) * 2 * np.pi / corners
        radii = rng.uniform(0.6, 1.0, corners)
    angles = angles + rng.uniform(0, 2 * np.pi)
    return fill(side, np.stack([np.cos(angles), np.sin(angles)], -1) * (radii / radii.max())[:, None])


def pole(rng: np.random.Generator, side: int) -> Pixels:
    """Return (side, side) uint8 alpha of something on its foot at (0, 1): a stick, a bough, a flag."""
    foot, top = rng.uniform(0.05, 0.2), rng.uniform(0.05, 0.3)
    stem = np.array([[-foot, 1.0], [-top, -0.95], [top, -0.95], [foot, 1.0]])
    if rng.random() < 0.5:
        return fill(side, stem)
    low, reach = rng.uniform(-0.5, 0.2), rng.uniform(0.35, 0.6) * (1 if rng.random() < 0.5 else -1)
    tip = rng.uniform(-0.8, low)
    flag = np.array([[0, -0.8], [reach, tip - 0.1], [reach, tip + 0.1], [0, low]])
    return fill(side, stem, np.clip(flag, -0.9, 0.9))


def sleeve(rng: np.random.Generator, side: int) -> Pixels:
    """Return (side, side) uint8 alpha of an upper arm that hangs from (0, 0), more or less slantwise."""
    thick = rng.uniform(0.1, 0.3)
    return fill(side, _bar((0.0, 0.0), (rng.uniform(-0.5, 0.5), 0.8), thick))


def forearm(rng: np.random.Generator, side: int) -> Pixels:
    """Return (side, side) uint8 alpha of a lower arm that stands on (0, 0), with a hand and maybe fingers."""
    thick = rng.uniform(0.07, 0.2)
    angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    palm = np.stack([rng.uniform(0.13, 0.28) * np.cos(angles), rng.uniform(0.15, 0.25) * np.sin(angles) - 0.66], -1)
    fingers = []
    for finger in range(int(rng.integers(0, 5))):
        angle = -np.pi / 2 + (finger - 1.5) * 0.35
        tip = (0.38 * np.cos(angle), max(-0.93, 0.38 * np.sin(angle) - 0.66))
        fingers.append(_bar((0.0, -0.69), tip, 0.04))
    return fill(side, _bar((0.0, 0.0), (0.0, -0.56), thick), palm, *fingers)


def torso(rng: np.random.Generator, side: int) -> Pixels:
    """Return (side, side) uint8 alpha of a trunk with a head, upright; legs start at (0, 0.15), arms at (0, -0.45)."""
    angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    head = np.stack([rng.uniform(0.12, 0.2) * np.cos(angles), rng.uniform(0.15, 0.21) * np.sin(angles) - 0.76], -1)
    shoulder, hip = rng.uniform(0.15, 0.3), rng.uniform(0.12, 0.25)
    trunk = np.array([[-shoulder, -0.55], [shoulder, -0.55], [hip, 0.22], [-hip, 0.22]])
    return fill(side, trunk, head)


def limb(rng: np.random.Generator, side: int) -> Pixels:
    """Return (side, side) uint8 alpha of a leg or an arm that hangs from (0, 0) to (0, 0.95)."""
    return fill(side, _bar((0.0, 0.0), (0.0, 0.92), rng.uniform(0.09, 0.18)))


def _bar(start: tuple[float, float], end: tuple[float, float], thick: float) -> NDArray[np.float64]:
    """Return the (4, 2) outline of a bar, `thick` on each side of the line."""
    first, last = np.array(start), np.array(end)
    along = (last - first) / np.hypot(*(last - first))
    across = thick * np.array([-along[1], along[0]])
    return np.array([first + across, last + across, last - across, first - across])


def _turned(outline: NDArray[np.float64], angle: float) -> NDArray[np.float64]:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.asarray(outline @ np.array([[cos, sin], [-sin, cos]]), np.float64)
