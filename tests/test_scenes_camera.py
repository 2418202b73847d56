"""What a camera and a codec do to pictures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stream_i3d.scenes import render_clip
from stream_i3d.scenes.camera import CLEAN_CAMERA, Camera, draw_camera, jpeg, metered
from stream_i3d.scenes.clips import _draw_times
from stream_i3d.scenes.compression import CodecSettings, InterFrameCodec, changed_blocks, draw_codec
from stream_i3d.scenes.render import Scene

FLAT = np.full((60, 80, 3), 120, np.uint8)


def developed(camera: Camera, t: float = 0.5, key: int = 7) -> np.ndarray:
    return camera.develop(FLAT.copy(), t, key).astype(np.int16)


# --- the camera


def test_a_clean_camera_changes_nothing() -> None:
    np.testing.assert_array_equal(developed(CLEAN_CAMERA), FLAT)


@pytest.mark.parametrize("coarse", [False, True])
def test_noise_has_the_asked_strength_and_is_new_in_each_picture(coarse: bool) -> None:
    camera = Camera(noise=12.0, coarse=coarse)
    one, other = developed(camera, 0.5), developed(camera, 0.54)
    assert one.std() == pytest.approx(12, rel=0.12)
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.2
    np.testing.assert_array_equal(one, developed(camera, 0.5))
    neighbours = np.corrcoef(one[:, :-1].ravel(), one[:, 1:].ravel())[0, 1]
    assert neighbours > 0.4 if coarse else abs(neighbours) < 0.1


def test_a_fixed_pattern_stays() -> None:
    camera = Camera(pattern=10.0)
    np.testing.assert_array_equal(developed(camera, 0.5), developed(camera, 2.1))
    assert developed(camera).std() == pytest.approx(10, rel=0.12)
    assert (developed(camera, key=7) != developed(camera, key=70_000)).any()


def test_flicker_is_faster_than_drift_and_small() -> None:
    camera = Camera(flicker=(0.04, 2.0))
    levels = [camera.exposure(t) for t in np.linspace(0, 0.5, 50)]
    assert max(levels) == pytest.approx(1.04, abs=2e-3)
    assert min(levels) == pytest.approx(0.96, abs=2e-3)


def test_gamma_contrast_defocus_and_grey_do_what_they_say() -> None:
    ramp = np.repeat(np.arange(0, 240, 4, dtype=np.uint8)[:, None, None], 80, axis=1).repeat(3, axis=2)
    ramp[..., 0] //= 2
    dark = Camera(gamma=1.5).develop(ramp.copy(), 0, 0)
    assert (dark <= ramp).all() and (dark[10:50] < ramp[10:50]).all()
    assert np.ptp(Camera(contrast=0.6).develop(ramp.copy(), 0, 0)) < 0.7 * np.ptp(ramp)
    grey = Camera(grey=True).develop(ramp.copy(), 0, 0)
    assert (grey[..., 0] == grey[..., 2]).all()
    edge = np.zeros((60, 80, 3), np.uint8)
    edge[:, 40:] = 200
    assert np.abs(np.diff(edge.astype(int), axis=1)).max() == 200
    soft = Camera(defocus=0.012).develop(edge.copy(), 0, 0).astype(int)
    assert np.abs(np.diff(soft, axis=1)).max() < 140


def test_automatic_exposure_keeps_pictures_from_black_and_white() -> None:
    assert metered(Camera(gain=1.6), 220.0).gain * 220 < 200
    assert metered(Camera(gain=0.5), 30.0).gain > 1.0
    assert metered(Camera(gain=1.1), 120.0).gain == pytest.approx(1.1)


def test_cameras_differ_widely() -> None:
    cameras = [draw_camera(np.random.default_rng(i)) for i in range(400)]
    assert max(camera.noise for camera in cameras) > 13
    assert max(camera.shake for camera in cameras) > 0.01
    assert 0.04 < np.mean([camera.grey for camera in cameras]) < 0.13
    assert 0.15 < np.mean([camera.pattern > 0 for camera in cameras]) < 0.35
    assert 0.2 < np.mean([camera.defocus > 0 for camera in cameras]) < 0.4
    assert all(camera.shutter == (0.0, 1) for camera in cameras)


@pytest.mark.parametrize("label", ["right", "still"])
def test_a_shutter_shows_the_mean_of_the_moments_it_is_open(label: str) -> None:
    sharp = Scene(np.random.default_rng(4), label, (96, 72), camera=CLEAN_CAMERA)
    sharp.light = None
    blurred = Scene(np.random.default_rng(4), label, (96, 72), camera=replace(CLEAN_CAMERA, shutter=(0.12, 4)))
    blurred.light = None
    moments = [sharp.frame(t).astype(float) for t in (0.44, 0.48, 0.52, 0.56)]
    np.testing.assert_allclose(blurred.frame(0.5), np.mean(moments, axis=0), atol=0.51)
    assert (np.ptp(moments, axis=0).max() > 10) == (label == "right")


def test_half_of_the_clips_come_from_sources_of_other_rates_and_slow_ones_repeat_pictures() -> None:
    repeated, other, rates = 0, 0, []
    for seed in range(300):
        times, rate = _draw_times(np.random.default_rng(seed), 16, 25.0, at_gaps=False)
        assert (np.diff(times) >= 0).all()
        repeated += bool((np.diff(times) == 0).any())
        other += rate != 25.0
        rates.append(rate)
    assert 120 < other < 180
    assert 60 < repeated < other
    assert min(rates) < 9 and max(rates) > 55
    assert len(set(_draw_times(np.random.default_rng(0), 16, 25.0, at_gaps=True)[0])) == 16


# --- the codec


def moving(step: int, count: int = 8) -> list[np.ndarray]:
    """A bright square that moves over a gradient."""
    ground = np.broadcast_to(np.linspace(40, 160, 80).astype(np.uint8)[None, :, None], (60, 80, 3))
    pictures = []
    for i in range(count):
        picture = ground.copy()
        picture[20:36, 8 + step * i : 24 + step * i] = 230
        pictures.append(picture)
    return pictures


def test_blocks_that_do_not_change_stay_and_others_are_renewed() -> None:
    codec = InterFrameCodec(CodecSettings(key_every=100, first_key=99))
    decoded = [codec.feed(picture) for picture in moving(4)]
    assert decoded[0].shape == (60, 80, 3)
    np.testing.assert_array_equal(decoded[7][40:], decoded[0][40:])
    assert decoded[7][28, 44, 0] > 180 and decoded[7][28, 12, 0] < 120


def test_a_still_clip_changes_at_key_frames_alone() -> None:
    settings = CodecSettings(quality=30, key_quality=20, key_every=4, first_key=3, threshold=8.0)
    codec, picture = InterFrameCodec(settings), moving(0, 1)[0]
    picture = np.ascontiguousarray(picture[48:].repeat(4, axis=0))  # smooth, so that no key frame is off by much
    pictures = [codec.feed(picture + np.uint8(i)) for i in range(10)]
    changes = [i for i in range(1, 10) if (pictures[i] != pictures[i - 1]).any()]
    assert changes == [3, 7]


def test_blocks_are_compared_by_their_mean_change_also_at_edges_that_do_not_fit() -> None:
    before = np.zeros((20, 30, 3), np.uint8)
    picture = before.copy()
    picture[16:20, 24:30] = 5
    changed = changed_blocks(picture, before, 8, 3.0)
    assert changed.shape == (20, 30)
    assert (changed[16:, 24:] == 255).all()
    assert changed.sum() == 255 * 4 * 6
    assert not changed_blocks(picture, before, 8, 6.0).any()


def test_codecs_differ_and_are_worse_than_their_input() -> None:
    rng = np.random.default_rng(1)
    drawn = [draw_codec(rng) for _ in range(100)]
    assert {settings.block for settings in drawn} == {8, 16}
    assert all(0 < settings.first_key < settings.key_every for settings in drawn)
    pictures = moving(4)
    errors = []
    for quality in (15, 80):
        codec = InterFrameCodec(CodecSettings(quality=quality, key_quality=quality))
        errors.append(np.mean([np.abs(codec.feed(p).astype(int) - p).mean() for p in pictures]))
    assert errors[0] > errors[1] > 0
    assert np.abs(jpeg(pictures[0], 95).astype(int) - pictures[0]).mean() < 2


def test_some_clips_went_through_a_codec(monkeypatch) -> None:
    fed = []
    monkeypatch.setattr(InterFrameCodec, "feed", lambda self, picture: fed.append(id(self)) or picture)
    coded = 0
    for seed in range(60):
        fed.clear()
        render_clip(seed, "up", clip_len=4, size=(48, 36))
        coded += bool(fed)
        assert len(fed) <= 4 and len(set(fed)) <= 1
    assert 8 <= coded <= 30
