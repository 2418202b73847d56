"""Puts scenes together as a camera would deliver them: ground, objects, shake, exposure, noise, compression.

`SceneRenderer` shows a `Schedule`; `render_clip` shows one label, for training. Both draw with the same
code. Frames may be asked for in any order. Does not know how pictures are resized for the network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from stream_i3d.scenes.motions import Pose, draw_motion
from stream_i3d.scenes.schedule import Schedule, Segment
from stream_i3d.scenes.textures import Pixels, Sprite, background, limb_sprites, plain_sprite

GENERATOR_VERSION = 1
"""Raised whenever the same seed gives other pixels; a checkpoint's provenance names it."""

_MARGIN = 0.03
"""Ground painted beyond each edge, in shorter sides, so that shake never shows a border."""


@dataclass(frozen=True)
class Camera:
    """What stands between a scene and its pixels.

    Attributes:
        noise: Standard deviation per channel, in [0, 255] levels.
        shake: Largest displacement along each axis, in shorter sides.
        gain: Mean brightness factor.
        drift: Amplitude of the slow change of brightness.
        rates: Four hertz: of the shake along x and y, of its second sway, and of the brightness.
        phase: Of all of them, in radians.
        jpeg_quality: In [1, 100], or None for an uncompressed picture.
        sharpness: Sprites are taken up to this many powers of two larger than shown; aliases as cheap cameras do.
    """

    noise: float = 0.0
    shake: float = 0.0
    gain: float = 1.0
    drift: float = 0.0
    rates: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    phase: float = 0.0
    jpeg_quality: int | None = None
    sharpness: float = 0.5

    def displacement(self, t: float) -> tuple[float, float]:
        """Return the shake's (x, y) at `t` seconds, in shorter sides."""
        fx, fy, sway, _ = (2 * math.pi * rate * t for rate in self.rates)
        x = 0.7 * math.sin(fx + self.phase) + 0.3 * math.sin(sway + 2 * self.phase)
        y = 0.7 * math.sin(fy + 3 * self.phase) + 0.3 * math.cos(sway)
        return self.shake * x, self.shake * y

    def exposure(self, t: float) -> float:
        """Return the brightness factor at `t` seconds."""
        return self.gain * (1 + self.drift * math.sin(2 * math.pi * self.rates[3] * t + self.phase))


CLEAN_CAMERA = Camera()
"""No noise, shake, drift or compression: for tests of the geometry."""


class Scene:
    """One label's picture over time, as long as it is asked for.

    Args:
        rng: Source of every choice; spent by the constructor, not kept.
        label: One of `LABELS`.
        size: (width, height) in pixels.
        camera: In place of a random one.
    """

    def __init__(
        self, rng: np.random.Generator, label: str, size: tuple[int, int], *, camera: Camera | None = None
    ) -> None:
        self.size = size
        self.unit = min(size)
        self.margin = math.ceil(_MARGIN * self.unit)
        self.ground = background(rng, size[1] + 2 * self.margin, size[0] + 2 * self.margin)
        mean = np.asarray(cv2.mean(self.ground)[:3], np.float64)
        self.motion = draw_motion(rng, label, size[0] / self.unit, size[1] / self.unit)
        self.sprites: list[tuple[Sprite, ...]] = [
            limb_sprites(rng, mean) if place.jointed else (plain_sprite(rng, mean),) for place in self.motion.places
        ]
        self.noise_key = int(rng.integers(1 << 31))
        drawn = draw_camera(rng)
        self.camera = camera if camera is not None else drawn

    def frame(self, t: float) -> Pixels:
        """Return the (H, W, 3) uint8 BGR picture `t` seconds into the scene."""
        dx, dy = (value * self.unit for value in self.camera.displacement(t))
        shift = np.array([[1.0, 0.0, dx - self.margin], [0.0, 1.0, dy - self.margin]])
        picture = np.asarray(cv2.warpAffine(self.ground, shift, self.size, borderMode=cv2.BORDER_REPLICATE), np.uint8)
        for pose, sprites in zip(self.motion.poses(t), self.sprites, strict=True):
            for part, sprite in enumerate(sprites):
                self._paint(picture, sprite, pose, pose.angle + (pose.swing if part else 0.0), dx, dy)
        return self._develop(picture, t)

    def _paint(self, picture: Pixels, sprite: Sprite, pose: Pose, angle: float, dx: float, dy: float) -> None:
        """Blend one sprite into `picture`, in place, touching only the box around it."""
        width, height = self.size
        radius = pose.radius * self.unit
        x, y = width / 2 + pose.x * self.unit + dx, height / 2 + pose.y * self.unit + dy
        left, right = max(0, math.floor(x - radius)), min(width, math.ceil(x + radius) + 1)
        top, bottom = max(0, math.floor(y - radius)), min(height, math.ceil(y + radius) + 1)
        if left >= right or top >= bottom:
            return
        level = pick_level(sprite, 2 * radius * 2**self.camera.sharpness)
        middle = (level.shape[0] - 1) / 2
        scale = 2 * radius / level.shape[0]
        cos, sin = scale * math.cos(angle), scale * math.sin(angle)
        # y grows downwards, so this turns clockwise as seen; pixel centres lie at whole numbers.
        matrix = np.array(
            [
                [cos, -sin, x - 0.5 - left - cos * middle + sin * middle],
                [sin, cos, y - 0.5 - top - sin * middle - cos * middle],
            ]
        )
        warped = cv2.warpAffine(level, matrix, (right - left, bottom - top))
        clear = cv2.cvtColor(cv2.bitwise_not(warped[:, :, 3]), cv2.COLOR_GRAY2BGR)
        box = picture[top:bottom, left:right]
        picture[top:bottom, left:right] = cv2.add(cv2.multiply(box, clear, scale=1 / 255), warped[:, :, :3])

    def _develop(self, picture: Pixels, t: float) -> Pixels:
        """Apply exposure, noise and compression; the noise depends on the time in microseconds alone."""
        camera, (width, height) = self.camera, self.size
        if camera.noise > 0:
            grain = _grain(width + 64, height + 64)
            mixed = (round(t * 1e6) * 2654435761 + self.noise_key) & 0xFFFFFFFF
            column, row = (mixed >> 8) % 64, (mixed >> 16) % 64
            grain = grain[row : row + height, column : column + width, :: 1 if mixed & 0x800000 else -1]
            share = camera.noise / _GRAIN_STD
            picture = np.asarray(cv2.addWeighted(picture, camera.exposure(t), grain, share, -128 * share), np.uint8)
        elif camera.gain != 1.0 or camera.drift > 0:
            picture = np.asarray(cv2.convertScaleAbs(picture, alpha=camera.exposure(t)), np.uint8)
        if camera.jpeg_quality is not None:
            _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, camera.jpeg_quality])
            picture = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
        return picture


