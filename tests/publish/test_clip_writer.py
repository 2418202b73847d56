from __future__ import annotations

import io
import stat
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from stream_i3d import mp4
from stream_i3d.publish.clip_writer import ClipWriter

RED, GREEN = (0, 0, 200), (0, 200, 0)


def jpeg(bgr: tuple[int, int, int] = RED, width: int = 320, height: int = 180) -> bytes:
    picture = np.full((height, width, 3), bgr, np.uint8)
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def noise(seed: int) -> bytes:
    picture = np.random.default_rng(seed).integers(0, 255, (360, 640, 3), np.uint8)
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def make(path: Path, **more: Any) -> ClipWriter:
    given = {"mode": 0o600, "fps": 10.0, "max_side": 640, "crf": 23, "title": "waving at door", "wall_time": 1.8e9}
    return ClipWriter(path, **{**given, **more})


def frames_of(path: Path) -> list[Any]:
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        return list(container.decode(video=0))


def test_pictures_keep_their_own_times_and_colours(tmp_path: Path) -> None:
    writer, given = make(tmp_path / "a.mp4"), [0.0, 0.1, 0.25, 0.3, 1.7, 1.8]
    for time in given:
        assert writer.add(jpeg(RED if time < 1 else GREEN), 5000 + time)
    writer.finish()
    frames = frames_of(tmp_path / "a.mp4")
    assert [round(float(frame.time), 3) for frame in frames] == given
    for frame, bgr in ((frames[0], RED), (frames[-1], GREEN)):
        assert np.abs(frame.to_ndarray(format="bgr24")[90, 160].astype(int) - bgr).max() <= 6
    capture = cv2.VideoCapture(str(tmp_path / "a.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 6
    assert np.abs(capture.read()[1][90, 160].astype(int) - RED).max() <= 6
    capture.release()


def test_a_picture_of_another_size_is_fitted_in_with_black_bars(tmp_path: Path) -> None:
    writer = make(tmp_path / "a.mp4")
    for index, size in enumerate([(320, 180), (180, 320), (1280, 720), (240, 240), (321, 181)]):
        assert writer.add(jpeg(GREEN, *size), index / 10)
    writer.finish()
    first, upright, larger, square, odd = (one.to_ndarray(format="bgr24") for one in frames_of(tmp_path / "a.mp4"))
    for picture in (first, upright, larger, square, odd):
        assert picture.shape == (180, 320, 3)
        assert np.abs(picture[90, 160].astype(int) - GREEN).max() <= 6
    for picture in (upright, square):
        assert picture[90, 4].max() <= 12 and picture[90, -5].max() <= 12
    for picture in (larger, odd):
        assert np.abs(picture[4, 4].astype(int) - GREEN).max() <= 8


def test_large_pictures_are_made_smaller_and_all_sizes_even(tmp_path: Path) -> None:
    writer = make(tmp_path / "a.mp4", max_side=200)
    writer.add(jpeg(RED, 643, 365), 0.0)
    writer.finish()
    (frame,) = frames_of(tmp_path / "a.mp4")
    assert (frame.width, frame.height) == (200, 114)


def test_what_is_no_jpeg_is_left_out_and_the_next_one_is_not(tmp_path: Path) -> None:
    writer = make(tmp_path / "a.mp4")
    whole = jpeg()
    assert writer.add(whole, 0.0)
    for number, broken in enumerate([b"", b"\xff\xd8", b"\xff\xd8" + b"\0" * 500, whole[:200]]):
        writer.add(broken, 0.1 + number / 100)
    assert writer.add(whole, 0.5)
    writer.finish()
    assert round(float(frames_of(tmp_path / "a.mp4")[-1].time), 3) == 0.5


def test_the_file_has_the_mode_that_was_asked_for(tmp_path: Path) -> None:
    for mode in (0o600, 0o644):
        writer = make(tmp_path / f"{mode}.mp4", mode=mode)
        writer.add(jpeg(), 0.0)
        writer.finish()
        assert stat.S_IMODE((tmp_path / f"{mode}.mp4").stat().st_mode) == mode


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("a link, or another's file")
    with pytest.raises(FileExistsError):
        make(tmp_path / "a.mp4")


class SmallDisk(io.FileIO):
    """A disk with room for 20 kB."""

    def write(self, data: Any, /) -> int:
        room = 20_000 - self.tell()
        if room <= 0:
            raise OSError(28, "No space left on device")
        return super().write(bytes(data)[:room])


def test_a_full_disk_is_an_error_and_the_file_can_be_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mp4.io, "FileIO", SmallDisk)
    writer = make(tmp_path / "a.mp4", crf=1)
    with pytest.raises(OSError, match="No space left"):
        for index in range(100):
            writer.add(noise(index), index / 10)
    writer.abort()
    assert (tmp_path / "a.mp4").stat().st_size <= 20_000
    writer = make(tmp_path / "b.mp4", crf=1)  # where it is the end that does not fit
    with pytest.raises(OSError, match="No space left"):
        for index in range(5):
            writer.add(noise(index), index / 10)
        writer.finish()
    writer.abort()
