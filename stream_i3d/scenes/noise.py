"""Random fields and colours that everything else is made of: 1/f noise, light, colour ramps, camera grain.

Does not know objects, grounds or cameras. Functions draw from the generator they are given and keep no state,
except `grain`, which is the same for everybody.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
"""(H, W), (H, W, 3) BGR or (H, W, 4) BGRA, uint8 in [0, 255]."""

GRAIN_STD = 32.0
"""Standard deviation of `grain`, in levels."""


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
    return stretch(total)


def stretch(values: NDArray[np.float32]) -> Pixels:
    """Map an array's range onto [0, 255] uint8."""
    low = values.min()
    return np.asarray((values - low) * (255 / max(float(values.max() - low), 1e-6)), np.uint8)


def light_field(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """Return (height, width, 3) uint8 smooth brightness factors, 128 for 1: lamps, windows and shade."""
    strength = float(rng.uniform(0.1, 0.4))
    grid = 128 * np.exp(rng.uniform(-strength, strength, (3, 3, 1)) + rng.normal(0, 0.03, (1, 1, 3)))
    field = cv2.resize(grid.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(field, 0, 255).astype(np.uint8)


def palette(rng: np.random.Generator) -> Pixels:
    """Return (256, 1, 3) uint8: a random colour ramp, muted more often than vivid."""
    stops = int(rng.integers(2, 6))
    luma = rng.uniform(10, 245, (stops, 1))
    chroma = rng.normal(0.0, rng.choice([6.0, 20.0, 55.0]), (stops, 3)) + rng.normal(0.0, 20.0, (1, 3))
    colours = np.clip(luma + chroma, 0, 255)
    ramp = np.linspace(0, stops - 1, 256)
    channels = [np.interp(ramp, np.arange(stops), colours[:, c]) for c in range(3)]
    return np.stack(channels, axis=-1).astype(np.uint8).reshape(256, 1, 3)


@lru_cache(maxsize=16)
def grain(width: int, height: int, coarse: bool) -> Pixels:
    """Return (height, width, 3) uint8 Gaussian noise about 128; drawn once, as it costs more than a frame.

    Args:
        width: In pixels.
        height: In pixels.
        coarse: In grains about two pixels wide, as enlarged or denoised pictures have, not one.
    """
    rng = np.random.default_rng(20)
    values = rng.normal(0, 1, (height, width, 3)).astype(np.float32)
    if coarse:
        values = np.asarray(cv2.GaussianBlur(values, (0, 0), 0.9), np.float32)
    values *= np.float32(GRAIN_STD / values.std())
    return np.clip(values + 128, 0, 255).astype(np.uint8)
