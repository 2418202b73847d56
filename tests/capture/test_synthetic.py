from __future__ import annotations

import itertools

import numpy as np
import pytest

from stream_i3d.capture.synthetic import SyntheticSource
from stream_i3d.errors import ConfigError
from stream_i3d.scenes import SceneRenderer


def times_of(source: SyntheticSource) -> list[float]:
    times: list[float] = []
    while (time := source.grab()) is not None:
        times.append(time)
    return times


@pytest.mark.parametrize(("fps", "duration", "pictures"), [("30", "2", 60), ("10", "0.95", 10), ("29.97", "1", 30)])
def test_a_scene_with_a_duration_ends_after_it(fps: str, duration: str, pictures: int) -> None:
    source = SyntheticSource(f"?fps={fps}&duration={duration}")
    times = times_of(source)
    assert times == pytest.approx([index / float(fps) for index in range(pictures)])
    assert source.duration_s == float(duration)


def test_a_scene_that_has_ended_stays_ended() -> None:
    source = SyntheticSource("?fps=10&duration=0.3")
    times_of(source)
    assert source.grab() is None


def test_without_a_duration_a_scene_is_endless() -> None:
    source = SyntheticSource("?fps=240")
    assert all(source.grab() is not None for _ in itertools.repeat(None, 5000))
    assert source.duration_s is None


def test_the_picture_is_the_scene_at_its_media_time() -> None:
    source = SyntheticSource("?seed=5&fps=10&size=96x64")
    for _ in range(25):
        time = source.grab()
    assert time == pytest.approx(2.4)
    wanted = SceneRenderer(5, (96, 64)).render(2.4)
    np.testing.assert_array_equal(source.retrieve(), wanted)
    assert wanted.shape == (64, 96, 3)


def test_scenes_of_two_seeds_differ() -> None:
    one, other = SyntheticSource("?seed=1&size=96x64"), SyntheticSource("?seed=2&size=96x64")
    one.grab()
    other.grab()
    assert (one.retrieve() != other.retrieve()).any()


def test_a_scene_is_paced_like_a_file_and_says_what_it_is() -> None:
    source = SyntheticSource("?fps=12.5&size=96x64")
    assert not source.live
    assert source.description == "96x64 at 12.5 fps, synthetic"
    source.close()


def test_an_option_that_is_misspelt_is_told() -> None:
    with pytest.raises(ConfigError, match=r"unknown option 'sead' \(did you mean 'seed'\?\)"):
        SyntheticSource("?sead=1")
