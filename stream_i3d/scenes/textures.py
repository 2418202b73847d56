"""What surfaces look like: seeded textures of many kinds, and whole grounds with things standing in them.

Does not know what moves. Every function draws from the generator it is given and keeps no state, so the same
generator state gives the same pixels.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from stream_i3d.scenes.dead_leaves import dead_leaves
from stream_i3d.scenes.noise import Pixels, fractal_noise, palette, stretch
from stream_i3d.scenes.shapes import random_shape

_LEAVES, _FLAT = 0.35, 0.10
"""Shares of surfaces: like photographs, and of one flat colour. The others are patterns."""


def texture(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """Return a (height, width, 3) uint8 BGR surface of a random kind."""
    kind = rng.random()
    if kind < _LEAVES:
        return dead_leaves(rng, height, width)
    if kind < _LEAVES + _FLAT:
        return _flat(rng, height, width)
    return _pattern(rng, height, width)


def background(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """Return a (height, width, 3) uint8 BGR ground with, at times, things standing in it."""
    kind = rng.random()
    if kind < _FLAT:
        return _flat(rng, height, width)
    ground = dead_leaves(rng, height, width) if kind < _FLAT + _LEAVES else _furnished(rng, height, width)
    if rng.random() < 0.35:
        ground = np.asarray(cv2.GaussianBlur(ground, (0, 0), float(rng.uniform(0.3, 2.5)) * height / 80), np.uint8)
    return ground


def _furnished(rng: np.random.Generator, height: int, width: int) -> Pixels:
    ground = _pattern(rng, height, width)
    if rng.random() < 0.35:  # a room: another surface below a line
        line = int(height * rng.uniform(0.45, 0.85))
        ground[line:] = texture(rng, height - line, width)
    for _ in range(int(rng.integers(0, 4))):
        mask = random_shape(rng, int(height * rng.uniform(0.2, 0.9)))
        size = mask.shape[0]
        top, left = int(rng.integers(-size // 2, height - size // 2)), int(rng.integers(-size // 2, width - size // 2))
        rows, columns = slice(max(0, top), min(height, top + size)), slice(max(0, left), min(width, left + size))
        piece = mask[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        ground[rows, columns][piece > 127] = texture(rng, *piece.shape)[piece > 127]
    return ground


def _flat(rng: np.random.Generator, height: int, width: int) -> Pixels:
    return np.broadcast_to(palette(rng)[rng.integers(256)], (height, width, 3)).copy()


def _pattern(rng: np.random.Generator, height: int, width: int) -> Pixels:
    kind = int(rng.integers(5))
    if kind == 0:
        surface = fractal_noise(rng, height, width)
    elif kind == 1:
        surface = _stripes(rng, height, width)
    elif kind == 2:
        surface = _checks(rng, height, width)
    elif kind == 3:
        return _patches(rng, height, width)
    else:
        surface = _gradient(rng, height, width)
    if rng.random() < 0.5:
        share = float(rng.uniform(0.1, 0.5))
        surface = np.asarray(cv2.addWeighted(surface, 1 - share, fractal_noise(rng, height, width), share, 0), np.uint8)
    return np.asarray(cv2.applyColorMap(surface, palette(rng)), np.uint8)


def _grid(rng: np.random.Generator, height: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return two (height, width) coordinates along random perpendicular axes, in units of the height."""
    turn = rng.uniform(0, np.pi)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / np.float32(height)
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    return x * cos + y * sin, y * cos - x * sin


def _stripes(rng: np.random.Generator, height: int, width: int) -> Pixels:
    along, across = _grid(rng, height, width)
    bend = np.float32(rng.uniform(0, 0.15)) * np.sin(across * np.float32(rng.uniform(2, 8)))
    waves = np.sin((along + bend) * np.float32(rng.uniform(8, 45)) + np.float32(rng.uniform(0, 6.28)))
    return np.asarray(np.clip(127.5 + 127.5 * waves * rng.uniform(1, 5), 0, 255), np.uint8)


def _checks(rng: np.random.Generator, height: int, width: int) -> Pixels:
    along, across = _grid(rng, height, width)
    cell = rng.uniform(0.08, 0.4)
    table = rng.integers(0, 256, (8, 8), dtype=np.uint8)
    rows, columns = np.floor(along / cell).astype(int) % 8, np.floor(across / cell).astype(int) % 8
    return np.asarray(table[rows, columns], np.uint8)


def _gradient(rng: np.random.Generator, height: int, width: int) -> Pixels:
    along, _ = _grid(rng, height, width)
    return stretch(along)


def _patches(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """Return overlapping flat and shaded polygons: the look of things lying about."""
    colours = palette(rng)
    surface = np.asarray(cv2.applyColorMap(_gradient(rng, height, width), colours), np.uint8)
    for _ in range(int(rng.integers(4, 14))):
        centre = rng.uniform(0, 1, 2) * (width, height)
        corners = centre + rng.normal(0, rng.uniform(0.05, 0.25) * height, (int(rng.integers(3, 6)), 2))
        colour = [int(value) for value in colours[rng.integers(256), 0]]
        cv2.fillPoly(surface, [np.round(corners * 16).astype(np.int32)], colour, cv2.LINE_AA, 4)
    return surface
