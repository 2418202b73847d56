from __future__ import annotations

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_i3d.preprocess import (
    Preprocessing,
    centre_crop,
    frame_size,
    is_frame_size,
    normalise,
    prepare_frame,
    resize_short_side,
    view_share,
)

KINETICS = Preprocessing()
PIXELS = np.random.default_rng(0).integers(0, 256, (2, 8, 32, 32, 3), dtype=np.uint8)


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def gradient(height: int, width: int) -> np.ndarray:
    """Blue grows from left to right, green from top to bottom, red is 200; smooth, so that resizing is predictable."""
    image = np.empty((height, width, 3), np.uint8)
    image[..., 0] = np.linspace(0, 255, width).round()
    image[..., 1] = np.linspace(0, 255, height).round()[:, None]
    image[..., 2] = 200
    return image


# --- resizing


@pytest.mark.parametrize(
    ("given_size", "expected"),
    [
        ((480, 640), (256, 341)),
        ((1080, 1920), (256, 455)),
        ((1920, 1080), (455, 256)),
        ((100, 100), (256, 256)),
        ((1, 3), (256, 768)),
        ((257, 256), (257, 256)),
        ((2160, 3840), (256, 455)),
    ],
)
def test_the_short_side_becomes_what_was_asked_and_the_aspect_is_kept(given_size, expected):
    assert resize_short_side(picture(*given_size), 256).shape == (*expected, 3)


def test_a_picture_that_fits_already_is_not_touched():
    image = picture(256, 300)
    assert resize_short_side(image, 256) is image


def test_resizing_is_bilinear():
    image = np.zeros((2, 2, 3), np.uint8)
    image[:, 1] = 200
    # Centres of 4 pixels over 2: at -0.25, 0.25, 0.75, 1.25 of the way, held at the ends.
    assert resize_short_side(image, 4)[0, :, 0].tolist() == [0, 50, 150, 200]


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 600), st.integers(1, 600), st.integers(32, 80))
def test_any_picture_resizes_to_its_short_side_and_to_within_a_pixel_of_its_aspect(height, width, short_side):
    resized_height, resized_width = resize_short_side(np.zeros((height, width, 3), np.uint8), short_side).shape[:2]
    assert min(resized_height, resized_width) == short_side
    scale = short_side / min(height, width)
    assert abs(resized_height - height * scale) <= 0.5 and abs(resized_width - width * scale) <= 0.5


# --- cropping


@pytest.mark.parametrize(
    ("size", "crop", "top", "left"), [((256, 341), 224, 16, 58), ((256, 256), 256, 0, 0), ((9, 8), 5, 2, 1)]
)
def test_the_crop_is_the_middle(size, crop, top, left):
    image = picture(*size)
    cropped = centre_crop(image, crop)
    assert np.array_equal(cropped, image[top : top + crop, left : left + crop])
    assert np.shares_memory(cropped, image)


# --- the whole frame


@pytest.mark.parametrize("size", [(480, 640), (640, 480), (224, 224), (1080, 1920), (90, 1000), (17, 23)])
def test_any_picture_becomes_a_contiguous_square_of_bytes(size):
    prepared = prepare_frame(picture(*size), KINETICS)
    assert prepared.shape == (224, 224, 3)
    assert prepared.dtype == np.uint8
    assert prepared.flags.c_contiguous and prepared.flags.owndata


def test_blue_green_red_becomes_red_green_blue():
    image = np.zeros((300, 400, 3), np.uint8)
    image[:] = (10, 20, 30)
    assert prepare_frame(image, KINETICS).reshape(-1, 3).tolist() == [[30, 20, 10]] * 224**2


def test_a_prepared_frame_shows_the_middle_of_the_picture_upright():
    prepared = prepare_frame(gradient(480, 640), KINETICS).astype(float)
    red, green, blue = np.moveaxis(prepared, -1, 0)
    assert np.ptp(red) <= 1
    # 224 of 256 rows and of 341.33 columns are kept, about the middle.
    assert green[0].mean() == pytest.approx(255 * 16 / 256, abs=2)
    assert green[-1].mean() == pytest.approx(255 * 240 / 256, abs=2)
    assert blue[:, 0].mean() == pytest.approx(255 * 58.5 / 341, abs=2)
    assert blue[:, -1].mean() == pytest.approx(255 * 282.5 / 341, abs=2)


