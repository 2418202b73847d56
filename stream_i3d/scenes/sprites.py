"""Things that move, as pre-scaled pictures with alpha: what they are made of and how they are put together.

Does not know where anything is or how it moves. Every function draws from the generator it is given and keeps no
state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from stream_i3d.scenes import shapes
from stream_i3d.scenes.motions import Body, Pose
from stream_i3d.scenes.noise import Pixels
from stream_i3d.scenes.shapes import random_shape
from stream_i3d.scenes.textures import texture

SPRITE_PX = 128
"""Side of a sprite's largest picture; its unit disc touches the edges."""

_SHADOW_SPREAD = 1.3


@dataclass(frozen=True)
class Sprite:
    """A picture at several sizes, colours already multiplied by alpha.

    Attributes:
        levels: (n, n, 4) uint8 BGRA, n = 128 or less, halved down to 16.
    """

    levels: tuple[Pixels, ...]


@dataclass(frozen=True)
class Part:
    """One piece of an object, which turns about its joint.

    Attributes:
        sprite: Its picture, with the joint in the middle.
        joint: (x, y) in the object's unit disc.
        reach: Half the picture's side, in radii of the object.
        turn: How much of the pose's swing it makes.
        offset: (x, y) in radii, in the picture's directions whatever the object's angle: of a shadow.
    """

    sprite: Sprite
    joint: tuple[float, float] = (0.0, 0.0)
    reach: float = 1.0
    turn: float = 0.0
    offset: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Surroundings:
    """What an object must be distinguishable from.

    Attributes:
        mean: (3,) BGR, of the ground.
        spread: Standard deviation of the ground's brightness, in levels.
    """

    mean: NDArray[np.float64]
    spread: float


def draw_object(rng: np.random.Generator, body: Body, ground: Surroundings, side: int = SPRITE_PX) -> tuple[Part, ...]:
    """Return an object's parts, the hindmost first.

    Args:
        rng: Source of every choice.
        body: What kind of thing it is.
        ground: What it is seen against.
        side: Of its largest picture, in pixels.
    """
    softness = float(rng.uniform(0.02, 0.08)) if rng.random() < 0.2 else 0.0
    if body == "figure":
        parts = _figure(rng, ground, side, softness)
    elif body == "arm":
        hand = object_texture(rng, ground, side)
        cloth = object_texture(rng, ground, side) if rng.random() < 0.5 else hand
        upper = make_sprite(cloth, shapes.sleeve(rng, side), softness)
        parts = (Part(upper), Part(make_sprite(hand, shapes.forearm(rng, side), softness), turn=1.0))
    else:
        mask = shapes.pole(rng, side) if body == "stick" else shapes.random_shape(rng, side)
        parts = (Part(make_sprite(object_texture(rng, ground, side), mask, softness)),)
    if rng.random() < 0.2:
        dark, spread = float(rng.uniform(0.25, 0.6)), float(rng.uniform(0.03, 0.1))
        offset = (float(rng.uniform(-0.15, 0.15)), float(rng.uniform(0.0, 0.2)))
        parts = (*(_shadow(part, dark, spread, offset) for part in parts), *parts)
    return parts


