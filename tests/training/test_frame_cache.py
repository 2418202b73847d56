from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from stream_i3d.errors import ConfigError, SourceUnavailable
from stream_i3d.training import frame_cache
from stream_i3d.training.frame_cache import FrameCache


class Frames:
    """Makes (6, 8, 3) frames filled with their number, and counts its calls."""

    def __init__(self, count: int = 5, first: int = 0) -> None:
        self.asked = 0
        self._numbers = range(first, first + count)

    def __call__(self) -> Iterator[NDArray[np.uint8]]:
        self.asked += 1
        for number in self._numbers:
            yield np.full((6, 8, 3), number, np.uint8)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"1234")
    return path


@pytest.fixture
def cache(tmp_path: Path) -> FrameCache:
    return FrameCache(tmp_path / "cache")


def kept(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_frames_are_kept_as_they_were_made(cache: FrameCache, video: Path) -> None:
    make = Frames(300 % 256)
    frames = cache.get(str(video), 25.0, 6, make)
    assert frames is not None
    assert np.array_equal(frames, np.stack(list(make())))
    assert frames.dtype == np.uint8


def test_frames_are_made_once_for_all_who_share_the_folder(cache: FrameCache, video: Path, tmp_path: Path) -> None:
    make = Frames()
    cache.get(str(video), 25.0, 6, make)
    for other in (cache, FrameCache(tmp_path / "cache")):
        frames = other.get(str(video), 25.0, 6, make)
        assert frames is not None
        assert frames[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert make.asked == 1
    assert len(kept(tmp_path / "cache")) == 1


def test_frames_are_mapped_and_cannot_be_changed(cache: FrameCache, video: Path) -> None:
    frames = cache.get(str(video), 25.0, 6, Frames())
    assert isinstance(frames, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        frames[0] = 1


def test_another_rate_size_or_content_is_another_entry(cache: FrameCache, video: Path, tmp_path: Path) -> None:
    def first_of(fps: float, side: int, path: Path = video) -> int:
        frames = cache.get(str(path), fps, side, Frames(2, first=len(kept(tmp_path / "cache"))))
        assert frames is not None
        return int(frames[0, 0, 0, 0])

    assert [first_of(25.0, 6), first_of(12.5, 6), first_of(25.0, 7), first_of(25.0, 6)] == [0, 1, 2, 0]
    os.utime(video, ns=(5, 5))
    assert first_of(25.0, 6) == 3
    video.write_bytes(b"12345")
    os.utime(video, ns=(5, 5))
    assert first_of(25.0, 6) == 4
    other = tmp_path / "b.mp4"
    other.write_bytes(b"12345")
    os.utime(other, ns=(5, 5))
    assert first_of(25.0, 6, other) == 5


def test_a_video_is_the_same_by_any_way_to_it(cache: FrameCache, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = Frames()
    cache.get(str(video), 25.0, 6, make)
    monkeypatch.chdir(video.parent)
    cache.get("./a.mp4", 25.0, 6, make)
    assert make.asked == 1


def test_what_fails_on_the_way_leaves_nothing_behind(cache: FrameCache, video: Path, tmp_path: Path) -> None:
    def make() -> Iterator[NDArray[np.uint8]]:
        yield from Frames(3)()
        raise SourceUnavailable("the disk is gone")

    with pytest.raises(SourceUnavailable):
        cache.get(str(video), 25.0, 6, make)
    assert kept(tmp_path / "cache") == []


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.999])
def test_a_file_that_was_cut_short_is_made_anew(cache: FrameCache, video: Path, tmp_path: Path, share: float) -> None:
    make = Frames()
    cache.get(str(video), 25.0, 6, make)
    (file,) = kept(tmp_path / "cache")
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    frames = cache.get(str(video), 25.0, 6, make)
    assert frames is not None
    assert frames[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert make.asked == 2


def test_a_full_disk_is_logged_once_and_nothing_more_is_cached(
    cache: FrameCache, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    make, before = Frames(), tmp_path / "before.mp4"
    before.write_bytes(b"1")
    cache.get(str(before), 25.0, 6, make)

    tried: list[object] = []

    def full(*given: object) -> None:
        tried.append(given)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(frame_cache, "_write", full)
    with caplog.at_level(logging.WARNING):
        assert [cache.get(str(video), 25.0, 6, make) for _ in range(3)] == [None] * 3
    (record,) = caplog.records
    assert "no space left on device" in record.getMessage()
    assert len(tried) == 1
    assert len(kept(tmp_path / "cache")) == 1
    assert cache.get(str(before), 25.0, 6, make) is not None  # what is there is still read


def test_an_unreadable_cache_is_logged_once(
    cache: FrameCache, video: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(frame_cache, "_load", broken)
    with caplog.at_level(logging.WARNING):
        assert [cache.get(str(video), 25.0, 6, Frames()) for _ in range(3)] == [None] * 3
    assert len(caplog.records) == 1


def test_a_video_that_is_gone_has_no_frames_and_the_cache_goes_on(cache: FrameCache, video: Path) -> None:
    assert cache.get(str(video.with_name("gone.mp4")), 25.0, 6, Frames()) is None
    assert cache.get(str(video), 25.0, 6, Frames()) is not None


def test_a_folder_that_cannot_be_created_is_an_error(video: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.cache: cannot write to the folder .*a\.mp4/cache"):
        FrameCache(video / "cache")
