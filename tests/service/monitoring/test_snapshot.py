from __future__ import annotations

import pytest

from stream_i3d.overload import Overload
from stream_i3d.service.monitoring.snapshot import CameraSnapshot, degradations, liveness_problems, readiness_problems
from tests.samples import status
from tests.service.monitoring.snapshots import snapshot, stage


def test_a_service_that_is_well_is_alive_and_ready() -> None:
    assert liveness_problems(snapshot()) == [] and readiness_problems(snapshot()) == []


@pytest.mark.parametrize("name", ["worker", "worker 1", "publisher"])
def test_a_loop_that_does_not_turn_is_dead_beyond_its_limit_only(name: str) -> None:
    at_limit, beyond = stage(name, heartbeat_age_s=60.0), stage(name, heartbeat_age_s=75.4)
    assert liveness_problems(snapshot(stages=[at_limit])) == []
    said = f"{name}: its loop has not turned for 75 s, which is over 60 s"
    assert liveness_problems(snapshot(stages=[beyond])) == [said]


def test_the_supervisors_own_loop_counts_too() -> None:
    assert liveness_problems(snapshot(loop_age_s=10.0)) == []
    assert liveness_problems(snapshot(loop_age_s=31.0)) == ["supervisor: its loop has not turned for 31 s"]


@pytest.mark.parametrize("state", ["waiting", "starting", "failed"])
def test_a_camera_is_no_part_of_it(state: str) -> None:
    lost = stage("capture door", state=state, restarts=9, heartbeat_age_s=1000.0)
    assert liveness_problems(snapshot(stages=[stage(), lost])) == []
    assert readiness_problems(snapshot(stages=[stage(), lost])) == []


def test_a_process_that_starts_is_alive_and_not_ready() -> None:
    starting = snapshot(stages=[stage(state="starting"), stage("publisher")])
    assert liveness_problems(starting) == [] and readiness_problems(starting) == ["worker: starting"]
    waiting = snapshot(stages=[stage(state="waiting", heartbeat_age_s=None)])
    assert liveness_problems(waiting) == []


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"state": "waiting", "restarts": 1, "heartbeat_age_s": None}, "worker: is being started again"),
        ({"state": "failed", "heartbeat_age_s": None}, "worker: cannot go on"),
    ],
)
def test_a_process_that_is_not_there_is_dead(more: dict[str, object], said: str) -> None:
    assert liveness_problems(snapshot(stages=[stage(**more)])) == [said]


def test_without_a_model_it_is_not_ready() -> None:
    assert readiness_problems(snapshot(ready=False)) == ["the model is not loaded yet"]


TURNS = Overload(since=1.0, cameras=3, served=1, asked_stride=8, stride=16, frame_interval=2, turn_s=18.0)


def test_an_overload_is_told_with_the_cameras_that_wait_and_is_no_reason_not_to_be_ready() -> None:
    cameras = [
        CameraSnapshot(name=name, status=status(camera=name, waiting_since=since))
        for name, since in (("door", None), ("hall", 5.0), ("yard", 6.0))
    ]
    overloaded = snapshot(cameras=cameras, overloads={"worker": TURNS})
    assert readiness_problems(overloaded) == [] and liveness_problems(overloaded) == []
    assert degradations(overloaded) == [
        "worker: this machine cannot keep up with 3 cameras: 1 of them is recognised at a time, by turns of 18 s, the "
        "network sees 1 of 2 frames",
        "cameras that wait for their turn: hall, yard",
    ]
    assert degradations(snapshot()) == []
