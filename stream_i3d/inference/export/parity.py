"""How far another form of a network is from the network itself: numbers, and what they are called."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from stream_i3d.recognition.head import softmax

Logits = NDArray[np.float32]
"""(clips, num_classes)."""


class Parity(Struct, frozen=True, kw_only=True):
    """A comparison over some clips.

    Attributes:
        clips: How many.
        agreement: Share of the clips whose first label is the same, in [0, 1].
        probability_difference: The largest one.
        logit_difference: The largest one.
        logit_deviation: Standard deviation of the network's own logits, to measure that by.
    """

    clips: int
    agreement: float
    probability_difference: float
    logit_difference: float
    logit_deviation: float

    def __str__(self) -> str:
        return (
            f"first label the same in {100 * self.agreement:.1f} %, largest difference of a probability "
            f"{self.probability_difference:.2g}, of a logit {self.logit_difference:.2g} (the logits' deviation is "
            f"{self.logit_deviation:.2g})"
        )


def compare(own: Sequence[Logits], other: Sequence[Logits], temperature: float) -> Parity:
    """Compare the logits of a network with those of another form of it.

    Args:
        own: Of the network, in parts of any number of clips.
        other: Of the other form, of the same clips.
        temperature: Of both.
    """
    first, second = np.concatenate(own), np.concatenate(other)
    assert first.shape == second.shape
    between = np.abs(softmax(first, temperature) - softmax(second, temperature))
    return Parity(
        clips=len(first),
        agreement=float((first.argmax(axis=1) == second.argmax(axis=1)).mean()),
        probability_difference=float(between.max()),
        logit_difference=float(np.abs(first - second).max()),
        logit_deviation=float(first.std()),
    )
