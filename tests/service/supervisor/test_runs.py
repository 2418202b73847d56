"""A run from its start to its end: when it is ready, what ends it, its figures."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import psutil
import pytest

from stream_i3d.errors import ServiceError
from stream_i3d.service.supervisor import Supervisor
from stream_i3d.stage import Ready, Summary
from tests.service.supervisor.rig import FakeControl, row
from tests.service.supervisor.toys import (
    WAIT_S,
    finishes,
    finishes_late,
    gives_up,
    gives_up_without_a_word,
    lingers,
    notes_what_ps_shows,
    pids,
    publishes,
    works,
)


def test_a_run_ends_when_its_worker_has_finished_and_gives_its_figures(log: Path) -> None:
    summary = Supervisor([row(finishes, log), row(works, log, "capture")]).run()
    assert (summary.frames, summary.windows) == (10, 2)
    assert not any(psutil.pid_exists(pid) for pid in pids(log))


def test_last_words_that_come_with_the_end_are_heard(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hear = Supervisor._hear

    def hear_once_finished(supervisor: Supervisor, one: Any) -> None:
        if one.state in ("finished", "gone"):
            hear(supervisor, one)

    monkeypatch.setattr(Supervisor, "_hear", hear_once_finished)
    assert Supervisor([row(finishes, log)]).run().frames == 10


def test_a_run_is_ready_once_with_the_publishers_address_and_ends_with_its_workers(log: Path) -> None:
    said: list[Ready] = []
    rows = [row(publishes, log, "publisher"), row(finishes, log, "worker 1"), row(finishes_late, log, "worker 2")]
    summary = Supervisor(rows, said.append).run(WAIT_S)
    assert [(ready.detail, ready.address) for ready in said] == [("worker 1 is up", "tcp://127.0.0.1:2")]
    assert summary.frames == 20
    assert summary.sink_dropped == 3
    assert log.read_text().splitlines()[-1] == "publisher stopped"


def test_a_run_of_workers_that_linger_ends_once_all_their_cameras_have(log: Path) -> None:
    rows = [row(lingers, log, "worker 1"), row(lingers, log, "worker 2")]
    assert Supervisor(rows).run(WAIT_S).frames == 20


def test_a_duration_counts_from_when_the_worker_is_ready(log: Path) -> None:
    said: list[Ready] = []
    summary = Supervisor([row(works, log)], said.append).run(0.01)
    assert len(said) == 1  # starting it took longer than the duration
    assert summary.frames == 25


def test_a_stop_asked_for_before_the_start_is_not_forgotten(log: Path) -> None:
    supervisor = Supervisor([row(works, log)])
    supervisor.stop()
    assert supervisor.run() == Summary()


@pytest.mark.parametrize("name", ["worker", "capture"])
def test_an_error_of_ours_in_any_process_ends_the_run_with_its_message_and_all_others(log: Path, name: str) -> None:
    rows = [row(works, log), row(works, log, "capture")]
    rows[name == "capture"] = row(gives_up, log, name)
    with pytest.raises(ServiceError) as caught:
        Supervisor(rows).run(WAIT_S)
    assert str(caught.value) == "damaged: rtsp://***@camera/live"
    assert multiprocessing.active_children() == []
    assert not any(psutil.pid_exists(pid) for pid in pids(log))


def test_a_process_that_gives_up_without_a_word_is_named(log: Path) -> None:
    with pytest.raises(ServiceError, match=r"^worker gave up$"):
        Supervisor([row(gives_up_without_a_word, log)]).run(WAIT_S)


@pytest.mark.skipif(not Path("/proc/self/comm").exists(), reason="this system has no /proc")
def test_a_process_is_seen_by_its_name(log: Path) -> None:
    Supervisor([row(notes_what_ps_shows, log, "worker of cameras in the hall")]).run(WAIT_S)
    assert "worker of camer\n" in log.read_text()


def test_many_processes_are_started_one_a_turn(log: Path) -> None:
    started: list[int] = []

    def count(supervisor: Supervisor) -> bool:
        started.append(sum(one.pid is not None for one in supervisor.health()))
        return started[-1] == 4

    rows = [row(works, log), *(row(works, log, f"capture {name}") for name in "abc")]
    Supervisor(rows, control=FakeControl(count)).run(WAIT_S)
    assert started == [0, 1, 2, 3, 4]
