"""Real processes that do toy work: what the supervisor starts, restarts and ends.

The toys stand at the top level, since a spawned process imports them by name.
"""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import psutil
import pytest

from stream_i3d.backoff import Backoff
from stream_i3d.errors import CheckpointError, ServiceError
from stream_i3d.messages import CameraStatus
from stream_i3d.service import child as child_module
from stream_i3d.service import footprint as footprint_module
from stream_i3d.service.footprint import Footprint
from stream_i3d.service.plan import Role, StageRow
from stream_i3d.service.supervisor import Supervisor, stop_on_signals
from stream_i3d.stage import (
    CameraFigures,
    CameraNews,
    CaptureOrder,
    Done,
    Order,
    PublisherSummary,
    Ready,
    SinkFigures,
    Stage,
    Summary,
)
from stream_i3d.stage_entry import EXIT_FATAL
from tests.samples import status
from tests.waiting import wait_until

WAIT_S = 60.0
SILENT_S = 1000.0


def note(log: Path, line: str) -> None:
    """Append a line whole, whoever else is writing."""
    with log.open("a") as file:
        file.write(line + "\n")


def begin(stage: Stage, log: Path) -> int:
    """Note the start and say ready; return how often this stage has started."""
    note(log, f"{stage.name} started {os.getpid()}")
    stage.say(Ready(detail=f"{stage.name} is up", address="tcp://127.0.0.1:1"))
    return starts_of(stage.name, log)


def starts_of(name: str, log: Path) -> int:
    return sum(line.startswith(f"{name} started") for line in log.read_text().splitlines())


def work(stage: Stage) -> None:
    """Beat until told to stop."""
    while not stage.stopping.wait(0.02):
        stage.beat()


def works(stage: Stage, log: Path) -> None:
    begin(stage, log)
    work(stage)
    note(log, f"{stage.name} stopped")
    if stage.name == "worker":
        stage.say(Summary(frames=25, seconds=1.0))


def finishes(stage: Stage, log: Path) -> None:
    begin(stage, log)
    stage.say(Summary(frames=10, windows=2, seconds=1.0))


def finishes_after_capture(stage: Stage, log: Path) -> None:
    """A worker that goes on for a while after the capture process has ended by itself."""
    begin(stage, log)
    turns = 0
    while not stage.stopping.wait(0.02) and turns < 20:
        stage.beat()
        turns += "capture started" in log.read_text()


def publishes(stage: Stage, log: Path) -> None:
    note(log, f"{stage.name} started {os.getpid()}")
    stage.say(Ready(detail="publishing", address="tcp://127.0.0.1:2"))
    stage.say(PublisherSummary(sinks=[SinkFigures(name="jsonl", queued=0, written=1, dropped=3)]))
    work(stage)
    note(log, f"{stage.name} stopped")


def publishes_and_crashes(stage: Stage, log: Path) -> None:
    if begin(stage, log) < 2:
        os._exit(7)
    work(stage)


def lingers(stage: Stage, log: Path) -> None:
    """A worker, one of several, whose cameras have ended."""
    begin(stage, log)
    stage.say(Summary(frames=10, seconds=1.0, cameras={"door": CameraFigures()}, ended=True))
    work(stage)


def finishes_late(stage: Stage, log: Path) -> None:
    """A worker that goes on until the publisher has started, and finishes after the others."""
    finishes(stage, log)
    while not starts_of("publisher", log) and not stage.stopping.wait(0.02):
        stage.beat()
    stage.stopping.wait(0.5)


def finishes_with_second_publisher(stage: Stage, log: Path) -> None:
    begin(stage, log)
    while starts_of("publisher", log) < 2 and not stage.stopping.wait(0.02):
        stage.beat()
    stage.say(Summary(frames=10, seconds=1.0))


def gives_up(stage: Stage, log: Path) -> None:
    raise CheckpointError("damaged: rtsp://admin:s3cret@camera/live")


def gives_up_without_a_word(stage: Stage, log: Path) -> None:
    sys.exit(EXIT_FATAL)


def crashes_at_first(stage: Stage, log: Path) -> None:
    """Crashes twice, then finishes; its figures begin at nought each time."""
    if begin(stage, log) < 3:
        stage.say(Summary(frames=0, seconds=0.0))
        stage.say(Summary(frames=10, windows=3, seconds=5.0, windows_dropped={"stale": 1}, frames_dropped=1))
        os._exit(7)
    stage.say(Summary(frames=0, seconds=0.0))
    stage.say(Summary(frames=4, windows=1, seconds=2.0, windows_dropped={"gap": 2}, latency_p50_ms=9.0))


