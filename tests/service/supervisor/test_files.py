"""Processes that read a file: never started again from its beginning, and a limit that knows the picture's size."""

from __future__ import annotations

import os
import random
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stream_i3d.backoff import Backoff
from stream_i3d.errors import ServiceError
from stream_i3d.service import child as child_module
from stream_i3d.service import footprint as footprint_module
from stream_i3d.service.footprint import Footprint
from stream_i3d.service.supervisor import Supervisor
from tests.service.supervisor.rig import FakeControl, all_ready, row, said_in, state_of
from tests.service.supervisor.toys import (
    WAIT_S,
    crashes_before_its_file,
    crashes_in_its_file,
    note,
    played,
    plays,
    starts_of,
    works,
    works_until_all_have_ended,
)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "Backoff", lambda *_, **__: Backoff(random.Random(0), first_s=0.01, jitter=0.0))


def capture(main: Any, log: Path, essential: bool = True, memory_limit_mb: Any = None) -> Any:
    one = row(main, log, "capture clip")
    return replace(one, plays_once=True, essential=essential, memory_limit_mb=memory_limit_mb)


def test_a_crash_in_the_middle_of_a_file_is_not_followed_by_its_beginning(log: Path) -> None:
    control = FakeControl(
        lambda supervisor: bool(control.told) and control.told[-1][1] == "capture clip" and len(control.told) > 1
    )
    rows = [row(works, log), capture(crashes_in_its_file, log, essential=False)]
    Supervisor(rows, control=control).run(WAIT_S)
    assert starts_of("capture clip", log) == 1
    assert (
        "the capture process ended with code 3 in the middle of its file, which is not read from its start again",
        "capture clip",
    ) in control.told


def test_without_control_such_a_crash_ends_the_run_with_its_one_line(log: Path) -> None:
    with pytest.raises(ServiceError, match=r"^clip: the capture process ended with code 3 in the middle of its file"):
        Supervisor([row(works, log), capture(crashes_in_its_file, log)]).run(WAIT_S)
    assert starts_of("capture clip", log) == 1


def test_with_control_the_others_go_on_and_the_run_fails_at_its_end(log: Path) -> None:
    class Ending(FakeControl):
        def gave_up(self, supervisor: Supervisor, name: str, failure: str) -> None:
            super().gave_up(supervisor, name, failure)
            note(log, "all cameras have ended")

    with pytest.raises(ServiceError, match=r"^clip: the capture process ended with code 3"):
        rows = [row(works_until_all_have_ended, log), capture(crashes_in_its_file, log)]
        Supervisor(rows, control=Ending(lambda supervisor: False)).run(WAIT_S)


def test_a_file_that_crashes_its_reader_each_time_it_is_opened_is_given_up(log: Path) -> None:
    with pytest.raises(
        ServiceError, match=r"^clip: the capture process ended with code 3 each time it opened its file$"
    ):
        Supervisor([row(works, log), capture(crashes_before_its_file, log)]).run(WAIT_S)
    assert starts_of("capture clip", log) == 4


def test_another_file_in_place_of_one_that_was_given_up_has_all_its_tries(log: Path) -> None:
    broken = capture(crashes_before_its_file, log, essential=False)
    failed = "each time it opened its file"
    control = FakeControl(
        lambda supervisor: sum(failed in told for told, _ in control.told) == 1,
        lambda supervisor: [supervisor.replace(broken)] != [],
        lambda supervisor: sum(failed in told for told, _ in control.told) == 2,
    )
    Supervisor([row(works, log), broken], control=control).run(WAIT_S)
    assert starts_of("capture clip", log) == 8


def test_one_that_is_killed_after_its_end_is_neither_started_again_nor_a_failure(log: Path) -> None:
    def kill(supervisor: Supervisor) -> bool:
        os.kill(next(one.pid for one in supervisor.health() if one.name == "capture clip"), signal.SIGKILL)
        return True

    control = FakeControl(
        said_in(log, "capture clip played"), kill, lambda supervisor: state_of(supervisor, "capture clip") == "finished"
    )
    Supervisor([row(works, log), capture(played, log)], control=control).run(WAIT_S)
    assert starts_of("capture clip", log) == 1


def holding(log: Path, monkeypatch: pytest.MonkeyPatch, megabytes: float) -> None:
    """Let processes hold so much once the file is played."""

    def footprint(pid: int) -> Footprint:
        return Footprint(int((megabytes if "capture clip plays" in log.read_text() else 90) * 2**20))

    monkeypatch.setattr(footprint_module, "measure_footprint", footprint)


def test_a_file_over_its_limit_is_ended_once_and_never_begins_anew(
    log: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    holding(log, monkeypatch, 700)
    with pytest.raises(ServiceError, match="holds 700 MB of memory, more than its max_memory_mb of 500, in the middle"):
        Supervisor([row(works, log), capture(plays, log, memory_limit_mb=500.0)]).run(WAIT_S)
    assert starts_of("capture clip", log) == 1
    assert "started again, as planned" not in caplog.text


def test_the_automatic_limit_is_what_the_pictures_need(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """8K: 700 MB are no leak, 1,300 are."""
    holding(log, monkeypatch, 700)
    looks = iter(range(200))
    control = FakeControl(
        said_in(log, "capture clip plays"),
        lambda supervisor: next(looks) > 150 and all_ready("capture clip")(supervisor),
    )
    Supervisor([row(works, log), capture(plays, log, memory_limit_mb="auto")], control=control).run(WAIT_S)
    assert starts_of("capture clip", log) == 1
    log.write_text("")
    holding(log, monkeypatch, 1300)
    with pytest.raises(ServiceError, match="holds 1300 MB of memory, more than its max_memory_mb of 1200"):
        Supervisor([row(works, log), capture(plays, log, memory_limit_mb="auto")]).run(WAIT_S)
