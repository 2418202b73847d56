"""TV-L1 against known motion and against scikit-image's."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from skimage.registration import optical_flow_tvl1
from torch import Tensor

from stream_i3d.flow.tvl1 import DEFAULT, TVL1Flow, tvl1

from .pictures import inner, mean_error, pair, rotation, shift, zoom

ALL_STEPS = dataclasses.replace(DEFAULT, epsilon=0.0)
QUICK = dataclasses.replace(ALL_STEPS, warps=2, iterations=5)
SHIFTS = [(0.25, -0.5), (1.0, 0.0), (-1.5, 2.25), (5.0, 3.0), (-9.5, 7.5)]


def tensors(*pictures: np.ndarray) -> list[Tensor]:
    """(H, W) arrays as (1, 1, H, W) tensors."""
    return [torch.from_numpy(picture)[None, None] for picture in pictures]


@pytest.mark.parametrize("by", SHIFTS)
def test_a_shift_is_found(by):
    previous, current, truth = pair(shift(*by))
    assert mean_error(TVL1Flow()(previous, current), truth) < 0.15


@pytest.mark.parametrize("by", [(0.25, -0.5), (-1.5, 2.25), (5.0, 3.0)])
@pytest.mark.parametrize("median", [False, True])
def test_a_shift_is_found_with_and_without_the_median_filter(by, median):
    previous, current, truth = pair(shift(*by), seed=1)
    flow = TVL1Flow(settings=dataclasses.replace(DEFAULT, median=median))(previous, current)
    assert mean_error(flow, truth) < 0.15


@pytest.mark.parametrize("motion", [rotation(2.0), rotation(-5.0), zoom(1.03), zoom(0.95)])
def test_rotation_and_zoom_are_found(motion):
    previous, current, truth = pair(motion)
    assert mean_error(TVL1Flow()(previous, current), truth) < 0.15


def test_x_is_to_the_right_and_y_is_down():
    previous = np.full((64, 64), 20.0, np.float32)
    current = previous.copy()
    previous[24:40, 24:40] = current[23:39, 26:42] = 220.0
    flow = TVL1Flow()(previous, current)[28:36, 28:36].mean(axis=(0, 1))
    assert flow == pytest.approx([2, -1], abs=0.3)


def test_two_things_move_their_own_way():
    left, moved_left, _ = pair(shift(2.0, 0.0))
    right, moved_right, _ = pair(shift(-3.0, 1.0), seed=1)
    previous, current = (np.hstack([a[:, :80], b[:, 80:]]) for a, b in ((left, right), (moved_left, moved_right)))
    flow = TVL1Flow()(previous, current)
    assert flow[20:140, 20:70].mean(axis=(0, 1)) == pytest.approx([2, 0], abs=0.15)
    assert flow[20:140, 90:140].mean(axis=(0, 1)) == pytest.approx([-3, 1], abs=0.15)


@pytest.mark.parametrize("by", [(0.4, 0.3), (-1.5, 2.25), (4.0, -3.0)])
def test_it_agrees_with_scikit_image(by):
    """skimage's pictures are in [0, 1], so its attachment is lambda x 255; its flow is (y, x)."""
    previous, current, _ = pair(shift(*by), seed=2)
    theirs = optical_flow_tvl1(
        previous / 255,
        current / 255,
        attachment=DEFAULT.attachment * 255,
        tightness=DEFAULT.theta,
        num_warp=DEFAULT.warps,
        num_iter=DEFAULT.iterations,
        prefilter=DEFAULT.median,
    )
    ours = TVL1Flow()(previous, current)
    assert mean_error(ours, theirs[::-1].transpose(1, 2, 0)) < 0.3


def test_no_motion_is_no_flow():
    previous, _, _ = pair(shift(0, 0))
    assert np.abs(TVL1Flow()(previous, previous)).max() < 1e-3


def test_a_blank_picture_has_no_flow():
    blank = np.full((48, 64), 90, np.uint8)
    assert np.abs(TVL1Flow()(blank, blank)).max() < 1e-3
    assert np.abs(TVL1Flow()(blank, blank + 30)).max() < 1e-3


