"""Which cameras are served in streaming mode, decided from numbers alone."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_i3d.inference.worker.turns import (
    EXCESS,
    FRAME_INTERVALS,
    SHARED_INTERVAL,
    TURN_STEPS,
    CameraLoad,
    StepCosts,
    Turns,
)
from stream_i3d.models.streaming_plan import WARM_UP_STEPS

FPS = 25.0
STEPS_S = FPS / 8


def turns_of(step_s: float, stride: int = 8) -> Turns:
    return Turns(stride, FPS, {1: step_s})


def loads(count: int, **more: int) -> list[CameraLoad]:
    return [CameraLoad(camera, **more) for camera in range(count)]


def serve(turns: Turns, cameras: list[CameraLoad], seconds: float, step_s: float, begin: float = 0.0) -> float:
    """Let time pass, with every chunk of the served cameras run in time; return when it is."""
    now, next_at, numbers = begin, dict[int, float](), dict[int, int]()
    while now < begin + seconds:
        now += 0.02
        turns.update(cameras, now)
        every_s = turns.stride * turns.frame_interval / FPS
        next_at = {camera: next_at.get(camera, now + every_s) for camera in turns.served}
        numbers = {camera: numbers.get(camera, 0) for camera in turns.served}
        for camera in [camera for camera, at in next_at.items() if now >= at]:
            turns.ran({camera: numbers[camera]}, step_s)
            numbers[camera] += 1
            next_at[camera] += every_s
    return now


def test_cameras_that_fit_are_all_served() -> None:
    turns = turns_of(0.9 / (4 * STEPS_S))
    turns.update(loads(4), 0.0)
    assert turns.served == {0, 1, 2, 3}
    assert (turns.stride, turns.frame_interval, turns.overloaded_since) == (8, 1, None)


@pytest.mark.parametrize(("load", "interval"), [(1.25, 1.5), (1.3, 1.5), (1.6, 2), (1.8, 2)])
def test_the_rate_of_all_is_lowered_before_any_camera_waits(load: float, interval: float) -> None:
    turns = turns_of(load / (4 * STEPS_S))
    turns.update(loads(4), 0.0)
    assert turns.served == {0, 1, 2, 3}
    assert turns.frame_interval == interval <= SHARED_INTERVAL
    assert turns.overloaded_since == 0.0


def test_as_many_as_fit_are_served_and_the_others_wait() -> None:
    turns = turns_of(1 / (2.5 * STEPS_S))  # 2.5 cameras, at half the rate 5 and with some room 4
    turns.update(loads(10), 7.0)
    assert len(turns.served) == 4
    assert [turns.waiting_since(camera) for camera in range(10)] == [None] * 4 + [7.0] * 6


@pytest.mark.parametrize(("step_s", "interval"), [(0.5, 2), (1.0, 4), (2.5, 12), (20.0, 64), (100.0, 64)])
def test_where_not_even_one_fits_it_is_seen_at_a_larger_interval(step_s: float, interval: int) -> None:
    turns = turns_of(step_s)
    turns.update(loads(4), 0.0)
    assert (turns.served, turns.frame_interval) == ({0}, interval)


def test_stride_4_is_given_up_first() -> None:
    turns = turns_of(1.5 / (4 * 2 * STEPS_S), stride=4)
    turns.update(loads(4), 0.0)
    assert (turns.served, turns.stride, turns.frame_interval) == ({0, 1, 2, 3}, 8, 1)


def test_one_warm_up_is_at_most_a_quarter_of_a_turn() -> None:
    assert WARM_UP_STEPS / TURN_STEPS <= 0.25


def test_cameras_take_turns_in_the_order_in_which_they_wait() -> None:
    step_s = 1 / (1.2 * STEPS_S)  # 2 cameras at half the rate
    turns, began = turns_of(step_s), dict[int, list[float]]()
    suspend = turns._suspend

    def note(camera: int, now: float) -> None:
        began.setdefault(camera, []).append(now)
        suspend(camera, now)

    turns._suspend = note  # type: ignore[method-assign]
    serve(turns, loads(5), 250, step_s)
    assert all(len(times) >= 3 for times in began.values())
    assert len(began) == 5
    for times in began.values():  # a round: five turns, two at a time
        rounds = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert rounds == [pytest.approx(2.5 * turns.turn_s, rel=0.25)] * len(rounds)


def test_a_camera_that_falls_silent_gives_up_its_place_at_once() -> None:
    step_s = 1 / (0.6 * STEPS_S)
    turns = turns_of(step_s)
    turns.update(loads(3), 0.0)
    assert turns.served == {0}
    turns.update([CameraLoad(0, live=False), *loads(3)[1:]], 1.0)
    assert turns.served == {1}
    assert turns.waiting_since(0) is None
    turns.update(loads(3), 2.0)
    assert [turns.waiting_since(camera) for camera in range(3)] == [2.0, None, 0.0]


def test_a_camera_that_was_removed_makes_room() -> None:
    step_s = 1 / (0.6 * STEPS_S)
    turns = turns_of(step_s)
    turns.update(loads(2), 0.0)
    turns.update(loads(2)[1:], 1.0)
    assert turns.served == {1}


def test_a_short_pause_of_the_machine_is_no_overload() -> None:
    turns = turns_of(0.04)
    now = serve(turns, loads(4), 30.0, 0.04)
    turns.ran({0: 50}, 1.5)
    turns.update(loads(4, backlog=4, overflows=1), now)
    assert turns.overloaded_since is None


def test_queues_that_grow_are_an_overload_and_the_camera_with_the_most_predictions_waits() -> None:
    turns = turns_of(0.9 / (4 * STEPS_S))
    now = serve(turns, loads(4), 30.0, 0.9 / (4 * STEPS_S))
    for _ in range(9):
        turns.ran({1: 100}, 2.5 / (4 * STEPS_S))
    turns.update(loads(4, backlog=3), now)
    assert turns.overloaded_since == now
    assert turns.frame_interval == SHARED_INTERVAL
    assert len(turns.served) == 2


def test_it_eases_after_a_calm_time_and_later_each_time_that_was_too_early() -> None:
    slow, fast = 1.5 / (4 * STEPS_S), 0.5 / (4 * STEPS_S)
    turns, now, calm = turns_of(slow), 0.0, list[float]()
    turns.update(loads(4), now)
    for _ in range(4):
        for _ in range(9):
            turns.ran({0: 100}, fast)
        began = now
        while turns.overloaded_since is not None:
            now = serve(turns, loads(4), 0.5, fast, now)
            for turn in turns._turns.values():
                turn.run = 100
        calm.append(now - began)
        for _ in range(9):
            turns.ran({0: 100}, slow)
        now += 1.0
        turns.update(loads(4, backlog=3), now)
        assert turns.overloaded_since is not None
    assert calm[0] == pytest.approx(10, abs=1.5)
    assert all(later > 1.5 * earlier for earlier, later in itertools.pairwise(calm))


def test_the_cost_of_a_step_is_that_of_the_newest_without_the_largest() -> None:
    costs = StepCosts({1: 1.0})
    for _ in range(8):
        costs.ran(1, 0.1)
    assert costs.per_chunk(1) == pytest.approx(0.1)
    costs.ran(1, 3.0)
    assert costs.per_chunk(1) == pytest.approx(0.1)


def test_batches_that_pay_are_reckoned_with_and_follow_the_machine() -> None:
    costs = StepCosts({1: 0.1, 4: 0.2})
    assert [costs.per_chunk(most) for most in (1, 2, 4, 8)] == pytest.approx([0.1, 0.2 / 3, 0.05, 0.05])
    for _ in range(9):
        costs.ran(1, 0.3)
    assert costs.per_chunk(8) == pytest.approx(0.15)


def test_nothing_is_known_of_a_step_before_the_first() -> None:
    turns = Turns(8, FPS)
    turns.update(loads(40), 0.0)
    assert len(turns.served) == 40


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 40), st.floats(0.001, 30.0), st.sampled_from([4, 8]))
def test_what_is_served_is_never_more_than_fits(cameras: int, step_s: float, stride: int) -> None:
    turns = turns_of(step_s, stride)
    turns.update(loads(cameras), 0.0)
    rate = FPS / (turns.stride * turns.frame_interval)
    assert turns.served
    assert len(turns.served) * rate * step_s <= EXCESS or turns.frame_interval == FRAME_INTERVALS[-1]
    if len(turns.served) < cameras and turns.overloaded_since is not None:
        assert (len(turns.served) + 1) * rate * step_s > 0.9
