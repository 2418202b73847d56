from __future__ import annotations

import stat
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from stream_i3d.mp4 import MILLISECOND, Mp4Writer, can_write_mp4, even, frame_of

GREY = np.full((48, 64, 3), 120, np.uint8)


def write(path: Path, times: list[int], **more: Any) -> None:
    writer = Mp4Writer(path, 12.5, **more)
    writer.begin(64, 48)
    for time in times:
        writer.add(frame_of(GREY, "bgr24"), time)
    writer.finish()
    assert (writer.frames, writer.size_bytes) == (len(times), path.stat().st_size)


def test_frames_have_their_rate_times_and_colours(tmp_path: Path) -> None:
    write(tmp_path / "a.mp4", [0, 1, 2])
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.average_rate) == ("h264", Fraction(25, 2))
        frames = list(container.decode(video=0))
    assert [float(frame.time) for frame in frames] == [0.0, 0.08, 0.16]
    assert abs(int(frames[0].to_ndarray(format="bgr24")[24, 32, 1]) - 120) <= 2


def test_times_may_be_given_in_milliseconds(tmp_path: Path) -> None:
    write(tmp_path / "a.mp4", [0, 40, 1000], time_base=MILLISECOND)
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert [round(float(frame.time), 3) for frame in container.decode(video=0)] == [0.0, 0.04, 1.0]


def test_a_file_with_a_mode_is_new_and_one_without_is_overwritten(tmp_path: Path) -> None:
    write(tmp_path / "a.mp4", [0], mode=0o600)
    assert stat.S_IMODE((tmp_path / "a.mp4").stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        Mp4Writer(tmp_path / "a.mp4", 25, mode=0o600)
    (tmp_path / "b.mp4").write_bytes(b"x" * 100_000)
    write(tmp_path / "b.mp4", [0])


def test_an_error_of_ffmpeg_is_an_os_error(tmp_path: Path) -> None:
    writer = Mp4Writer(tmp_path / "a.mp4", 25)
    writer.begin(64, 48)
    writer.finish()
    with pytest.raises(OSError):
        writer.add(frame_of(GREY, "bgr24"), 0)
    writer.abort()


def test_sides_are_even_and_the_encoder_is_there() -> None:
    assert [even(size) for size in (0.4, 3.2, 641)] == [2, 4, 640]
    assert can_write_mp4()
