from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from stream_i3d.scenes import LABELS, SceneRenderer, Schedule, render_clip
from stream_i3d.scenes.camera import CLEAN_CAMERA
from stream_i3d.scenes.motion_sampling import Shot, draw_motion
from stream_i3d.scenes.render import Scene

SIZE = (120, 90)
SEEDS = range(12)
FRAME_S = 0.04
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}


def lone_object(label: str, seed: int) -> Scene:
    """A scene of one object in the middle of a black ground, through a perfect camera."""
    scene = Scene(np.random.default_rng(seed), label, SIZE, camera=CLEAN_CAMERA)
    scene.ground[:] = 0
    scene.light = scene.front = None
    middle = replace(scene.motion.places[-1], along=0.5, cross=0.0, size=0.6, gait=(0.0, 1.0))
    scene.motion = replace(scene.motion, places=(middle,))
    scene.objects = scene.objects[-1:]
    return scene


def covered(scene: Scene, t: float) -> NDArray[np.bool_]:
    return scene.frame(t).max(axis=2) > 0


def centroid(scene: Scene, t: float) -> NDArray[np.float64]:
    rows, columns = np.nonzero(covered(scene, t))
    return np.array([columns.mean(), rows.mean()])


# --- the schedule


def test_every_block_of_ten_shows_every_label_once_and_none_comes_twice_in_a_row() -> None:
    for seed in SEEDS:
        labels = [segment.label for segment in Schedule(seed).segments(until_s=350)]
        assert len(labels) == 100
        for first in range(0, 100, 10):
            assert set(labels[first : first + 10]) == set(LABELS)
        assert all(one != other for one, other in pairwise(labels))


def test_segments_follow_each_other_without_a_gap_and_last_three_to_four_seconds() -> None:
    segments = list(Schedule(3).segments(until_s=200))
    assert segments[0].start_s == 0
    assert [segment.index for segment in segments] == list(range(len(segments)))
    assert all(one.end_s == pytest.approx(other.start_s, abs=1e-9) for one, other in pairwise(segments))
    assert all(2.7 < segment.end_s - segment.start_s < 4.4 for segment in segments)


def test_a_time_long_ahead_is_found_at_once_and_lies_in_its_segment() -> None:
    schedule = Schedule(1)
    for t in (0.0, 34.999999, 35.0, 1234.5, 3e7):
        segment = schedule.segment_at(t)
        assert segment.start_s <= t < segment.end_s
        assert schedule.label_at(t) == segment.label


def test_a_window_has_a_label_only_where_no_boundary_lies_inside() -> None:
    schedule = Schedule(2)
    first, second = list(schedule.segments(until_s=5.0))[:2]
    boundary = first.end_s
    assert schedule.label_during(boundary - 0.64, boundary) == first.label
    assert schedule.label_during(boundary, boundary + 0.64) == second.label
    assert schedule.label_during(boundary - 0.1, boundary + 0.1) is None
    assert schedule.label_during(boundary - 1e-6, boundary + 1e-6) is None
    assert schedule.label_during(0.5, 0.5) == first.label


def test_times_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="starts at 0 s"):
        Schedule(0).label_at(-0.1)
    with pytest.raises(ValueError, match="must not be after"):
        Schedule(0).label_during(2.0, 1.0)
    with pytest.raises(ValueError, match="seed >= 0"):
        Schedule(-1)


# --- pixels


