"""Augmentation of training clips: crop, mirror and colour jitter. Pure.

The random values are drawn once for a clip and applied to all of its frames. Optical flow is computed after `View` and
before `Colours`, so the x component of a mirrored clip's flow has the opposite sign.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from stream_i3d.errors import ConfigError, did_you_mean
from stream_i3d.training.config import AugmentConfig

Pictures = NDArray[np.uint8]
"""(T, H, W, 3) uint8 RGB in [0, 255]."""

_LUMA = np.array([0.299, 0.587, 0.114])  # Rec. 601, as cv2.cvtColor and flow.to_gray
_YIQ = np.array([_LUMA, [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_RGB = np.linalg.inv(_YIQ)


class Box(NamedTuple):
    """A rectangle of a picture, in pixels."""

    top: int
    left: int
    height: int
    width: int


class View(NamedTuple):
    """The part of a clip's pictures that is used: a box, resized to `size` x `size`, mirrored left to right or not."""

    box: Box
    size: int
    mirrored: bool = False

    def apply(self, pictures: Pictures) -> Pictures:
        """(T, H, W, 3) uint8 -> (T, size, size, 3) uint8, contiguous; a box of another size is resized bilinearly."""
        top, left, height, width = self.box
        seen = pictures[:, top : top + height, left : left + width]
        if (height, width) != (self.size, self.size):
            square = (self.size, self.size)
            seen = np.stack([cv2.resize(one, square, interpolation=cv2.INTER_LINEAR) for one in seen]).astype(np.uint8)
        return np.ascontiguousarray(seen[:, :, ::-1] if self.mirrored else seen)


class Colours(NamedTuple):
    """Colour changes of a clip; the defaults change nothing.

    Attributes:
        brightness: Factor on all channels.
        contrast: Factor on the distance from the clip's mean brightness.
        saturation: Factor on the distance from a pixel's own gray.
        hue: Rotation about the gray axis, in turns (in YIQ, where it is linear).
    """

    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0

    def apply(self, pictures: Pictures) -> Pictures:
        """(T, H, W, 3) uint8 RGB -> the same shape; one 3 x 4 matrix, so values are rounded and clipped only once."""
        if self == Colours():
            return pictures
        matrix = self._matrix(float(pictures[:, ::4, ::4].mean(axis=(0, 1, 2)) @ _LUMA))
        frames, height, width, _ = pictures.shape
        changed = cv2.transform(pictures.reshape(frames * height, width, 3), matrix)
        return np.asarray(changed, np.uint8).reshape(pictures.shape)

    def _matrix(self, mean: float) -> NDArray[np.float64]:
        """Return (3, 4) float64, an affine map of RGB; `mean` is the clip's mean brightness."""
        angle = 2 * np.pi * self.hue
        cos, sin = np.cos(angle), np.sin(angle)
        turn = _RGB @ np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]]) @ _YIQ if self.hue else np.eye(3)
        gray = np.tile(_LUMA, (3, 1))
        saturate = self.saturation * np.eye(3) + (1 - self.saturation) * gray
        factors = self.contrast * self.brightness * turn @ saturate
        offset = (1 - self.contrast) * self.brightness * mean  # of a gray: neither saturation nor hue change it
        return np.hstack([factors, np.full((3, 1), offset)])


