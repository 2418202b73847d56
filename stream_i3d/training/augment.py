"""What is done to a clip's pictures: which part of them is seen, mirrored or not, in which colours. Pure.

All is drawn once for a clip and done alike to its frames. Optical flow is computed of the pictures after `View` and
before `Colours`: a mirrored clip's flow then is what a camera would see in a mirror, its x of the other sign.
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
    """A part of a picture, in pixels."""

    top: int
    left: int
    height: int
    width: int


class View(NamedTuple):
    """What of a clip's pictures is seen: a part of them, mirrored left to right or not, as a square of `size`."""

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
    """How a clip's colours are changed; the factors are 1 where they are not.

    Attributes:
        brightness: All channels are multiplied by it.
        contrast: Distance from the clip's mean brightness is.
        saturation: Distance from a pixel's own gray is.
        hue: Turn of the colours about gray, in turns (in YIQ, where it is linear).
    """

    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0

    def apply(self, pictures: Pictures) -> Pictures:
        """(T, H, W, 3) uint8 RGB -> the same shape. All at once, as a 3 x 4 matrix: rounded and cut off only once."""
        if self == Colours():
            return pictures
        matrix = self._matrix(float(pictures[:, ::4, ::4].mean(axis=(0, 1, 2)) @ _LUMA))
        frames, height, width, _ = pictures.shape
        changed = cv2.transform(pictures.reshape(frames * height, width, 3), matrix)
        return np.asarray(changed, np.uint8).reshape(pictures.shape)

    def _matrix(self, mean: float) -> NDArray[np.float64]:
        """Return (3, 4) float64: what a pixel is multiplied by, and what is added; `mean` is the clip's brightness."""
        angle = 2 * np.pi * self.hue
        cos, sin = np.cos(angle), np.sin(angle)
        turn = _RGB @ np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]]) @ _YIQ if self.hue else np.eye(3)
        gray = np.tile(_LUMA, (3, 1))
        saturate = self.saturation * np.eye(3) + (1 - self.saturation) * gray
        factors = self.contrast * self.brightness * turn @ saturate
        offset = (1 - self.contrast) * self.brightness * mean  # of a gray: neither saturation nor hue change it
        return np.hstack([factors, np.full((3, 1), offset)])


def centre_box(height: int, width: int, size: int) -> Box:
    """Return the central square, where `preprocess.centre_crop` cuts it."""
    return Box((height - size) // 2, (width - size) // 2, size, size)


def three_boxes(height: int, width: int) -> tuple[Box, Box, Box]:
    """Return three squares of the shorter side: at both ends of the longer one, and in the middle of it."""
    side = min(height, width)
    down, across = height - side, width - side
    return (
        Box(0, 0, side, side),
        Box(down // 2, across // 2, side, side),
        Box(down, across, side, side),
    )


def random_box(height: int, width: int, size: int, rng: np.random.Generator) -> Box:
    """Return a square from anywhere in the picture."""
    return Box(int(rng.integers(height - size + 1)), int(rng.integers(width - size + 1)), size, size)


def multi_scale_box(height: int, width: int, size: int, scales: Sequence[float], rng: np.random.Generator) -> Box:
    """Return a square of one of several sizes, in a corner or the centre.

    As MMAction2's MultiScaleCrop with the settings of its I3D recipes (five places, max_wh_scale_gap 0).

    Args:
        height: Of the picture.
        width: Of the picture.
        size: What the square is resized to; a square within 2 pixels of it gets it exactly.
        scales: The square's side, in shorter sides of the picture, each as likely.
        rng: Two numbers are drawn.
    """
    side = max(1, int(min(height, width) * scales[int(rng.integers(len(scales)))]))
    if abs(side - size) < 3:
        side = size
    across, down = (width - side) // 4, (height - side) // 4
    x, y = ((0, 0), (4, 0), (0, 4), (4, 4), (2, 2))[int(rng.integers(5))]
    return Box(y * down, x * across, side, side)


class Augmenter:
    """Draws what is done to training clips.

    Args:
        config: What may be done.
        labels: The classes.
        crop_size: Side of the squares that the network takes.

    Raises:
        ConfigError: `flip_keep` or `flip_swap` name what is no class, or say two things of one; or `scales` are needed
            and there are none.
    """

    def __init__(self, config: AugmentConfig, labels: Sequence[str], crop_size: int) -> None:
        if config.crop == "multi-scale" and not config.scales:
            raise ConfigError("augment.scales is empty; crop multi-scale needs some, such as [1.0, 0.8]")
        self._config = config
        self._size = crop_size
        self._mirror_label = _mirror_labels(config, labels)

    def draw_mirrored(self, label: int, rng: np.random.Generator) -> tuple[bool, int]:
        """Draw whether a video is seen in a mirror, and return the class that it then shows."""
        chosen = rng.random() < self._config.flip
        becomes = self._mirror_label[label]
        return (True, becomes) if chosen and becomes is not None else (False, label)

    def draw_view(self, height: int, width: int, mirrored: bool, rng: np.random.Generator) -> View:
        """Draw which part of a clip's pictures, of `height` x `width` pixels, is seen."""
        if self._config.crop == "random":
            box = random_box(height, width, self._size, rng)
        elif self._config.crop == "multi-scale":
            box = multi_scale_box(height, width, self._size, self._config.scales, rng)
        else:
            box = centre_box(height, width, self._size)
        return View(box, self._size, mirrored)

    def draw_colours(self, rng: np.random.Generator) -> Colours:
        """Draw how a clip's colours are changed."""
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
    """Return the class that each class becomes in a mirror; None for one that must not be mirrored."""
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
