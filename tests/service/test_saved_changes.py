from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from stream_i3d.config import CameraConfig, Config, IdleConfig, WindowConfig
from stream_i3d.errors import ConfigError
from stream_i3d.service.saved_changes import SavedChanges, StateFile, apply, changes

DOOR = CameraConfig(name="door", source="rtsp://u:s3cret@cam/1")
HALL = CameraConfig(name="hall", source="1")
BASE = Config(cameras=[DOOR, HALL])


def roundtrip(now: Config, base: Config = BASE) -> Config:
    return apply(base, changes(base, now))


def test_nothing_is_kept_where_nothing_was_changed():
    assert changes(BASE, BASE) == SavedChanges()
    assert roundtrip(BASE) == BASE


def test_cameras_that_come_go_pause_and_change_are_as_they_were():
    now = Config(
        cameras=[
            CameraConfig(name="door", source="rtsp://u:0ther@cam/2"),
            CameraConfig(name="yard", source="2", paused=True),
        ]
    )
    assert roundtrip(now) == now
    paused = Config(cameras=[DOOR, CameraConfig(name="hall", source="1", paused=True)])
    assert roundtrip(paused) == paused


def test_only_what_differs_is_kept_and_a_configured_source_is_not():
    now = Config(
        cameras=[CameraConfig(name="door", source=DOOR.source, paused=True), HALL], window=WindowConfig(stride=4)
    )
    kept = changes(BASE, now)
    assert [(camera.name, camera.source, camera.paused) for camera in kept.cameras] == [("door", None, True)]
    assert (kept.removed, kept.settings) == ([], {"window.stride": 4})


def test_settings_are_as_they_were():
    now = Config(cameras=[DOOR, HALL], window=WindowConfig(stride=4), idle=IdleConfig(min_confidence=0.9))
    assert roundtrip(now) == now


def test_a_configuration_that_was_changed_meanwhile_shows_where_nothing_was_changed_at_run_time():
    kept = changes(BASE, Config(cameras=[CameraConfig(name="door", source=DOOR.source, paused=True)]))
    newer = Config(cameras=[CameraConfig(name="door", source="rtsp://moved/1"), CameraConfig(name="gate", source="3")])
    assert apply(newer, kept).cameras == [
        CameraConfig(name="door", source="rtsp://moved/1", paused=True),
        CameraConfig(name="gate", source="3"),
    ]


def test_a_camera_that_is_no_longer_configured_is_forgotten():
    kept = changes(BASE, Config(cameras=[DOOR, CameraConfig(name="hall", source="1", paused=True)]))
    assert apply(Config(cameras=[DOOR]), kept).cameras == [DOOR]


def test_a_file_is_written_whole_and_for_its_owner_alone(tmp_path: Path):
    file = StateFile(tmp_path / "state.json")
    assert file.load() == SavedChanges()
    kept = changes(BASE, Config(cameras=[CameraConfig(name="yard", source="rtsp://u:s3cret@yard")]))
    before = os.umask(0)
    try:
        file.save(kept)
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert file.load() == kept
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = StateFile(tmp_path / "state.json")
    file.save(SavedChanges(removed=["hall"]))

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        file.save(SavedChanges())
    assert file.load() == SavedChanges(removed=["hall"])
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"schema": "stream-i3d/kept/2"}',
        b'{"cameras": [{"name": "a/b", "source": "rtsp://u:s3cret@cam"}]}',
        b'{"more": 1}',
        b"\xff\xfe",
        b"[" * 100_000,
        b" " * (1024 * 1024 + 1),
    ],
)
def test_a_broken_file_is_one_clear_line_and_stays_as_it_is(content: bytes, tmp_path: Path):
    path = tmp_path / "state.json"
    path.write_bytes(content)
    with pytest.raises(
        ConfigError, match=r"^control\.state: .*state\.json .*remove it to start with the configuration"
    ) as caught:
        StateFile(path).load()
    assert "\n" not in str(caught.value) and "s3cret" not in str(caught.value)
    assert path.read_bytes() == content


def test_a_folder_that_is_not_there_is_said_at_the_start(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"there is no folder .*nowhere; make it first"):
        StateFile(tmp_path / "nowhere" / "state.json").load()


def test_a_kept_setting_that_is_not_allowed_is_named():
    with pytest.raises(ConfigError, match=r"window\.stride"):
        apply(BASE, SavedChanges(settings={"window.stride": 0}))
