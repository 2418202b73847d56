from __future__ import annotations

import logging

import pytest

from stream_i3d.config import CameraConfig, Config
from stream_i3d.errors import ConfigError
from stream_i3d.service.camera_names import CameraLog, camera_of, capture_stage, name_cameras
from stream_i3d.stage import CameraNews
from tests.samples import status


def names_of(*sources: str | tuple[str, str]) -> list[str]:
    """Return the names of cameras: each given as a source, or a source and a name."""
    given = [(one, None) if isinstance(one, str) else one for one in sources]
    cameras = [CameraConfig(source=source, name=name) for source, name in given]
    return [name for name, _, _ in name_cameras(Config(cameras=cameras))]


def test_cameras_without_a_name_are_named_after_their_source() -> None:
    assert names_of("0", "rtsp://admin:s3cret@door.example/live", "clips/a b.mp4", "synthetic://") == [
        "webcam0",
        "door.example",
        "a-b",
        "synthetic",
    ]


def test_given_names_are_kept() -> None:
    assert names_of(("0", "door"), "1") == ["door", "webcam1"]


def test_made_names_are_unique_also_against_names_given_later() -> None:
    assert names_of("synthetic://", "synthetic://?seed=1", ("0", "synthetic-2"), "synthetic://", "synthetic://") == [
        "synthetic",
        "synthetic-3",
        "synthetic-2",
        "synthetic-4",
        "synthetic-5",
    ]


def test_long_names_stay_within_what_a_topic_allows_and_unique() -> None:
    names = names_of(*[f"folder{number}/{'x' * 80}.mp4" for number in range(12)])
    assert len(set(names)) == 12
    assert max(len(name) for name in names) <= 64


def test_no_camera_at_all_is_told_with_how_to_give_one() -> None:
    with pytest.raises(ConfigError, match=r"^no camera: give --source"):
        name_cameras(Config())


def test_a_name_given_twice_is_told() -> None:
    with pytest.raises(ConfigError, match="the name 'door' is given twice; each camera needs its own"):
        names_of(("0", "door"), ("1", "door"))


def test_a_source_that_means_nothing_is_told() -> None:
    with pytest.raises(ConfigError, match=r"unknown kind \(did you mean 'rtsp'\?\)"):
        names_of("rstp://camera/")


def test_only_the_names_of_capture_processes_are_those_of_cameras() -> None:
    names = ["publisher", "worker", "worker 2", "capture door", "capture capture door", "supervisor"]
    assert [camera_of(name) for name in names] == [None, None, None, "door", "capture door", None]


def test_a_capture_process_is_named_after_its_camera() -> None:
    assert camera_of(capture_stage("door")) == "door"


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
