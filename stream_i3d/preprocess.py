"""How a decoded picture becomes the model's input: the one copy shared by live, offline and training.

Two steps with a boundary between them. `prepare_frame` runs once per frame, in the capture process
(resize, crop as the view says, BGR to RGB, still uint8). `normalise` runs once per clip, beside the model (uint8 to
float, THWC to CTHW). This module knows nothing of sources, sockets or networks, and does not import torch.

Published recipe (Carreira & Zisserman, CVPR 2017, released code): short side to 256 bilinearly with the
aspect kept, centre crop 224, RGB, scaled to [-1, 1]. That is the view `centre`; the others are this project's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import numpy as np
from msgspec import Meta, Struct

from stream_i3d.messages import Image, ViewName

if TYPE_CHECKING:
    import torch

__all__ = [
    "LONGEST_VIEW",
    "PLACE_PIXELS",
    "FrameSize",
    "Image",
    "Preprocessing",
    "ViewName",
    "centre_crop",
    "frame_size",
    "is_frame_size",
    "normalise",
    "prepare_frame",
    "resize_short_side",
    "view_share",
]

FrameSize = tuple[int, int]
"""Height and width of a frame."""

Deviation = Annotated[float, Meta(gt=0)]

PLACE_PIXELS = 32
"""Pixels of a frame's side for each place of an I3D's last map."""

LONGEST_VIEW = 2.5
"""Longest frame by its shorter side, in the view `whole`; of a longer picture (a panorama) the middle is seen."""

_WIDE = 16 / 9  # what most cameras send


class Preprocessing(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a network was trained to see. Travels inside our checkpoints.

    Attributes:
        sample_fps: Frames per second the clips were sampled at (25 for the Kinetics weights).
        clip_len: Frames in a clip.
        frame_interval: Gap between a clip's frames, in sampled frames; 1 takes neighbours.
        short_side: Pixels the shorter side is resized to, before the crop.
        crop_size: Pixels of the square centre crop; the model's input is crop_size x crop_size.
        mean: Subtracted per RGB channel, in [0, 255] units.
        std: Divided by per RGB channel, in [0, 255] units.
        view: What part of a picture is seen.
    """

    sample_fps: Annotated[float, Meta(gt=0, le=1000)] = 25.0
    clip_len: Annotated[int, Meta(ge=8, le=1024)] = 16
    frame_interval: Annotated[int, Meta(ge=1, le=64)] = 1
    short_side: Annotated[int, Meta(ge=32, le=4096)] = 256
    crop_size: Annotated[int, Meta(ge=32, le=4096)] = 224
    mean: tuple[float, float, float] = (127.5, 127.5, 127.5)
    std: tuple[Deviation, Deviation, Deviation] = (127.5, 127.5, 127.5)
    view: ViewName = "centre"

    def __post_init__(self) -> None:
        """Check that the crop can be cut out."""
        if self.crop_size > self.short_side:
            raise ValueError(f"crop_size {self.crop_size} must not be above short_side {self.short_side}")

    @property
    def window_frames(self) -> int:
        """Sampled frames from a window's first to its last, both counted."""
        return (self.clip_len - 1) * self.frame_interval + 1

    @property
    def usual_frame_size(self) -> FrameSize:
        """The size of frames of a 16:9 picture; but in the view `whole` that of any."""
        return frame_size(self, _WIDE)


def frame_size(preprocessing: Preprocessing, aspect: float) -> FrameSize:
    """Return height and width of the frames that are made of pictures of one shape.

    Args:
        preprocessing: Says the view.
        aspect: Width of the picture over its height, as it is shown.
    """
    short = preprocessing.crop_size
    if preprocessing.view != "whole":
        return short, short
    places = round(short * max(aspect, 1 / aspect) / PLACE_PIXELS)
    long = max(short, PLACE_PIXELS * min(places, int(short * LONGEST_VIEW / PLACE_PIXELS)))
    return (short, long) if aspect >= 1 else (long, short)


def is_frame_size(preprocessing: Preprocessing, height: int, width: int) -> bool:
    """Tell whether frames of this size can be made, in one view or another."""
    short, long = sorted((height, width))
    if short != preprocessing.crop_size:
        return False
    return long == short or (long % PLACE_PIXELS == 0 and long <= short * LONGEST_VIEW)


