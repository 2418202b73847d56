from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from stream_i3d.errors import ConfigError
from stream_i3d.publish.clip_folder import ClipFolder, clip_name
from tests.samples import event


def fill(folder: Path, *sizes: int) -> list[str]:
    """Clips of these sizes, each younger than the one before."""
    names = []
    for number, size in enumerate(sizes):
        names.append(clip_name(event(id=str(number)), 1.8e9 + number))
        (folder / names[-1]).write_bytes(b"x" * size)
        os.utime(folder / names[-1], (1e9 + number, 1e9 + number))
    return names


def test_a_name_says_camera_time_and_label_and_can_hold_no_path() -> None:
    name = clip_name(event(camera="door", id="door-1-1", label="Arm Wrestling"), 1_800_000_000.0)
    assert name.startswith("door_20270115T080000Z_arm-wrestling_")
    for label in ("../../etc/passwd", "", "/", "a" * 500, "\0\n", "日本"):
        odd = clip_name(event(label=label, id="../x"), 1.8e9)
        assert Path(odd).name == odd and odd.isprintable() and len(odd) < 140
    for time in (-5.0, 0.0, 1e300, float("inf")):
        assert clip_name(event(), time).endswith(".mp4")


def test_actions_of_one_second_have_names_that_differ() -> None:
    assert clip_name(event(id="a"), 1.8e9) != clip_name(event(id="b"), 1.8e9)


def test_the_oldest_clips_go_until_there_is_room(tmp_path: Path) -> None:
    folder = ClipFolder(tmp_path, quota_bytes=1000, min_free_bytes=0)
    names = fill(tmp_path, 300, 300, 300)
    assert folder.make_room(100) == []
    assert folder.make_room(450) == names[:2]
    assert [path.name for path in tmp_path.iterdir()] == names[2:]


def test_what_is_not_a_clip_of_ours_is_neither_counted_nor_removed(tmp_path: Path) -> None:
    (tmp_path / "holiday.mp4").write_bytes(b"x" * 5000)
    folder = ClipFolder(tmp_path, quota_bytes=1000, min_free_bytes=0)
    fill(tmp_path, 900)
    folder.make_room(500)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.mp4"]


def test_a_quota_that_is_too_small_and_a_disk_that_is_full_are_said(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"the quota of 1 MB is too small"):
        ClipFolder(tmp_path, quota_bytes=10**6, min_free_bytes=0).make_room(10**6 + 1)
    with pytest.raises(OSError, match=r"MB are free on the disk; min_free_mb is 1000000000000"):
        ClipFolder(tmp_path, quota_bytes=1, min_free_bytes=10**18).check_disk()


def test_what_was_half_written_when_the_service_was_killed_is_removed(tmp_path: Path) -> None:
    (name,) = fill(tmp_path, 10)
    part = tmp_path / f"{clip_name(event(id='x'), 1.8e9)}.part"
    for path in (part, tmp_path / "other.part"):
        path.write_bytes(b"x")
    ClipFolder(tmp_path, 1000, 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "other.part"])


def test_the_folder_is_made_for_its_owner_only_or_told_why_not(tmp_path: Path) -> None:
    ClipFolder(tmp_path / "a" / "clips", 1000, 0)
    assert stat.S_IMODE((tmp_path / "a" / "clips").stat().st_mode) == 0o700
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match=r"cannot record clips into .*; give a folder of yours"):
        ClipFolder(tmp_path / "file" / "clips", 1000, 0)
