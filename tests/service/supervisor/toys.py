"""Toy work for real processes: what the supervisor starts, restarts and ends in these tests.

They stand at the top level, since a spawned process imports them by name. Each notes what it does in a file, which is
its job; the other functions read that file.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

from stream_i3d.errors import CheckpointError
from stream_i3d.publish.process import PublisherJob
from stream_i3d.stage import (
    CameraFigures,
    CameraNews,
    CaptureOrder,
    Done,
    PublisherOrder,
    PublisherSummary,
    Ready,
    SinkFigures,
    SourceNews,
    Stage,
    Summary,
)
from stream_i3d.stage_entry import EXIT_FATAL
from tests.samples import status

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


def pids(log: Path) -> list[int]:
    return [int(line.split()[-1]) for line in log.read_text().splitlines() if " started " in line]


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


def notes_its_cameras(stage: Stage, job: PublisherJob) -> None:
    """A publisher whose job's channel is the file to note in."""
    log = Path(job.channel)
    begin(stage, log)
    while not stage.stopping.wait(0.02):
        stage.beat()
        order = stage.order()
        if isinstance(order, PublisherOrder):
            note(log, f"{stage.name} knows {json.dumps(order.cameras, sort_keys=True)}")
            stage.say(Done(number=order.number))


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
    note(log, f"{stage.name} again: {stage.again}")
    if begin(stage, log) < 3:
        stage.say(Summary(frames=0, seconds=0.0))
        stage.say(Summary(frames=10, windows=3, seconds=5.0, windows_dropped={"stale": 1}, frames_dropped=1))
        os._exit(7)
    stage.say(Summary(frames=0, seconds=0.0))
    stage.say(Summary(frames=4, windows=1, seconds=2.0, windows_dropped={"gap": 2}, latency_p50_ms=9.0))


def crashes_once_told(stage: Stage, log: Path) -> None:
    """Crash, the first time, when the publisher knows of it."""
    if begin(stage, log) < 2:
        while "tcp://" not in log.read_text() and not stage.stopping.wait(0.02):
            stage.beat()
        os._exit(7)
    work(stage)


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


def plays(stage: Stage, log: Path) -> None:
    """A capture process in the middle of a file."""
    begin(stage, log)
    stage.say(SourceNews(memory_limit_mb=1200.0))
    note(log, f"{stage.name} plays")
    work(stage)


def played(stage: Stage, log: Path) -> None:
    """A capture process that has sent its whole file."""
    begin(stage, log)
    stage.say(SourceNews(memory_limit_mb=500.0))
    stage.say(SourceNews(memory_limit_mb=500.0, ended=True))
    note(log, f"{stage.name} played")
    work(stage)


def crashes_in_its_file(stage: Stage, log: Path) -> None:
    begin(stage, log)
    stage.say(SourceNews(memory_limit_mb=500.0))
    os._exit(3)


def crashes_before_its_file(stage: Stage, log: Path) -> None:
    begin(stage, log)
    os._exit(3)


def works_until_all_have_ended(stage: Stage, log: Path) -> None:
    """A worker that finishes once the log says that all cameras have ended."""
    begin(stage, log)
    while not stage.stopping.wait(0.02) and "all cameras have ended" not in log.read_text():
        stage.beat()


def never_reads_its_orders(stage: Stage, log: Path) -> None:
    begin(stage, log)
    work(stage)


def stops_itself_at_first(stage: Stage, log: Path) -> None:
    if begin(stage, log) < 2:
        os.kill(os.getpid(), signal.SIGSTOP)


def waits_for_ever_at_first(stage: Stage, log: Path) -> None:
    """Hang in a call that gives the interpreter's lock back, as a read of a dead camera may."""
    if begin(stage, log) < 2:
        threading.Event().wait(WAIT_S)


def computes(seconds: float) -> None:
    """Use so much time of a core, and give no heartbeat meanwhile."""
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def computes_for_long(stage: Stage, log: Path) -> None:
    begin(stage, log)
    computes(5.0)


def computes_before_it_is_ready(stage: Stage, log: Path) -> None:
    note(log, f"{stage.name} started {os.getpid()}")
    computes(5.0)
    stage.say(Ready(detail=f"{stage.name} is up"))


def waits_in_a_declared_call(stage: Stage, log: Path) -> None:
    begin(stage, log)
    with stage.long_call(WAIT_S):
        stage.stopping.wait(5.0)


def is_ready_late(stage: Stage, log: Path) -> None:
    note(log, f"{stage.name} started {os.getpid()}")
    stage.stopping.wait(0.3)
    stage.say(Ready(detail=f"{stage.name} is up"))
    work(stage)