def test_the_same_seed_size_and_time_give_the_same_pixels_in_any_order() -> None:
    times = [0.0, 1.7, 3.6, 8.2, 30.03, 1.7]
    forwards, backwards = SceneRenderer(5, SIZE), SceneRenderer(5, SIZE)
    one = [forwards.render(t) for t in times]
    other = [backwards.render(t) for t in reversed(times)]
    for a, b in zip(one, reversed(other), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(one[1], SceneRenderer(6, SIZE).render(1.7))


@pytest.mark.parametrize("label", LABELS)
def test_clips_have_the_promised_shape_and_repeat_by_seed(label: str) -> None:
    clip = render_clip((4, 2), label, clip_len=9, fps=20, size=SIZE)
    assert clip.shape == (9, 90, 120, 3)
    assert clip.dtype == np.uint8
    np.testing.assert_array_equal(clip, render_clip((4, 2), label, clip_len=9, fps=20, size=SIZE))
    assert not np.array_equal(clip, render_clip((4, 3), label, clip_len=9, fps=20, size=SIZE))


def test_frames_are_bgr_pictures_of_the_asked_size() -> None:
    frame = SceneRenderer(0, (64, 48)).render(12.0)
    assert frame.shape == (48, 64, 3)
    assert frame.dtype == np.uint8
    with pytest.raises(ValueError, match="at least 32 x 32"):
        SceneRenderer(0, (64, 16))


def test_an_unknown_label_is_refused_with_those_allowed() -> None:
    with pytest.raises(ValueError, match="unknown motion 'jumping'; allowed: still, left"):
        render_clip(0, "jumping")


# --- the truth of the labels


@pytest.mark.parametrize("label", list(DIRECTIONS))
def test_objects_move_the_way_their_label_says(label: str) -> None:
    for seed in SEEDS:
        scene = lone_object(label, seed)
        moved = centroid(scene, 3 * FRAME_S) - centroid(scene, 0)
        x, y = DIRECTIONS[label]
        assert moved @ (x, y) > 0.5, (label, seed, moved)
        assert moved @ (x, y) > 2 * abs(moved @ (y, x)), (label, seed, moved)


@pytest.mark.parametrize(("label", "sign"), [("nearer", 1), ("farther", -1)])
def test_nearer_objects_grow_and_farther_ones_shrink(label: str, sign: int) -> None:
    for seed in SEEDS:
        scene = lone_object(label, seed)
        areas = [int(covered(scene, i * 3 * FRAME_S).sum()) for i in range(3)]
        assert sorted(areas, reverse=sign < 0) == areas, (label, seed, areas)
        assert areas[0] != areas[-1]


@pytest.mark.parametrize(("label", "sign"), [("clockwise", -1), ("counter-clockwise", 1)])
def test_turning_objects_turn_the_way_their_label_says(label: str, sign: int) -> None:
    spun = 0
    for seed in SEEDS:
        scene = lone_object(label, seed)
        if scene.motion.variant >= 0.55:  # it circles: see below
            continue
        spun += 1
        pose, later = scene.motion.poses(0)[0], scene.motion.poses(FRAME_S)[0]
        degrees = abs(np.degrees(later.angle - pose.angle))
        centre = (SIZE[0] / 2 + pose.x * SIZE[1] - 0.5, SIZE[1] / 2 + pose.y * SIZE[1] - 0.5)
        before, after = scene.frame(0), scene.frame(FRAME_S)
        # OpenCV's positive angles are counter-clockwise as seen.
        turned = {s: cv2.warpAffine(before, cv2.getRotationMatrix2D(centre, s * degrees, 1), SIZE) for s in (1, -1)}
        assert cv2.norm(turned[sign], after) < 0.8 * cv2.norm(turned[-sign], after), (label, seed)
    assert spun >= 3


@pytest.mark.parametrize(("label", "sign"), [("clockwise", 1), ("counter-clockwise", -1)])
def test_circling_objects_circle_the_way_their_label_says(label: str, sign: int) -> None:
    circled = 0
    for seed in range(40):
        motion = draw_motion(np.random.default_rng(seed), label, 4 / 3, 1.0)
        if motion.variant < 0.55:
            continue
        circled += 1
        path = np.array([[pose.x, pose.y] for pose in (motion.poses(i * FRAME_S)[-1] for i in range(12))])
        steps = np.diff(path, axis=0)
        turns = steps[:-1, 0] * steps[1:, 1] - steps[:-1, 1] * steps[1:, 0]  # > 0: to the right, as y grows downwards
        assert (sign * turns > 0).all(), (label, seed)
    assert circled >= 8


def turns_round(values: NDArray[np.float64]) -> bool:
    steps = np.diff(values)
    return bool(steps.max() > 1e-3 and steps.min() < -1e-3)


@pytest.mark.parametrize("start", [0.0, 0.17, 1.3])
def test_waving_objects_turn_round_in_every_window_and_end_up_nowhere_else(start: float) -> None:
    for seed in range(40):
        motion = draw_motion(np.random.default_rng(seed), "waving", 4 / 3, 1.0)
        poses = [motion.poses(start + i * FRAME_S)[-1] for i in range(16)]
        ways = np.array([[pose.x, pose.angle, pose.swing] for pose in poses])
        assert any(turns_round(way) for way in ways.T), seed
        assert np.ptp([pose.radius for pose in poses]) == 0
        assert np.ptp([pose.x for pose in poses]) < 0.8, seed


def test_waves_have_several_forms() -> None:
    moving = set()
    for seed in range(60):
        motion = draw_motion(np.random.default_rng(seed), "waving", 4 / 3, 1.0)
        poses = [motion.poses(i * FRAME_S)[-1] for i in range(16)]
        ways = {name: np.ptp([getattr(pose, name) for pose in poses]) > 1e-6 for name in ("x", "angle", "swing")}
        moving.add(tuple(name for name, moves in ways.items() if moves))
    assert moving == {("x",), ("angle",), ("swing",), ("x", "angle")}


def test_still_scenes_differ_by_the_camera_alone() -> None:
    clip = render_clip(3, "still", size=SIZE, camera=CLEAN_CAMERA)
    assert (clip == clip[0]).all()
    differences = []
    for seed in SEEDS:
        noisy = render_clip(seed, "still", size=SIZE).astype(np.int16)
        differences.append(np.abs(noisy[8] - noisy[0]).mean())
    assert max(differences) > 0  # noise, drift or shake is there
    assert np.median(differences) < 15


@pytest.mark.parametrize("label", [label for label in LABELS if label != "still"])
def test_windows_of_a_segment_show_the_motion_in_the_square_the_model_sees(label: str) -> None:
    shown = []
    for seed in SEEDS:
        scene = Scene(np.random.default_rng([9, seed]), label, SIZE, camera=CLEAN_CAMERA)
        for start in np.arange(0, 2.9, 0.4):
            square = slice(15, 105)
            before, after = scene.frame(start)[:, square], scene.frame(start + 0.32)[:, square]
            changed = np.abs(before.astype(np.int16) - after).max(axis=2) > 8
            later = np.abs(before.astype(np.int16) - scene.frame(start + 0.6)[:, square]).max(axis=2) > 8
            shown.append(max(changed.mean(), later.mean()) > 0.001)
    assert np.mean(shown) > 0.97, label


SHOT = Shot(start_s=1.0, end_s=1.6, fps=25.0)


@pytest.mark.parametrize("label", LABELS)
def test_the_only_object_of_a_clip_is_in_the_square_at_its_middle_and_moves_without_a_jump(label: str) -> None:
    places = []
    for seed in range(60):
        motion = draw_motion(np.random.default_rng([2, seed]), label, 4 / 3, 1.0, objects=1, shot=SHOT)
        middle = motion.poses(SHOT.middle_s)[0]
        rest = motion.places[0]
        assert abs((rest.along - 0.5) * 2 * motion.half) <= 0.35 + 1e-9
        assert label in ("clockwise", "counter-clockwise", "waving") or max(abs(middle.x), abs(middle.y)) < 0.45
        assert label == "waving" or 0.08 <= middle.radius <= 0.5
        path = [motion.poses(t)[0] for t in np.linspace(SHOT.start_s, SHOT.end_s, 16)]
        steps = [max(abs(a.x - b.x), abs(a.y - b.y), abs(a.radius - b.radius)) for a, b in pairwise(path)]
        # 2 sides/s, 1.4 times for a while, 0.04 s: 0.11; a large thing's fast swing about its foot is the fastest.
        assert max(steps) < (0.25 if label == "waving" else 0.12), (label, seed)
        places.append((rest.along - 0.5) * 2 * motion.half)
    assert min(places) < -0.25 and max(places) > 0.25


def test_slow_cameras_see_no_motion_too_fast_for_them() -> None:
    slow = Shot(start_s=1.0, end_s=1.6, fps=8.0)
    for seed in range(150):
        for label in ("clockwise", "waving", "left"):
            rng = np.random.default_rng([3, seed])
            motion = draw_motion(rng, label, 4 / 3, 1.0, objects=1 + seed % 3, shot=slow)
            if label == "waving":
                assert motion.speed <= 8 / 4
                continue
            path = [motion.travelled(i / 8) for i in range(12)]
            limit = 2 * np.pi / 3 if label == "clockwise" else 0.5 * 2 * motion.half / len(motion.places)
            assert 0 < np.diff(path).max() < limit, (label, seed)


def test_a_slow_wave_of_a_clip_turns_round_in_its_inner_part() -> None:
    slowest = []
    for seed in range(200):
        motion = draw_motion(np.random.default_rng([4, seed]), "waving", 4 / 3, 1.0, objects=2, shot=SHOT)
        slowest.append(motion.speed)
        inner = np.linspace(SHOT.start_s + 0.09, SHOT.end_s - 0.09, 60)
        for place in motion.places:
            assert turns_round(20 * np.sin(2 * np.pi * motion.speed * inner + place.phase)), seed
    assert min(slowest) < 1.1


def test_speeds_cover_their_range_evenly() -> None:
    for label, low, high in (("left", 0.13, 1.8), ("farther", 0.3, 1.6), ("clockwise", 0.9, 8.0)):
        speeds = [
            draw_motion(np.random.default_rng([5, i]), label, 4 / 3, 1.0, objects=1, shot=SHOT).speed
            for i in range(300)
        ]
        assert min(speeds) < low and max(speeds) > high, label


def test_most_clips_have_one_object_and_few_have_three() -> None:
    counts = [len(Scene(np.random.default_rng(seed), "up", (48, 36), shot=SHOT).motion.places) for seed in range(200)]
    shares = [counts.count(number) / len(counts) for number in (1, 2, 3)]
    assert shares == pytest.approx([0.5, 0.35, 0.15], abs=0.1)
    endless = {len(Scene(np.random.default_rng(seed), "up", (48, 36)).motion.places) for seed in range(30)}
    assert endless == {2, 3}


def test_one_frame_does_not_tell_the_motion_by_the_size_of_what_moves() -> None:
    sizes = {}
    for label in LABELS:
        motions = [draw_motion(np.random.default_rng([1, i]), label, 4 / 3, 1.0) for i in range(400)]
        sizes[label] = np.mean([np.log(pose.radius) for i, m in enumerate(motions) for pose in m.poses(i % 30 / 10)])
    # The spread of log sizes is 0.53, so a mean of 800 that differs by 0.1 would be no accident.
    assert max(sizes.values()) - min(sizes.values()) < 0.1, sizes
