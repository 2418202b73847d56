"""Processes that crash, fall silent, hang or hold too much are started again."""

from __future__ import annotations

import logging
import random
from dataclasses import replace
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import psutil
import pytest

from stream_i3d.backoff import Backoff
from stream_i3d.service import child as child_module
from stream_i3d.service import footprint as footprint_module
from stream_i3d.service.footprint import Footprint
from stream_i3d.service.supervisor import Supervisor
from stream_i3d.stage import Ready
from tests.service.supervisor.rig import FakeControl, all_ready, at_once, row
from tests.service.supervisor.toys import (
    SILENT_S,
    WAIT_S,
    crashes_at_first,
    finishes,
    finishes_after_capture,
    finishes_with_second_publisher,
    hangs_in_c_at_first,
    is_never_ready_at_first,
    is_silent_at_first,
    is_silent_but_heeds,
    is_told_to_end_by_somebody_at_first,
    loads_for_long,
    pids,
    publishes_and_crashes,
    raises_at_first,
    starts_of,
    works,
)


def test_a_publisher_that_is_killed_is_started_again_and_the_run_goes_on(log: Path) -> None:
    rows = [row(publishes_and_crashes, log, "publisher"), row(finishes_with_second_publisher, log)]
    assert Supervisor(rows).run(WAIT_S).frames == 10
    assert starts_of("publisher", log) == 2


def test_a_process_that_crashes_is_started_again_and_its_figures_add_up(
    log: Path, caplog: pytest.LogCaptureFixture
) -> None:
    said: list[Ready] = []
    with caplog.at_level(logging.ERROR):
        summary = Supervisor([row(crashes_at_first, log)], said.append).run(WAIT_S)
    assert len(pids(log)) == 3
    assert [line.split()[-1] for line in log.read_text().splitlines() if " again: " in line] == [
        "False",
        "True",
        "True",
    ]
    assert len(said) == 1  # subscribers are told once
    assert (summary.frames, summary.windows, summary.frames_dropped) == (24, 7, 2)
    assert summary.seconds == 12.0
    assert summary.windows_dropped == {"stale": 2, "gap": 2}
    assert summary.latency_p50_ms == 9.0
    assert [record.getMessage() for record in caplog.records] == [
        "worker ended with code 7; starting it again in 0.0 s"
    ] * 2


def test_a_bug_in_a_process_is_a_crash_too(log: Path) -> None:
    Supervisor([row(raises_at_first, log)]).run(WAIT_S)
    assert len(pids(log)) == 2


def test_a_process_that_falls_silent_is_killed_and_started_again(log: Path, caplog: pytest.LogCaptureFixture) -> None:
    Supervisor([row(is_silent_at_first, log, grace_s=0.2)]).run(WAIT_S)
    assert len(pids(log)) == 2
    assert not psutil.pid_exists(pids(log)[0])
    assert "worker was silent for over 60 s and was killed" in caplog.text


def test_a_process_that_falls_silent_is_asked_to_end_before_it_is_killed(
    log: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Supervisor([row(is_silent_but_heeds, log)]).run(WAIT_S)
    assert "worker stopped" in log.read_text()
    assert "worker was silent for over 60 s and ended when asked to" in caplog.text


def test_a_process_that_somebody_else_told_to_end_is_started_again(log: Path, caplog: pytest.LogCaptureFixture) -> None:
    Supervisor([row(is_told_to_end_by_somebody_at_first, log)]).run(WAIT_S)
    assert len(pids(log)) == 2
    assert "worker ended with code 143; starting it again" in caplog.text


def test_a_process_that_hangs_in_c_is_killed_reaped_and_started_again(log: Path) -> None:
    Supervisor([row(hangs_in_c_at_first, log, grace_s=0.2)]).run(WAIT_S)
    assert len(pids(log)) == 2
    assert not any(psutil.pid_exists(pid) for pid in pids(log))  # a zombie would exist


def test_a_process_that_could_not_be_started_is_tried_again(
    log: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    start = SpawnProcess.start
    failures = iter([BlockingIOError(11, "Resource temporarily unavailable")])

    def start_second_time(process: SpawnProcess) -> None:
        for failure in failures:
            raise failure
        start(process)

    monkeypatch.setattr(SpawnProcess, "start", start_second_time)
    assert Supervisor([row(finishes, log)]).run(WAIT_S).frames == 10
    assert "worker could not be started (Resource temporarily unavailable); starting it again" in caplog.text


def test_a_process_that_is_never_ready_is_killed_and_started_again(log: Path) -> None:
    Supervisor([row(is_never_ready_at_first, log, silent_limit_s=10 * SILENT_S, grace_s=0.2)]).run(WAIT_S)
    assert len(pids(log)) == 2


def test_a_process_that_took_long_to_be_ready_is_not_killed_for_it(log: Path) -> None:
    Supervisor([row(loads_for_long, log, startup_limit_s=2 * SILENT_S)]).run(WAIT_S)
    assert len(pids(log)) == 1


def test_a_capture_process_that_has_ended_by_itself_is_not_started_again(log: Path) -> None:
    Supervisor([row(finishes_after_capture, log), row(finishes, log, "capture")]).run(WAIT_S)
    assert starts_of("capture", log) == 1


def test_waits_before_a_restart_grow(monkeypatch: pytest.MonkeyPatch, log: Path) -> None:
    waits: list[float] = []

    class Watched(Backoff):
        def failed(self) -> float:
            waits.append(super().failed())
            return waits[-1]

    monkeypatch.setattr(child_module, "Backoff", lambda *_, **__: Watched(random.Random(0), first_s=0.01, jitter=0.0))
    Supervisor([row(crashes_at_first, log)]).run(WAIT_S)
    assert waits == [0.01, 0.02]


def test_a_process_that_holds_too_much_memory_is_started_again_as_planned(
    log: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def footprint(pid: int) -> Footprint:
        first = next((line.split()[-1] for line in log.read_text().splitlines() if line.startswith("capture ")), "")
        return Footprint(700 * 2**20 if str(pid) == first else 90 * 2**20)

    monkeypatch.setattr(footprint_module, "measure_footprint", footprint)
    capture = replace(row(works, log, "capture"), memory_limit_mb=500.0)
    health: list[Any] = []
    control = FakeControl(
        lambda supervisor: starts_of("capture", log) == 2,
        all_ready("worker", "capture"),
        at_once(lambda supervisor: health.extend(supervisor.health())),
    )
    Supervisor([row(works, log), capture], control=control).run(WAIT_S)
    assert [(one.restarts, one.planned_restarts) for one in health] == [(0, 0), (0, 1)]
    assert "capture stopped" in log.read_text()  # in order
    [record] = [record for record in caplog.records if "capture" in record.getMessage()]
    assert record.getMessage().startswith("capture holds 700 MB of memory, more than its max_memory_mb of 500: ")
    assert record.levelno == logging.WARNING
