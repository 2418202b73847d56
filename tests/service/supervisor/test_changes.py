"""What may change while it runs: processes that come, go, are replaced or ordered."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from stream_i3d.config import Config
from stream_i3d.publish.process import PublisherJob
from stream_i3d.service.supervisor import Supervisor
from tests.service.supervisor.rig import FakeControl, all_ready, at_once, pausing, row, said_in, state_of
from tests.service.supervisor.toys import (
    WAIT_S,
    crashes_once_told,
    gives_up,
    hangs_in_c,
    ignores_the_request_to_end,
    notes_its_cameras,
    obeys,
    pids,
    raises_at_first,
    starts_of,
    works,
)


def test_a_process_that_is_added_runs_and_one_that_is_retired_ends_and_is_not_started_again(log: Path) -> None:
    extra = row(works, log, "capture b")
    control = FakeControl(
        all_ready("worker"),
        at_once(lambda supervisor: supervisor.add(extra)),
        all_ready("worker", "capture b"),
        at_once(lambda supervisor: supervisor.retire("capture b")),
        lambda supervisor: ("gone", "capture b") in control.told,
    )
    Supervisor([row(works, log)], control=control).run(WAIT_S)
    assert starts_of("capture b", log) == 1
    assert "capture b stopped" in log.read_text()
    assert ("ready", "capture b") in control.told


def test_a_retired_process_that_does_not_heed_is_killed(log: Path) -> None:
    control = FakeControl(
        all_ready("worker", "capture"),
        at_once(lambda supervisor: supervisor.retire("capture")),
        lambda supervisor: ("gone", "capture") in control.told,
    )
    stubborn = row(ignores_the_request_to_end, log, "capture", grace_s=0.2)
    Supervisor([row(works, log), stubborn], control=control).run(WAIT_S)
    assert ("gone", "capture") in control.told
    assert not any(psutil.pid_exists(pid) for pid in pids(log))


def test_orders_reach_a_process_and_of_many_the_newest_counts(log: Path) -> None:
    capture = row(obeys, log, "capture")
    control = FakeControl(
        all_ready("worker", "capture"),
        at_once(
            lambda supervisor: [supervisor.change(capture, pausing(paused)) for paused in (True,) * 4999 + (False,)]
        ),
        said_in(log, "capture order 5000 False"),
    )
    Supervisor([row(works, log), capture], control=control).run(WAIT_S)
    orders = [line for line in log.read_text().splitlines() if " order " in line]
    assert len(orders) == 2  # the first, and while that was under way only the newest was kept


def test_what_was_ordered_of_a_process_that_crashed_is_its_job_afterwards(log: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.touch()
    capture = row(obeys, log, "capture")
    control = FakeControl(
        all_ready("worker", "capture"),
        at_once(lambda supervisor: supervisor.change(capture, pausing(True))),
        said_in(log, "capture order 1 True"),
        # Its successor is given the row of the newest order: here, another file to write to.
        at_once(lambda supervisor: supervisor.change(row(obeys, other, "capture"), pausing(False))),
        said_in(other, "capture started"),
    )
    Supervisor([row(works, log), capture], control=control).run(WAIT_S)
    assert "order" not in other.read_text()


def test_while_one_process_hangs_others_are_added_and_started_again(log: Path) -> None:
    seen: list[str] = []
    control = FakeControl(
        all_ready("worker"),
        lambda supervisor: state_of(supervisor, "capture a") == "ending",
        at_once(lambda supervisor: supervisor.add(row(raises_at_first, log, "capture b"))),
        lambda supervisor: state_of(supervisor, "capture b") == "finished",
        at_once(lambda supervisor: seen.append(state_of(supervisor, "capture a"))),
    )
    hung = row(hangs_in_c, log, "capture a", grace_s=WAIT_S)
    Supervisor([row(works, log), hung], control=control).run(WAIT_S)
    assert starts_of("capture b", log) == 2
    assert seen == ["ending"]  # still: its time is not over, and nobody waited for it


def test_a_process_is_replaced_in_order_and_does_what_its_new_row_says(log: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.touch()
    health: list[Any] = []
    control = FakeControl(
        all_ready("worker", "capture"),
        at_once(lambda supervisor: supervisor.replace(row(works, other, "capture"))),
        said_in(other, "capture started"),
        all_ready("capture"),
        at_once(lambda supervisor: health.extend(supervisor.health())),
    )
    Supervisor([row(works, log), row(works, log, "capture")], control=control).run(WAIT_S)
    assert "capture stopped" in log.read_text()
    assert [(one.restarts, one.planned_restarts) for one in health] == [(0, 0), (0, 0)]


def test_a_process_that_gave_up_is_replaced_too(log: Path) -> None:
    capture = replace(row(gives_up, log, "capture"), essential=False)
    control = FakeControl(
        lambda supervisor: state_of(supervisor, "capture") == "failed",
        at_once(lambda supervisor: supervisor.replace(row(works, log, "capture"))),
        all_ready("capture"),
    )
    Supervisor([row(works, log), capture], control=control).run(WAIT_S)
    assert starts_of("capture", log) == 1


def test_the_publisher_is_told_of_cameras_and_of_one_that_is_started_again_where_its_previews_were(log: Path) -> None:
    job = PublisherJob(channel=str(log), config=Config(), run="")
    publisher = replace(row(notes_its_cameras, log, "publisher"), job=job)
    control = FakeControl(
        lambda supervisor: starts_of("capture door", log) == 2,
        all_ready("worker", "publisher", "capture door"),
        at_once(lambda supervisor: supervisor.add(row(works, log, "capture hall"))),
        said_in(log, 'knows {"door": "tcp://127.0.0.1:1", "hall": "tcp://127.0.0.1:1"}'),
        at_once(lambda supervisor: supervisor.retire("capture door")),
        said_in(log, 'knows {"hall": "tcp://127.0.0.1:1"}'),
    )
    Supervisor([publisher, row(works, log), row(crashes_once_told, log, "capture door")], control=control).run(WAIT_S)
    known = [json.loads(line.partition(" knows ")[2]) for line in log.read_text().splitlines() if " knows " in line]
    doors = [cameras["door"] for cameras in known if "door" in cameras]
    assert "" not in doors[doors.index("tcp://127.0.0.1:1") :]
    assert known[-1] == {"hall": "tcp://127.0.0.1:1"}
