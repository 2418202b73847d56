"""How a worker serves its cameras while the machine cannot keep up with all of them: fields, and a sentence of them."""

from __future__ import annotations

from fractions import Fraction

from msgspec import Struct


class Overload(Struct, frozen=True, kw_only=True):
    """What a worker gives its cameras while it is overloaded.

    Attributes:
        since: When it began, in seconds since 1970.
        cameras: Cameras whose frames arrive.
        served: How many of them are recognised at a time; the others wait for their turn.
        asked_stride: Sampled frames from one prediction to the next, as configured.
        stride: The same as it is now.
        frame_interval: Sampled frames for each one that the network sees: 1 is all of them, 1.25 four of five, 2 every
            second one. More than 1 only in streaming mode.
        turn_s: Seconds for which a camera is served before another takes its place; None without turns.
        prediction_s: Seconds from one prediction of a served camera to the next; None while that is not known.
    """

    since: float
    cameras: int
    served: int
    asked_stride: int
    stride: int
    frame_interval: float = 1
    turn_s: float | None = None
    prediction_s: float | None = None


def describe(overload: Overload) -> str:
    """Return what is served, and how, as one sentence for people."""
    words = f"this machine cannot keep up with {overload.cameras} camera{'s' * (overload.cameras != 1)}"
    parts = []
    if overload.served < overload.cameras:
        turns = "" if overload.turn_s is None else f", by turns of {overload.turn_s:.0f} s"
        parts.append(f"{overload.served} of them {'are' if overload.served > 1 else 'is'} recognised at a time{turns}")
    if overload.frame_interval > 1:
        interval = Fraction(overload.frame_interval).limit_denominator(100)
        parts.append(f"the network sees {interval.denominator} of {interval.numerator} frames")
    elif overload.stride != overload.asked_stride:
        parts.append(f"stride {overload.stride} instead of {overload.asked_stride} for all cameras")
    if overload.prediction_s is not None:
        parts.append(f"a prediction of each {'served ' * (overload.turn_s is not None)}camera every "
                     f"{overload.prediction_s:.1f} s")  # fmt: skip
    return f"{words}: {', '.join(parts)}" if parts else words
