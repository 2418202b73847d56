from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_i3d.capture.reader import Clock, FrameReader
from stream_i3d.motion import motion_measure
from stream_i3d.preprocess import Preprocessing, centre_crop
from stream_i3d.scenes import LABELS
from stream_i3d.training.stream_videos import StreamVideo, scene_video, stream_order, stream_videos

PREPROCESSING = Preprocessing(short_side=40, crop_size=32)


@given(st.lists(st.sampled_from("abcd"), max_size=30), st.integers(0, 2**31))
def test_every_video_comes_once_and_classes_alternate_where_they_can(labels: list[str], seed: int) -> None:
    order = stream_order(labels, seed)
    assert sorted(order) == list(range(len(labels)))
    same = sum(labels[one] == labels[other] for one, other in pairwise(order))
    most = max(Counter(labels).values(), default=0)
    assert same == max(0, 2 * most - len(labels) - 1)


def test_the_order_is_the_seeds() -> None:
    labels = ["a", "b", "c"] * 10
    assert stream_order(labels, 1) == stream_order(labels, 1)
    assert stream_order(labels, 1) != stream_order(labels, 2)
    assert len({tuple(labels[place] for place in stream_order(labels, seed)) for seed in range(5)}) == 5


def live_frames(video: StreamVideo) -> list[np.ndarray]:
    """The frames that the live path reads from a video."""
    reader = FrameReader(
        video.open(), "door", 0, PREPROCESSING, Clock(lambda: 0, lambda: 0.0, lambda _: True), paced=False
    )
    frames = []
    while (more := reader.read()) is not None:
        frames += [frame.pixels for frame in more]
    return frames


@pytest.mark.parametrize("fps", [19.62, 25.0, 60.0])
def test_frames_by_their_number_are_those_of_the_live_path(
    make_video: Callable[[float, float], Path], fps: float
) -> None:
    [video] = stream_videos([str(make_video(fps, 2.0))], [1], ("a", "b"), PREPROCESSING, scenes=False)
    assert video.label == "b"
    live = live_frames(video)
    assert 48 <= len(live) <= 52
    frames = video.frames([3, 17, len(live) - 1])
    assert sorted(frames) == [3, 17, len(live) - 1]
    for number, picture in frames.items():
        assert (centre_crop(picture, 32) == live[number]).all()


def test_scenes_take_the_place_of_generated_clips_and_are_the_same_each_time() -> None:
    videos = stream_videos([f"scene {n}" for n in range(100)], [0] * 100, LABELS, PREPROCESSING, scenes=True)
    assert len(videos) == 60
    assert [video.label for video in videos[:12]] == [*LABELS, *LABELS[:2]]
    live = live_frames(videos[1])
    assert len(live) == 100
    frames = scene_video(1, PREPROCESSING).frames([0, 50, 99])
    assert all((centre_crop(picture, 32) == live[number]).all() for number, picture in frames.items())
    assert (live[0] != live[99]).any()


@pytest.mark.parametrize("number", [1, 3, 5, 12])
def test_a_long_scene_moves_to_its_end(number: int) -> None:
    frames = live_frames(scene_video(number, PREPROCESSING, 12.0))
    assert len(frames) == 300
    for first in range(0, 300, 25):  # each second of it
        assert motion_measure(np.stack(frames[first : first + 25])) > 2
