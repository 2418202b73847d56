from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from stream_i3d.preprocess import Preprocessing
from stream_i3d.training.clip_sampling import centre_start, clip_numbers, even_starts, random_starts


def starts(num_frames: int, span: int, num_clips: int, draws: int = 400) -> np.ndarray:
    """(draws, num_clips) random starts."""
    rng = np.random.default_rng(0)
    return np.stack([random_starts(num_frames, span, num_clips, rng) for _ in range(draws)])


def test_every_place_where_a_clip_fits_is_as_likely() -> None:
    counts = Counter(starts(20, 16, 1, draws=2000).ravel().tolist())
    assert sorted(counts) == [0, 1, 2, 3, 4]
    assert min(counts.values()) > 320
    assert max(counts.values()) < 480


def test_each_of_several_clips_is_in_its_own_segment() -> None:
    drawn = starts(115, 16, 4)  # 100 places in segments of 25
    for segment, column in enumerate(drawn.T):
        assert (column.min() // 25, column.max() // 25) == (segment, segment)
        assert len(set(column.tolist())) == 25


def test_each_clips_place_in_its_segment_is_its_own() -> None:
    drawn = starts(115, 16, 4) % 25
    assert np.abs(np.corrcoef(drawn.T) - np.eye(4)).max() < 0.2


def test_segments_may_be_smaller_than_a_frame() -> None:
    drawn = starts(18, 16, 5)  # three places for five clips
    assert (np.diff(drawn, axis=1) >= 0).all()
    assert set(drawn.ravel().tolist()) == {0, 1, 2}


@pytest.mark.parametrize("num_frames", [1, 10, 16])
def test_in_a_short_video_clips_start_at_its_beginning(num_frames: int) -> None:
    assert not starts(num_frames, 16, 3, draws=20).any()
    assert centre_start(num_frames, 16).tolist() == [0]
    assert even_starts(num_frames, 16, 10).tolist() == [0] * 10


def test_as_many_numbers_are_drawn_whatever_the_length() -> None:
    after = []
    for num_frames in (3, 500):
        rng = np.random.default_rng(0)
        random_starts(num_frames, 16, 3, rng)
        after.append(rng.random())
    assert after[0] == after[1]


def test_the_clip_in_the_middle() -> None:
    assert centre_start(50, 16).tolist() == [17]
    assert centre_start(17, 16).tolist() == [0]


def test_ten_clips_are_spread_from_the_beginning_to_the_end() -> None:
    assert even_starts(250, 64, 10).tolist() == [0, 21, 41, 62, 83, 103, 124, 145, 165, 186]


def test_one_clip_for_a_test_is_the_one_in_the_middle() -> None:
    assert even_starts(50, 16, 1).tolist() == centre_start(50, 16).tolist()


def test_a_clips_frames_are_the_interval_apart() -> None:
    make = Preprocessing(clip_len=8, frame_interval=3)
    numbers = clip_numbers(np.array([0, 5]), 100, make)
    assert numbers.tolist() == [[0, 3, 6, 9, 12, 15, 18, 21], [5, 8, 11, 14, 17, 20, 23, 26]]
    assert numbers[0, -1] + 1 == make.window_frames


def test_a_short_video_is_looped() -> None:
    make = Preprocessing(clip_len=8, frame_interval=1)
    assert clip_numbers(np.array([0]), 3, make).tolist() == [[0, 1, 2, 0, 1, 2, 0, 1]]
    assert clip_numbers(np.array([0]), 1, make).tolist() == [[0] * 8]
    assert clip_numbers(np.array([0]), 5, Preprocessing(clip_len=8, frame_interval=2)).tolist() == [
        [0, 2, 4, 1, 3, 0, 2, 4]
    ]
