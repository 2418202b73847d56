"""Clips made without stream_i3d.scenes: patches from frames of real videos, moved over other still frames.

A second, independent drawing of the ten motions, to see whether the carried model knows the motions or its own
generator.
"""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
"""(H, W, 3) uint8 BGR."""

WIDTH, HEIGHT = 320, 240
PATCH = 128


def read_frames(path: Path, most: int = 300) -> list[Picture]:
    """Return the first frames of a video."""
    capture = cv2.VideoCapture(str(path))
    frames: list[Picture] = []
    while len(frames) < most:
        good, frame = capture.read()
        if not good:
            break
        frames.append(np.asarray(frame, np.uint8))
    capture.release()
    return frames


def moved_patch(rng: np.random.Generator, label: str, videos: list[list[Picture]], frames: int, fps: float) -> Picture:
    """Return (frames, 240, 320, 3) uint8 BGR: a patch that makes the motion `label`, with noise of up to 4 levels."""
    here, there = (videos[int(rng.integers(len(videos)))] for _ in range(2))
    ground = _covering(here[int(rng.integers(len(here)))])
    patch = _cut_out(rng, there[int(rng.integers(len(there)))])
    mask = _mask(rng)
    path = _Path(rng, label)
    sigma = float(rng.uniform(0, 4))
    middle = (frames - 1) / 2
    clip = []
    for index in range(frames):
        turn = path.at((index - middle) / fps)
        warped = cv2.warpAffine(patch, turn, (WIDTH, HEIGHT))
        alpha = cv2.warpAffine(mask, turn, (WIDTH, HEIGHT)).astype(np.float32)[..., None] / 255
        picture = ground * (1 - alpha) + warped * alpha + rng.normal(0, sigma, ground.shape)
        clip.append(np.clip(picture, 0, 255).astype(np.uint8))
    return np.stack(clip)


class _Path:
    """The path of the patch; time 0 is the middle of the clip, lengths are in pixels of 240."""

    def __init__(self, rng: np.random.Generator, label: str) -> None:
        self._label = label
        self._radius = rng.uniform(0.15, 0.3) * HEIGHT
        self._speed = math.exp(rng.uniform(math.log(0.2), math.log(1.2))) * HEIGHT
        self._x, self._y = (side / 2 + rng.uniform(-0.25, 0.25) * HEIGHT for side in (WIDTH, HEIGHT))
        self._angle = rng.uniform(-0.3, 0.3)
        self._zoom, self._spin = rng.uniform(0.45, 1.4), rng.uniform(1.2, 6.0)
        self._hertz, self._reach = rng.uniform(1.4, 3.0), rng.uniform(0.07, 0.2) * HEIGHT
        self._phase = rng.uniform(0, 2 * math.pi)

    def at(self, t: float) -> NDArray[np.float64]:
        """Return the (2, 3) affine matrix from the patch to the picture."""
        x, y, radius, angle = self._x, self._y, self._radius, self._angle
        sign = -1 if self._label in ("left", "up", "farther", "counter-clockwise") else 1
        if self._label in ("left", "right"):
            x += sign * self._speed * t
        elif self._label in ("up", "down"):
            y += sign * self._speed * t
        elif self._label in ("nearer", "farther"):
            radius *= math.exp(sign * self._zoom * t)
        elif self._label in ("clockwise", "counter-clockwise"):
            angle += sign * self._spin * t
        elif self._label == "waving":
            x += self._reach * math.sin(2 * math.pi * self._hertz * t + self._phase)
        scale, half = radius / (PATCH / 2), PATCH / 2
        cos, sin = scale * math.cos(angle), scale * math.sin(angle)
        return np.array([[cos, -sin, x - half * (cos - sin)], [sin, cos, y - half * (sin + cos)]])


def _covering(frame: Picture) -> Picture:
    scale = max(WIDTH / frame.shape[1], HEIGHT / frame.shape[0])
    scaled = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    top, left = (scaled.shape[0] - HEIGHT) // 2, (scaled.shape[1] - WIDTH) // 2
    return np.asarray(scaled[top : top + HEIGHT, left : left + WIDTH], np.uint8)


def _cut_out(rng: np.random.Generator, frame: Picture) -> Picture:
    side = int(min(frame.shape[:2]) * rng.uniform(0.25, 0.5))
    top, left = (int(rng.integers(size - side)) for size in frame.shape[:2])
    piece = frame[top : top + side, left : left + side]
    return np.asarray(cv2.resize(piece, (PATCH, PATCH), interpolation=cv2.INTER_AREA), np.uint8)


def _mask(rng: np.random.Generator) -> NDArray[np.uint8]:
    mask = np.zeros((PATCH, PATCH), np.uint8)
    half = PATCH // 2
    if rng.random() < 0.5:
        cv2.ellipse(
            mask, (half, half), (half - 2, int((half - 2) * rng.uniform(0.6, 1))), 0, 0, 360, 255, -1, cv2.LINE_AA
        )
    else:
        height = int(rng.uniform(0.55, 1) * (half - 2))
        mask[half - height : half + height, 2:-2] = 255
    return mask
