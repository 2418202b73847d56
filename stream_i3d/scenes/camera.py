"""What stands between a scene and its pixels: shake, lens, exposure, tone, noise, still compression.

Everything is a function of the camera's settings and a time, so pictures may be asked for in any order. Does not know
what is in the picture; what depends on the picture before (`compression`) is not here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from stream_i3d.scenes.noise import GRAIN_STD, Pixels, grain

_SPARE = 64
"""How much larger the table of grain is than a picture, in pixels: that many places to cut it out."""


@dataclass(frozen=True)
class Camera:
    """A camera's settings. The defaults change nothing.

    Attributes:
        noise: Standard deviation per channel, in [0, 255] levels, new in each picture.
        coarse: Whether its grains are about two pixels wide.
        pattern: Standard deviation of the noise that is the same in every picture, in levels.
        shake: Largest displacement along each axis, in shorter sides.
        gain: Mean brightness factor.
        drift: Amplitude of the slow change of brightness.
        rates: Four hertz: of the shake along x and y, of its second sway, and of the brightness.
        flicker: (amplitude, hertz) of a faster change of brightness.
        phase: Of all of them, in radians.
        contrast: Factor about middle grey.
        gamma: Exponent of the tone curve.
        defocus: Standard deviation of the blur, in shorter sides.
        grey: Whether it sees no colours.
        jpeg_quality: In [1, 100], or None for an uncompressed picture.
        sharpness: Sprites are taken up to this many powers of two larger than shown; aliases as cheap cameras do.
        shutter: (seconds, moments): a picture is the mean of so many moments of so long an exposure.
    """

    noise: float = 0.0
    coarse: bool = False
    pattern: float = 0.0
    shake: float = 0.0
    gain: float = 1.0
    drift: float = 0.0
    rates: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    flicker: tuple[float, float] = (0.0, 1.0)
    phase: float = 0.0
    contrast: float = 1.0
    gamma: float = 1.0
    defocus: float = 0.0
    grey: bool = False
    jpeg_quality: int | None = None
    sharpness: float = 0.5
    shutter: tuple[float, int] = (0.0, 1)

    def displacement(self, t: float) -> tuple[float, float]:
        """Return the shake's (x, y) at `t` seconds, in shorter sides."""
        fx, fy, sway, _ = (2 * math.pi * rate * t for rate in self.rates)
        x = 0.7 * math.sin(fx + self.phase) + 0.3 * math.sin(sway + 2 * self.phase)
        y = 0.7 * math.sin(fy + 3 * self.phase) + 0.3 * math.cos(sway)
        return self.shake * x, self.shake * y

    def exposure(self, t: float) -> float:
        """Return the brightness factor at `t` seconds."""
        slow = self.drift * math.sin(2 * math.pi * self.rates[3] * t + self.phase)
        amount, hertz = self.flicker
        return self.gain * (1 + slow + amount * math.sin(2 * math.pi * hertz * t + 2 * self.phase))

    def moments(self, t: float) -> list[float]:
        """Return the instants whose mean is the picture at `t` seconds."""
        length, count = self.shutter
        return [t + length * (i / (count - 1) - 0.5) for i in range(count)] if count > 1 else [t]

    def develop(self, picture: Pixels, t: float, key: int) -> Pixels:
        """Return what the camera delivers of an (H, W, 3) uint8 BGR view.

        Args:
            picture: May be changed.
            t: Seconds; the noise depends on its microseconds and on `key` alone.
            key: Any integer >= 0, the same for all pictures of a scene.
        """
        if self.defocus > 0:
            sigma = max(self.defocus * min(picture.shape[:2]), 0.1)
            picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma), np.uint8)
        factor = self.exposure(t)
        if (factor, self.contrast, self.gamma) != (1.0, 1.0, 1.0):
            table = np.clip(tone_curve(self.gamma, self.contrast) * factor, 0, 255).astype(np.uint8)
            picture = np.asarray(cv2.LUT(picture, table), np.uint8)
        if self.pattern > 0:
            picture = _add_grain(picture, self.pattern, key, self.coarse)
        if self.noise > 0:
            picture = _add_grain(picture, self.noise, round(t * 1e6) * 2654435761 + key, self.coarse)
        if self.grey:
            picture = np.asarray(cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR), np.uint8)
        if self.jpeg_quality is not None:
            picture = jpeg(picture, self.jpeg_quality)
        return picture


