from __future__ import annotations

from collections import Counter
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from stream_i3d.errors import ConfigError
from stream_i3d.preprocess import centre_crop
from stream_i3d.training.augment import (
    Augmenter,
    Box,
    Colours,
    View,
    centre_box,
    multi_scale_box,
    random_box,
    three_boxes,
)
from stream_i3d.training.config import AugmentConfig

LABELS = ("left", "right", "up", "text")


@pytest.fixture
def clip() -> NDArray[np.uint8]:
    """(3, 24, 32, 3) of smooth random colours, none near black or white."""
    rng = np.random.default_rng(0)
    small = rng.uniform(80, 170, (3, 6, 8, 3)).astype(np.float32)
    return np.stack([cv2.resize(frame, (32, 24)) for frame in small]).astype(np.uint8)


def augmenter(labels: tuple[str, ...] = LABELS, size: int = 16, **given: Any) -> Augmenter:
    return Augmenter(AugmentConfig(**given), labels, size)


# --- which part is seen


@pytest.mark.parametrize(("height", "width"), [(24, 32), (33, 25), (24, 24)])
def test_the_centre_is_where_the_live_path_cuts_it(height: int, width: int) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    seen = View(centre_box(height, width, 16), 16).apply(picture[None])
    assert np.array_equal(seen[0], centre_crop(picture, 16))


def test_three_crops_are_both_ends_and_the_middle_of_the_longer_side() -> None:
    assert three_boxes(24, 35) == (Box(0, 0, 24, 24), Box(0, 5, 24, 24), Box(0, 11, 24, 24))
    assert three_boxes(34, 24) == (Box(0, 0, 24, 24), Box(5, 0, 24, 24), Box(10, 0, 24, 24))
    assert set(three_boxes(24, 24)) == {Box(0, 0, 24, 24)}


def test_a_random_crop_comes_from_anywhere_in_the_picture() -> None:
    rng = np.random.default_rng(0)
    boxes = [random_box(18, 20, 16, rng) for _ in range(400)]
    assert {(box.top, box.left) for box in boxes} == {(top, left) for top in range(3) for left in range(5)}
    assert {(box.height, box.width) for box in boxes} == {(16, 16)}


def test_a_multi_scale_crop_is_in_a_corner_or_the_centre_and_square() -> None:
    rng = np.random.default_rng(0)
    boxes = Counter(multi_scale_box(256, 340, 224, (1.0, 0.8), rng) for _ in range(2000))
    whole, smaller = 256, 204
    across, down = (340 - smaller) // 4, (256 - smaller) // 4
    assert set(boxes) == {
        *(Box(0, x * 21, whole, whole) for x in (0, 2, 4)),
        *(Box(y * down, x * across, smaller, smaller) for x, y in ((0, 0), (4, 0), (0, 4), (4, 4), (2, 2))),
    }
    assert min(count for box, count in boxes.items() if box.height == smaller) > 140


def test_a_multi_scale_crop_of_nearly_the_networks_size_gets_it_exactly() -> None:
    rng = np.random.default_rng(0)
    assert {multi_scale_box(256, 256, 224, (0.868,), rng).height for _ in range(5)} == {224}  # int(256 * 0.868) == 222
    assert {multi_scale_box(256, 256, 224, (0.863,), rng).height for _ in range(5)} == {220}


def test_a_part_of_another_size_is_resized_bilinearly(clip: NDArray[np.uint8]) -> None:
    seen = View(Box(2, 4, 20, 20), 16).apply(clip)
    assert seen.shape == (3, 16, 16, 3)
    for frame, original in zip(seen, clip, strict=True):
        assert np.array_equal(frame, cv2.resize(original[2:22, 4:24], (16, 16), interpolation=cv2.INTER_LINEAR))


def test_a_mirrored_view_is_the_same_part_from_right_to_left(clip: NDArray[np.uint8]) -> None:
    box = Box(1, 3, 16, 16)
    seen, mirrored = View(box, 16).apply(clip), View(box, 16, mirrored=True).apply(clip)
    assert np.array_equal(mirrored, seen[:, :, ::-1])
    assert not np.array_equal(mirrored, seen)
    assert mirrored.flags.c_contiguous


@pytest.mark.parametrize("crop", ["random", "multi-scale", "centre"])
def test_the_configured_crop_is_drawn(crop: Any) -> None:
    drawer, rng = augmenter(crop=crop), np.random.default_rng(0)
    views = [drawer.draw_view(24, 32, False, rng) for _ in range(300)]
    boxes = {view.box for view in views}
    assert {view.size for view in views} == {16}
    if crop == "centre":
        assert boxes == {centre_box(24, 32, 16)}
    elif crop == "random":
        assert len(boxes) > 100
        assert {box.height for box in boxes} == {16}
    else:
        assert {box.height for box in boxes} == {24, 19}


def test_multi_scale_without_scales_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"augment\.scales is empty"):
        augmenter(crop="multi-scale", scales=())


# --- the mirror


def mirrored_labels(drawer: Augmenter, label: str, draws: int = 400) -> Counter[tuple[bool, str]]:
    rng = np.random.default_rng(0)
    drawn = (drawer.draw_mirrored(LABELS.index(label), rng) for _ in range(draws))
    return Counter((mirrored, LABELS[becomes]) for mirrored, becomes in drawn)


def test_a_video_is_mirrored_as_often_as_configured() -> None:
    assert mirrored_labels(augmenter(flip=0), "up") == {(False, "up"): 400}
    assert mirrored_labels(augmenter(flip=1), "up") == {(True, "up"): 400}
    assert 60 < mirrored_labels(augmenter(flip=0.2), "up")[True, "up"] < 100


