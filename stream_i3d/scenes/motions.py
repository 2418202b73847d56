"""Where each object of a scene is at a given time: the ten motions, and nothing about looks.

Coordinates: the picture's centre is (0, 0), x grows to the right and y downwards, and one unit is the
picture's shorter side, so the square the model sees spans -0.5 to 0.5. Angles are in radians and grow
clockwise as seen. Does not choose anything: see `draws`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

LABELS = (
    "still",
    "left",
    "right",
    "up",
    "down",
    "nearer",
    "farther",
    "clockwise",
    "counter-clockwise",
    "waving",
)
"""The ten motions, in the order of the model's outputs."""

RADIUS_MIN, RADIUS_MAX = 0.08, 0.5
"""Sizes at rest, in shorter sides."""
LOG_RATIO = math.log(RADIUS_MAX / RADIUS_MIN)

Body = Literal["plain", "stick", "arm", "figure"]
"""A thing of one piece; a pole, arm or flag on its foot; an arm with a hand; a body with limbs."""


@dataclass(frozen=True)
class Pose:
    """Where and how one object is drawn.

    Attributes:
        x: Centre, to the right of the picture's, in shorter sides.
        y: Centre, below the picture's, in shorter sides.
        radius: Of the object's unit disc, in shorter sides.
        angle: Turn of the whole object, radians, clockwise.
        swing: Turn of a jointed object's limbs about their joints, radians, clockwise.
    """

    x: float
    y: float
    radius: float
    angle: float
    swing: float


@dataclass(frozen=True)
class Place:
    """Where an object is at its motion's `origin_s`.

    Attributes:
        along: Phase along the motion's axis; [0, 1) spans the way.
        cross: Across that axis, in shorter sides.
        size: Phase of its size; [0, 1) spans `RADIUS_MIN` to `RADIUS_MAX`.
        angle: Turn, radians. An upright body's is its lean.
        lean: From upright (0) or upside down (pi), radians.
        swing: Of its limbs, radians.
        phase: Of whatever it does to and fro, radians.
        gait: (amplitude in radians, hertz) of its limbs' swing while it slides or zooms.
        body: What kind of thing it is.
    """

    along: float
    cross: float
    size: float
    angle: float
    lean: float
    swing: float
    phase: float
    gait: tuple[float, float]
    body: Body

    @property
    def radius(self) -> float:
        """Size in shorter sides, log-uniform between `RADIUS_MIN` and `RADIUS_MAX`."""
        return RADIUS_MIN * math.exp(self.size * LOG_RATIO)


@dataclass(frozen=True)
class Motion:
    """One label's motion of a few objects; a pure function of time.

    Attributes:
        label: One of `LABELS`.
        horizontal: Whether `Place.along` runs along x, else along y.
        half: Half the way along that axis, in shorter sides: beyond it nothing of any object is seen.
        speed: In the units of the motion's kind, always positive.
        variant: Uniform in [0, 1): chooses between a label's forms.
        amplitude: Uniform in [0, 1): how far it swings or how wide it circles.
        tilt: Slope of a straight path against its axis.
        tempo: (amount, hertz, phase) of a slow change of speed that never stops or turns it.
        places: One for each object.
        origin_s: When every object is at its place.
        wraps: Whether what has left (or has grown too large) enters again (or starts anew), as endless scenes need.
    """

    label: str
    horizontal: bool
    half: float
    speed: float
    variant: float
    amplitude: float
    tilt: float
    tempo: tuple[float, float, float]
    places: tuple[Place, ...]
    origin_s: float = 0.0
    wraps: bool = True

    def poses(self, t: float) -> list[Pose]:
        """Return every object's pose `t` seconds into the motion, first the one farthest behind."""
        return [_MOVES[self.label](self, place, t) for place in self.places]

    def enlarged(self, least: float) -> Motion:
        """Return the motion with its objects' sizes squeezed from [0, 1) into [`least`, 1)."""
        places = (replace(place, size=least + (1 - least) * (place.size % 1.0)) for place in self.places)
        return replace(self, places=tuple(places)) if least > 0 else self

    def travelled(self, t: float) -> float:
        """Return speed times the time since `origin_s`, warped by the tempo; strictly increasing."""
        return self.speed * (self._elapsed(t) - self._elapsed(self.origin_s))

    def _elapsed(self, t: float) -> float:
        amount, hertz, phase = self.tempo
        omega = 2 * math.pi * hertz
        return t + amount / omega * (math.sin(omega * t + phase) - math.sin(phase))


