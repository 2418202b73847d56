from __future__ import annotations

import pytest
from msgspec import structs

from stream_i3d.messages import ModelName
from stream_i3d.service.terminal.tables import table_of
from stream_i3d.transport.control import (
    CameraInfo,
    CamerasReply,
    ErrorReply,
    HelloReply,
    Reply,
    SettingsReply,
    StageInfo,
    StagesReply,
)
from tests.samples import status

STAGE = StageInfo(
    name="worker", state="running", restarts=2, planned_restarts=1, silent_s=0.04, memory_mb=245.3, pid=77
)
DOOR = CameraInfo(name="door", source="rtsp://***@cam", paused=False, preview=None, status=status(camera="door"))
HELLO = HelloReply(version="1", pid=7, started_at=0.0, ready=False)


def test_a_service_that_loads_and_one_that_is_ready_are_told_apart() -> None:
    assert [row[1] for row in table_of(HELLO).rows] == ["stream-i3d 1, pid 7, not ready", "loading", "nothing yet"]
    ready = HelloReply(
        version="1", pid=7, started_at=0.0, ready=True, publish="tcp://x", engine="torch 2, cpu, bf16",
        model=ModelName(name="i3d", checkpoint="motion"),
    )  # fmt: skip
    assert [row[1] for row in table_of(ready).rows] == [
        "stream-i3d 1, pid 7, ready",
        "i3d (motion), torch 2, cpu, bf16",
        "tcp://x",
    ]


def test_processes_are_shown_with_what_is_known_of_them() -> None:
    waiting = StageInfo(
        name="capture door", state="waiting", restarts=1, planned_restarts=0, silent_s=None, memory_mb=None, pid=None
    )
    shown = table_of(StagesReply(stages=[STAGE, waiting]))
    assert shown.rows == [
        ("worker", "running", "77", "2", "1", "0.0 s ago", "245 MB"),
        ("capture door", "waiting", "", "1", "0", "", ""),
    ]


def test_cameras_are_shown_as_they_fare() -> None:
    paused = CameraInfo(
        name="hall", source="1", paused=True, preview=None, status=status(camera="hall", state="stopped", paused=True)
    )
    new = CameraInfo(name="yard", source="2", paused=False, preview=None, status=None)
    rows = table_of(CamerasReply(cameras=[DOOR, paused, new])).rows
    assert [row[:2] for row in rows] == [("door", "live"), ("hall", "paused"), ("yard", "starting")]
    assert rows[0][5] == "rtsp://***@cam"


def test_a_camera_that_waits_for_its_turn_is_shown_as_such() -> None:
    waits = CameraInfo(
        name="yard", source="2", paused=False, preview=None, status=status(overloaded=True, waiting_since=1.7e9)
    )
    assert table_of(CamerasReply(cameras=[waits])).rows[0][1] == "live, waits its turn"


def test_settings_are_shown_as_they_are_written() -> None:
    reply = SettingsReply(settings={"a": True, "b": 0.5, "c": 8, "d": "ema"})
    assert table_of(reply).rows == [("a", "true"), ("b", "0.5"), ("c", "8"), ("d", "ema")]


@pytest.mark.parametrize(
    "reply", [HELLO, StagesReply(stages=[STAGE]), CamerasReply(cameras=[DOOR]), SettingsReply(settings={"a": 1}),
              ErrorReply(message="no")]
)  # fmt: skip
def test_every_row_fits_its_columns(reply: Reply) -> None:
    shown = table_of(reply)
    assert shown.rows
    assert all(len(row) == len(shown.columns) for row in shown.rows)


def test_a_camera_whose_picture_is_known_shows_how_much_of_it_is_seen() -> None:
    seen = structs.replace(DOOR, status=status(camera="door", view="whole", view_share=1.0))
    assert table_of(CamerasReply(cameras=[seen])).rows[0][-1].endswith("; sees 100% (whole)")
