from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_i3d.inference.worker.batching import Batching, Waiting, largest_that_pays

MS = 1_000_000
STRIDE = 320 * MS


def waiting(*pairs: tuple[int, int]) -> list[Waiting]:
    """Windows by camera and the millisecond of their newest frame's capture."""
    return [Waiting(camera, captured * MS + STRIDE) for camera, captured in pairs]


def test_the_oldest_deadline_runs_first_and_a_batch_has_a_limit() -> None:
    batching = Batching(limit=2, wait_s=0.0)
    due = waiting((0, 30), (1, 10), (2, 20))
    assert batching.choose(due, 40 * MS).cameras == (1, 2)
    assert batching.choose([due[0]], 50 * MS).cameras == (0,)


def test_nothing_waits_where_nothing_is_due_or_one_camera_is_alone() -> None:
    batching = Batching(limit=8, wait_s=0.005)
    assert batching.choose([], 0).cameras == ()
    for captured in range(0, 3200, 320):
        batch = batching.choose(waiting((0, captured)), (captured + 1) * MS)
        assert (batch.cameras, batch.wait_s) == ((0,), 0.0)


def test_a_window_waits_for_one_that_is_about_to_come_and_they_run_together() -> None:
    batching = Batching(limit=8, wait_s=0.005)
    batching.choose(waiting((0, 0)), 1 * MS)
    batching.choose(waiting((1, 3)), 8 * MS)
    batch = batching.choose(waiting((0, 320)), 320 * MS)  # camera 1 is due at 323
    assert batch.cameras == () and 0 < batch.wait_s <= 0.005
    assert batching.choose(waiting((0, 320), (1, 323)), 323 * MS).cameras == (0, 1)


def test_a_window_waits_no_longer_than_is_allowed_for_one_that_does_not_come() -> None:
    batching = Batching(limit=8, wait_s=0.005)
    batching.choose(waiting((0, 0)), 1 * MS)
    batching.choose(waiting((1, 3)), 8 * MS)
    assert batching.choose(waiting((0, 320)), 320 * MS).wait_s > 0
    assert batching.choose(waiting((0, 320)), 325 * MS).cameras == (0,)


@pytest.mark.parametrize("limit", [1, 2])
def test_it_does_not_wait_where_the_batch_is_full(limit: int) -> None:
    batching = Batching(limit=limit, wait_s=0.005)
    batching.choose(waiting((0, 0)), 1 * MS)
    batching.choose(waiting((1, 1)), 1 * MS)
    batching.choose(waiting((2, 2)), 2 * MS)
    now = waiting((0, 320), (1, 321))[:limit]
    assert len(batching.choose(now, 321 * MS).cameras) == limit


def test_a_camera_that_was_removed_is_not_waited_for() -> None:
    batching = Batching(limit=8, wait_s=0.005)
    batching.choose(waiting((1, 3)), 4 * MS)
    batching.forget(1)
    assert batching.choose(waiting((0, 320)), 320 * MS).cameras == (0,)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 20)), max_size=40), st.integers(1, 4), st.integers(0, 5))
def test_every_window_runs_within_the_wait_whatever_comes(
    arrivals: list[tuple[int, int]], limit: int, wait_ms: int
) -> None:
    """Windows come as given (camera, milliseconds since the one before); the engine takes no time."""
    batching, now, there = Batching(limit, wait_ms / 1000), 0, dict[int, tuple[int, int]]()
    for camera, later in [*arrivals, *([(9, 10)] if arrivals else [])]:
        until = now + later
        while now < until:
            batch = batching.choose([Waiting(one, seen[1]) for one, seen in there.items()], now * MS)
            for one in batch.cameras:
                assert now - there.pop(one)[0] <= wait_ms + 1
            now += 1
        there.setdefault(camera, (now, now * MS + STRIDE))


@pytest.mark.parametrize(
    ("seconds", "best"),
    [
        ({1: 1.0, 2: 2.0}, 1),
        ({1: 1.0, 2: 1.96}, 1),
        ({1: 1.0, 2: 1.8, 4: 3.59}, 2),
        ({1: 1.0, 2: 1.1, 4: 1.3, 8: 1.7}, 8),
    ],
)
def test_the_largest_batch_that_pays_is_found_without_trying_larger_ones(seconds: dict[int, float], best: int) -> None:
    assert largest_that_pays(lambda size: seconds[size], most=8) == best


def test_a_batch_is_not_larger_than_there_are_cameras() -> None:
    assert largest_that_pays(lambda size: 1.0, most=3) == 2
    assert largest_that_pays(lambda size: 1 / 0, most=1) == 1