def centre_box(height: int, width: int, size: int) -> Box:
    """Return the central square, the same as `preprocess.centre_crop`."""
    return Box((height - size) // 2, (width - size) // 2, size, size)


def three_boxes(height: int, width: int) -> tuple[Box, Box, Box]:
    """Return three squares with the side of the shorter one: at both ends and in the middle of the longer side."""
    side = min(height, width)
    down, across = height - side, width - side
    return (
        Box(0, 0, side, side),
        Box(down // 2, across // 2, side, side),
        Box(down, across, side, side),
    )


def random_box(height: int, width: int, size: int, rng: np.random.Generator) -> Box:
    """Return a square at a random place."""
    return Box(int(rng.integers(height - size + 1)), int(rng.integers(width - size + 1)), size, size)


def multi_scale_box(height: int, width: int, size: int, scales: Sequence[float], rng: np.random.Generator) -> Box:
    """Return a square of a random scale, in a corner or the centre.

    The same as MMAction2's MultiScaleCrop with the settings of its I3D recipes (five places, max_wh_scale_gap 0).

    Args:
        height: Height of the picture in pixels.
        width: Width of the picture in pixels.
        size: Side that the square is resized to; a square within 2 pixels of it is given exactly this side.
        scales: Sides of the square as shares of the shorter side; all are equally likely.
        rng: Two numbers are drawn from it.
    """
    side = max(1, int(min(height, width) * scales[int(rng.integers(len(scales)))]))
    if abs(side - size) < 3:
        side = size
    across, down = (width - side) // 4, (height - side) // 4
    x, y = ((0, 0), (4, 0), (0, 4), (4, 4), (2, 2))[int(rng.integers(5))]
    return Box(y * down, x * across, side, side)


class Augmenter:
    """Draws the augmentation of training clips.

    Args:
        config: Kinds and strengths of augmentation.
        labels: The classes.
        crop_size: Side of the network's input in pixels.

    Raises:
        ConfigError: `flip_keep` or `flip_swap` names an unknown class or one class twice, or crop "multi-scale" has no
            `scales`.
    """

    def __init__(self, config: AugmentConfig, labels: Sequence[str], crop_size: int) -> None:
        if config.crop == "multi-scale" and not config.scales:
            raise ConfigError("augment.scales is empty; crop multi-scale needs some, such as [1.0, 0.8]")
        self._config = config
        self._size = crop_size
        self._mirror_label = _mirror_labels(config, labels)

    def draw_mirrored(self, label: int, rng: np.random.Generator) -> tuple[bool, int]:
        """Draw whether a video is mirrored; return that and the class that it then shows."""
        chosen = rng.random() < self._config.flip
        becomes = self._mirror_label[label]
        return (True, becomes) if chosen and becomes is not None else (False, label)

    def draw_view(self, height: int, width: int, mirrored: bool, rng: np.random.Generator) -> View:
        """Draw the crop of a clip whose pictures have `height` x `width` pixels."""
        if self._config.crop == "random":
            box = random_box(height, width, self._size, rng)
        elif self._config.crop == "multi-scale":
            box = multi_scale_box(height, width, self._size, self._config.scales, rng)
        else:
            box = centre_box(height, width, self._size)
        return View(box, self._size, mirrored)

    def draw_colours(self, rng: np.random.Generator) -> Colours:
        """Draw the colour changes of a clip."""
        config = self._config
        brightness, contrast, saturation, hue = rng.uniform(-1, 1, 4)
        gray = rng.random() < config.gray
        return Colours(
            brightness=1 + config.brightness * brightness,
            contrast=1 + config.contrast * contrast,
            saturation=0.0 if gray else 1 + config.saturation * saturation,
            hue=0.0 if gray else config.hue * hue,
        )


def _mirror_labels(config: AugmentConfig, labels: Sequence[str]) -> tuple[int | None, ...]:
    """Return the class that each class becomes when mirrored; None for a class that must not be mirrored."""
    place = {label: index for index, label in enumerate(labels)}
    becomes: dict[str, str | None] = {}
    named: list[tuple[str, str | None, str]] = [(label, None, "flip_keep") for label in config.flip_keep]
    for one, other in config.flip_swap:
        named += [(one, other, "flip_swap"), (other, one, "flip_swap")]
    for label, partner, key in named:
        if label not in place:
            raise ConfigError(
                f"augment.{key}: no class {label!r}{did_you_mean(label, labels)}; "
                f"the classes are {', '.join(labels[:20])}"
            )
        if label in becomes:
            raise ConfigError(f"augment.{key}: {label!r} is named twice in flip_keep and flip_swap; name it once")
        becomes[label] = partner
    mirrored = (becomes.get(label, label) for label in labels)
    return tuple(None if label is None else place[label] for label in mirrored)
