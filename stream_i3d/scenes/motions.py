"""Where each object of a scene is at a given time: the ten motions, and nothing about looks.

Coordinates: the picture's centre is (0, 0), x grows to the right and y downwards, and one unit is the
picture's shorter side, so the square the model sees spans -0.5 to 0.5. Angles are in radians and grow
clockwise as seen. Resting places, sizes and turns are drawn alike for every label, so that one frame
does not tell which motion it is from; only the change between frames does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

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

RADIUS_MIN, RADIUS_MAX = 0.12, 0.5
_LOG_RATIO = math.log(RADIUS_MAX / RADIUS_MIN)

_SPEEDS: dict[str, tuple[float, float]] = {
    "slide": (0.15, 1.5),  # picture sides per second
    "zoom": (0.3, 1.3),  # e-foldings of size per second
    "spin": (0.9, 7.0),  # radians per second
    "orbit": (3.8, 9.0),  # radians per second; slower ones look straight within one window
    "wave": (1.3, 3.0),  # swings per second; at least one turn-round in every window
}


@dataclass(frozen=True)
class Pose:
    """Where and how one object is drawn.

    Attributes:
        x: Centre, to the right of the picture's, in shorter sides.
        y: Centre, below the picture's, in shorter sides.
        radius: Of the object's unit disc, in shorter sides.
        angle: Turn of the whole object, radians, clockwise.
        swing: Turn of a jointed object's lower limb about its joint, radians, clockwise.
    """

    x: float
    y: float
    radius: float
    angle: float
    swing: float


@dataclass(frozen=True)
class Place:
    """Where an object starts from. `along` and `size` are phases in [0, 1); `cross` is in shorter sides."""

    along: float
    cross: float
    size: float
    angle: float
    swing: float
    phase: float
    jointed: bool

    @property
    def radius(self) -> float:
        """Size in shorter sides, log-uniform between `RADIUS_MIN` and `RADIUS_MAX`."""
        return RADIUS_MIN * math.exp(self.size % 1.0 * _LOG_RATIO)


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

    def poses(self, t: float) -> list[Pose]:
        """Return every object's pose `t` seconds into the motion, first the one farthest behind."""
        return [_MOVES[self.label](self, place, t) for place in self.places]

    def elapsed(self, t: float) -> float:
        """Return `t` warped by the tempo: strictly increasing, and close to `t` on average."""
        amount, hertz, phase = self.tempo
        omega = 2 * math.pi * hertz
        return t + amount / omega * (math.sin(omega * t + phase) - math.sin(phase))


def draw_motion(rng: np.random.Generator, label: str, width: float, height: float, *, objects: int = 2) -> Motion:
    """Draw a label's motion at random.

    Args:
        rng: Source of every choice.
        label: One of `LABELS`.
        width: Of the picture, in shorter sides (>= 1).
        height: Of the picture, in shorter sides (>= 1).
        objects: How many things move. With two or more, spaced along the way, one is always in sight.

    Raises:
        ValueError: `label` is not one of `LABELS`.
    """
    if label not in LABELS:
        raise ValueError(f"unknown motion {label!r}; allowed: {', '.join(LABELS)}")
    variant = float(rng.random())
    sliding = label in _DIRECTIONS
    horizontal = _DIRECTIONS[label][0] != 0 if sliding else bool(rng.random() < 0.5)
    places = _draw_places(rng, objects)
    half = (width if horizontal else height) / 2 + max(place.radius for place in places)
    if not sliding:
        # These stay where they are, so the first must be well inside the square the model sees.
        shift = 0.5 + float(rng.uniform(-0.33, 0.33)) / (2 * half) - places[-1].along
        places = tuple(replace(place, along=(place.along + shift) % 1.0) for place in places)
    low, high = _SPEEDS[_kind(label, variant)]
    return Motion(
        label=label,
        horizontal=horizontal,
        half=half,
        speed=float(np.exp(rng.uniform(np.log(low), np.log(high)))),
        variant=variant,
        amplitude=float(rng.random()),
        tilt=float(rng.uniform(-0.22, 0.22)),
        tempo=(float(rng.uniform(0, 0.4)), float(rng.uniform(0.3, 1.2)), float(rng.uniform(0, 2 * math.pi))),
        places=places,
    )