def view_share(preprocessing: Preprocessing, aspect: float) -> float:
    """Return the share of a picture's area that is seen, in (0, 1]; `aspect` is its width over its height."""
    ratio = max(aspect, 1 / aspect)
    if preprocessing.view == "squeeze":
        return 1.0
    if preprocessing.view == "whole":
        return min(1.0, LONGEST_VIEW / ratio)
    return (preprocessing.crop_size / preprocessing.short_side) ** 2 / ratio


def prepare_frame(bgr: Image, preprocessing: Preprocessing, pixel_aspect: float = 1.0) -> Image:
    """Make a frame of one decoded picture: resize, crop as the view says, convert.

    Args:
        bgr: (H, W, 3) uint8, channels in OpenCV's order.
        preprocessing: Sizes and view.
        pixel_aspect: Width of a pixel over its height; the result's pixels are square.

    Returns:
        (H', W', 3) uint8 RGB, contiguous; of `frame_size`, which is crop_size x crop_size but in the view `whole`.
    """
    if preprocessing.view != "centre":
        return _prepare_all(bgr, preprocessing, pixel_aspect)
    resized = resize_short_side(bgr, preprocessing.short_side, pixel_aspect)
    return centre_crop(resized, preprocessing.crop_size)[:, :, ::-1].copy()


def _prepare_all(bgr: Image, preprocessing: Preprocessing, pixel_aspect: float) -> Image:
    """Make a frame of all of a picture, in the view `whole` or `squeeze`."""
    import cv2  # as in `resize_short_side`

    aspect = bgr.shape[1] * pixel_aspect / bgr.shape[0]
    height, width = frame_size(preprocessing, aspect)
    shown = _middle(bgr, aspect) if preprocessing.view == "whole" else bgr
    resized = cv2.resize(shown, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized[:, :, ::-1], dtype=np.uint8).copy()


def _middle(image: Image, aspect: float) -> Image:
    """Return the middle of a panorama, no longer than `LONGEST_VIEW`; any other picture as it is."""
    ratio = max(aspect, 1 / aspect)
    if ratio <= LONGEST_VIEW:
        return image
    axis = 1 if aspect >= 1 else 0
    kept = max(1, round(image.shape[axis] * LONGEST_VIEW / ratio))
    start = (image.shape[axis] - kept) // 2
    return image[:, start : start + kept] if axis else image[start : start + kept]


def resize_short_side(image: Image, short_side: int, pixel_aspect: float = 1.0) -> Image:
    """Resize bilinearly, aspect kept, so that the shorter side is `short_side` pixels.

    (H, W, 3) uint8 -> (H', W', 3) uint8 with min(H', W') == short_side. Unchanged where it already fits. `pixel_aspect`
    is the given pixels' width over their height; those of the result are square.
    """
    height, width = image.shape[:2]
    shown = width * pixel_aspect
    scale = short_side / min(height, shown)
    size = (max(short_side, round(shown * scale)), max(short_side, round(height * scale)))
    if size == (width, height):
        return image
    import cv2  # here: supervisor and worker resize nothing, and are 20 MB and 0.1 s lighter without it

    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def centre_crop(image: Image, size: int) -> Image:
    """Return the central (size, size, 3) view of an (H, W, 3) image; H and W must be at least `size`."""
    height, width = image.shape[:2]
    top, left = (height - size) // 2, (width - size) // 2
    return image[top : top + size, left : left + size]


def normalise(clips: torch.Tensor, preprocessing: Preprocessing) -> torch.Tensor:
    """Turn uint8 clips into the network's float input, on whatever device they are.

    Args:
        clips: (B, T, H, W, C) uint8 in [0, 255]: RGB (C = 3), or codes of optical flow (C = 2, `flow.quantise`).
        preprocessing: Mean and standard deviation per channel; of flow, the first two are taken.

    Returns:
        (B, C, T, H, W) float32; [-1, 1] with the published mean and std of 127.5.
    """
    pixels = clips.permute(0, 4, 1, 2, 3).float()
    channels = pixels.shape[1]
    mean = pixels.new_tensor(preprocessing.mean[:channels]).view(1, channels, 1, 1, 1)
    std = pixels.new_tensor(preprocessing.std[:channels]).view(1, channels, 1, 1, 1)
    return (pixels - mean) / std
