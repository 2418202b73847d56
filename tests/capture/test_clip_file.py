from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from stream_i3d import mp4
from stream_i3d.capture import clip_file
from stream_i3d.capture.clip_file import ClipFile, ClipFolder, check_label, fitted_size, parse_side
from stream_i3d.errors import ConfigError
from stream_i3d.preprocess import Image

STAMP = "20261101-120000"


def grey(level: int, width: int = 64, height: int = 48) -> Image:
    return np.full((height, width, 3), level, np.uint8)


def levels(path: Path) -> list[float]:
    """Return the mean green of each picture of a video; FFmpeg's conversions move blue and red by some levels."""
    capture, found = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG), []
    while True:
        good, picture = capture.read()
        if not good:
            return found
        found.append(float(np.mean(picture[..., 1])))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def start(output: Path, label: str = "wave") -> ClipFile:
    return ClipFolder(output, label, STAMP).start((64, 48), 25)


# --- names


@pytest.mark.parametrize("label", ["wave", "air drumming", "tai_chi-2", "v1.2", "_", "größer", "7", "a" * 100])
def test_a_label_that_can_be_a_folder_is_taken(label: str) -> None:
    assert check_label(label) == label


@pytest.mark.parametrize(
    "label",
    ["", " ", ".", "..", ".wave", "wave.", " wave", "wave ", "a/b", "../wave", "a\\b", "a\nb", "a:b", "a" * 101],
)
def test_a_label_that_cannot_be_a_folder_is_told_in_one_line(label: str) -> None:
    with pytest.raises(ConfigError, match="it names a folder; allowed are letters, digits, blanks") as caught:
        check_label(label)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("size", "side"), [("640x480", 640), ("480X640", 640), ("64x64", 64)])
def test_a_size_bounds_the_longer_side(size: str, side: int) -> None:
    assert parse_side(size) == side


@pytest.mark.parametrize("size", ["", "640", "640x", "640x480x3", "-640x480", "32x32", "10000x10", "axb"])
def test_a_size_that_is_none_is_told(size: str) -> None:
    with pytest.raises(ConfigError, match="give WIDTHxHEIGHT such as 640x480"):
        parse_side(size)


@pytest.mark.parametrize(
    ("picture", "side", "size"),
    [
        ((1280, 720), 640, (640, 360)),
        ((720, 1280), 640, (360, 640)),
        ((320, 240), 640, (320, 240)),
        ((321, 241), 640, (320, 240)),
        ((1920, 1080), 500, (500, 280)),
    ],
)
def test_clips_are_shrunk_never_enlarged_and_even(picture: tuple[int, int], side: int, size: tuple[int, int]) -> None:
    assert fitted_size(grey(0, *picture), side) == size


# --- files


def test_a_clip_that_is_kept_holds_its_pictures_at_its_rate(tmp_path: Path) -> None:
    file = ClipFolder(tmp_path, "wave", STAMP).start((64, 48), 12.5)
    for level in range(20, 220, 10):
        file.write(grey(level))
    path = file.keep()
    assert path == tmp_path / "wave" / f"wave-{STAMP}-001.mp4"
    assert levels(path) == pytest.approx(list(range(20, 220, 10)), abs=3)
    assert cv2.VideoCapture(str(path), cv2.CAP_FFMPEG).get(cv2.CAP_PROP_FPS) == 12.5


def test_until_it_is_kept_a_clip_has_no_visible_name(tmp_path: Path) -> None:
    file = start(tmp_path)
    file.write(grey(9))
    assert names(tmp_path / "wave") == [f".wave-{STAMP}-001.partial.mp4"]
    file.keep()
    assert names(tmp_path / "wave") == [f"wave-{STAMP}-001.mp4"]


def test_a_clip_that_is_discarded_leaves_nothing(tmp_path: Path) -> None:
    file = start(tmp_path)
    file.write(grey(9))
    file.discard()
    assert names(tmp_path / "wave") == []


def test_a_picture_of_another_size_is_not_lost(tmp_path: Path) -> None:
    file = start(tmp_path)
    for picture in (grey(50), grey(150, 128, 96), grey(200, 65, 49)):
        file.write(picture)
    assert levels(file.keep()) == pytest.approx([50, 150, 200], abs=3)


def test_frames_that_did_not_reach_the_disk_are_told_and_the_file_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, written = io.FileIO.write, 0

    class FullDisk(io.FileIO):
        def write(self, data: Any) -> int:
            nonlocal written
            written += len(data)
            if written > 100:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(self, data)

    monkeypatch.setattr(mp4.io, "FileIO", FullDisk)
    file = start(tmp_path)
    for _ in range(5):
        file.write(grey(9))
    with pytest.raises(ConfigError, match=r"001\.mp4: no space left on device; make room on the disk"):
        file.keep()
    assert names(tmp_path / "wave") == []


def test_a_pyav_that_cannot_encode_is_told_and_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_file, "can_write_mp4", lambda: False)
    with pytest.raises(ConfigError, match=r"this PyAV cannot encode H\.264"):
        ClipFolder(tmp_path, "wave", STAMP).start((64, 48), 25)
    assert names(tmp_path / "wave") == []


# --- folders


def test_clips_are_numbered_and_none_is_overwritten(tmp_path: Path) -> None:
    mine = tmp_path / "wave" / f"wave-{STAMP}-002.mp4"
    mine.parent.mkdir()
    mine.write_bytes(b"mine")
    folder = ClipFolder(tmp_path, "wave", STAMP)
    for _ in range(2):
        file = folder.start((64, 48), 25)
        file.write(grey(9))
        file.keep()
    assert names(folder.path) == [f"wave-{STAMP}-00{number}.mp4" for number in (1, 2, 3)]
    assert mine.read_bytes() == b"mine"


def test_two_sessions_of_the_same_second_keep_out_of_each_others_way(tmp_path: Path) -> None:
    one, other = start(tmp_path), start(tmp_path)
    one.write(grey(50))
    other.write(grey(200))
    assert [round(levels(file.keep())[0], -1) for file in (one, other)] == [50, 200]
    assert len(names(tmp_path / "wave")) == 2


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "wave").write_text("a file")
    with pytest.raises(ConfigError, match=r"cannot write in .*wave: file exists; give another --output"):
        ClipFolder(tmp_path, "wave", STAMP)


def test_a_folder_that_has_gone_is_told(tmp_path: Path) -> None:
    folder = ClipFolder(tmp_path, "wave", STAMP)
    folder.path.rmdir()
    with pytest.raises(ConfigError, match=r"cannot write in .*wave: no such file or directory"):
        folder.start((64, 48), 25)


def test_an_empty_folder_goes_if_this_session_made_it(tmp_path: Path) -> None:
    ClipFolder(tmp_path, "wave", STAMP).leave()
    assert names(tmp_path) == []
    (tmp_path / "nothing").mkdir()
    ClipFolder(tmp_path, "nothing", STAMP).leave()
    assert names(tmp_path) == ["nothing"]


def test_a_folder_with_clips_stays(tmp_path: Path) -> None:
    folder = ClipFolder(tmp_path, "wave", STAMP)
    file = folder.start((64, 48), 25)
    file.write(grey(9))
    file.keep()
    folder.leave()
    assert names(folder.path) == [f"wave-{STAMP}-001.mp4"]


def test_a_clip_of_pixels_that_are_not_square_has_the_size_that_is_to_be_seen() -> None:
    assert fitted_size(grey(0, 352, 576), 640, 24 / 11) == (640, 480)
    assert fitted_size(grey(0, 64, 48), 640, 2.0) == (128, 48)
