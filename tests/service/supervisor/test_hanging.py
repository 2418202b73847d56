"""Real processes that hang, are slow, do not read, or find no file to open; all limits are short."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stream_i3d.config import Config
from stream_i3d.service.supervisor import Supervisor, may_start_another
from stream_i3d.stage import CameraSlot, Order, WorkerOrder
from tests.service.supervisor.rig import FakeControl, all_ready, at_once, row
from tests.service.supervisor.toys import (
    WAIT_S,
    computes_before_it_is_ready,
    computes_for_long,
    is_ready_late,
    never_reads_its_orders,
    starts_of,
    stops_itself_at_first,
    waits_for_ever_at_first,
    waits_in_a_declared_call,
    works,
)

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="what threads do is told by Linux")


def order_of_many_cameras(number: int) -> Order:
    """An order that no pipe holds."""
    failure = "ä" * 5000
    slots = [CameraSlot(name=f"c{n}", channel="ipc://x", lossless=False, failure=failure) for n in range(64)]
    return WorkerOrder(number=number, cameras=slots, config=Config())


def test_a_process_that_does_not_read_its_orders_holds_up_neither_the_service_nor_its_end(log: Path) -> None:
    worker = row(never_reads_its_orders, log, grace_s=1.0)
    control = FakeControl(
        all_ready("worker"),
        *[at_once(lambda supervisor: supervisor.change(worker, order_of_many_cameras))] * 3,
        at_once(lambda supervisor: supervisor.add(row(works, log, "capture"))),
        all_ready("capture"),
    )
    Supervisor([worker], control=control).run(WAIT_S)
    assert starts_of("capture", log) == 1


@linux
@pytest.mark.parametrize(
    ("main", "why"),
    [
        (stops_itself_at_first, "worker was stopped for over 5 s and was killed"),
        (waits_for_ever_at_first, "worker was silent and idle for over 4 s and was killed"),
    ],
)
def test_a_process_that_hangs_is_started_again_long_before_its_heartbeat_is_too_old(
    main: Callable[..., None], why: str, log: Path, caplog: pytest.LogCaptureFixture
) -> None:
    idle = 60.0 if main is stops_itself_at_first else 4.0
    Supervisor([replace(row(main, log, grace_s=0.2, silent_limit_s=1e6), idle_limit_s=idle)]).run(WAIT_S)
    assert starts_of("worker", log) == 2
    assert why in caplog.text


@linux
@pytest.mark.parametrize(
    ("main", "limits"),
    [
        (computes_for_long, {"idle_limit_s": 2.5}),
        (waits_in_a_declared_call, {"idle_limit_s": 2.5}),
        (computes_before_it_is_ready, {"startup_limit_s": 2.5}),
    ],
)
def test_a_process_that_is_slow_is_left_alone(main: Callable[..., None], limits: dict[str, Any], log: Path) -> None:
    Supervisor([replace(row(main, log), **limits)]).run(WAIT_S)
    assert starts_of("worker", log) == 1


def test_a_few_cameras_start_at_a_time() -> None:
    assert may_start_another([], 2) and may_start_another([0.1], 2)
    assert not may_start_another([0.1, 5.0], 2)
    assert may_start_another([0.1, 31.0], 2)  # one that takes so long holds up no other


def test_many_cameras_are_started_a_few_at_a_time_and_all_come_up(log: Path) -> None:
    names = [f"capture {number}" for number in range(10)]
    most = [0]

    def count(supervisor: Supervisor) -> bool:
        states = [one.state for one in supervisor.health() if one.name != "worker"]
        most[0] = max(most[0], states.count("starting"))
        return states.count("running") == len(names)

    supervisor = Supervisor(
        [row(works, log), *(row(is_ready_late, log, name) for name in names)], control=FakeControl(count)
    )
    supervisor.run(WAIT_S)
    assert [starts_of(name, log) for name in names] == [1] * len(names)
    assert 1 <= most[0] <= supervisor._at_once < len(names)


EXHAUSTED = """
import errno, os, resource, sys, threading
from dataclasses import replace
from pathlib import Path
from stream_i3d.service.monitoring.monitor import Monitor
from stream_i3d.service.supervisor import Supervisor
from tests.service.supervisor.rig import FakeControl, all_ready, at_once, row
from tests.service.supervisor.toys import works

resource.setrlimit(resource.RLIMIT_NOFILE, (256, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
log, held, monitor, turns = Path(sys.argv[1]), [], Monitor(), []

def take_all(supervisor):
    try:
        while True:
            held.append(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        assert error.errno == errno.EMFILE

def goes_on(supervisor):
    monitor.snapshot()
    turns.append(1)
    return len(turns) > 150

def give_back(supervisor):
    while held:
        os.close(held.pop())

late = row(works, log, "capture late")
worker = replace(row(works, log), memory_limit_mb=4000.0)
control = FakeControl(
    all_ready("worker"), at_once(take_all), at_once(lambda supervisor: supervisor.add(late)), goes_on,
    at_once(give_back), all_ready("worker", "capture late"),
)
print(Supervisor([worker], control=control).run(60.0).frames)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_a_service_that_may_open_no_more_files_goes_on_and_starts_what_it_could_not_when_it_may(log: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", EXHAUSTED, str(log)],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert (done.returncode, done.stdout) == (0, "25\n"), done.stderr
    assert "capture late could not be started (Too many open files)" in done.stderr