def raises_at_first(stage: Stage, log: Path) -> None:
    if begin(stage, log) < 2:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123 (the traceback is no news to the reader of the tests)
        raise RuntimeError("a bug")


def fall_silent(stage: Stage) -> None:
    """Have had the last heartbeat long ago: no limit of a test is so short that a busy machine goes over it."""
    stage._beat.value -= SILENT_S


def is_silent_at_first(stage: Stage, log: Path) -> None:
    if begin(stage, log) < 2:
        fall_silent(stage)
        threading.Event().wait(WAIT_S)


def is_silent_but_heeds(stage: Stage, log: Path) -> None:
    if begin(stage, log) < 2:
        fall_silent(stage)
        stage.stopping.wait(WAIT_S)
        note(log, f"{stage.name} stopped")


def is_told_to_end_by_somebody_at_first(stage: Stage, log: Path) -> None:
    if begin(stage, log) < 2:
        os.kill(os.getpid(), signal.SIGTERM)
        stage.stopping.wait(WAIT_S)


def hangs_in_c(stage: Stage, log: Path) -> None:
    """Hang in a library that keeps the interpreter's lock: no handler and no thread of this process runs."""
    begin(stage, log)
    fall_silent(stage)
    mutex = ctypes.create_string_buffer(128)
    for _ in range(2):  # the second time waits for ever
        ctypes.PyDLL(None).pthread_mutex_lock(mutex)


def hangs_in_c_at_first(stage: Stage, log: Path) -> None:
    if starts_of(stage.name, log):
        begin(stage, log)
        return
    hangs_in_c(stage, log)


def is_never_ready_at_first(stage: Stage, log: Path) -> None:
    note(log, f"{stage.name} started {os.getpid()}")
    if starts_of(stage.name, log) < 2:
        fall_silent(stage)
        threading.Event().wait(WAIT_S)


def loads_for_long(stage: Stage, log: Path) -> None:
    """Its last heartbeat is long past when it says that it is ready; then it is not heard for a moment."""
    if not starts_of(stage.name, log):
        fall_silent(stage)
    begin(stage, log)
    stage.stopping.wait(0.5)


def ignores_the_request_to_end(stage: Stage, log: Path) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    begin(stage, log)
    while True:
        stage.stopping.wait(0.02)
        stage.beat()


def interrupts_itself(stage: Stage, log: Path) -> None:
    os.kill(os.getpid(), signal.SIGINT)
    begin(stage, log)
    stage.say(Summary(frames=10, seconds=1.0))


def obeys(stage: Stage, log: Path) -> None:
    """Note every order before it is done; crash on the first order of number 2."""
    begin(stage, log)
    while not stage.stopping.wait(0.02):
        stage.beat()
        order = stage.order()
        if isinstance(order, CaptureOrder):
            note(log, f"{stage.name} order {order.number} {order.paused}")
            if order.number == 2 and starts_of(stage.name, log) < 2:
                os._exit(7)
            stage.say(Done(number=order.number))


def tells_of_a_camera(stage: Stage, log: Path) -> None:
    begin(stage, log)
    stage.say(CameraNews(status=status(camera="hall")))
    work(stage)


def notes_what_ps_shows(stage: Stage, log: Path) -> None:
    begin(stage, log)
    note(log, Path("/proc/self/comm").read_text().rstrip("\n"))


def row(
    main: Callable[[Stage, Any], None],
    log: Path,
    name: str = "worker",
    silent_limit_s: float = WAIT_S,
    startup_limit_s: float = WAIT_S,
    grace_s: float = 20.0,
) -> StageRow:
    order = {"worker": 1, "publisher": 2}.get(name, 0)
    role: Role = "publisher" if name == "publisher" else "worker" if name.startswith("worker") else "capture"
    return StageRow(name, main, log, silent_limit_s, startup_limit_s, order, grace_s, role)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log"
    path.touch()
    return path


