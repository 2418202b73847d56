"""A worker that cannot keep up, on a fake clock: who is recognised, how often, how late, and what work is lost."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_i3d.overload import Overload, describe
from tests.inference.worker.machine import FPS, Machine

STEPS_S = FPS / 8
PHASES = [0.0, 0.013, 0.17, 0.171]


def streaming(cameras: int, load: float, **more: float) -> Machine:
    """Cameras in streaming mode that need `load` times what the engine can do."""
    step_s = load / (cameras * STEPS_S)
    phases = [PHASES[number % 4] + 0.01 * (number // 4) for number in range(cameras)]
    return Machine(phases, lambda size, now: size * step_s, mode="streaming", **more)  # type: ignore[arg-type]


def windows(phases: list[float], load: float, **more: object) -> Machine:
    """Cameras in window mode that need `load` times what the engine can do at the largest stride."""
    window_s = load * 32 / FPS / len(phases)
    return Machine(phases, lambda size, now: size * window_s, **more)  # type: ignore[arg-type]


def test_without_overload_every_chunk_of_every_camera_is_run() -> None:
    machine = streaming(4, 0.85).run(30)
    assert [seen.count(0, 30) for seen in machine.seen] == [pytest.approx(30 * STEPS_S - 7, abs=2)] * 4
    assert machine.pace.overload is None
    assert machine.wasted == 0


@pytest.mark.parametrize("load", [1.1, 1.5, 2.0, 3.0, 6.0])
def test_overload_gives_predictions_and_loses_no_work(load: float) -> None:
    machine = streaming(4, load).run(100)
    capacity = 4 * STEPS_S / load
    assert machine.per_second(40, 100) >= 0.4 * capacity
    assert machine.wasted == 0
    assert max(seen.latency_s(10) for seen in machine.seen if seen.count(10, 100)) < 1.6
    assert machine.pace.overload is not None


@pytest.mark.parametrize("load", [2.0, 4.0])
def test_no_camera_waits_longer_than_the_turns_of_the_others(load: float) -> None:
    machine = streaming(4, load).run(180)
    overload = machine.pace.overload
    assert overload is not None and overload.turn_s is not None
    others = -(-(4 - overload.served) // overload.served)
    warming_s = overload.turn_s / 4
    for seen in machine.seen:
        assert seen.gap_s(50, 180) <= 1.5 * others * overload.turn_s + warming_s + 2


def test_many_cameras_that_come_at_once_begin_no_warm_up_in_vain() -> None:
    machine = streaming(16, 8.0).run(60)
    assert machine.wasted == 0
    assert machine.per_second(20, 60) >= 0.3 * 16 * STEPS_S / 8


@pytest.mark.parametrize("load", [5.0, 15.0])
def test_a_machine_too_slow_for_one_camera_still_gives_predictions(load: float) -> None:
    machine = streaming(1, load).run(150)
    assert machine.seen[0].count(0, 150) >= 0.4 * 150 * STEPS_S / load - 8
    assert machine.wasted == 0
    assert machine.cameras[0].stride == 8 * machine.pace.overload.frame_interval  # type: ignore[union-attr]


def test_it_is_said_once_and_which_cameras_wait(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        machine = streaming(4, 6.0).run(60)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "cannot keep up with 4 cameras: 1 of them is recognised at a time, by turns of 18 s" in caplog.messages[0]
    assert "--mode window" in caplog.messages[0]
    assert [camera.overloaded for camera in machine.cameras] == [True] * 4
    assert sum(camera.waiting_since is not None for camera in machine.cameras) == 3
    for camera in machine.cameras:
        status = camera.status(0.0, only_due=False)
        assert status is not None
        assert (status.overloaded, status.waiting_since) == (True, camera.waiting_since)
        assert status.stride == 16


def test_when_the_machine_becomes_slow_and_fast_again_all_are_served_again(caplog: pytest.LogCaptureFixture) -> None:
    fast, slow = 0.5 / (3 * STEPS_S), 3.0 / (3 * STEPS_S)
    machine = Machine([0, 0.1, 0.2], lambda size, now: size * (slow if 20 < now < 60 else fast), mode="streaming")
    with caplog.at_level(logging.INFO):
        machine.run(110)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert machine.pace.overload is None
    assert [seen.count(100, 110) for seen in machine.seen] == [pytest.approx(10 * STEPS_S, abs=1)] * 3
    assert machine.wasted <= 3 * 7  # a change that nobody could foresee


def test_a_camera_that_is_added_under_overload_waits_and_is_served_in_its_turn() -> None:
    machine = streaming(3, 2.5).run(40)
    new = machine.add()
    machine.run(80)
    assert machine.seen[new].count(40, 120) > 0
    assert machine.wasted == 0


def test_a_camera_that_stalls_gives_its_place_to_another() -> None:
    machine = streaming(2, 4.0).run(25)
    served = next(index for index, camera in enumerate(machine.cameras) if camera.waiting_since is None)
    machine.silence(served, 30.0)
    machine.run(25)
    assert machine.seen[1 - served].count(27, 50) >= 15
    assert machine.seen[served].count(27, 50) == 0


def test_a_gpus_batches_are_reckoned_with() -> None:
    machine = Machine(
        [0.01 * number for number in range(8)],
        lambda size, now: 0.06 + 0.01 * size,  # alone 2 cameras would fit, in batches of 8 they all do
        batch_limit=8,
        mode="streaming",
    ).run(30)
    assert machine.pace.overload is None
    assert machine.per_second(10, 30) == pytest.approx(8 * STEPS_S, rel=0.05)


@settings(max_examples=15, deadline=None)
@given(
    st.integers(2, 5),
    st.floats(1.1, 8.0),
    st.lists(st.floats(0, 0.32), min_size=5, max_size=5),
    st.floats(0.7, 1.4),
)
def test_under_any_overload_work_is_not_wasted_and_nobody_starves(
    cameras: int, load: float, phases: list[float], guess: float
) -> None:
    step_s = load / (cameras * STEPS_S)
    machine = Machine(
        phases[:cameras], lambda size, now: size * step_s * (guess if now == 0 else 1), mode="streaming"
    ).run(150)
    assert machine.per_second(60, 150) >= 0.3 / step_s - 0.1
    assert all(seen.steps for seen in machine.seen)
    assert machine.wasted <= (0 if guess >= 1 else 7 * cameras)  # a first measure that flatters costs a warm-up


@pytest.mark.parametrize("load", [1.1, 1.5, 2.0, 3.0, 5.0, 10.0])
@pytest.mark.parametrize("phases", [[0.0, 0.01, 0.02, 0.03], [0.0, 0.4, 0.4, 1.0], PHASES], ids=str)
def test_in_window_mode_all_cameras_are_equally_old_however_slow_the_machine_is(
    phases: list[float], load: float
) -> None:
    """Ordered by deadline alone, one or two of the four never had a window: their age was that of the service."""
    machine = windows(phases, load).run(20 + 16 * load)
    end = machine.now
    ages = [seen.age_s(end / 2, end) for seen in machine.seen]
    assert max(ages) <= 2 * min(ages)
    counts = [seen.count(end / 2, end) for seen in machine.seen]
    assert max(counts) <= 2 * min(counts)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(0, 1.28), min_size=2, max_size=6), st.floats(1.1, 10.0))
def test_in_window_mode_nobody_starves_at_any_phase(phases: list[float], load: float) -> None:
    machine = windows(phases, load).run(60)
    round_s = load * 32 / FPS
    for seen in machine.seen:
        assert seen.age_s(30, 60) <= 2 * (round_s + 32 / FPS) + 1


def test_a_camera_with_another_rate_does_not_starve_the_others() -> None:
    machine = windows([0.0, 0.1, 0.2], 3.0)
    fast = machine.add()
    machine.rates[fast] = 30.0
    machine.run(60)
    ages = [seen.age_s(30, 60) for seen in machine.seen]
    assert max(ages) <= 2 * min(ages)


def test_windows_that_take_seconds_are_never_older_than_one_window_and_a_stride(
    caplog: pytest.LogCaptureFixture,
) -> None:
    machine = Machine([0.1 * number for number in range(8)], lambda size, now: 5.0 * size)
    with caplog.at_level(logging.WARNING):
        machine.run(300)
    assert max(seen.latency_s(60) for seen in machine.seen) <= 5.0 + 32 / FPS + 0.1
    assert machine.per_second(60, 300) == pytest.approx(1 / 5, rel=0.05)
    assert max(seen.gap_s(60, 300) for seen in machine.seen) <= 8 * 5.0 + 5.1
    overload = machine.pace.overload
    assert overload is not None and overload.prediction_s == pytest.approx(40, rel=0.1)
    assert [camera.overloaded for camera in machine.cameras] == [True] * 8
    assert "cannot keep up with 8 cameras" in caplog.messages[0]


def test_a_stride_that_may_not_be_raised_is_an_overload_all_the_same() -> None:
    machine = Machine([0.0, 0.1], lambda size, now: 0.5, adaptive=False).run(20)
    assert machine.cameras[0].stride == 8
    assert machine.pace.overload is not None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"served": 4, "stride": 32}, "with 4 cameras: stride 32 instead of 8 for all cameras"),
        ({"served": 1, "turn_s": 9.0}, "with 4 cameras: 1 of them is recognised at a time, by turns of 9 s"),
        ({"served": 4, "frame_interval": 2, "stride": 16}, "with 4 cameras: the network sees 1 of 2 frames"),
        ({"served": 4, "frame_interval": 1.25}, "with 4 cameras: the network sees 4 of 5 frames"),
        ({"cameras": 1, "served": 1, "prediction_s": 40.0}, "with 1 camera: a prediction of each camera every 40.0 s"),
    ],
)
def test_an_overload_in_words(given: dict[str, float], said: str) -> None:
    fields = {"since": 1.0, "cameras": 4, "asked_stride": 8, "stride": 8, **given}
    assert describe(Overload(**fields)) == f"this machine cannot keep up {said}"  # type: ignore[arg-type]