def test_classes_to_keep_are_never_mirrored() -> None:
    drawer = augmenter(flip=1, flip_keep=("text",))
    assert mirrored_labels(drawer, "text") == {(False, "text"): 400}
    assert mirrored_labels(drawer, "up") == {(True, "up"): 400}


def test_pairs_change_places_in_the_mirror_and_only_there() -> None:
    drawer = augmenter(flip=0.5, flip_swap=(("left", "right"),))
    assert set(mirrored_labels(drawer, "left")) == {(True, "right"), (False, "left")}
    assert set(mirrored_labels(drawer, "right")) == {(True, "left"), (False, "right")}
    assert set(mirrored_labels(drawer, "up")) == {(True, "up"), (False, "up")}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"flip_keep": ("txt",)},
            r"augment\.flip_keep: no class 'txt' \(did you mean 'text'\?\); the classes are left",
        ),
        ({"flip_swap": (("left", "rigth"),)}, r"augment\.flip_swap: no class 'rigth' \(did you mean 'right'\?\)"),
        ({"flip_swap": (("left", "left"),)}, "'left' is named twice"),
        ({"flip_swap": (("left", "right"), ("up", "left"))}, "'left' is named twice"),
        ({"flip_keep": ("up",), "flip_swap": (("up", "left"),)}, "'up' is named twice"),
    ],
)
def test_an_unknown_or_repeated_class_is_an_error(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        augmenter(**given)


# --- colours, against torchvision's formulas written out


def gray_of(clip: NDArray[Any]) -> NDArray[np.float64]:
    return (clip.astype(np.float64) @ [0.299, 0.587, 0.114])[..., None]


def test_unchanged_colours_are_the_same_pictures(clip: NDArray[np.uint8]) -> None:
    assert Colours().apply(clip) is clip


def test_brightness_multiplies_and_is_cut_off(clip: NDArray[np.uint8]) -> None:
    changed = Colours(brightness=1.7).apply(clip)
    assert changed.dtype == np.uint8
    assert np.abs(changed.astype(int) - np.minimum(clip * 1.7, 255)).max() <= 1
    assert (changed == 255).any()


def test_contrast_keeps_the_clips_mean(clip: NDArray[np.uint8]) -> None:
    clip[1:] += 40  # its frames differ in brightness, and are changed alike
    mean = gray_of(clip[:, ::4, ::4]).mean()
    changed = Colours(contrast=0.4).apply(clip)
    assert np.abs(changed - (0.4 * clip + 0.6 * mean)).max() <= 1.5
    assert changed.std() < 0.5 * clip.std()


def test_saturation_moves_to_each_pixels_own_gray(clip: NDArray[np.uint8]) -> None:
    changed = Colours(saturation=0.3).apply(clip)
    assert np.abs(changed - (0.3 * clip + 0.7 * gray_of(clip))).max() <= 1.5
    colourless = Colours(saturation=0.0).apply(clip)
    assert np.ptp(colourless, axis=-1).max() == 0
    assert np.abs(colourless - gray_of(clip)).max() <= 1.5


def test_hue_turns_colours_and_keeps_grays_and_brightness(clip: NDArray[np.uint8]) -> None:
    changed = Colours(hue=0.25).apply(clip)
    assert np.abs(changed.astype(int) - clip).max() > 20
    assert np.abs(gray_of(changed) - gray_of(clip)).max() <= 1.5
    gray = np.repeat(clip[..., :1], 3, axis=-1)
    assert np.abs(Colours(hue=0.25).apply(gray).astype(int) - gray).max() <= 1
    red = np.full((1, 8, 8, 3), (200, 60, 60), np.uint8)
    assert Colours(hue=1 / 3).apply(red)[0, 0, 0].argmax() != 0


def test_all_at_once_is_one_after_the_other(clip: NDArray[np.uint8]) -> None:
    at_once = Colours(1.1, 0.8, 0.7, 0.1).apply(clip)
    steps = Colours(hue=0.1).apply(
        Colours(saturation=0.7).apply(Colours(contrast=0.8).apply(Colours(brightness=1.1).apply(clip)))
    )
    assert np.abs(at_once.astype(int) - steps).max() <= 3


def test_colours_are_drawn_within_their_ranges() -> None:
    drawer = augmenter(brightness=0.1, contrast=0.2, saturation=0.3, hue=0.05)
    rng = np.random.default_rng(0)
    drawn = np.array([drawer.draw_colours(rng) for _ in range(500)])
    for values, middle, reach in zip(drawn.T, (1, 1, 1, 0), (0.1, 0.2, 0.3, 0.05), strict=True):
        assert middle - reach <= values.min() < middle - 0.9 * reach
        assert middle + 0.9 * reach < values.max() <= middle + reach


def test_no_jitter_leaves_colours_as_they_are() -> None:
    drawer = augmenter(brightness=0, contrast=0, saturation=0)
    assert drawer.draw_colours(np.random.default_rng(0)) == Colours()


def test_gray_takes_all_colour_away_as_often_as_configured() -> None:
    drawer, rng = augmenter(gray=0.25, hue=0.5), np.random.default_rng(0)
    drawn = [drawer.draw_colours(rng) for _ in range(400)]
    grays = [colours for colours in drawn if colours.saturation == 0]
    assert 75 < len(grays) < 125
    assert {colours.hue for colours in grays} == {0.0}
