from __future__ import annotations

import os

from stream_i3d.messages import ModelName
from stream_i3d.service.monitoring import monitor as monitor_module
from stream_i3d.service.monitoring.monitor import Monitor, stage_snapshot
from stream_i3d.service.monitoring.snapshot import StageSnapshot
from stream_i3d.service.plan import StageRow
from stream_i3d.service.stage_health import StageHealth
from stream_i3d.stage import CameraFigures, CameraNews, PublisherSummary, Ready, SinkFigures, Summary
from tests.samples import status
from tests.service.monitoring.snapshots import stage

ROWS = [stage(pid=None), stage("publisher", pid=None), stage("capture door", pid=None)]


def watching(*rows: StageSnapshot) -> Monitor:
    monitor = Monitor()
    monitor.stages = lambda: rows or tuple(ROWS)
    return monitor


def summary(frames: int, *cameras: str, age_s: float | None = 0.1) -> Summary:
    figures = CameraFigures(frames=frames, frame_age_s=age_s)
    return Summary(cameras=dict.fromkeys(cameras or ("door",), figures), rejected_messages=1)


def test_before_anybody_has_spoken_nothing_is_known_and_nothing_ready() -> None:
    known = watching().snapshot()
    assert not known.ready and known.model is None and known.publish == ""
    assert [camera.name for camera in known.cameras] == ["door"]
    assert known.cameras[0].status is None


def test_what_each_process_says_stands_in_its_place() -> None:
    monitor = watching()
    monitor.on_message("publisher", 1, Ready(detail="", address="tcp://127.0.0.1:5556"))
    monitor.on_message("capture door", 3, Ready(detail="", address="ipc:///preview"))
    monitor.on_message("worker", 2, Ready(detail="", model=ModelName(name="i3d", checkpoint="motion"), engine="torch"))
    monitor.on_message("worker", 2, summary(250))
    monitor.on_message("publisher", 1, CameraNews(status=status()))
    sink = SinkFigures(
        name="mqtt", queued=1, written=2, dropped=3, refused=4, failing=True, detail="no rtsp://a:geheim@b"
    )
    monitor.on_message(
        "publisher", 1, PublisherSummary(published=9, sinks=[sink], rejected_messages=4, subscriptions_refused=7)
    )
    known = monitor.snapshot()
    assert known.ready and known.publish == "tcp://127.0.0.1:5556"
    assert (known.model, known.engine) == (ModelName(name="i3d", checkpoint="motion"), "torch")
    assert (known.cameras[0].status, known.cameras[0].figures.frames) == (status(), 250)
    [shown] = known.sinks
    assert (shown.name, shown.queued, shown.written, shown.dropped, shown.refused) == ("mqtt", 1, 2, 3, 4)
    assert shown.failing and shown.detail == "no rtsp://***@b"
    assert known.subscriptions_refused == 7
    assert known.published == 9 and known.rejected_messages == {"worker": 1, "publisher": 4}


def test_it_is_ready_only_while_worker_and_publisher_run() -> None:
    loaded = Ready(detail="", model=ModelName(name="i3d", checkpoint="motion"))
    for state in ("waiting", "starting", "ending"):
        monitor = watching(stage(state=state, pid=None), stage("publisher", pid=None))
        monitor.on_message("worker", 2, loaded)
        assert not monitor.snapshot().ready


def test_a_camera_that_was_removed_disappears_and_one_that_comes_by_its_name_is_new() -> None:
    monitor = watching()
    monitor.on_message("worker", 2, summary(250, "door", "hall"))
    monitor.on_message("publisher", 1, CameraNews(status=status(camera="hall")))
    assert [camera.name for camera in monitor.snapshot().cameras] == ["door"]
    monitor.stages = lambda: [*ROWS, stage("capture hall", pid=None)]
    [_, hall] = monitor.snapshot().cameras
    assert (hall.name, hall.status) == ("hall", None)


def test_counters_do_not_fall_when_the_worker_is_started_again() -> None:
    monitor = watching()
    frames = []
    for pid, count in [(2, 100), (2, 250), (5, 0), (5, 40)]:
        monitor.on_message("worker", pid, summary(count))
        frames.append(monitor.snapshot().cameras[0].figures.frames)
    assert frames == [100, 250, 250, 290]


def test_a_worker_that_hangs_does_not_hide_the_age_of_a_frame(monkeypatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(monitor_module.time, "monotonic", lambda: now[0])
    monitor = watching()
    monitor.on_message("worker", 2, summary(250, age_s=0.5))

    def age() -> float | None:
        return monitor.snapshot().cameras[0].figures.frame_age_s

    now[0] += 1.5
    assert age() == 0.5  # its next word is under way
    now[0] += 30.0
    assert age() == 30.0


def test_the_age_of_the_loop_is_since_it_last_turned(monkeypatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(monitor_module.time, "monotonic", lambda: now[0])
    monitor = watching()
    now[0] += 7
    assert monitor.snapshot().loop_age_s == 7
    monitor.turned()
    assert monitor.snapshot().loop_age_s == 0


def test_the_supervisor_is_one_of_the_processes_with_its_own_memory_and_files() -> None:
    own, *others = watching().snapshot().stages
    assert (own.name, own.role, own.state, own.pid) == ("supervisor", "supervisor", "running", os.getpid())
    assert own.rss_bytes is not None and own.rss_bytes > 10_000_000
    assert own.open_files is not None and own.open_files >= 3
    assert others == ROWS


def test_a_process_is_shown_as_its_health_says_and_of_one_that_has_ended_memory_and_files_are_unknown() -> None:
    row = StageRow("publisher", print, None, 20.0, 120.0, 2, grace_s=1.0, role="publisher")
    here = stage_snapshot(row, StageHealth("publisher", "running", 2, 1, 0.12345, 3 * 2**20, 30, 77))
    ended = stage_snapshot(row, StageHealth("publisher", "waiting", 2, 1, None, None, None, None))
    assert (here.name, here.role, here.state, here.pid) == ("publisher", "publisher", "running", 77)
    assert (here.restarts, here.planned_restarts, here.heartbeat_age_s) == (2, 1, 0.123)
    assert (here.rss_bytes, here.open_files) == (3 * 2**20, 30)
    assert (ended.rss_bytes, ended.open_files, ended.heartbeat_age_s, ended.pid) == (None, None, None, None)


def test_the_heartbeat_of_a_process_that_starts_may_be_older() -> None:
    row = StageRow("publisher", print, None, 20.0, 120.0, 2, grace_s=1.0, role="publisher")
    limits = [
        stage_snapshot(row, StageHealth("publisher", state, 0, 0, 0.1, None, None, 77)).heartbeat_limit_s
        for state in ("starting", "running")
    ]
    assert limits == [120.0, 20.0]


def test_the_heartbeat_of_a_process_in_a_long_call_may_be_as_old_as_that_call_may_last() -> None:
    row = StageRow("worker", print, None, 60.0, 120.0, 1, grace_s=1.0, role="worker")
    health = StageHealth("worker", "running", 0, 0, 200.0, None, None, 77, long_call_s=300.0)
    assert stage_snapshot(row, health).heartbeat_limit_s == 300.0
