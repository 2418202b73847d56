from __future__ import annotations

import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from stream_i3d.capture.reader import Clock, FrameReader
from stream_i3d.capture.video import open_file
from stream_i3d.errors import SourceError, SourceNotFound, SourceUnavailable
from stream_i3d.preprocess import Image, Preprocessing, centre_crop
from stream_i3d.training import videos
from stream_i3d.training.frame_cache import FrameCache
from stream_i3d.training.videos import Choice, VideoReader, claimed_frames
from tests.training.clips import FakeFile, number_of, numbered, numbers_of, write_video
from tests.video_files import ORIENTATIONS, corners, display_matrix, shown, write_film

LIVE = Preprocessing(short_side=40, crop_size=32)
Video = Callable[[float, float], Path]


def live_frames(path: Path) -> list[Image]:
    """The frames that the live path's reader gives for a file."""
    source = open_file(str(path))
    reader = FrameReader(
        source, "camera", 0, LIVE, Clock(time.monotonic_ns, time.time, lambda until: True), paced=False
    )
    frames: list[Image] = []
    while (more := reader.read()) is not None:
        frames += [frame.pixels for frame in more]
    source.close()
    return frames


def every(count: int) -> np.ndarray:
    return np.arange(count)


def just(*numbers: int) -> Choice:
    return lambda count: np.array(numbers)


def fake(monkeypatch: pytest.MonkeyPatch, source: FakeFile) -> FakeFile:
    monkeypatch.setattr(videos, "open_file", source.open)
    return source


@pytest.mark.parametrize("fps", [10.0, 19.62, 25.0, 29.97, 60.0])
@pytest.mark.parametrize("cached", [False, True])
def test_the_centre_of_each_frame_is_the_live_paths(
    make_video: Video, tmp_path: Path, fps: float, cached: bool
) -> None:
    path = make_video(fps, 2.0)
    reader = VideoReader(25.0, 40, FrameCache(tmp_path) if cached else None)
    live = live_frames(path)
    numbers, frames = reader.read(str(path), claimed_frames(2.0, 25.0), lambda count: np.arange(len(live)))
    assert numbers.tolist() == list(range(len(live))) == sorted(frames)
    for number, frame in enumerate(live):
        assert np.array_equal(centre_crop(frames[number], 32), frame), number
    assert frames[0].shape == (40, 53, 3)
    assert reader.count(str(path)) == len(live)
    assert len(list(tmp_path.glob("*/*.npy"))) == cached


def test_only_wanted_pictures_are_retrieved_and_none_after_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = fake(monkeypatch, FakeFile(100))
    _, frames = VideoReader(25.0, 48).read("a", 100, just(30, 7, 31, 7))
    assert source.retrieved == [7, 30, 31]
    assert source.grabbed == 32
    assert source.closed == 1
    assert {number: number_of(frame) for number, frame in frames.items()} == {7: 7, 30: 30, 31: 31}


def test_the_frame_before_each_is_read_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, FakeFile(100))
    numbers, frames = VideoReader(25.0, 48).read("a", 100, just(0, 1, 5, 6, 9), previous=True)
    assert sorted(frames) == [0, 1, 4, 5, 6, 8, 9]
    assert numbers.tolist() == [0, 1, 5, 6, 9]


def test_a_slow_video_has_its_pictures_repeated_and_a_fast_one_thinned_out(tmp_path: Path) -> None:
    slow, fast = write_video(tmp_path / "slow.mp4", 10, fps=12.5), write_video(tmp_path / "fast.mp4", 40, fps=50)
    reader = VideoReader(25.0, 48)
    _, frames = reader.read(str(slow), 20, every)
    assert numbers_of(frames.values()) == [number for number in range(10) for _ in range(2)]
    _, frames = reader.read(str(fast), 20, every)
    assert [number - 2 * index for index, number in enumerate(numbers_of(frames.values()))] == [0] + [-1] * 19


def test_colours_are_red_green_blue(tmp_path: Path) -> None:
    path = tmp_path / "red.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, (64, 48))
    writer.write(np.full((48, 64, 3), (20, 20, 220), np.uint8))  # blue, green, red
    writer.release()
    _, frames = VideoReader(25.0, 48).read(str(path), 1, every)
    assert frames[0].mean(axis=(0, 1)) == pytest.approx([220, 20, 20], abs=12)


# --- how many there are