def _figure(rng: np.random.Generator, ground: Surroundings, side: int, softness: float) -> tuple[Part, ...]:
    """Return a body with two arms and two legs that swing against each other."""
    cloth, trousers = object_texture(rng, ground, side), object_texture(rng, ground, side // 2)

    def hanging(colours: Pixels, joint: tuple[float, float], reach: float, turn: float) -> Part:
        return Part(make_sprite(colours, shapes.limb(rng, side // 2), softness), joint, reach, turn)

    sleeves = np.asarray(cv2.resize(cloth, (side // 2, side // 2), interpolation=cv2.INTER_AREA), np.uint8)
    return (
        hanging(sleeves, (0.16, -0.45), 0.6, -0.8),
        hanging(trousers, (0.08, 0.15), 0.8, 0.6),
        hanging(trousers, (-0.08, 0.15), 0.8, -0.6),
        Part(make_sprite(cloth, shapes.torso(rng, side), softness)),
        hanging(sleeves, (-0.16, -0.45), 0.6, 0.8),
    )


def object_texture(rng: np.random.Generator, ground: Surroundings, side: int) -> Pixels:
    """Return a (side, side, 3) uint8 BGR texture that can be seen before the ground.

    In 60 of 100 cases its mean differs from the ground's by 25 levels at least; in 25 it is drawn towards the
    ground's, in the others it is left as it is. Without any structure on either side it always differs.
    """
    colours = texture(rng, side, side)
    mean, spread = moments(colours)
    choice, away = rng.random(), float(rng.uniform(35, 90))
    structured = spread + ground.spread > 35
    if choice < 0.25 and structured:
        return _shifted(colours, (ground.mean - mean) * rng.uniform(0.5, 1.0))
    if choice < 0.40 and structured:
        return colours
    if np.abs(mean - ground.mean).max() >= 25:
        return colours
    brighter = ground.mean.mean() < rng.uniform(90, 165)
    return _shifted(colours, ground.mean - mean + (away if brighter else -away))


def moments(colours: Pixels) -> tuple[NDArray[np.float64], float]:
    """Return the (3,) mean BGR of an (H, W, 3) picture, and the standard deviation of its brightness."""
    _, deviation = cv2.meanStdDev(cv2.cvtColor(colours, cv2.COLOR_BGR2GRAY))
    return np.asarray(cv2.mean(colours)[:3], np.float64), float(deviation[0, 0])


def make_sprite(colours: Pixels, mask: Pixels, softness: float = 0.0) -> Sprite:
    """Return the sprite of an (n, n, 3) picture cut out along an (n, n) alpha mask.

    Args:
        colours: BGR.
        mask: uint8 alpha.
        softness: Width of the faded edge, which lies inside the mask, as a share of n.
    """
    if softness > 0:
        blurred = cv2.GaussianBlur(mask, (0, 0), softness * mask.shape[0] / 2, borderType=cv2.BORDER_CONSTANT)
        mask = np.asarray(cv2.addWeighted(blurred, 2.0, blurred, 0.0, -255.0), np.uint8)
        if mask.max() < 255:  # a thing thinner than its edge
            mask = np.asarray(cv2.normalize(blurred, np.empty_like(mask), 0, 255, cv2.NORM_MINMAX), np.uint8)
    full = np.dstack([cv2.multiply(colours, cv2.cvtColor(mask, cv2.COLOR_GRAY2BGR), scale=1 / 255), mask])
    levels = [full]
    while levels[-1].shape[0] > 16:
        levels.append(cv2.resize(levels[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    return Sprite(levels=tuple(np.asarray(level, np.uint8) for level in levels))


def _shadow(part: Part, dark: float, spread: float, offset: tuple[float, float]) -> Part:
    """Return the soft shadow that a part throws on what is behind it."""
    mask = part.sprite.levels[min(1, len(part.sprite.levels) - 1)][:, :, 3]
    border = round(mask.shape[0] * (_SHADOW_SPREAD - 1) / 2)
    wide = cv2.copyMakeBorder(mask, border, border, border, border, cv2.BORDER_CONSTANT, value=(0,))
    soft = cv2.convertScaleAbs(cv2.GaussianBlur(wide, (0, 0), spread * mask.shape[0]), alpha=dark)
    picture = np.zeros((*soft.shape, 4), np.uint8)
    picture[:, :, 3] = soft
    reach = part.reach * soft.shape[0] / mask.shape[0]
    return Part(Sprite((picture,)), part.joint, reach, part.turn, offset)


def _shifted(colours: Pixels, by: NDArray[np.float64]) -> Pixels:
    return np.clip(colours + by, 0, 255).astype(np.uint8)


_MAX_HIDDEN = 0.35
"""Largest share of the objects' places that may be hidden."""


def draw_occluder(rng: np.random.Generator, height: int, width: int, seen: Sequence[Pose], unit: int) -> Pixels | None:
    """Return a (height, width, 4) uint8 BGRA layer with one thing in it, colours multiplied by alpha.

    Args:
        rng: Source of every choice.
        height: Of the layer, in pixels.
        width: Of the layer, in pixels.
        seen: Poses of what moves, at several times.
        unit: Pixels per shorter side of the picture; the layer's middle is the picture's.

    Returns:
        None where it would hide too much of what moves.
    """
    mask = _bar(rng, height, width, unit) if rng.random() < 0.6 else _lump(rng, height, width, unit)
    if hidden_share(mask, seen, unit) > _MAX_HIDDEN:
        return None
    colours = texture(rng, height, width)
    return np.dstack([cv2.multiply(colours, cv2.cvtColor(mask, cv2.COLOR_GRAY2BGR), scale=1 / 255), mask])


def hidden_share(mask: Pixels, seen: Sequence[Pose], unit: int) -> float:
    """Return which share of the objects' squares, as far as in the picture, an (H, W) alpha mask hides, in [0, 1]."""
    height, width = mask.shape
    shares = []
    for pose in seen:
        x, y, half = width / 2 + pose.x * unit, height / 2 + pose.y * unit, max(1.0, 0.7 * pose.radius * unit)
        box = mask[max(0, round(y - half)) : max(0, round(y + half)), max(0, round(x - half)) : max(0, round(x + half))]
        if box.size:
            shares.append(float(box.mean()) / 255)
    return float(np.mean(shares)) if shares else 0.0


def _bar(rng: np.random.Generator, height: int, width: int, unit: int) -> Pixels:
    """Draw a post, a rail or a bough from edge to edge."""
    mask = np.zeros((height, width), np.uint8)
    angle, thick = rng.choice([0.0, np.pi / 2]) + rng.normal(0, 0.15), rng.uniform(0.04, 0.13) * unit
    x, y = width / 2 + rng.uniform(-0.5, 0.5) * unit, height / 2 + rng.uniform(-0.5, 0.5) * unit
    far = 2 * max(width, height)
    dx, dy = far * np.cos(angle), far * np.sin(angle)
    cv2.line(
        mask, (round(x - dx), round(y - dy)), (round(x + dx), round(y + dy)), 255, max(1, round(thick)), cv2.LINE_AA
    )
    return mask


def _lump(rng: np.random.Generator, height: int, width: int, unit: int) -> Pixels:
    """Draw some shape anywhere."""
    mask = np.zeros((height, width), np.uint8)
    side = min(int(rng.uniform(0.15, 0.4) * unit), height, width)
    top, left = int(rng.integers(0, height - side + 1)), int(rng.integers(0, width - side + 1))
    mask[top : top + side, left : left + side] = random_shape(rng, side)
    return mask
