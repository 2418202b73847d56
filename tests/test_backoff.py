from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_i3d.backoff import Backoff


def backoff(jitter: float = 0.0, **more: float) -> Backoff:
    return Backoff(random.Random(7), jitter=jitter, **more)


def test_each_failure_doubles_the_pause_up_to_the_limit():
    delays = backoff(first_s=1, limit_s=60)
    assert [delays.failed() for _ in range(9)] == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_the_limit_holds_for_the_first_pause_too():
    assert [backoff(first_s=10, limit_s=3).failed() for _ in range(3)] == [3, 3, 3]


def test_failures_are_counted():
    delays = backoff()
    for _ in range(3):
        delays.failed()
    assert delays.failures == 3


def test_sustained_health_starts_over():
    delays = backoff(first_s=1, reset_after_s=10)
    for _ in range(5):
        delays.failed()
    delays.healthy_for(20)
    assert delays.failures == 0
    assert [delays.failed(), delays.failed()] == [1, 2]


def test_health_that_does_not_last_changes_nothing():
    delays = backoff(first_s=1, reset_after_s=10)
    delays.failed()
    delays.failed()
    for seconds in (0.0, 1.0, 9.99):
        delays.healthy_for(seconds)
    assert delays.failed() == 4
    assert delays.failures == 3


def test_jitter_spreads_the_pauses_about_their_mean():
    rng = random.Random(3)
    first = [Backoff(rng, first_s=10, jitter=0.2).failed() for _ in range(500)]
    assert min(first) < 8.2 and max(first) > 11.8
    assert sum(first) / len(first) == pytest.approx(10, abs=0.2)
    assert all(8 <= delay <= 12 for delay in first)


def test_jitter_does_not_feed_on_itself():
    delays = Backoff(random.Random(3), first_s=1, limit_s=1e9, jitter=0.2)
    assert all(0.8 * 2**index <= delays.failed() <= 1.2 * 2**index for index in range(20))


def test_the_same_randomness_gives_the_same_pauses():
    one, other = (Backoff(random.Random(5)) for _ in range(2))
    assert [one.failed() for _ in range(8)] == [other.failed() for _ in range(8)]


@settings(deadline=None, max_examples=100)
@given(st.integers(), st.floats(0.01, 10), st.floats(0.01, 100), st.floats(0, 0.9), st.integers(1, 60))
def test_a_pause_is_never_above_the_limit_nor_nothing(seed, first_s, limit_s, jitter, failures):
    delays = Backoff(random.Random(seed), first_s=first_s, limit_s=limit_s, jitter=jitter)
    assert all(0 < delays.failed() <= limit_s for _ in range(failures))


def test_the_first_failure_after_health_may_be_tried_again_at_once():
    delays = backoff(first_s=1, reset_after_s=10, at_once=True)
    assert 0 <= delays.failed() <= 0.2
    assert [delays.failed() for _ in range(3)] == pytest.approx([1, 2, 4], rel=0.2)
    delays.healthy_for(10)
    assert delays.failed() <= 0.2


def test_health_that_is_shorter_than_the_last_wait_is_not_sustained():
    delays = backoff(first_s=60, limit_s=60, jitter=0.0, reset_after_s=10)
    delays.failed()
    delays.healthy_for(59)
    assert delays.failures == 1
    delays.healthy_for(60)
    assert delays.failures == 0