@pytest.fixture(autouse=True)
def no_process_left() -> Iterator[None]:
    yield
    left = multiprocessing.active_children()
    for process in left:
        process.kill()
        process.join()
    assert left == []


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start again at once what has failed."""
    monkeypatch.setattr(child_module, "Backoff", lambda rng, *_, **__: Backoff(rng, first_s=0.01, limit_s=0.02))


def pids(log: Path) -> list[int]:
    return [int(line.split()[-1]) for line in log.read_text().splitlines() if " started " in line]


def stopper(readies: int = 1) -> tuple[Callable[[Ready], None], list[Supervisor], list[Ready]]:
    """Return what stops a run once its worker is ready, the list to put the supervisor in, and what was said."""
    supervisors: list[Supervisor] = []
    said: list[Ready] = []

    def on_ready(ready: Ready) -> None:
        said.append(ready)
        supervisors[0].stop()

    return on_ready, supervisors, said


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


def test_a_publisher_that_is_killed_is_started_again_and_the_run_goes_on(log: Path) -> None:
    rows = [row(publishes_and_crashes, log, "publisher"), row(finishes_with_second_publisher, log)]
    assert Supervisor(rows).run(WAIT_S).frames == 10
    assert starts_of("publisher", log) == 2


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


def test_a_process_that_crashes_is_started_again_and_its_figures_add_up(
    log: Path, caplog: pytest.LogCaptureFixture
) -> None:
    said: list[Ready] = []
    with caplog.at_level(logging.ERROR):
        summary = Supervisor([row(crashes_at_first, log)], said.append).run(WAIT_S)
    assert len(pids(log)) == 3
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


def test_the_end_of_processes_that_hang_is_not_waited_for_beyond_a_limit(log: Path) -> None:
    on_ready, supervisors, _ = stopper()
    never = 10 * SILENT_S
    rows = [row(hangs_in_c, log, name, silent_limit_s=never, grace_s=WAIT_S) for name in ("worker", "capture")]
    supervisors.append(Supervisor(rows, on_ready))
    supervisors[0].run(WAIT_S)
    assert not any(psutil.pid_exists(pid) for pid in pids(log))


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


def test_a_process_that_does_not_heed_the_request_to_end_is_killed(log: Path) -> None:
    on_ready, supervisors, _ = stopper()
    supervisors.append(Supervisor([row(ignores_the_request_to_end, log, grace_s=0.2)], on_ready))
    supervisors[0].run(WAIT_S)
    assert len(pids(log)) == 1
    assert not psutil.pid_exists(pids(log)[0])


@pytest.mark.skipif(not Path("/proc/self/comm").exists(), reason="this system has no /proc")
def test_a_process_is_seen_by_its_name(log: Path) -> None:
    Supervisor([row(notes_what_ps_shows, log, "worker of cameras in the hall")]).run(WAIT_S)
    assert "worker of camer\n" in log.read_text()


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
        f"from tests.service.test_supervisor import row, {main}\n"
        f"rows = [row({main}, Path(sys.argv[1]), name, silent_limit_s=1e6) for name in ('worker', 'capture')]\n"
        "Supervisor(rows, lambda ready: print('ready', flush=True)).run()\n"
    )
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", code, str(log)], cwd=root, stdout=subprocess.PIPE) as supervisor:
        assert supervisor.stdout is not None
        assert supervisor.stdout.readline() == b"ready\n"
        wait_until(lambda: len(pids(log)) == 2)
        children = psutil.Process(supervisor.pid).children(recursive=True)
        assert {child.pid for child in children} > set(pids(log))  # and what multiprocessing keeps beside them
        supervisor.kill()
    _, left = psutil.wait_procs(children, WAIT_S)
    assert left == []


def test_waits_before_a_restart_grow(monkeypatch: pytest.MonkeyPatch, log: Path) -> None:
    waits: list[float] = []

    class Watched(Backoff):
        def failed(self) -> float:
            waits.append(super().failed())
            return waits[-1]

    monkeypatch.setattr(child_module, "Backoff", lambda *_, **__: Watched(random.Random(0), first_s=0.01, jitter=0.0))
    Supervisor([row(crashes_at_first, log)]).run(WAIT_S)
    assert waits == [0.01, 0.02]


# --- what a desk may change


class FakeDesk:
    """Does what the test says at each turn; notes what it is told."""

    def __init__(self, *turns: Callable[[Supervisor], bool]) -> None:
        """Args: each of `turns` is called at every look until it returns True; then the next; then the run ends."""
        self.told: list[tuple[str, str]] = []
        self.statuses: list[CameraStatus] = []
        self._turns = list(turns)
        self._paused = threading.Event()

    def attend(self, supervisor: Supervisor, wait_s: float) -> None:
        self._paused.wait(0.01)
        if not self._turns:
            supervisor.stop()
        elif self._turns[0](supervisor):
            self._turns.pop(0)

    def heard(self, name: str, said: Ready | CameraNews) -> None:
        if isinstance(said, CameraNews):
            self.statuses.append(said.status)
        else:
            self.told.append(("ready", name))

    def gave_up(self, supervisor: Supervisor, name: str, failure: str) -> None:
        self.told.append((failure, name))

    def gone(self, supervisor: Supervisor, name: str) -> None:
        self.told.append(("gone", name))


def at_once(change: Callable[[Supervisor], object]) -> Callable[[Supervisor], bool]:
    def turn(supervisor: Supervisor) -> bool:
        change(supervisor)
        return True

    return turn


def all_ready(*names: str) -> Callable[[Supervisor], bool]:
    return lambda supervisor: all(supervisor.is_ready(name) for name in names)


def pausing(paused: bool) -> Callable[[int], Order]:
    return lambda number: CaptureOrder(number=number, paused=paused)


def said_in(log: Path, *lines: str) -> Callable[[Supervisor], bool]:
    return lambda supervisor: all(line in log.read_text() for line in lines)


def test_a_process_that_is_added_runs_and_one_that_is_retired_ends_and_is_not_started_again(log: Path) -> None:
    extra = row(works, log, "capture b")
    desk = FakeDesk(
        all_ready("worker"),
        at_once(lambda supervisor: supervisor.add(extra)),
        all_ready("worker", "capture b"),
        at_once(lambda supervisor: supervisor.retire("capture b")),
        lambda supervisor: ("gone", "capture b") in desk.told,
    )
    Supervisor([row(works, log)], desk=desk).run(WAIT_S)
    assert starts_of("capture b", log) == 1
    assert "capture b stopped" in log.read_text()
    assert ("ready", "capture b") in desk.told


def test_a_retired_process_that_does_not_heed_is_killed(log: Path) -> None:
    desk = FakeDesk(
        all_ready("worker", "capture"),
        at_once(lambda supervisor: supervisor.retire("capture")),
        lambda supervisor: ("gone", "capture") in desk.told,
    )
    stubborn = row(ignores_the_request_to_end, log, "capture", grace_s=0.2)
    Supervisor([row(works, log), stubborn], desk=desk).run(WAIT_S)
    assert ("gone", "capture") in desk.told
    assert not any(psutil.pid_exists(pid) for pid in pids(log))


def test_orders_reach_a_process_and_of_many_the_newest_counts(log: Path) -> None:
    capture = row(obeys, log, "capture")
    desk = FakeDesk(
        all_ready("worker", "capture"),
        at_once(
            lambda supervisor: [supervisor.change(capture, pausing(paused)) for paused in (True,) * 4999 + (False,)]
        ),
        said_in(log, "capture order 5000 False"),
    )
    Supervisor([row(works, log), capture], desk=desk).run(WAIT_S)
    orders = [line for line in log.read_text().splitlines() if " order " in line]
    assert len(orders) == 2  # the first, and while that was under way only the newest was kept


def test_what_was_ordered_of_a_process_that_crashed_is_its_job_afterwards(log: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.touch()
    capture = row(obeys, log, "capture")
    desk = FakeDesk(
        all_ready("worker", "capture"),
        at_once(lambda supervisor: supervisor.change(capture, pausing(True))),
        said_in(log, "capture order 1 True"),
        # Its successor is given the row of the newest order: here, another file to write to.
        at_once(lambda supervisor: supervisor.change(row(obeys, other, "capture"), pausing(False))),
        said_in(other, "capture started"),
    )
    Supervisor([row(works, log), capture], desk=desk).run(WAIT_S)
    assert "order" not in other.read_text()


def test_a_process_that_is_not_essential_may_give_up_alone(log: Path) -> None:
    capture = replace(row(gives_up, log, "capture"), essential=False)
    told = "damaged: rtsp://***@camera/live"
    desk = FakeDesk(all_ready("worker"), lambda supervisor: (told, "capture") in desk.told)
    Supervisor([row(works, log), capture], desk=desk).run(WAIT_S)
    assert desk.told.count((told, "capture")) == 1


def test_the_desk_hears_what_the_worker_says_of_cameras(log: Path) -> None:
    desk = FakeDesk(lambda supervisor: bool(desk.statuses))
    Supervisor([row(tells_of_a_camera, log)], desk=desk).run(WAIT_S)
    assert desk.statuses == [status(camera="hall")]


def state_of(supervisor: Supervisor, name: str) -> str:
    return next(one.state for one in supervisor.health() if one.name == name)


def test_while_one_process_hangs_others_are_added_and_started_again(log: Path) -> None:
    seen: list[str] = []
    desk = FakeDesk(
        all_ready("worker"),
        lambda supervisor: state_of(supervisor, "capture a") == "ending",
        at_once(lambda supervisor: supervisor.add(row(raises_at_first, log, "capture b"))),
        lambda supervisor: state_of(supervisor, "capture b") == "finished",
        at_once(lambda supervisor: seen.append(state_of(supervisor, "capture a"))),
    )
    hung = row(hangs_in_c, log, "capture a", grace_s=WAIT_S)
    Supervisor([row(works, log), hung], desk=desk).run(WAIT_S)
    assert starts_of("capture b", log) == 2
    assert seen == ["ending"]  # still: its time is not over, and nobody waited for it


def test_many_processes_are_started_one_a_turn(log: Path) -> None:
    started: list[int] = []

    def count(supervisor: Supervisor) -> bool:
        started.append(sum(one.pid is not None for one in supervisor.health()))
        return started[-1] == 4

    rows = [row(works, log), *(row(works, log, f"capture {name}") for name in "abc")]
    Supervisor(rows, desk=FakeDesk(count)).run(WAIT_S)
    assert started == [0, 1, 2, 3, 4]


def test_a_process_that_holds_too_much_memory_is_started_again_as_planned(
    log: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def footprint(pid: int) -> Footprint:
        first = next((line.split()[-1] for line in log.read_text().splitlines() if line.startswith("capture ")), "")
        return Footprint(700 * 2**20 if str(pid) == first else 90 * 2**20)

    monkeypatch.setattr(footprint_module, "measure_footprint", footprint)
    capture = replace(row(works, log, "capture"), memory_limit_mb=500.0)
    health: list[Any] = []
    desk = FakeDesk(
        lambda supervisor: starts_of("capture", log) == 2,
        all_ready("worker", "capture"),
        at_once(lambda supervisor: health.extend(supervisor.health())),
    )
    Supervisor([row(works, log), capture], desk=desk).run(WAIT_S)
    assert [(one.restarts, one.planned_restarts) for one in health] == [(0, 0), (0, 1)]
    assert "capture stopped" in log.read_text()  # in order
    [record] = [record for record in caplog.records if "capture" in record.getMessage()]
    assert record.getMessage().startswith("capture holds 700 MB of memory, more than its max_memory_mb of 500: ")
    assert record.levelno == logging.WARNING


def test_how_processes_fare_is_known_from_any_thread(log: Path) -> None:
    health: list[Any] = []

    def look_from_another_thread(supervisor: Supervisor) -> bool:
        thread = threading.Thread(target=lambda: health.append(supervisor.health()))
        thread.start()
        thread.join()
        worker, capture = health[-1]
        return worker.state == "running" and worker.rss_bytes is not None and capture.restarts == 1

    desk = FakeDesk(look_from_another_thread)
    Supervisor([row(works, log), row(raises_at_first, log, "capture")], desk=desk).run(WAIT_S)
    before, worker = health[0][0], health[-1][0]
    assert (before.name, before.state, before.pid, before.silent_s) == ("worker", "waiting", None, None)
    assert (before.rss_bytes, before.open_files) == (None, None)
    assert (worker.state, worker.restarts) == ("running", 0)
    assert worker.pid in pids(log)
    assert worker.rss_bytes > 2**20
    assert worker.open_files >= 3
    assert 0 <= worker.silent_s < WAIT_S


def test_a_process_is_replaced_in_order_and_does_what_its_new_row_says(log: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.touch()
    health: list[Any] = []
    desk = FakeDesk(
        all_ready("worker", "capture"),
        at_once(lambda supervisor: supervisor.replace(row(works, other, "capture"))),
        said_in(other, "capture started"),
        all_ready("capture"),
        at_once(lambda supervisor: health.extend(supervisor.health())),
    )
    Supervisor([row(works, log), row(works, log, "capture")], desk=desk).run(WAIT_S)
    assert "capture stopped" in log.read_text()
    assert [(one.restarts, one.planned_restarts) for one in health] == [(0, 0), (0, 0)]


def test_a_process_that_gave_up_is_replaced_too(log: Path) -> None:
    capture = replace(row(gives_up, log, "capture"), essential=False)
    desk = FakeDesk(
        lambda supervisor: state_of(supervisor, "capture") == "failed",
        at_once(lambda supervisor: supervisor.replace(row(works, log, "capture"))),
        all_ready("capture"),
    )
    Supervisor([row(works, log), capture], desk=desk).run(WAIT_S)
    assert starts_of("capture", log) == 1
