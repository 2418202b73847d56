"""What is drawn at random about a motion: how many things, where, how large, how fast.

Resting places, sizes and turns are drawn alike for every label, so that one frame does not tell which motion
it is from; only the change between frames does. Does not know how a label moves (`motions`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from stream_i3d.scenes.motions import DIRECTIONS, LABELS, SPIN_SHARE, Body, Motion, Place

_SPEEDS: dict[str, tuple[float, float]] = {
    "slide": (0.12, 2.0),  # picture sides per second
    "zoom": (0.25, 1.8),  # e-foldings of size per second
    "spin": (0.8, 8.0),  # radians per second
    "orbit": (3.4, 9.0),  # radians per second; slower ones look straight within one window
    "wave": (1.0, 3.5),  # swings per second; at least one turn-round in every window
}
_UNTIMED_WAVE = 1.25
"""Slowest swing where windows may begin at any time: it turns round in the inner 0.4 s of every 0.6 s."""
_TEMPO = 0.4
"""Largest share by which a motion is faster or slower than its speed for a while."""
_WINDOW_S = 0.6
_IN_SIGHT = 0.35
"""How far from the middle of the square the model sees a clip's front object is at mid-clip, at most."""

_BODIES: tuple[Body, ...] = ("plain", "stick", "arm", "figure")
_BODY_SHARES = (0.55, 0.12, 0.23, 0.10)


@dataclass(frozen=True)
class Shot:
    """When a clip is taken, and how often.

    Attributes:
        start_s: Time of its first picture, in the motion's own seconds.
        end_s: Time of its last.
        fps: Different pictures per second, at most: speeds are drawn so that these do not alias.
    """

    start_s: float
    end_s: float
    fps: float

    @property
    def middle_s(self) -> float:
        """Time of the clip's middle, in seconds."""
        return (self.start_s + self.end_s) / 2


def draw_motion(
    rng: np.random.Generator, label: str, width: float, height: float, *, objects: int = 2, shot: Shot | None = None
) -> Motion:
    """Draw a label's motion at random.

    Args:
        rng: Source of every choice.
        label: One of `LABELS`.
        width: Of the picture, in shorter sides (>= 1).
        height: Of the picture, in shorter sides (>= 1).
        objects: How many things move. With two or more, spaced along the way, one is always in sight.
        shot: The one clip that will be taken, in whose middle the front object is in sight; nothing starts
            anew then. None: windows of an endless scene, of some 15 pictures per second or more.

    Raises:
        ValueError: `label` is not one of `LABELS`.
    """
    if label not in LABELS:
        raise ValueError(f"unknown motion {label!r}; allowed: {', '.join(LABELS)}")
    variant = float(rng.random())
    sliding = label in DIRECTIONS
    horizontal = DIRECTIONS[label][0] != 0 if sliding else bool(rng.random() < 0.5)
    places = _draw_places(rng, objects)
    half = (width if horizontal else height) / 2 + max(place.radius for place in places)
    in_sight = 0.5 + float(rng.uniform(-_IN_SIGHT, _IN_SIGHT)) / (2 * half) - places[-1].along
    if shot is not None or not sliding:  # else it comes by again and again
        places = tuple(replace(place, along=(place.along + in_sight) % 1.0) for place in places)
    low, high = _speed_limits(_kind(label, variant), places, 2 * half / objects, shot)
    speed = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    if label == "waving" and shot is not None:
        places = tuple(_turning_round(rng, place, speed, shot) for place in places)
    return Motion(
        label=label,
        horizontal=horizontal,
        half=half,
        speed=speed,
        variant=variant,
        amplitude=float(rng.random()),
        tilt=float(rng.uniform(-0.22, 0.22)),
        tempo=(float(rng.uniform(0, _TEMPO)), float(rng.uniform(0.3, 1.2)), float(rng.uniform(0, 2 * math.pi))),
        places=places,
        origin_s=shot.middle_s if shot is not None else 0.0,
        wraps=shot is None,
    )


def _draw_places(rng: np.random.Generator, objects: int) -> tuple[Place, ...]:
    along, size = rng.random(2)
    places = []
    for i in range(objects):
        body = _BODIES[int(np.searchsorted(np.cumsum(_BODY_SHARES)[:-1], rng.random(), side="right"))]
        # An arm hangs or stands; waving sideways would be up and down, which is no label.
        lean = float(rng.normal(0, 0.25) + (math.pi if rng.random() < 0.25 else 0.0))
        turn = float(rng.uniform(0, 2 * math.pi))
        walks = rng.random() < 0.5
        places.append(
            Place(
                along=float((along + i / objects) % 1.0),
                cross=float(rng.uniform(-0.33, 0.33)),
                # Sizes are spread as places are: while one object of a zoom starts anew, another goes on.
                size=float((size + i / objects + rng.uniform(-0.1, 0.1)) % 1.0),
                angle=turn if body == "plain" else lean,
                lean=lean,
                swing=float(rng.uniform(-0.9, 0.9)),
                phase=float(rng.uniform(0, 2 * math.pi)),
                gait=(float(rng.uniform(0.1, 0.35)) if walks else 0.0, float(rng.uniform(0.6, 2.0))),
                body=body,
            )
        )
    return tuple(places)


def _speed_limits(kind: str, places: tuple[Place, ...], spacing: float, shot: Shot | None) -> tuple[float, float]:
    """Return the (least, greatest) speed of a kind of motion that is seen, and seen as what it is.

    Args:
        kind: Key of `_SPEEDS`.
        places: Of the objects.
        spacing: Between neighbours along the way, in shorter sides.
        shot: As for `draw_motion`.
    """
    fps = shot.fps if shot is not None else 15.0
    low, high = _SPEEDS[kind]
    if kind == "slide":  # well under half the way to its neighbour's place from picture to picture
        high = min(high, 0.35 * spacing * fps / (1 + _TEMPO))
    elif kind in ("spin", "orbit"):  # a sixth of a turn: many shapes look alike after a half or a third
        high = min(high, 2 * math.pi / 6 * fps / (1 + _TEMPO))
    elif kind == "wave":
        low = low if shot is not None else _UNTIMED_WAVE
        high = min(high, fps / 4)
    else:  # an edge moves by 2 % of the picture at least
        low = max(low, 0.02 / (_WINDOW_S * places[-1].radius))
    return min(low, high), high


def _turning_round(rng: np.random.Generator, place: Place, hertz: float, shot: Shot) -> Place:
    """Return the place with its phase drawn so that a wave turns round in the inner two thirds of the shot."""
    late = min((shot.end_s - shot.start_s) / 3, 1 / (4 * hertz))
    turn_s = shot.middle_s + float(rng.uniform(-late, late))
    sign = math.pi if rng.random() < 0.5 else 0.0
    return replace(place, phase=math.pi / 2 + sign - 2 * math.pi * hertz * turn_s)


def _kind(label: str, variant: float) -> str:
    if label in ("nearer", "farther"):
        return "zoom"
    if label in ("clockwise", "counter-clockwise"):
        return "spin" if variant < SPIN_SHARE else "orbit"
    return "wave" if label == "waving" else "slide"
