"""Gray conversion, and the flow networks' input."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from stream_i3d.flow.normalise import BOUND, STILL, dequantise, quantise, to_gray, to_model_input
from stream_i3d.preprocess import Preprocessing, normalise


def test_gray_is_opencvs():
    rgb = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    theirs = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    ours = to_gray(rgb)
    assert ours.dtype == np.uint8
    # Builds of OpenCV differ in the bits of their fixed point; a level where a value is all but halfway.
    assert np.abs(ours.astype(int) - theirs).max() <= 1
    assert (ours != theirs).mean() < 0.01


@pytest.mark.parametrize(
    ("rgb", "gray"), [((255, 0, 0), 76), ((0, 255, 0), 150), ((0, 0, 255), 29), ((0, 0, 0), 0), ((255,) * 3, 255)]
)
def test_gray_of_pure_colours(rgb, gray):
    assert to_gray(np.array([[rgb]], np.uint8)).tolist() == [[gray]]


def test_gray_of_a_grey_is_itself_and_stacks_keep_their_axes():
    greys = np.arange(256, dtype=np.uint8)
    assert np.array_equal(to_gray(np.stack([greys] * 3, axis=-1)), greys)
    assert to_gray(np.zeros((5, 4, 6, 3), np.uint8)).shape == (5, 4, 6)


@pytest.mark.parametrize(("pixels", "expected"), [(0, 0), (20, 1), (-20, -1), (10, 0.5), (35, 1), (-1e6, -1)])
def test_flow_is_cut_off_at_20_pixels_and_scaled(pixels, expected):
    scaled = to_model_input(np.full((4, 4, 2), pixels, np.float32))
    assert scaled.dtype == np.float32
    assert (scaled == expected).all()


@pytest.mark.parametrize(("pixels", "code"), [(-20, 0), (20, 255), (-99, 0), (99, 255), (0, STILL), (10, 191)])
def test_codes_are_a_linear_map_from_20_pixels_to_256_levels(pixels, code):
    codes = quantise(np.full((2, 3, 2), pixels, np.float32))
    assert codes.dtype == np.uint8
    assert (codes == code).all()


def test_codes_come_back_to_half_a_level():
    flow = np.random.default_rng(0).uniform(-BOUND, BOUND, (64, 64, 2)).astype(np.float32)
    back = dequantise(quantise(flow))
    assert back.dtype == np.float32
    assert np.abs(back - flow).max() <= BOUND / 255 + 1e-5


def test_every_code_comes_back_as_itself():
    codes = np.arange(256, dtype=np.uint8).reshape(128, 2)
    assert np.array_equal(quantise(dequantise(codes)), codes)
    assert dequantise(codes).min() == -20 and dequantise(codes).max() == pytest.approx(20)


def test_codes_become_the_networks_input_as_pixels_do():
    codes = np.random.default_rng(0).integers(0, 256, (8, 8, 2), np.uint8)
    as_picture = np.concatenate([codes, codes[..., :1]], axis=-1)[None, None]  # (1, 1, 8, 8, 3)
    pixels = normalise(torch.from_numpy(as_picture), Preprocessing())[0, :2, 0].permute(1, 2, 0)
    assert np.allclose(to_model_input(dequantise(codes)), pixels.numpy(), atol=1e-6)


def test_the_flow_is_left_as_it_was():
    flow = np.full((2, 2, 2), 50, np.float32)
    quantise(flow), to_model_input(flow)
    assert (flow == 50).all()