def test_a_batch_gives_what_its_pairs_give():
    pairs = [pair(shift(*by), size=96, seed=seed) for seed, by in enumerate(SHIFTS[:3])]
    previous, current = (torch.cat([tensors(item[side])[0] for item in pairs]) for side in (0, 1))
    together = tvl1(previous, current, ALL_STEPS)
    assert together.shape == (3, 2, 96, 96)
    for index in range(3):
        alone = tvl1(previous[index : index + 1], current[index : index + 1], ALL_STEPS)
        torch.testing.assert_close(together[index : index + 1], alone, rtol=0, atol=1e-3)


def test_pictures_too_large_to_be_taken_together_come_out_the_same():
    pairs = [
        pair(shift(*by), size=180) for by in SHIFTS[:2]
    ]  # one at a time on a CPU, so each stops where it would alone
    previous, current = (torch.cat([tensors(item[side])[0] for item in pairs]) for side in (0, 1))
    together = tvl1(previous, current)
    for index in range(2):
        assert torch.equal(together[index : index + 1], tvl1(previous[index : index + 1], current[index : index + 1]))


def test_stopping_early_changes_little():
    previous, current, _ = pair(shift(1.25, -0.75))
    stopped, full = (TVL1Flow(settings=settings)(previous, current) for settings in (DEFAULT, ALL_STEPS))
    assert mean_error(stopped, full) < 0.1


def test_the_pictures_are_left_as_they_were_and_the_result_has_no_gradient():
    previous, current, _ = pair(shift(1, 0), size=64)
    first, second = tensors(previous.copy(), current.copy())
    first.requires_grad_()
    flow = tvl1(first, second, QUICK)
    assert not flow.requires_grad
    assert np.array_equal(first.detach()[0, 0], previous) and np.array_equal(second[0, 0], current)


def test_the_same_pictures_give_the_same_flow():
    method = TVL1Flow(settings=QUICK)
    previous, current, _ = pair(shift(1, 2), size=64)
    first = method(previous, current)
    method(current, previous)
    assert np.array_equal(method(previous, current), first)


@pytest.mark.parametrize("shape", [(16, 16), (17, 31), (33, 200), (120, 21)])
def test_odd_and_small_sizes(shape):
    random = np.random.default_rng(0).integers(0, 256, (2, *shape), np.uint8)
    flow = TVL1Flow(settings=QUICK)(*random)
    assert flow.shape == (*shape, 2) and flow.dtype == np.float32
    assert np.isfinite(flow).all()


def test_double_precision_stays_double():
    previous, current, _ = pair(shift(1, 0), size=48)
    first, second = (tensor.double() for tensor in tensors(previous, current))
    flow = tvl1(first, second, QUICK)
    assert flow.dtype == torch.float64
    single = tvl1(first.float(), second.float(), QUICK)
    torch.testing.assert_close(flow.float(), single, rtol=0, atol=1e-2)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((1, 1, 32, 32), (1, 1, 32, 33)),
        ((1, 1, 32, 32), (2, 1, 32, 32)),
        ((1, 3, 32, 32), (1, 3, 32, 32)),
        ((32, 32), (32, 32)),
        ((0, 1, 32, 32), (0, 1, 32, 32)),
        ((1, 1, 32, 8), (1, 1, 32, 8)),
    ],
)
def test_other_shapes_are_refused(first, second):
    with pytest.raises(ValueError, match=r"pictures of|two batches") as error:
        tvl1(torch.zeros(first), torch.zeros(second))
    assert "\n" not in str(error.value)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_gives_what_the_cpu_gives():
    previous, current, truth = pair(shift(-1.5, 2.25))
    on_cuda = TVL1Flow("cuda")(previous, current)
    assert mean_error(on_cuda, truth) < 0.15
    assert np.abs(inner(on_cuda) - inner(TVL1Flow()(previous, current))).mean() < 0.02