CLEAN_CAMERA = Camera()
"""No noise, shake, drift or compression: for tests of the geometry."""


def draw_camera(rng: np.random.Generator) -> Camera:
    """Draw a camera at random, from a still, clean one to a shaky, noisy, badly compressed one.

    It has no shutter: that multiplies the cost, so who draws clips adds it.
    """
    rates = tuple(float(rate) for rate in rng.uniform((0.3, 0.3, 2.0, 0.1), (2.5, 2.5, 7.0, 1.5)))
    low, high = ((0, 4), (4, 10), (10, 15))[int(np.searchsorted((0.6, 0.9), rng.random()))]
    noise, kind = float(rng.uniform(low, high)), rng.random()
    return Camera(
        noise=0.7 * noise if kind < 0.25 else noise,
        coarse=bool(0.15 < kind < 0.5),
        pattern=0.7 * noise if kind < 0.25 else 0.0,
        shake=float(rng.uniform(0, 0.012) * (rng.random() < 0.6)),
        gain=float(np.exp(rng.normal(0, 0.2))),
        drift=float(rng.uniform(0, 0.12) * (rng.random() < 0.6)),
        rates=(rates[0], rates[1], rates[2], rates[3]),
        flicker=(float(rng.uniform(0, 0.04) * (rng.random() < 0.3)), float(rng.uniform(0.5, 3.0))),
        phase=float(rng.uniform(0, 2 * math.pi)),
        contrast=float(rng.uniform(0.6, 1.3)) if rng.random() < 0.5 else 1.0,
        gamma=float(np.exp(rng.uniform(-0.45, 0.45))) if rng.random() < 0.5 else 1.0,
        defocus=float(rng.uniform(0.001, 0.012)) if rng.random() < 0.3 else 0.0,
        grey=bool(rng.random() < 0.08),
        jpeg_quality=int(rng.integers(25, 90)) if rng.random() < 0.4 else None,
        sharpness=float(rng.uniform(0.0, 1.5)),
    )


def metered(camera: Camera, level: float) -> Camera:
    """Return the camera with its gain corrected, as automatic exposure does, where a picture would be black or white.

    Args:
        camera: As drawn.
        level: Mean of what it sees, in [0, 255].
    """
    shown = float(tone_curve(camera.gamma, camera.contrast)[round(level)]) * camera.gain
    return replace(camera, gain=camera.gain * min(max(shown, 35.0), 185.0) / max(shown, 12.0))


@lru_cache(maxsize=8)
def tone_curve(gamma: float, contrast: float) -> NDArray[np.float32]:
    """Return (256,) float32: the level that each level becomes, in [0, 255] or, for more contrast, beyond."""
    levels = 255 * (np.arange(256, dtype=np.float32) / 255) ** np.float32(gamma)
    return np.asarray(127.5 + (levels - 127.5) * np.float32(contrast), np.float32)


def jpeg(picture: Pixels, quality: int) -> Pixels:
    """Return an (H, W, 3) uint8 BGR picture as it is after JPEG of a quality in [1, 100]."""
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)


def _add_grain(picture: Pixels, std: float, key: int, coarse: bool) -> Pixels:
    """Add noise of `std` levels, cut from the one table at a place that depends on `key`."""
    height, width = picture.shape[:2]
    table, mixed = grain(width + _SPARE, height + _SPARE, coarse), key & 0xFFFFFFFF
    column, row = (mixed >> 8) % _SPARE, (mixed >> 16) % _SPARE
    piece = table[row : row + height, column : column + width, :: 1 if mixed & 0x800000 else -1]
    share = std / GRAIN_STD
    return np.asarray(cv2.addWeighted(picture, 1.0, piece, share, -128 * share), np.uint8)
