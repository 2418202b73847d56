from __future__ import annotations

import pytest

from stream_i3d.capture.shortfall import too_short, too_slow
from stream_i3d.preprocess import Preprocessing

KINETICS = Preprocessing()


def test_a_short_video_is_told_with_what_a_prediction_takes() -> None:
    assert too_short("a.mp4", 10, 0.4, 16, 25) == (
        "a.mp4 lasts 0.40 s (10 pictures); nothing is recognised in less than 0.64 s (16 frames at 25 a second)"
    )


def test_a_single_picture_is_told_as_such() -> None:
    assert "a.gif holds a single picture" in too_short("a.gif", 1, 0.04, 16, 25)
    assert "holds a single picture" in str(too_slow("a.gif", 1, 10.0, KINETICS))


@pytest.mark.parametrize(("fps", "slow"), [(25, False), (5, False), (3.2, False), (3, True), (2, True), (0.1, True)])
def test_fewer_than_two_pictures_a_window_are_too_few(fps: float, slow: bool) -> None:
    problem = too_slow("a.mp4", round(100 * fps), 100.0, KINETICS)
    assert (problem is not None) == slow
    assert problem is None or f"has {fps:.2g} pictures a second, fewer than 2 in a window of 0.64 s" in problem


def test_a_longer_window_takes_a_slower_video() -> None:
    assert too_slow("a.mp4", 40, 20.0, Preprocessing(clip_len=64)) is None
    assert too_slow("a.mp4", 40, 20.0, Preprocessing(frame_interval=4)) is None
