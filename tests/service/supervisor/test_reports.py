"""What those who watch a run are told of its processes."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

from stream_i3d.service.supervisor import Supervisor
from tests.samples import status
from tests.service.supervisor.rig import FakeControl, all_ready, row
from tests.service.supervisor.toys import WAIT_S, gives_up, pids, raises_at_first, tells_of_a_camera, works


def test_a_process_that_is_not_essential_may_give_up_alone(log: Path) -> None:
    capture = replace(row(gives_up, log, "capture"), essential=False)
    told = "damaged: rtsp://***@camera/live"
    control = FakeControl(all_ready("worker"), lambda supervisor: (told, "capture") in control.told)
    Supervisor([row(works, log), capture], control=control).run(WAIT_S)
    assert control.told.count((told, "capture")) == 1


def test_the_control_channel_hears_what_the_worker_says_of_cameras(log: Path) -> None:
    control = FakeControl(lambda supervisor: bool(control.statuses))
    Supervisor([row(tells_of_a_camera, log)], control=control).run(WAIT_S)
    assert control.statuses == [status(camera="hall")]


def test_how_processes_fare_is_known_from_any_thread(log: Path) -> None:
    health: list[Any] = []

    def look_from_another_thread(supervisor: Supervisor) -> bool:
        thread = threading.Thread(target=lambda: health.append(supervisor.health()))
        thread.start()
        thread.join()
        worker, capture = health[-1]
        return worker.state == "running" and worker.rss_bytes is not None and capture.restarts == 1

    control = FakeControl(look_from_another_thread)
    Supervisor([row(works, log), row(raises_at_first, log, "capture")], control=control).run(WAIT_S)
    before, worker = health[0][0], health[-1][0]
    assert (before.name, before.state, before.pid, before.silent_s) == ("worker", "waiting", None, None)
    assert (before.rss_bytes, before.open_files) == (None, None)
    assert (worker.state, worker.restarts) == ("running", 0)
    assert worker.pid in pids(log)
    assert worker.rss_bytes > 2**20
    assert worker.open_files >= 3
    assert 0 <= worker.silent_s < WAIT_S
