"""Which motion is shown when: an endless, seeded sequence of labelled segments.

Does not know what a label looks like. A block of ten segments holds every label once and always lasts
ten mean segments, so the segment at any time is found without walking there from zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from msgspec import Struct

from stream_i3d.scenes.motions import LABELS


class Segment(Struct, frozen=True, kw_only=True):
    """One motion, shown without a break.

    Attributes:
        index: Place in the schedule, from 0.
        label: One of `LABELS`.
        start_s: First instant, in seconds since the schedule's start.
        end_s: First instant that is no longer part of it.
    """

    index: int
    label: str
    start_s: float
    end_s: float


class Schedule:
    """An endless sequence of segments; the same seed gives the same sequence on every machine.

    Each block of ten segments shows every label once, and no label comes twice in a row. Segments last
    between 6/7 and 8/7 of the mean before a block is scaled to its fixed length (3 to 4 s at the default).

    Args:
        seed: Any integer >= 0.
        mean_segment_s: Mean duration of a segment, in seconds.
    """

    def __init__(self, seed: int, mean_segment_s: float = 3.5) -> None:
        if seed < 0 or not mean_segment_s > 0:
            raise ValueError(
                f"a schedule needs seed >= 0 and mean_segment_s > 0, got seed={seed}, mean_segment_s={mean_segment_s}"
            )
        self.seed = seed
        self.mean_segment_s = mean_segment_s

    def segment_at(self, t: float) -> Segment:
        """Return the segment shown at `t` seconds (>= 0); at a boundary, the one that begins there."""
        if t < 0:
            raise ValueError(f"a schedule starts at 0 s, got t={t}")
        block_s = self.mean_segment_s * len(LABELS)
        number = int(t // block_s)
        for block in (number, number + 1):  # a rounded product can put a block's end just behind t
            for segment in _block(self.seed, block, self.mean_segment_s):
                if t < segment.end_s:
                    return segment
        raise AssertionError(f"no segment at {t} s")

    def label_at(self, t: float) -> str:
        """Return the label shown at `t` seconds (>= 0)."""
        return self.segment_at(t).label

    def label_during(self, start_s: float, end_s: float) -> str | None:
        """Return the label shown from `start_s` to `end_s`, or None where a boundary lies between them.

        A boundary that falls exactly on `start_s` or `end_s` is not between them.
        """
        if end_s < start_s:
            raise ValueError(f"start_s must not be after end_s, got {start_s} and {end_s}")
        segment = self.segment_at(start_s)
        return segment.label if end_s <= segment.end_s else None

    def segments(self, until_s: float = math.inf) -> Iterator[Segment]:
        """Yield the segments in order that start before `until_s` seconds; without it, for ever."""
        index = 0
        while True:
            block = _block(self.seed, index // len(LABELS), self.mean_segment_s)
            segment = block[index % len(LABELS)]
            if segment.start_s >= until_s:
                return
            yield segment
            index += 1


@lru_cache(maxsize=64)
def _block(seed: int, number: int, mean_segment_s: float) -> tuple[Segment, ...]:
    """Return the ten segments of block `number`, which spans ten mean segments exactly."""
    rng = np.random.default_rng([seed, number, 0])
    labels = [LABELS[i] for i in rng.permutation(len(LABELS))]
    if number > 0:
        # Swapping the first two leaves the last alone, so the previous block's last is known without it.
        previous = np.random.default_rng([seed, number - 1, 0]).permutation(len(LABELS))
        if labels[0] == LABELS[previous[-1]]:
            labels[0], labels[1] = labels[1], labels[0]
    durations = rng.uniform(6 / 7, 8 / 7, len(labels))
    ends = np.cumsum(durations / durations.sum()) * mean_segment_s * len(labels)
    edges = number * mean_segment_s * len(labels) + np.concatenate([[0.0], ends])
    return tuple(
        Segment(index=number * len(labels) + i, label=label, start_s=float(edges[i]), end_s=float(edges[i + 1]))
        for i, label in enumerate(labels)
    )
