"""Counts of durations by fixed limits, as Prometheus' histograms are. Pure."""

from __future__ import annotations

from bisect import bisect_left

from msgspec import Struct, field

BOUNDS_S = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0)
"""Upper limits in seconds, each included; from a small network on a GPU to a worker that is far behind."""


class Histogram(Struct, kw_only=True):
    """How many durations lay up to each of `BOUNDS_S` and over the one before; the last count is of all beyond.

    Attributes:
        counts: Of each range, not cumulative; one more than there are limits.
        sum_s: All durations added up.
    """

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    sum_s: float = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.sum_s += seconds

    def copy(self) -> Histogram:
        """Return one of its own."""
        return Histogram(counts=list(self.counts), sum_s=self.sum_s)

    def plus(self, other: Histogram) -> Histogram:
        """Return both added up."""
        counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        return Histogram(counts=counts, sum_s=self.sum_s + other.sum_s)

    def cumulative(self) -> list[tuple[float, int]]:
        """Return each limit, infinity last, with the number of durations up to it."""
        total, pairs = 0, []
        for bound, count in zip((*BOUNDS_S, float("inf")), self.counts, strict=True):
            total += count
            pairs.append((bound, total))
        return pairs
