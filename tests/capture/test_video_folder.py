from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from stream_i3d.capture.video_folder import find_videos, log_left_out


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def relative(folder: Path, paths: tuple[str, ...]) -> list[str]:
    return [os.path.relpath(path, folder) for path in paths]


def test_videos_are_found_in_subfolders_in_the_order_of_their_names(tmp_path: Path) -> None:
    touch(tmp_path, "b.mp4", "a/2.MTS", "a/1.3gp", "c/deep/x.ogv", ".trash/y.mp4")
    found = find_videos(tmp_path)
    assert relative(tmp_path, found.videos) == ["a/1.3gp", "a/2.MTS", "b.mp4", "c/deep/x.ogv"]
    assert found.left_out == ()


def test_what_is_no_video_by_its_name_or_as_text_is_left_out_unopened(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt", ".DS_Store", "._a.mp4", "a.JPG", "empty")
    (tmp_path / "README").write_text("plain words\n")
    (tmp_path / "camera").write_bytes(b"\x00\x00\x01\xba" * 100)
    found = find_videos(tmp_path)
    assert relative(tmp_path, found.videos) == ["camera"]
    assert relative(tmp_path, found.left_out) == [".DS_Store", "._a.mp4", "README", "a.JPG", "empty", "notes.txt"]


def test_links_are_followed_once(tmp_path: Path) -> None:
    touch(tmp_path, "data/a.mp4", "other/b.mp4")
    (tmp_path / "data" / "loop").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "other").symlink_to(tmp_path / "other")
    (tmp_path / "data" / "again").symlink_to(tmp_path / "other")
    (tmp_path / "data" / "c.mp4").symlink_to(tmp_path / "other" / "b.mp4")
    (tmp_path / "data" / "gone.mp4").symlink_to(tmp_path / "nowhere")
    found = find_videos(tmp_path / "data")
    assert relative(tmp_path / "data", found.videos) == ["a.mp4", "again/b.mp4", "c.mp4", "gone.mp4"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with a name are Unix's")
def test_what_is_no_file_is_left_out(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    assert relative(tmp_path, find_videos(tmp_path).left_out) == ["pipe.mp4"]


def test_what_is_left_out_is_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        log_left_out(tmp_path, [])
        log_left_out(tmp_path, [str(tmp_path / f"{number}.txt") for number in range(20)])
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}: 20 files left out as no videos by name or kind: 0.txt, 1.txt, 2.txt, 3.txt, 4.txt, 5.txt, 6.txt, "
        "7.txt and 12 more"
    ]
