from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from stream_i3d.capture.geometry import UPRIGHT, display_size, orientation_of, pixel_aspect_of, square_pixels
from tests.video_files import ORIENTATIONS, display_matrix, shown


@pytest.mark.parametrize("name", ORIENTATIONS)
@pytest.mark.parametrize("size", [(3, 5), (4, 4)])
def test_each_orientation_puts_every_point_where_its_matrix_says(name: str, size: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    orientation, exact = orientation_of(display_matrix(*ORIENTATIONS[name]))
    assert exact
    assert np.array_equal(orientation.apply(picture), shown(picture, name))


def test_an_upright_picture_is_not_copied() -> None:
    picture = np.zeros((3, 5, 3), np.uint8)
    assert orientation_of(display_matrix(1, 0, 0, 1)) == (UPRIGHT, True)
    assert UPRIGHT.apply(picture) is picture


@pytest.mark.parametrize("name", ORIENTATIONS)
@pytest.mark.parametrize(("across", "down"), [(2, 2), (0.1, 0.1), (1.5, 1)])
def test_a_scale_does_not_change_the_orientation(name: str, across: float, down: float) -> None:
    a, b, c, d = ORIENTATIONS[name]
    expected, _ = orientation_of(display_matrix(a, b, c, d))
    assert orientation_of(display_matrix(across * a, across * b, down * c, down * d)) == (expected, True)


@pytest.mark.parametrize("degrees", [3, 20, 44, 45, 50, 133, -30, 170])
def test_another_angle_is_the_nearest_quarter_turn_and_counts_as_wrong_beyond_ten_degrees(degrees: float) -> None:
    angle = math.radians(degrees)
    matrix = display_matrix(math.cos(angle), math.sin(angle), -math.sin(angle), math.cos(angle))
    quarter = math.radians(90 * round((degrees - 1e-6) / 90))
    near = display_matrix(math.cos(quarter), math.sin(quarter), -math.sin(quarter), math.cos(quarter))
    off = abs(degrees - math.degrees(quarter))
    assert orientation_of(matrix) == (orientation_of(near)[0], off < 10)


@pytest.mark.parametrize("values", [(0, 0, 0, 0), (1, 0, 0, 0), (1, 1, 1, 1), (0, 0, 0, 1)])
def test_a_matrix_that_flattens_the_picture_leaves_it_upright_and_counts_as_wrong(values: tuple[float, ...]) -> None:
    assert orientation_of(display_matrix(*values)) == (UPRIGHT, False)


@pytest.mark.parametrize(
    ("ratio", "aspect", "sane"),
    [
        (Fraction(24, 11), 24 / 11, True),
        (Fraction(8, 9), 8 / 9, True),
        (Fraction(1), 1.0, True),
        (Fraction(0, 1), 1.0, True),
        (None, 1.0, True),
        (0.0, 1.0, True),
        (Fraction(1, 1000), 1.0, False),
        (Fraction(1000, 1), 1.0, False),
        (-1.0, 1.0, False),
        (math.nan, 1.0, False),
    ],
)
def test_a_sample_aspect_ratio_is_believed_where_real_videos_have_such(
    ratio: Fraction | float | None, aspect: float, sane: bool
) -> None:
    assert pixel_aspect_of(ratio) == (pytest.approx(aspect), sane)


@pytest.mark.parametrize(
    ("size", "aspect", "expected"),
    [((352, 576), 24 / 11, (768, 576)), ((576, 352), 11 / 24, (576, 768)), ((720, 576), 1.0, (720, 576))],
)
def test_square_pixels_keep_one_side_and_enlarge_the_other(
    size: tuple[int, int], aspect: float, expected: tuple[int, int]
) -> None:
    assert display_size(*size, aspect) == expected
    picture = np.zeros((size[1], size[0], 3), np.uint8)
    assert square_pixels(picture, aspect).shape == (expected[1], expected[0], 3)
    assert (square_pixels(picture, aspect) is picture) == (aspect == 1)
