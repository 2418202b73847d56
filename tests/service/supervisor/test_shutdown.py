"""Everything ends, in order and in time, whoever asks for it and whatever hangs."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from stream_i3d.service.supervisor import Supervisor, stop_on_signals
from stream_i3d.stage import Ready
from tests.service.supervisor.rig import row, stopper
from tests.service.supervisor.toys import (
    SILENT_S,
    WAIT_S,
    finishes,
    hangs_in_c,
    ignores_the_request_to_end,
    interrupts_itself,
    pids,
    works,
)
from tests.waiting import wait_until


def test_told_to_stop_everything_ends_in_order_and_the_last_figures_count(log: Path) -> None:
    on_ready, supervisors, said = stopper()
    supervisors.append(Supervisor([row(works, log), row(works, log, "capture")], on_ready))
    # The worker may be ready, and the run stopped, before the capture process is: then it dies without a note.
    summary = supervisors[0].run()
    assert summary.frames == 25
    assert [ready.detail for ready in said] == ["worker is up"]
    stopped = [line for line in log.read_text().splitlines() if line.endswith("stopped")]
    assert stopped[-1] == "worker stopped"
    assert not any(psutil.pid_exists(pid) for pid in pids(log))


def test_capture_processes_are_ended_before_the_worker(log: Path) -> None:
    def stop_once_all_have_started(ready: Ready) -> None:
        waiter.start()

    def wait_and_stop() -> None:
        while not given_up.wait(0.02):
            if len(pids(log)) == 3:
                supervisor.stop()
                return

    given_up = threading.Event()
    waiter = threading.Thread(target=wait_and_stop)
    rows = [row(works, log), row(works, log, "capture a"), row(works, log, "capture b")]
    supervisor = Supervisor(rows, stop_once_all_have_started)
    supervisor.run(WAIT_S)
    given_up.set()
    waiter.join(WAIT_S)
    stopped = [line for line in log.read_text().splitlines() if line.endswith("stopped")]
    assert sorted(stopped[:2]) == ["capture a stopped", "capture b stopped"]
    assert stopped[2:] == ["worker stopped"]


def test_the_end_of_processes_that_hang_is_not_waited_for_beyond_a_limit(log: Path) -> None:
    on_ready, supervisors, _ = stopper()
    never = 10 * SILENT_S
    rows = [row(hangs_in_c, log, name, silent_limit_s=never, grace_s=WAIT_S) for name in ("worker", "capture")]
    supervisors.append(Supervisor(rows, on_ready))
    supervisors[0].run(WAIT_S)
    assert not any(psutil.pid_exists(pid) for pid in pids(log))


def test_a_process_that_does_not_heed_the_request_to_end_is_killed(log: Path) -> None:
    on_ready, supervisors, _ = stopper()
    supervisors.append(Supervisor([row(ignores_the_request_to_end, log, grace_s=0.2)], on_ready))
    supervisors[0].run(WAIT_S)
    assert len(pids(log)) == 1
    assert not psutil.pid_exists(pids(log)[0])


def test_an_interrupt_from_the_terminal_does_not_end_a_process_by_itself(log: Path) -> None:
    assert Supervisor([row(interrupts_itself, log)]).run(WAIT_S).frames == 10
    assert len(pids(log)) == 1


def test_signals_ask_to_stop_and_are_given_back() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    stops: list[int] = []
    with stop_on_signals(lambda: stops.append(1)):
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.raise_signal(number)
    assert stops == [1, 1]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_starting_a_process_leaves_the_interrupt_handler_as_it_was(log: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    Supervisor([row(finishes, log)]).run(WAIT_S)
    assert signal.getsignal(signal.SIGINT) == before


@pytest.mark.parametrize("main", ["works", "hangs_in_c"])
def test_no_process_outlives_a_supervisor_that_was_killed(main: str, log: Path) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from stream_i3d.service.supervisor import Supervisor\n"
        "from tests.service.supervisor.rig import row\n"
        f"from tests.service.supervisor.toys import {main}\n"
        f"rows = [row({main}, Path(sys.argv[1]), name, silent_limit_s=1e6) for name in ('worker', 'capture')]\n"
        "Supervisor(rows, lambda ready: print('ready', flush=True)).run()\n"
    )
    root = Path(__file__).parents[3]
    with subprocess.Popen([sys.executable, "-c", code, str(log)], cwd=root, stdout=subprocess.PIPE) as supervisor:
        assert supervisor.stdout is not None
        assert supervisor.stdout.readline() == b"ready\n"
        wait_until(lambda: len(pids(log)) == 2)
        children = psutil.Process(supervisor.pid).children(recursive=True)
        assert {child.pid for child in children} > set(pids(log))  # and what multiprocessing keeps beside them
        supervisor.kill()
    _, left = psutil.wait_procs(children, WAIT_S)
    assert left == []
