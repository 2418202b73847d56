from __future__ import annotations

import pytest

from stream_i3d.config import CameraConfig, Config
from stream_i3d.errors import ConfigError
from stream_i3d.service.camera_names import camera_of, capture_stage, name_cameras


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