def asked_of(choose: Choice) -> tuple[Choice, list[int]]:
    """A choice function that records the counts that it is given."""
    asked: list[int] = []

    def noting(count: int) -> np.ndarray:
        asked.append(count)
        return choose(count)

    return noting, asked


def test_where_the_file_ends_before_what_it_claims_the_choice_is_made_again_from_its_true_length(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake(monkeypatch, FakeFile(30))
    choose, asked = asked_of(lambda count: np.array([0, count - 1]))
    numbers, frames = VideoReader(25.0, 48).read("a", 100, choose)
    assert asked == [100, 30]
    assert numbers.tolist() == [0, 29]
    assert numbers_of(frames.values()) == [0, 29]


def test_a_true_length_is_remembered_and_the_choice_does_not_depend_on_that(monkeypatch: pytest.MonkeyPatch) -> None:
    source = fake(monkeypatch, FakeFile(30))
    reader = VideoReader(25.0, 48)
    choose, asked = asked_of(lambda count: np.array([count // 2]))
    first = [reader.read("a", claimed, choose)[0].tolist() for claimed in (40, 100)]
    grabbed = source.grabbed
    again = [reader.read("a", claimed, choose)[0].tolist() for claimed in (40, 100)]
    assert first == again == [[20], [15]]  # of 40 claimed ones the choice is there; of 100 it is not
    assert asked == [40, 100, 30] * 2
    assert source.grabbed - grabbed == 21 + 16  # without reading to the end once more


def test_without_a_claim_frames_are_counted_first_and_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    source = fake(monkeypatch, FakeFile(30))
    reader = VideoReader(25.0, 48)
    choose, asked = asked_of(lambda count: np.array([count - 1]))
    for _ in range(2):
        assert numbers_of(reader.read("a", None, choose)[1].values()) == [29]
    assert asked == [30, 30]
    assert source.grabbed == 31 + 30 + 30
    assert source.closed == 3


@pytest.mark.parametrize(
    ("duration_s", "frames"), [(2.0, 50), (0.001, 1), (None, None), (0.0, None), (-3.0, None), (1e7, None), (1.99, 50)]
)
def test_what_a_container_claims_is_believed_where_it_can_be(duration_s: float | None, frames: int | None) -> None:
    assert claimed_frames(duration_s, 25.0) == frames


def test_a_file_that_is_cut_short_gives_what_is_there(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.avi", 60)
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    _, frames = VideoReader(25.0, 48).read(str(cut), 60, every)
    assert 15 < len(frames) < 45
    assert numbers_of(frames.values()) == list(range(len(frames)))


# --- damage


def test_in_place_of_a_damaged_picture_stands_the_one_before_or_at_the_start_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake(monkeypatch, FakeFile(20, damaged=(2, 3, 7)))
    _, frames = VideoReader(25.0, 48).read("a", 20, just(2, 3, 4, 5, 6, 7, 8))
    assert {number: number_of(frame) for number, frame in frames.items()} == {
        2: 4, 3: 4, 4: 4, 5: 5, 6: 6, 7: 6, 8: 8,
    }  # fmt: skip


def test_the_cache_holds_as_many_frames_as_the_video_has_also_where_some_are_damaged(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake(monkeypatch, FakeFile(20, damaged=(0, 1, 7, 19)))
    (tmp_path / "a").touch()
    _, frames = VideoReader(25.0, 48, FrameCache(tmp_path / "cache")).read(str(tmp_path / "a"), 20, every)
    assert numbers_of(frames.values()) == [2, 2, 2, 3, 4, 5, 6, 6, *range(8, 19), 18]


@pytest.mark.parametrize("cached", [False, True])
def test_a_video_without_one_good_picture_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cached: bool
) -> None:
    source = fake(monkeypatch, FakeFile(20, damaged=range(20)))
    (tmp_path / "a").touch()
    reader = VideoReader(25.0, 48, FrameCache(tmp_path / "cache") if cached else None)
    with pytest.raises(SourceUnavailable, match="no picture of it could be decoded"):
        reader.read(str(tmp_path / "a"), 20, every)
    assert source.closed == 1


def test_pictures_that_change_their_size_get_that_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    class Changing(FakeFile):
        def retrieve(self) -> Image:
            picture = super().retrieve()
            return picture if self.retrieved[-1] < 5 else numbered(self.retrieved[-1], (96, 48))

    fake(monkeypatch, Changing(10))
    _, frames = VideoReader(25.0, 48).read("a", 10, every)
    assert {frame.shape for frame in frames.values()} == {(48, 64, 3)}
    assert numbers_of(frames.values()) == list(range(10))


@pytest.mark.parametrize("content", [b"", b"not a video", b"\0" * 5000])
@pytest.mark.parametrize("claimed", [50, None])
def test_what_is_no_video_cannot_be_read(tmp_path: Path, content: bytes, claimed: int | None) -> None:
    path = tmp_path / "noise.mp4"
    path.write_bytes(content)
    for cache in (None, FrameCache(tmp_path / "cache")):
        with pytest.raises(SourceError):
            VideoReader(25.0, 48, cache).read(str(path), claimed, every)
    with pytest.raises(SourceNotFound, match="no such file"):
        VideoReader(25.0, 48, FrameCache(tmp_path / "cache")).read(str(tmp_path / "gone.mp4"), claimed, every)


# --- the cache


def test_with_a_cache_a_video_is_decoded_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source = fake(monkeypatch, FakeFile(30))
    video = tmp_path / "a"
    video.touch()
    cache = FrameCache(tmp_path / "cache")
    for claimed in (30, 25, 40):
        for reader in (VideoReader(25.0, 48, cache), VideoReader(25.0, 48, FrameCache(tmp_path / "cache"))):
            numbers, frames = reader.read(str(video), claimed, lambda count: np.array([3, count // 2]))
            assert numbers_of(frames.values()) == [3, claimed // 2] == numbers.tolist()
    assert source.grabbed == 31


def test_a_long_video_is_not_put_into_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source = fake(monkeypatch, FakeFile(30))
    (tmp_path / "a").touch()
    reader = VideoReader(25.0, 48, FrameCache(tmp_path / "cache"))
    _, frames = reader.read(str(tmp_path / "a"), 60 * 25 + 1, just(4))
    assert numbers_of(frames.values()) == [4]
    assert source.grabbed == 5
    assert not list((tmp_path / "cache").iterdir())


# --- time, orientation and shape of the pixels


@pytest.mark.parametrize("cached", [False, True])
def test_a_slow_video_has_as_many_frames_as_it_is_long(tmp_path: Path, cached: bool) -> None:
    path = write_film(
        tmp_path / "slow.mp4", [numbered(index) for index in range(40)], [index / 2 for index in range(40)], last_s=0.5
    )
    reader = VideoReader(25.0, 48, FrameCache(tmp_path / "cache") if cached else None)
    assert reader.count(str(path)) == 500
    _, frames = reader.read(str(path), 500, just(0, 11, 12, 13, 499))
    assert [number_of(frames[number]) for number in (0, 11, 12, 13, 499)] == [0, 0, 0, 1, 39]


def test_a_still_part_is_filled_with_what_stood_there(tmp_path: Path) -> None:
    times = [*(index / 25 for index in range(10)), 10.36]
    path = write_film(tmp_path / "still.mp4", [numbered(index) for index in range(11)], times)
    _, frames = VideoReader(25.0, 48).read(str(path), 260, just(8, 9, 10, 258, 259))
    assert numbers_of(frames.values()) == [8, 9, 9, 9, 10]


def test_a_video_much_longer_than_it_claims_is_not_put_into_the_cache(tmp_path: Path) -> None:
    path = write_film(tmp_path / "gap.mp4", [numbered(index) for index in range(3)], [0, 1, 1800])
    reader = VideoReader(25.0, 48, FrameCache(tmp_path / "cache"))
    for _ in range(2):
        assert numbers_of(reader.read(str(path), 50, just(30))[1].values()) == [1]
    assert not list((tmp_path / "cache").rglob("*.npy"))


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_frames_are_turned_and_mirrored_as_the_file_says(tmp_path: Path, name: str) -> None:
    path = write_film(tmp_path / "selfie.mp4", matrix=display_matrix(*ORIENTATIONS[name]))
    frame = VideoReader(25.0, 64).read(str(path), 10, just(3))[1][3]
    expected = shown(corners(), name)
    assert frame.shape == expected.shape
    assert np.abs(frame.astype(int) - expected).mean() < 5


def test_frames_have_square_pixels(tmp_path: Path) -> None:
    path = write_film(tmp_path / "dvr.mp4", [corners((44, 72))] * 5, pixel_aspect=Fraction(24, 11))
    assert VideoReader(25.0, 48).read(str(path), 5, just(3))[1][3].shape == (48, 64, 3)