def test_the_picture_given_is_left_as_it_is():
    image = picture(256, 256)
    image.setflags(write=False)
    prepared = prepare_frame(image, Preprocessing(short_side=256, crop_size=256))
    assert not np.shares_memory(prepared, image)


def test_sizes_are_the_models_own():
    tiny = Preprocessing(short_side=40, crop_size=32)
    assert prepare_frame(picture(120, 160), tiny).shape == (32, 32, 3)


# --- normalising


def test_normalised_clips_are_the_naive_formula():
    normalised = normalise(torch.from_numpy(PIXELS), KINETICS)
    naive = np.moveaxis(PIXELS.astype(np.float64) / 255 * 2 - 1, -1, 1)
    assert normalised.dtype == torch.float32
    assert normalised.shape == (2, 3, 8, 32, 32)
    np.testing.assert_allclose(normalised.numpy(), naive, atol=1e-6)


def test_the_published_range_is_minus_one_to_one():
    ends = torch.tensor([0, 255], dtype=torch.uint8).repeat(24).view(1, 2, 2, 4, 3)
    normalised = normalise(ends, KINETICS)
    assert (normalised.min().item(), normalised.max().item()) == (-1.0, 1.0)


def test_mean_and_deviation_are_each_channels_own():
    preprocessing = Preprocessing(mean=(10.0, 20.0, 30.0), std=(1.0, 2.0, 4.0))
    clips = torch.full((1, 2, 2, 2, 3), 50, dtype=torch.uint8)
    assert normalise(clips, preprocessing)[0, :, 0, 0, 0].tolist() == [40.0, 15.0, 5.0]


def test_a_view_that_is_not_contiguous_is_normalised_like_its_copy():
    view = torch.from_numpy(PIXELS)[:, ::2]
    assert torch.equal(normalise(view, KINETICS), normalise(view.clone(), KINETICS))


# --- the settings


@pytest.mark.parametrize(
    ("clip_len", "frame_interval", "frames"), [(16, 1, 16), (16, 2, 31), (8, 8, 57), (64, 1, 64), (8, 1, 8)]
)
def test_a_window_counts_its_first_and_last_frame(clip_len, frame_interval, frames):
    assert Preprocessing(clip_len=clip_len, frame_interval=frame_interval).window_frames == frames


def test_the_defaults_are_the_published_ones():
    assert (KINETICS.sample_fps, KINETICS.clip_len, KINETICS.short_side, KINETICS.crop_size) == (25, 16, 256, 224)
    assert KINETICS.window_frames == 16


@pytest.mark.parametrize(
    "wrong",
    [
        {"sample_fps": 0},
        {"clip_len": 5},
        {"clip_len": 2000},
        {"frame_interval": 0},
        {"crop_size": 31},
        {"short_side": 0},
        {"mean": [1, 2]},
        {"colour": "grey"},
    ],
)
def test_settings_out_of_range_are_refused_when_read(wrong):
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(msgspec.json.encode(wrong), type=Preprocessing)


@pytest.mark.parametrize(
    "wrong", [{"short_side": 128, "crop_size": 224}, {"std": [0, 1, 1]}, {"std": [-1, 1, 1]}], ids=str
)
def test_settings_that_cannot_work_together_are_refused_when_read(wrong):
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(msgspec.json.encode(wrong), type=Preprocessing)


def test_settings_survive_being_written():
    given_settings = Preprocessing(sample_fps=12.5, clip_len=32, mean=(1.0, 2.0, 3.0))
    assert msgspec.json.decode(msgspec.json.encode(given_settings), type=Preprocessing) == given_settings


@pytest.mark.parametrize(
    ("given_size", "pixel_aspect", "expected"),
    [((576, 352), 24 / 11, (256, 341)), ((352, 576), 11 / 24, (341, 256)), ((576, 720), 64 / 45, (256, 455))],
)
def test_pixels_that_are_not_square_are_made_so_in_the_same_step(given_size, pixel_aspect, expected):
    assert resize_short_side(picture(*given_size), 256, pixel_aspect).shape == (*expected, 3)
    assert prepare_frame(picture(*given_size), KINETICS, pixel_aspect).shape == (224, 224, 3)


