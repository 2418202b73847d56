"""What scenes look like: textures, shapes, objects, things in front, light."""

from __future__ import annotations

import math

import numpy as np
import pytest

from stream_i3d.scenes import shapes
from stream_i3d.scenes.dead_leaves import _owners, dead_leaves
from stream_i3d.scenes.motions import Pose
from stream_i3d.scenes.noise import light_field
from stream_i3d.scenes.occluders import draw_occluder, hidden_share
from stream_i3d.scenes.render import Scene, blend, place_part
from stream_i3d.scenes.sprites import Surroundings, draw_object, make_sprite, moments, object_texture
from stream_i3d.scenes.textures import background, texture

GREY = Surroundings(np.array([128.0, 128.0, 128.0]), 0.0)


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("draw", [dead_leaves, texture, background, light_field])
def test_surfaces_have_the_asked_shape_and_repeat_by_seed(draw) -> None:
    for height, width in ((36, 48), (90, 50), (240, 320)):
        surface = draw(rng(1), height, width)
        assert surface.shape == (height, width, 3)
        assert surface.dtype == np.uint8
        np.testing.assert_array_equal(surface, draw(rng(1), height, width))
    assert any((draw(rng(1), 36, 48) != draw(rng(seed), 36, 48)).any() for seed in range(2, 5))


def test_dead_leaves_have_flat_parts_and_hard_edges_as_photographs_do() -> None:
    kurtoses = []
    for seed in range(12):
        luma = dead_leaves(rng(seed), 96, 128).mean(axis=2)
        steps = np.diff(luma, axis=1).ravel()
        steps = steps - steps.mean()
        kurtoses.append((steps**4).mean() / (steps**2).mean() ** 2)
    assert np.median(kurtoses) > 6  # Gaussian noise has 3


def test_leaves_are_of_very_different_sizes() -> None:
    ratios = []
    for seed in range(12):
        areas = np.bincount(_owners(rng(seed), 96, 128, 150).ravel(), minlength=151)[1:]
        ratios.append(areas.max() / max(1, np.median(areas)))
    assert np.median(ratios) > 10


def test_a_tenth_of_the_grounds_has_one_colour() -> None:
    flat = sum(bool((ground == ground[0, 0]).all()) for ground in (background(rng(7, i), 24, 32) for i in range(300)))
    assert 15 <= flat <= 50


def test_light_is_smooth_and_about_one() -> None:
    for seed in range(10):
        field = light_field(rng(seed), 60, 80).astype(float)
        assert np.abs(np.diff(field, axis=1)).max() < 12
        assert 80 < field.mean() < 190


@pytest.mark.parametrize("draw", [shapes.random_shape, shapes.pole, shapes.sleeve, shapes.forearm, shapes.torso])
@pytest.mark.parametrize("side", [64, 128])
def test_shapes_fill_some_of_their_mask_and_leave_the_corners(draw, side: int) -> None:
    for seed in range(20):
        mask = draw(rng(seed), side)
        assert mask.shape == (side, side)
        assert 0.02 < (mask > 127).mean() < 0.85
        assert mask[0, 0] == mask[-1, -1] == 0


def test_a_pole_stands_on_its_foot() -> None:
    for seed in range(10):
        rows = np.nonzero(shapes.pole(rng(seed), 128).max(axis=1))[0]
        assert rows.max() >= 124


def test_a_soft_edge_lies_inside_the_hard_one() -> None:
    mask = shapes.random_shape(rng(3), 128)
    colours = np.full((128, 128, 3), 200, np.uint8)
    hard, soft = make_sprite(colours, mask).levels[0][:, :, 3], make_sprite(colours, mask, 0.08).levels[0][:, :, 3]
    between = ((soft > 20) & (soft < 235)).sum()
    assert between > 2 * ((hard > 20) & (hard < 235)).sum()
    assert soft.max() > 200
    assert soft[mask == 0].max() < 140


def test_colours_never_exceed_alpha() -> None:
    for seed in range(12):
        for part in draw_object(rng(seed), "figure" if seed % 2 else "plain", GREY, 64):
            for level in part.sprite.levels:
                assert (level[:, :, :3] <= level[:, :, 3:].astype(int) + 2).all()


def test_some_objects_hide_in_a_structured_ground_but_none_in_a_flat_one() -> None:
    structured = Surroundings(np.array([128.0, 128.0, 128.0]), 45.0)
    near = [np.abs(moments(object_texture(rng(i), structured, 32))[0] - 128).max() < 20 for i in range(150)]
    assert 0.1 < np.mean(near) < 0.5
    for i in range(150):
        mean, spread = moments(object_texture(rng(i), GREY, 32))
        assert np.abs(mean - 128).max() >= 18 or spread > 30, i


def test_a_figure_has_limbs_that_swing_against_each_other() -> None:
    turns = [part.turn for part in draw_object(rng(11), "figure", GREY) if part.offset == (0.0, 0.0)]
    assert len(turns) >= 5
    assert min(turns) < 0 < max(turns)
    arm = draw_object(rng(11), "arm", GREY)
    assert {part.turn for part in arm} == {0.0, 1.0}


def test_a_joint_turns_with_its_object() -> None:
    part = next(part for part in draw_object(rng(1), "figure", GREY) if part.turn == 0.6)
    x, y, half, angle = place_part(part, Pose(0.1, 0.2, 0.5, math.pi / 2, 0.3))
    u, v = part.joint
    assert (x, y) == pytest.approx((0.1 - 0.5 * v, 0.2 + 0.5 * u))  # clockwise: right becomes down
    assert half == pytest.approx(0.5 * part.reach)
    assert angle == pytest.approx(math.pi / 2 + 0.6 * 0.3)


def test_shadows_darken_and_lie_behind() -> None:
    objects = [draw_object(rng(6, i), "plain", GREY) for i in range(100)]
    shadowed = [parts for parts in objects if len(parts) == 2]
    assert 8 <= len(shadowed) <= 35
    layer = shadowed[0][0].sprite.levels[0]
    ground = np.full((*layer.shape[:2], 3), 200, np.uint8)
    blend(ground, layer)
    assert ground.min() < 170
    assert ground.max() <= 200


def test_what_stands_in_front_hides_only_a_small_part_of_the_way() -> None:
    seen = [Pose(x, 0.0, 0.15, 0.0, 0.0) for x in np.linspace(-0.5, 0.5, 8)]
    layers = [draw_occluder(rng(i), 90, 120, seen, 80) for i in range(80)]
    drawn = [layer for layer in layers if layer is not None]
    assert 40 < len(drawn) < 80  # rails that lie along the way are refused
    for layer in drawn:
        assert layer.shape == (90, 120, 4)
        assert layer[:, :, 3].max() == 255
        assert hidden_share(layer[:, :, 3], seen, 80) <= 0.35
    assert hidden_share(np.full((90, 120), 255, np.uint8), seen, 80) == 1.0


def test_some_scenes_have_something_in_front_and_some_their_own_light() -> None:
    scenes = [Scene(rng(8, i), "left", (48, 36)) for i in range(200)]
    assert 12 <= sum(scene.front is not None for scene in scenes) <= 50
    assert 50 <= sum(scene.light is not None for scene in scenes) <= 110
