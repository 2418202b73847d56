from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stream_i3d.log_throttle import LogThrottle

HERE = ("worker.py", 7)


def test_the_first_few_alike_pass_and_the_rest_are_summed_up_after_the_period() -> None:
    repeats = LogThrottle(same=3, period_s=60)
    assert [repeats.take(HERE, "lost", now) for now in range(40)] == [True] * 3 + [False] * 37
    assert repeats.due(59) == []
    [told] = repeats.due(60)
    assert told.describe(repeats.period_s) == "lost … 37 times more in the last 60 s"
    assert repeats.due(200) == [] and repeats.rest() == []


def test_after_the_period_the_first_few_pass_again() -> None:
    repeats = LogThrottle(same=1, period_s=60)
    assert repeats.take(HERE, "lost", 0) and not repeats.take(HERE, "lost", 1)
    repeats.due(61)
    assert repeats.take(HERE, "lost", 61) and not repeats.take(HERE, "lost", 62)


def test_other_texts_and_other_places_are_counted_for_themselves() -> None:
    repeats = LogThrottle(same=1)
    assert repeats.take(HERE, "door: lost", 0)
    assert repeats.take(HERE, "hall: lost", 0)
    assert repeats.take(("drain.py", 7), "door: lost", 0)
    assert not repeats.take(HERE, "door: lost", 0)


def test_one_place_that_always_says_something_else_is_limited_too() -> None:
    repeats = LogThrottle(same=5, place=10, period_s=60)
    assert sum(repeats.take(HERE, f"lost {number}", 0) for number in range(100)) == 10
    assert [one.describe(60) for one in repeats.due(60)] == ["lost 99 … 90 more like this in the last 60 s"]


def test_what_was_held_back_is_told_at_the_end() -> None:
    repeats = LogThrottle(same=1)
    for _ in range(3):
        repeats.take(HERE, "lost", 0)
    assert [one.count for one in repeats.rest()] == [2]
    assert repeats.rest() == []


def test_it_holds_so_many_counts_at_most() -> None:
    repeats = LogThrottle(same=1, place=1, most=10)
    passed = sum(repeats.take((f"file {number}",), f"text {number}", 0) for number in range(1000))
    assert len(repeats._periods) <= 21
    assert passed == 1000  # what cannot be counted passes


def test_a_text_that_is_counted_stays_so_where_no_more_can_be() -> None:
    repeats = LogThrottle(same=1, place=100, most=10)
    assert repeats.take(HERE, "lost", 0)
    for number in range(100):
        repeats.take((f"file {number}",), f"text {number}", 0)
    assert not repeats.take(HERE, "lost", 0)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.floats(0, 30)), max_size=200))
def test_no_message_is_lost_uncounted(steps: list[tuple[int, int, float]]) -> None:
    repeats, now, passed, told = LogThrottle(same=2, place=4, period_s=60), 0.0, 0, 0
    for place, text, later in steps:
        now += later
        told += sum(one.count for one in repeats.due(now))
        passed += repeats.take((place,), str(text), now)
    assert passed + told + sum(one.count for one in repeats.rest()) == len(steps)