def test_a_picture_squeezed_by_its_pixels_is_seen_as_the_one_it_was_squeezed_from():
    import cv2

    whole = gradient(480, 640)
    squeezed = np.asarray(cv2.resize(whole, (320, 480), interpolation=cv2.INTER_AREA), np.uint8)
    difference = prepare_frame(whole, KINETICS).astype(int) - prepare_frame(squeezed, KINETICS, 2.0)
    assert np.abs(difference).max() <= 2


# --- views


def seen_as(view: str, **more: int) -> Preprocessing:
    return Preprocessing(view=view, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("width", "height", "size"),
    [
        (640, 480, (224, 288)),
        (1280, 720, (224, 384)),
        (720, 1280, (384, 224)),
        (500, 500, (224, 224)),
        (510, 500, (224, 224)),
        (1000, 400, (224, 544)),  # the longest
        (4000, 400, (224, 544)),
        (400, 4000, (544, 224)),
    ],
)
def test_whole_pictures_keep_their_shape_up_to_a_bound(width: int, height: int, size: tuple[int, int]) -> None:
    made = seen_as("whole")
    assert frame_size(made, width / height) == size
    frame = prepare_frame(picture(height, width), made)
    assert (frame.shape, frame.dtype, frame.flags.c_contiguous) == ((*size, 3), np.uint8, True)
    assert is_frame_size(KINETICS, *size)


def test_whole_and_squeezed_pictures_show_their_borders_and_the_centre_does_not() -> None:
    image = np.zeros((360, 640, 3), np.uint8)
    image[:, :40, 2] = 255  # red, in BGR, at the left border
    for view, at_left in (("whole", 255), ("squeeze", 255), ("centre", 0)):
        frame = prepare_frame(image, seen_as(view))
        assert frame[100, 3].tolist() == [at_left, 0, 0], view
        assert frame[100, -3].tolist() == [0, 0, 0]


def test_of_a_panorama_the_middle_is_seen() -> None:
    image = np.zeros((100, 1000, 3), np.uint8)
    image[:, 480:520] = 255
    image[:, :300] = image[:, 700:] = 90
    frame = prepare_frame(image, seen_as("whole"))
    assert frame[100, 272].tolist() == [255] * 3  # the middle of 544
    assert not (frame == 90).any()
    assert view_share(seen_as("whole"), 10.0) == pytest.approx(0.25)


def test_pixels_that_are_not_square_count_in_every_view() -> None:
    assert prepare_frame(picture(480, 320), seen_as("whole"), 2.0).shape == (224, 288, 3)
    assert prepare_frame(picture(480, 320), seen_as("squeeze"), 2.0).shape == (224, 224, 3)


@pytest.mark.parametrize(
    ("view", "aspect", "share"),
    [
        ("centre", 16 / 9, 0.431),  # 224 x 224 of 256 x 455
        ("centre", 9 / 16, 0.431),
        ("centre", 1.0, 0.766),
        ("whole", 16 / 9, 1.0),
        ("squeeze", 5.0, 1.0),
        ("whole", 5.0, 0.5),
    ],
)
def test_the_share_of_the_picture_that_is_seen(view: str, aspect: float, share: float) -> None:
    assert view_share(seen_as(view), aspect) == pytest.approx(share, abs=5e-4)


@pytest.mark.parametrize(
    ("height", "width", "allowed"),
    [(224, 224, True), (224, 256, True), (224, 544, True), (224, 576, False), (224, 250, False), (256, 256, False),
     (192, 224, False), (1, 1, False)],
)  # fmt: skip
def test_frames_of_no_view_are_known(height: int, width: int, allowed: bool) -> None:
    assert is_frame_size(KINETICS, height, width) == is_frame_size(KINETICS, width, height) == allowed


def test_the_centre_view_is_the_published_recipe_and_the_default() -> None:
    image = gradient(480, 640)
    recipe = centre_crop(resize_short_side(image, 256), 224)[:, :, ::-1]
    assert Preprocessing().view == "centre"
    np.testing.assert_array_equal(prepare_frame(image, KINETICS), recipe)