def _draw_places(rng: np.random.Generator, objects: int) -> tuple[Place, ...]:
    along, size = rng.random(2)
    places = []
    for i in range(objects):
        jointed = bool(rng.random() < 0.35)
        # An arm hangs or stands; waving sideways would be up and down, which is no label.
        upright = rng.normal(0, 0.25) + (math.pi if rng.random() < 0.25 else 0.0)
        places.append(
            Place(
                along=float((along + i / objects) % 1.0),
                cross=float(rng.uniform(-0.33, 0.33)),
                # Sizes are spread as places are: while one object of a zoom starts anew, another goes on.
                size=float((size + i / objects + rng.uniform(-0.1, 0.1)) % 1.0),
                angle=float(upright if jointed else rng.uniform(0, 2 * math.pi)),
                swing=float(rng.uniform(-0.9, 0.9)),
                phase=float(rng.uniform(0, 2 * math.pi)),
                jointed=jointed,
            )
        )
    return tuple(places)


def _kind(label: str, variant: float) -> str:
    if label in ("nearer", "farther"):
        return "zoom"
    if label in ("clockwise", "counter-clockwise"):
        return "spin" if variant < _SPIN_SHARE else "orbit"
    return "wave" if label == "waving" else "slide"


_SPIN_SHARE = 0.55
_DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}


def _still(motion: Motion, place: Place, t: float) -> Pose:
    along = ((place.along % 1.0) - 0.5) * 2 * motion.half
    x, y = (along, place.cross) if motion.horizontal else (place.cross, along)
    return Pose(x, y, place.radius, place.angle, place.swing)


def _slide(motion: Motion, place: Place, t: float) -> Pose:
    sign = sum(_DIRECTIONS[motion.label])
    travelled = motion.speed * motion.elapsed(t) / (2 * motion.half)
    rest = _still(motion, replace(place, along=place.along + sign * travelled), t)
    rest = replace(rest, angle=rest.angle + 0.1 * math.sin(4.0 * t + place.phase))
    if motion.horizontal:
        return replace(rest, y=rest.y + motion.tilt * rest.x)
    return replace(rest, x=rest.x + motion.tilt * rest.y)


def _zoom(motion: Motion, place: Place, t: float) -> Pose:
    sign = 1 if motion.label == "nearer" else -1
    grown = sign * motion.speed * motion.elapsed(t) / _LOG_RATIO
    rest = _still(motion, replace(place, size=place.size + grown), t)
    return replace(rest, angle=rest.angle + 0.1 * math.sin(4.0 * t + place.phase))


def _turn(motion: Motion, place: Place, t: float) -> Pose:
    sign = 1 if motion.label == "clockwise" else -1
    turned = sign * motion.speed * motion.elapsed(t)
    rest = _still(motion, place, t)
    if motion.variant < _SPIN_SHARE:
        return replace(rest, angle=rest.angle + turned)
    radius, theta = 0.1 + 0.16 * motion.amplitude, place.phase + turned
    angle = rest.angle + (turned if motion.variant > 0.85 else 0.0)  # some keep one side to the centre
    x, y = 0.7 * rest.x + radius * math.cos(theta), 0.7 * rest.y + radius * math.sin(theta)
    return replace(rest, x=x, y=y, angle=angle)


def _wave(motion: Motion, place: Place, t: float) -> Pose:
    swung = math.sin(2 * math.pi * motion.speed * t + place.phase)
    rest = _still(motion, place, t)
    if place.jointed:
        return replace(rest, swing=0.35 * place.swing + (0.35 + 0.6 * motion.amplitude) * swung)
    reach = (0.07 + 0.17 * motion.amplitude) * swung
    if motion.variant < 0.6:
        return replace(rest, x=rest.x + reach, y=rest.y + motion.tilt * reach)
    # A pendulum, hanging or standing: its centre swings on an arc about a point beyond its edge.
    length = (1 if motion.variant < 0.8 else -1) * (0.25 + rest.radius)
    turn = reach / length
    x, y = rest.x + length * math.sin(turn), rest.y + length * (1 - math.cos(turn))
    return replace(rest, x=x, y=y, angle=rest.angle + turn)


_MOVES: dict[str, Callable[[Motion, Place, float], Pose]] = {
    "still": _still,
    **dict.fromkeys(_DIRECTIONS, _slide),
    **dict.fromkeys(("nearer", "farther"), _zoom),
    **dict.fromkeys(("clockwise", "counter-clockwise"), _turn),
    "waving": _wave,
}