SPIN_SHARE = 0.55
"""Share of turning things that turn about themselves; the others circle."""
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
"""(x, y) signs of the labels that slide."""


def _still(motion: Motion, place: Place, t: float) -> Pose:
    if motion.wraps:
        place = replace(place, along=place.along % 1.0, size=place.size % 1.0)
    along = (place.along - 0.5) * 2 * motion.half
    x, y = (along, place.cross) if motion.horizontal else (place.cross, along)
    return Pose(x, y, place.radius, place.angle, place.swing)


def _walk(motion: Motion, place: Place, t: float) -> Pose:
    """Return the resting pose with what an object's own life adds: a slight sway, and moving limbs."""
    rest = _still(motion, place, t)
    amount, hertz = place.gait
    swing = rest.swing + amount * math.sin(2 * math.pi * hertz * t + place.phase)
    return replace(rest, angle=rest.angle + 0.1 * math.sin(4.0 * t + place.phase), swing=swing)


def _slide(motion: Motion, place: Place, t: float) -> Pose:
    sign = sum(DIRECTIONS[motion.label])
    shift = sign * motion.travelled(t) / (2 * motion.half)
    rest = _walk(motion, replace(place, along=place.along + shift), t)
    if motion.horizontal:
        return replace(rest, y=rest.y + motion.tilt * rest.x)
    return replace(rest, x=rest.x + motion.tilt * rest.y)


def _zoom(motion: Motion, place: Place, t: float) -> Pose:
    sign = 1 if motion.label == "nearer" else -1
    return _walk(motion, replace(place, size=place.size + sign * motion.travelled(t) / LOG_RATIO), t)


def _turn(motion: Motion, place: Place, t: float) -> Pose:
    sign = 1 if motion.label == "clockwise" else -1
    turned = sign * motion.travelled(t)
    rest = _still(motion, place, t)
    if motion.variant < SPIN_SHARE:
        return replace(rest, angle=rest.angle + turned)
    radius, theta = 0.1 + 0.16 * motion.amplitude, place.phase + turned
    angle = rest.angle + (turned if motion.variant > 0.85 else 0.0)  # some keep one side to the centre
    x, y = 0.7 * rest.x + radius * math.cos(theta), 0.7 * rest.y + radius * math.sin(theta)
    return replace(rest, x=x, y=y, angle=angle)


def _wave(motion: Motion, place: Place, t: float) -> Pose:
    swung = math.sin(2 * math.pi * motion.speed * t + place.phase)
    rest = _still(motion, place, t)
    if place.body == "arm":
        amount = min(max(0.35 + 0.6 * motion.amplitude, 0.08 / rest.radius), 1.0)
        return replace(rest, swing=0.35 * place.swing + amount * swung)
    reach = (0.07 + 0.17 * motion.amplitude) * swung
    # Small things turn farther, so that their edge is seen to move, and large ones less than they could.
    turn = min(max(0.3 + 0.7 * motion.amplitude, 0.06 / rest.radius), 0.35 / rest.radius, 1.0) * swung
    if motion.variant < (0.25 if place.body == "stick" else 0.35):
        return replace(rest, x=rest.x + reach, y=rest.y + motion.tilt * reach)
    if motion.variant < 0.55 and place.body != "stick":
        # A pendulum, hanging or standing, about a point beyond its edge.
        length = (1 if motion.variant < 0.47 else -1) * (0.25 + rest.radius)
        return _turned_about(rest, (rest.x, rest.y - length), reach / length)
    if motion.variant < 0.78 and place.body == "plain":
        return replace(rest, angle=rest.angle + turn)
    foot = (rest.x - rest.radius * math.sin(place.lean), rest.y + rest.radius * math.cos(place.lean))
    return _turned_about(rest, foot, turn)


def _turned_about(pose: Pose, pivot: tuple[float, float], turn: float) -> Pose:
    """Return the pose turned clockwise by `turn` radians about a point of the picture."""
    dx, dy = pose.x - pivot[0], pose.y - pivot[1]
    cos, sin = math.cos(turn), math.sin(turn)
    x, y = pivot[0] + cos * dx - sin * dy, pivot[1] + sin * dx + cos * dy
    return replace(pose, x=x, y=y, angle=pose.angle + turn)


_MOVES: dict[str, Callable[[Motion, Place, float], Pose]] = {
    "still": _still,
    **dict.fromkeys(DIRECTIONS, _slide),
    **dict.fromkeys(("nearer", "farther"), _zoom),
    **dict.fromkeys(("clockwise", "counter-clockwise"), _turn),
    "waving": _wave,
}
