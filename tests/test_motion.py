from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from stream_i3d.config import IdleConfig
from stream_i3d.motion import motion_measure

SIZE = 224
LEAST = IdleConfig().min_motion


def scene(seed: int = 0) -> NDArray[np.float64]:
    """A textured still picture, (SIZE, SIZE, 3) between 60 and 180."""
    coarse = np.random.default_rng(seed).uniform(60, 180, (28, 28, 3))
    return coarse.repeat(8, axis=0).repeat(8, axis=1)


def still(frames: int = 16) -> NDArray[np.float64]:
    return np.repeat(scene()[None], frames, axis=0)


def seen(clip: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.clip(clip.round(), 0, 255).astype(np.uint8)


def with_square(clip: NDArray[np.float64], side: int, step: int) -> NDArray[np.float64]:
    """A bright square that moves `step` pixels a frame."""
    clip = clip.copy()
    for index in range(len(clip)):
        left = 20 + index * step
        clip[index, 100 : 100 + side, left : left + side] = 250
    return clip


def noise(clip: NDArray[np.float64], sigma: float, seed: int = 1) -> NDArray[np.float64]:
    return clip + np.random.default_rng(seed).normal(0, sigma, clip.shape)


def test_a_still_picture_does_not_move_at_all():
    assert motion_measure(seen(still())) == 0


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
def test_the_noise_of_a_good_camera_is_below_the_default_threshold(sigma):
    assert motion_measure(seen(noise(still(), sigma))) < LEAST


@pytest.mark.parametrize("seed", range(3))
def test_strong_noise_stays_far_below_a_small_moving_block(seed):
    noisy = motion_measure(seen(noise(still(), 8, seed)))
    moving = motion_measure(seen(noise(with_square(still(), 32, 6), 8, seed)))
    assert noisy < 4  # half of its sigma
    assert moving > 5 * noisy


@pytest.mark.parametrize("side", [24, 40, 80])
def test_a_small_moving_block_counts(side):
    assert motion_measure(seen(with_square(still(), side, 4))) > 10 * LEAST


def test_a_block_that_stays_where_it_is_does_not():
    assert motion_measure(seen(with_square(still(), 40, 0))) == 0


@pytest.mark.parametrize("drift", [-3.0, 0.5, 3.0])
def test_exposure_drift_is_no_motion(drift):
    brighter = still() + drift * np.arange(16)[:, None, None, None]
    assert motion_measure(seen(brighter)) < LEAST


def test_one_flickering_block_is_no_motion():
    clip = still()
    clip[::2, 16:24, 16:24] = 255
    clip[1::2, 16:24, 16:24] = 0
    assert motion_measure(seen(clip)) < LEAST


def test_a_movement_in_any_part_of_the_window_counts():
    for first in (1, 5, 10, 15):
        clip = still()
        clip[first:, 64:128, 64:128] = 250
        assert motion_measure(seen(clip)) > 10 * LEAST


def test_more_movement_measures_more():
    measures = [motion_measure(seen(with_square(still(), side, 4))) for side in (0, 8, 32)]
    assert measures == sorted(measures) and measures[0] < measures[-1]


def test_the_measure_is_in_grey_levels():
    clip = still()
    clip[:] = 100
    clip[8:, :, : SIZE // 2] = 140  # half the picture by 40: 20 of it is taken out as the change of the whole
    assert motion_measure(seen(clip)) == pytest.approx(20, abs=0.5)


@pytest.mark.parametrize("shape", [(16, 8, 8, 3), (8, 100, 37, 3), (2, 64, 64, 3), (3, 9, 70, 3)])
def test_any_size_and_length_is_measured(shape):
    frames = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    assert 0 <= motion_measure(frames) <= 255


def test_a_view_of_every_other_frame_is_measured_as_its_copy_is():
    clip = seen(with_square(still(31), 40, 3))
    assert motion_measure(clip[::2]) == motion_measure(clip[::2].copy())


def test_frames_are_left_as_they_are():
    clip = seen(with_square(still(), 40, 3))
    clip.setflags(write=False)
    before = clip.copy()
    motion_measure(clip)
    assert (clip == before).all()
