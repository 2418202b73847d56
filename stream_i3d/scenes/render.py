"""Puts scenes together as a camera would deliver them: ground, shadows, objects, what stands before them, light.

`Scene` is one label's picture over time, `SceneRenderer` shows a `Schedule` of them. Frames may be asked for in any
order. Does not know how pictures are resized for the network, nor what codecs make of their order (`clips`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stream_i3d.scenes.camera import Camera, draw_camera, metered
from stream_i3d.scenes.motion_sampling import Shot, draw_motion
from stream_i3d.scenes.motions import Pose
from stream_i3d.scenes.noise import Pixels, light_field
from stream_i3d.scenes.occluders import draw_occluder
from stream_i3d.scenes.schedule import Schedule, Segment
from stream_i3d.scenes.sprites import SPRITE_PX, Part, Sprite, Surroundings, draw_object, moments
from stream_i3d.scenes.textures import background

_MARGIN = 0.03
"""Ground painted beyond each edge, in shorter sides, so that shake never shows a border."""
_SCENE_S = 3.5


class Scene:
    """One label's picture over time, as long as it is asked for.

    Args:
        rng: Source of every choice; spent by the constructor, not kept.
        label: One of `LABELS`.
        size: (width, height) in pixels.
        camera: In place of a random one.
        shot: The one clip that will be taken; it may show a single thing. None: any time, two or three things.
        least_size: Of the things at first, as a share of the (logarithmic) way from the smallest to the largest.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        label: str,
        size: tuple[int, int],
        *,
        camera: Camera | None = None,
        shot: Shot | None = None,
        least_size: float = 0.0,
    ) -> None:
        self.size = size
        self.unit = min(size)
        self.margin = math.ceil(_MARGIN * self.unit)
        height, width = size[1] + 2 * self.margin, size[0] + 2 * self.margin
        self.ground = background(rng, height, width)
        odds = (0.0, 0.7, 0.3) if shot is None else (0.5, 0.35, 0.15)
        objects = 1 + int(np.searchsorted(np.cumsum(odds)[:-1], rng.random(), side="right"))
        motion = draw_motion(rng, label, size[0] / self.unit, size[1] / self.unit, objects=objects, shot=shot)
        self.motion = motion.enlarged(least_size)
        around = Surroundings(*moments(self.ground))
        self.objects = [
            draw_object(rng, place.body, around, sprite_side(2 * place.radius * self.unit))
            for place in self.motion.places
        ]
        self.light = light_field(rng, size[1], size[0]) if rng.random() < 0.4 else None
        times = np.linspace(shot.start_s, shot.end_s, 6) if shot is not None else np.linspace(0, _SCENE_S, 15)
        front = None
        if rng.random() < 0.16:  # some 15 % after those that would hide too much
            seen = [pose for t in times for pose in self.motion.poses(float(t))[-1 if shot is not None else 0 :]]
            front = draw_occluder(rng, height, width, seen, self.unit)
        self.front = front
        self.key = int(rng.integers(1 << 31))
        drawn = metered(draw_camera(rng), float(around.mean.mean()))
        self.camera = camera if camera is not None else drawn

    def frame(self, t: float) -> Pixels:
        """Return the (H, W, 3) uint8 BGR picture `t` seconds into the scene."""
        views = [self._view(moment) for moment in self.camera.moments(t)]
        picture = views[0] if len(views) == 1 else _mean(views)
        if self.light is not None:
            picture = np.asarray(cv2.multiply(picture, self.light, scale=1 / 128), np.uint8)
        return self.camera.develop(picture, t, self.key)

    def _view(self, t: float) -> Pixels:
        """Return what is before the lens at one instant."""
        dx, dy = (value * self.unit for value in self.camera.displacement(t))
        picture = self._shaken(self.ground, dx, dy)
        for pose, parts in zip(self.motion.poses(t), self.objects, strict=True):
            for part in parts:
                self._paint(picture, part, pose, dx, dy)
        if self.front is not None:
            blend(picture, self._shaken(self.front, dx, dy))
        return picture

    def _shaken(self, layer: Pixels, dx: float, dy: float) -> Pixels:
        """Return the picture's cut of a layer with margins, displaced by (dx, dy) pixels."""
        width, height = self.size
        if dx == dy == 0.0:
            return layer[self.margin : self.margin + height, self.margin : self.margin + width].copy()
        shift = np.array([[1.0, 0.0, dx - self.margin], [0.0, 1.0, dy - self.margin]])
        return np.asarray(cv2.warpAffine(layer, shift, self.size, borderMode=cv2.BORDER_REPLICATE), np.uint8)

    def _paint(self, picture: Pixels, part: Part, pose: Pose, dx: float, dy: float) -> None:
        """Blend one part of an object into `picture`, in place, touching only the box around it."""
        width, height = self.size
        x, y, radius, angle = place_part(part, pose)
        x, y, radius = width / 2 + x * self.unit + dx, height / 2 + y * self.unit + dy, radius * self.unit
        left, right = max(0, math.floor(x - radius)), min(width, math.ceil(x + radius) + 1)
        top, bottom = max(0, math.floor(y - radius)), min(height, math.ceil(y + radius) + 1)
        if left >= right or top >= bottom:
            return
        level = pick_level(part.sprite, 2 * radius * 2**self.camera.sharpness)
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
        blend(picture[top:bottom, left:right], cv2.warpAffine(level, matrix, (right - left, bottom - top)))


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


def place_part(part: Part, pose: Pose) -> tuple[float, float, float, float]:
    """Return a part's (x, y, half side, angle) in the picture, in the units of `Pose`."""
    cos, sin = math.cos(pose.angle), math.sin(pose.angle)
    (u, v), (right, down) = part.joint, part.offset
    x = pose.x + pose.radius * (cos * u - sin * v + right)
    y = pose.y + pose.radius * (sin * u + cos * v + down)
    return x, y, pose.radius * part.reach, pose.angle + part.turn * pose.swing


def blend(picture: Pixels, layer: NDArray[Any]) -> None:
    """Lay an (H, W, 4) BGRA layer, colours multiplied by alpha, over an (H, W, 3) picture, in place."""
    clear = cv2.cvtColor(cv2.bitwise_not(layer[:, :, 3]), cv2.COLOR_GRAY2BGR)
    picture[:] = cv2.add(cv2.multiply(picture, clear, scale=1 / 255), layer[:, :, :3])


def pick_level(sprite: Sprite, pixels: float) -> Pixels:
    """Return the sprite's smallest picture of at least `pixels` a side, or its largest."""
    for level in reversed(sprite.levels):
        if level.shape[0] >= pixels:
            return level
    return sprite.levels[0]


def sprite_side(pixels: float) -> int:
    """Return the side of the largest sprite that an object about `pixels` wide needs: small ones cost less."""
    return SPRITE_PX if pixels > 0.45 * SPRITE_PX else SPRITE_PX // 2


def _mean(views: Sequence[Pixels]) -> Pixels:
    """Return the mean of (H, W, 3) uint8 pictures, rounded."""
    total = np.zeros(views[0].shape, np.float32)
    for view in views:
        cv2.accumulate(view, total)
    return np.asarray(cv2.convertScaleAbs(total, alpha=1 / len(views)), np.uint8)
