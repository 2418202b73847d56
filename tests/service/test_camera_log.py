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
        problem, _, rest = detail.partition("; next try in ")
        log.take(status(state=state, detail=detail, problem=problem if rest else "", retry_in_s=1.0 if rest else None))
    assert [(record.levelname, record.getMessage()) for record in lines.records] == [
        ("INFO", "door: live (640x480)"),
        ("WARNING", "door: stalled (no new frame for over 5 s)"),
        ("WARNING", "door: reconnecting (the stream ended; next try in 1 s)"),
        ("WARNING", "door: reconnecting (connection refused; next try in 8 s)"),
        ("INFO", "door: live (640x480)"),
    ]


def test_a_first_connection_that_fails_is_a_warning(lines: pytest.LogCaptureFixture) -> None:
    CameraLog().take(status(state="connecting", detail="refused; next try in 1 s", problem="refused", retry_in_s=1.0))
    assert [record.levelname for record in lines.records] == ["WARNING"]


def test_cameras_are_told_apart_and_only_so_many_are_remembered(lines: pytest.LogCaptureFixture) -> None:
    log = CameraLog()
    for name in ("door", "hall", "door", "hall"):
        log.on_message("publisher", 1, CameraNews(status=status(camera=name)))
    assert lines.messages == ["door: live (640x480)", "hall: live (640x480)"]
    for number in range(1000):
        log.take(status(camera=f"camera-{number}"))
    assert len(log._logged) == 256


def test_a_rate_that_varies_is_logged_once_and_one_too_slow_again(lines: pytest.LogCaptureFixture) -> None:
    log = CameraLog()
    for fps in (14, 15, 16):
        problem = f"delivers {fps} fps, fewer than the model's 25: pictures are repeated"
        log.take(status(detail=f"640x480; {problem}", problem=problem))
    assert len(lines.messages) == 1 and "14 fps" in lines.messages[0]
    log.take(status(problem="delivers 2.0 fps", too_slow=True))
    assert len(lines.messages) == 2


def test_the_wording_of_a_detail_decides_nothing(lines: pytest.LogCaptureFixture) -> None:
    CameraLog().take(status(state="connecting", detail="bald wieder", problem="nein", retry_in_s=3.0))
    CameraLog().take(status(state="connecting", detail="no; next try in 3 s"))
    assert [record.levelname for record in lines.records] == ["WARNING", "INFO"]