class SceneRenderer:
    """Draws a `Schedule` as a camera with a fixed view would see it, a new scene for each segment.

    The same (seed, size, t) gives the same pixels. Not for use by several threads at once: it keeps the
    scenes it drew last.

    Args:
        seed: Of the schedule and of every scene, >= 0.
        size: (width, height) in pixels, each at least 32.
        mean_segment_s: Mean duration of a segment, in seconds.

    Attributes:
        schedule: What is shown when.
    """

    def __init__(self, seed: int, size: tuple[int, int] = (320, 240), mean_segment_s: float = 3.5) -> None:
        if min(size) < 32:
            raise ValueError(f"a scene must be at least 32 x 32 pixels, got {size[0]} x {size[1]}")
        self.schedule = Schedule(seed, mean_segment_s)
        self.size = size
        self._scenes: dict[int, Scene] = {}

    def render(self, t: float) -> Pixels:
        """Return the (height, width, 3) uint8 BGR frame at `t` seconds (>= 0) of the schedule."""
        segment = self.schedule.segment_at(t)
        return self._scene(segment).frame(t - segment.start_s)

    def _scene(self, segment: Segment) -> Scene:
        scene = self._scenes.pop(segment.index, None)
        if scene is None:
            rng = np.random.default_rng([self.schedule.seed, segment.index, 1])
            scene = Scene(rng, segment.label, self.size)
        self._scenes[segment.index] = scene  # newest last: what is dropped is what was not asked for longest
        while len(self._scenes) > 3:
            del self._scenes[next(iter(self._scenes))]
        return scene


def render_clip(
    seed: int | tuple[int, ...],
    label: str,
    clip_len: int = 16,
    fps: float = 25.0,
    size: tuple[int, int] = (107, 80),
    *,
    camera: Camera | None = None,
) -> Pixels:
    """Render one clip of one motion.

    Half of the clips are sampled from a source of 20 to 60 frames per second, as a live camera is, which
    repeats or skips a frame now and then; the others have equal gaps.

    Args:
        seed: The same seed (or tuple of seeds) gives the same clip.
        label: One of `LABELS`.
        clip_len: Frames.
        fps: Frames per second that the sampling aims for.
        size: (width, height) in pixels.
        camera: In place of a random one; its clips always have equal gaps.

    Returns:
        (clip_len, height, width, 3) uint8 BGR.
    """
    rng = np.random.default_rng(seed)
    times = rng.uniform(0, 3.0) + np.arange(clip_len) / fps
    source_fps = float(rng.uniform(20, 60)) if rng.random() < 0.5 else None
    if source_fps is not None and camera is None:
        times = np.ceil(times * source_fps) / source_fps
    scene = Scene(rng, label, size, camera=camera)
    return np.stack([scene.frame(float(t)) for t in times])


def draw_camera(rng: np.random.Generator) -> Camera:
    """Draw a camera at random, from a still, clean one to a shaky, noisy, badly compressed one."""
    rates = tuple(float(rate) for rate in rng.uniform((0.3, 0.3, 2.0, 0.1), (2.5, 2.5, 7.0, 1.5)))
    return Camera(
        noise=float(rng.uniform(0, 4) if rng.random() < 0.7 else rng.uniform(4, 12)),
        shake=float(rng.uniform(0, 0.006) * (rng.random() < 0.6)),
        gain=float(np.exp(rng.normal(0, 0.2))),
        drift=float(rng.uniform(0, 0.12) * (rng.random() < 0.6)),
        rates=(rates[0], rates[1], rates[2], rates[3]),
        phase=float(rng.uniform(0, 2 * math.pi)),
        jpeg_quality=int(rng.integers(25, 90)) if rng.random() < 0.4 else None,
        sharpness=float(rng.uniform(0.0, 1.5)),
    )


def pick_level(sprite: Sprite, pixels: float) -> Pixels:
    """Return the sprite's smallest picture of at least `pixels` a side, or its largest."""
    for level in reversed(sprite.levels):
        if level.shape[0] >= pixels:
            return level
    return sprite.levels[0]


_GRAIN_STD = 32.0


@lru_cache(maxsize=4)
def _grain(width: int, height: int) -> NDArray[np.uint8]:
    """Return (height, width, 3) uint8 Gaussian noise about 128; drawn once, as it costs more than a frame."""
    rng = np.random.default_rng(20)
    return np.clip(rng.normal(128, _GRAIN_STD, (height, width, 3)), 0, 255).astype(np.uint8)
