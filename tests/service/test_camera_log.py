from __future__ import annotations

import logging

import pytest

from stream_i3d.service.camera_log import CameraLog
from stream_i3d.stage import CameraNews
from tests.samples import status


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO)
    return caplog


def test_each_change_of_state_is_one_line(lines: pytest.LogCaptureFixture) -> None:
    log = CameraLog()
    for state, detail in [
        ("live", "640x480"),
        ("live", "640x480"),
        ("stalled", "no new frame for over 5 s"),
        ("reconnecting", "the stream ended; next try in 1 s"),
        ("reconnecting", "the stream ended; next try in 4 s"),
        ("reconnecting", "connection refused; next try in 8 s"),
        ("live", "640x480"),
    ]:
        log.take(status(state=state, detail=detail))
    assert [(record.levelname, record.getMessage()) for record in lines.records] == [
        ("INFO", "door: live (640x480)"),
        ("WARNING", "door: stalled (no new frame for over 5 s)"),
        ("WARNING", "door: reconnecting (the stream ended; next try in 1 s)"),
        ("WARNING", "door: reconnecting (connection refused; next try in 8 s)"),
        ("INFO", "door: live (640x480)"),
    ]


def test_a_first_connection_that_fails_is_a_warning(lines: pytest.LogCaptureFixture) -> None:
    CameraLog().take(status(state="connecting", detail="refused; next try in 1 s"))
    assert [record.levelname for record in lines.records] == ["WARNING"]


def test_cameras_are_told_apart_and_only_so_many_are_remembered(lines: pytest.LogCaptureFixture) -> None:
    log = CameraLog()
    for name in ("door", "hall", "door", "hall"):
        log.heard("publisher", 1, CameraNews(status=status(camera=name)))
    assert lines.messages == ["door: live (640x480)", "hall: live (640x480)"]
    for number in range(1000):
        log.take(status(camera=f"camera-{number}"))
    assert len(log._said) == 256
