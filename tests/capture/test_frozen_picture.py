from __future__ import annotations

import numpy as np
import pytest

from stream_i3d.capture.frozen_picture import FrozenPictureWatch
from stream_i3d.preprocess import Image

RNG = np.random.default_rng(5)
SCENE = RNG.integers(0, 256, (240, 320, 3)).astype(np.uint8)


def noisy(strength: float = 1.0) -> Image:
    return np.clip(SCENE + RNG.normal(0, strength, SCENE.shape), 0, 255).round().astype(np.uint8)


def watch(pictures: list[Image], timeout_s: float | None = 10.0, fps: float = 5.0) -> tuple[FrozenPictureWatch, float]:
    """Show pictures at a fixed rate; return who watched and the time after the last one."""
    stillness = FrozenPictureWatch(timeout_s)
    stillness.opened(100.0)
    for number, picture in enumerate(pictures):
        stillness.push(100.0 + number / fps, picture)
    return stillness, 100.0 + len(pictures) / fps


def show_between(stillness: FrozenPictureWatch, picture: Image, begin: float, end: float) -> None:
    """Show a picture from `begin` to `end`."""
    stillness.push(begin, picture)
    stillness.push(end, picture)


def test_the_same_picture_for_longer_than_the_limit_is_frozen_and_says_for_how_long():
    stillness, now = watch([SCENE] * 60)
    assert stillness.frozen_for(110.0) is None
    assert stillness.frozen_for(now) == pytest.approx(12.0)


def test_a_motionless_scene_with_a_cameras_noise_is_not_frozen():
    stillness, now = watch([noisy(0.3) for _ in range(120)])
    assert stillness.frozen_for(now) is None


def test_an_encoder_that_goes_on_over_a_frozen_picture_is_seen_through():
    """With every key picture it makes the same few pictures again."""
    group = [noisy(0.5) for _ in range(25)]
    stillness, now = watch(group * 4)
    assert stillness.frozen_for(now) == pytest.approx(now - (100.0 + 24 / 5))


def test_a_loop_in_which_something_moves_is_not_frozen():
    loop = [np.roll(SCENE, 8 * step, axis=1) for step in range(25)]
    stillness, now = watch(loop * 4)
    assert stillness.frozen_for(now) is None


def test_a_new_picture_ends_it_also_one_of_another_size():
    for new in (noisy(), SCENE[:120]):
        stillness, now = watch([SCENE] * 60)
        stillness.push(now, new)
        assert stillness.frozen_for(now) is None


def test_without_a_limit_nothing_is_frozen():
    stillness, now = watch([SCENE] * 60, timeout_s=None)
    assert stillness.frozen_for(now + 1e6) is None


def test_a_camera_of_which_nothing_came_is_not_frozen():
    assert FrozenPictureWatch(10.0).frozen_for(1e6) is None


def test_a_camera_that_shows_nothing_is_not_frozen():
    """Its pictures are damaged, or do not come."""
    stillness, now = watch([SCENE] * 5)
    assert stillness.frozen_for(now + 60) is None
    assert not stillness.should_reopen(now + 60)


def test_a_frozen_camera_is_opened_anew_ever_more_rarely():
    stillness = FrozenPictureWatch(10.0)
    opened: list[float] = []
    stillness.opened(0.0)
    for now in range(400):
        stillness.push(float(now), SCENE)
        if stillness.should_reopen(float(now)):
            opened.append(now)
            stillness.opened(float(now))
    assert np.diff([0.0, *opened]).round() == pytest.approx([20, 20, 40, 80, 160])


def test_once_it_moves_again_the_next_freeze_is_answered_soon_but_not_for_one_picture_at_opening():
    stillness = FrozenPictureWatch(10.0)
    stillness.opened(0.0)
    show_between(stillness, SCENE, 0.0, 21.0)
    assert stillness.should_reopen(21.0)
    stillness.opened(21.0)
    show_between(stillness, noisy(), 22.0, 22.0 + 10.0 + 15.0)  # encoded anew
    assert not stillness.should_reopen(22.0 + 10.0 + 15.0)
    show_between(stillness, noisy(), 60.0, 60.0 + 10.0 + 11.0)
    assert stillness.should_reopen(60.0 + 10.0 + 11.0)


def test_a_camera_that_comes_back_after_long_is_not_frozen_before_it_shows_the_same_picture_again():
    stillness, now = watch([SCENE] * 5)
    stillness.opened(now + 60)
    assert stillness.frozen_for(now + 61) is None
    stillness.push(now + 62, SCENE)
    assert stillness.frozen_for(now + 62) is not None
