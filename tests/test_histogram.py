from __future__ import annotations

import math

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from stream_i3d.histogram import BOUNDS_S, Histogram


def test_a_duration_counts_up_to_its_limit_and_beyond_the_last_one() -> None:
    histogram = Histogram()
    for seconds in (0.005, 0.0051, 10.0, 10.1):
        histogram.observe(seconds)
    counts = dict(zip((*BOUNDS_S, math.inf), histogram.counts, strict=True))
    assert {bound: count for bound, count in counts.items() if count} == {0.005: 1, 0.01: 1, 10.0: 1, math.inf: 1}
    assert math.isclose(histogram.sum_s, 20.1101)


@given(st.lists(st.floats(0, 100), max_size=30), st.lists(st.floats(0, 100), max_size=30))
def test_two_added_up_are_one_of_all(some: list[float], others: list[float]) -> None:
    first, second, both = Histogram(), Histogram(), Histogram()
    for seconds in some:
        first.observe(seconds)
    for seconds in others:
        second.observe(seconds)
    for seconds in some + others:
        both.observe(seconds)
    added = first.plus(second)
    assert added.counts == both.counts and math.isclose(added.sum_s, both.sum_s, abs_tol=1e-9)
    for bound, count in added.cumulative():
        assert count == sum(seconds <= bound for seconds in some + others)


def test_it_crosses_a_wire_and_a_copy_is_its_own() -> None:
    histogram = Histogram()
    histogram.observe(0.3)
    copy = histogram.copy()
    histogram.observe(0.4)
    assert sum(copy.counts) == 1
    assert msgspec.json.decode(msgspec.json.encode(copy), type=Histogram) == copy
