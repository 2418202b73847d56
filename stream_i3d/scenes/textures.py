"""What grounds and objects look like: seeded textures, shapes and pre-scaled sprites.

Does not know where anything is or how it moves. Every function draws from the generator it is given and
keeps no state, so the same generator state gives the same pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
"""(H, W), (H, W, 3) BGR or (H, W, 4) BGRA, uint8 in [0, 255]."""

SPRITE_PX = 128
"""Side of a sprite's largest picture; its unit disc touches the edges."""


@dataclass(frozen=True)
class Sprite:
    """An object's picture at several sizes, colours already multiplied by alpha.

    Attributes:
        levels: (n, n, 4) uint8 BGRA, n = 128, 64, 32, 16.
    """

    levels: tuple[Pixels, ...]


def fractal_noise(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """Return (height, width) uint8 noise with a 1/f-like spectrum, as photographs have."""
    total = np.zeros((height, width), np.float32)
    cells, gain = float(rng.uniform(1.5, 5.0)), 1.0
    persistence = float(rng.uniform(0.4, 0.85))
    while cells < 48:
        rows, columns = max(2, round(cells * height / width) + 1), max(2, round(cells) + 1)
        grid = rng.random((rows, columns), dtype=np.float32) * np.float32(gain)
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        cells, gain = cells * 2.1, gain * persistence
    return _stretch(total)


def palette(rng: np.random.Generator) -> Pixels:
    """Return (256, 1, 3) uint8: a random colour ramp, muted more often than vivid."""
    stops = int(rng.integers(2, 6))
    luma = rng.uniform(10, 245, (stops, 1))
    chroma = rng.normal(0.0, rng.choice([6.0, 20.0, 55.0]), (stops, 3)) + rng.normal(0.0, 20.0, (1, 3))
    colours = np.clip(luma + chroma, 0, 255)
    ramp = np.linspace(0, stops - 1, 256)
    channels = [np.interp(ramp, np.arange(stops), colours[:, c]) for c in range(3)]
    return np.stack(channels, axis=-1).astype(np.uint8).reshape(256, 1, 3)


def texture(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """Return a (height, width, 3) uint8 BGR surface of a random kind."""
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
        grain = fractal_noise(rng, height, width)
        surface = np.asarray(cv2.addWeighted(surface, 1 - share, grain, share, 0), np.uint8)
    return np.asarray(cv2.applyColorMap(surface, palette(rng)), np.uint8)


def background(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """Return a (height, width, 3) uint8 BGR ground with, at times, things standing in it."""
    ground = texture(rng, height, width)
    if rng.random() < 0.35:  # a room: another surface below a line
        line = int(height * rng.uniform(0.45, 0.85))
        ground[line:] = texture(rng, height - line, width)
    for _ in range(int(rng.integers(0, 5))):
        mask = cv2.resize(shape_mask(rng), None, fx=height / 160, fy=height / 160, interpolation=cv2.INTER_AREA)
        size = mask.shape[0]
        top, left = int(rng.integers(-size // 2, height - size // 2)), int(rng.integers(-size // 2, width - size // 2))
        rows, columns = slice(max(0, top), min(height, top + size)), slice(max(0, left), min(width, left + size))
        piece = mask[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        ground[rows, columns][piece > 127] = texture(rng, *piece.shape)[piece > 127]
    if rng.random() < 0.35:
        ground = np.asarray(cv2.GaussianBlur(ground, (0, 0), float(rng.uniform(0.3, 2.5)) * height / 80), np.uint8)
    return ground


def shape_mask(rng: np.random.Generator) -> Pixels:
    """Return a (128, 128) uint8 alpha mask of a random shape that touches the unit circle."""
    mask = np.zeros((SPRITE_PX, SPRITE_PX), np.uint8)
    kind = int(rng.integers(5))
    if kind == 0:  # ellipse, never quite round
        axes = (62, int(62 * rng.uniform(0.35, 0.85)))
        cv2.ellipse(mask, (64, 64), axes, float(rng.uniform(0, 180)), 0, 360, 255, -1, cv2.LINE_AA)
        return mask
    if kind == 1:  # star
        points, inner = int(rng.integers(3, 8)), float(rng.uniform(0.3, 0.7))
        radii = np.tile([1.0, inner], points)
        angles = np.arange(2 * points) * np.pi / points
    elif kind == 2:  # soft blob
        angles = np.linspace(0, 2 * np.pi, 72, endpoint=False)
        waves = sum(rng.normal(0, 0.35 / k) * np.cos(k * angles + rng.uniform(0, 6.28)) for k in range(1, 6))
        radii = np.exp(waves)
    elif kind == 3:  # box
        half = np.arctan2(rng.uniform(0.35, 1.0), 1.0)
        angles, radii = np.array([half, np.pi - half, np.pi + half, -half]), np.ones(4)
    else:  # polygon
        corners = int(rng.integers(3, 9))
        angles = np.sort(np.arange(corners) + rng.uniform(-0.35, 0.35, corners)) * 2 * np.pi / corners
        radii = rng.uniform(0.6, 1.0, corners)
    radii = 62 * radii / radii.max()
    turn = rng.uniform(0, 2 * np.pi)
    outline = np.stack([64 + radii * np.cos(angles + turn), 64 + radii * np.sin(angles + turn)], -1)
    return _fill(mask, outline)


def plain_sprite(rng: np.random.Generator, avoid: NDArray[np.float64]) -> Sprite:
    """Return an object of random shape and texture whose mean colour differs from `avoid` ((3,) BGR)."""
    return _sprite(_visible_texture(rng, avoid), shape_mask(rng))


def limb_sprites(rng: np.random.Generator, avoid: NDArray[np.float64]) -> tuple[Sprite, Sprite]:
    """Return (upper limb, lower limb with hand) of a jointed object; the joint is each picture's centre.

    The upper limb hangs below the joint, the lower one stands above it.
    """
    colours = _visible_texture(rng, avoid)
    sleeve = _visible_texture(rng, avoid) if rng.random() < 0.5 else colours
    thick = rng.uniform(6, 16)
    upper = np.zeros((SPRITE_PX, SPRITE_PX), np.uint8)
    foot = (int(rng.integers(30, 98)), 118)
    cv2.line(upper, (64, 64), foot, 255, int(thick * rng.uniform(1.2, 2.4)), cv2.LINE_AA)
    lower = np.zeros((SPRITE_PX, SPRITE_PX), np.uint8)
    cv2.line(lower, (64, 64), (64, 28), 255, int(thick * 1.6), cv2.LINE_AA)
    palm = (int(rng.uniform(8, 18)), int(rng.uniform(10, 16)))
    cv2.ellipse(lower, (64, 22), palm, 0, 0, 360, 255, -1, cv2.LINE_AA)
    for finger in range(int(rng.integers(0, 5))):
        angle = -np.pi / 2 + (finger - 1.5) * 0.35
        tip = (int(64 + 24 * np.cos(angle)), max(3, int(22 + 24 * np.sin(angle))))
        cv2.line(lower, (64, 20), tip, 255, 5, cv2.LINE_AA)
    return _sprite(sleeve, upper), _sprite(colours, lower)


def _visible_texture(rng: np.random.Generator, avoid: NDArray[np.float64]) -> Pixels:
    """Return a (128, 128, 3) texture whose mean colour is at least 25 levels from `avoid`, if luck allows."""
    for _ in range(4):
        colours = texture(rng, SPRITE_PX, SPRITE_PX)
        if np.abs(np.asarray(cv2.mean(colours)[:3]) - avoid).max() >= 25:
            break
    return colours


def _sprite(colours: Pixels, mask: Pixels) -> Sprite:
    alpha = np.repeat(mask[:, :, None], 3, axis=2)
    full = np.dstack([cv2.multiply(colours, alpha, scale=1 / 255), mask])
    levels = [full]
    while levels[-1].shape[0] > 16:
        levels.append(cv2.resize(levels[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    return Sprite(levels=tuple(np.asarray(level, np.uint8) for level in levels))


def _fill(mask: Pixels, outline: NDArray[np.float64]) -> Pixels:
    """Fill a closed (N, 2) outline, with edges placed to 1/16 pixel."""
    cv2.fillPoly(mask, [np.round(outline * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return mask


def _stretch(values: NDArray[np.float32]) -> Pixels:
    """Map an array's range onto [0, 255]."""
    low = values.min()
    return np.asarray((values - low) * (255 / max(float(values.max() - low), 1e-6)), np.uint8)


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
    return _stretch(along)


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
