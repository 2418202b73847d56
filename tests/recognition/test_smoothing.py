from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_i3d.config import SmoothingConfig
from stream_i3d.recognition.smoothing import (
    ExponentialSmoother,
    MeanSmoother,
    NoSmoother,
    Smoother,
    VoteSmoother,
    make_smoother,
    retune_smoother,
)

SURE_A = np.array([1, 0, 0], np.float32)
SURE_B = np.array([0, 1, 0], np.float32)
SURE_C = np.array([0, 0, 1], np.float32)
METHODS = ["ema", "mean", "vote", "none"]


def smoother(method: str, **more: object) -> Smoother:
    return make_smoother(SmoothingConfig(method=method, **more))  # type: ignore[arg-type]


# --- all of them


@pytest.mark.parametrize("method", METHODS)
def test_the_first_window_is_believed_as_it_is(method):
    smoothed = smoother(method).update(SURE_B, 5.0)
    assert smoothed.tolist() == [0, 1, 0]
    assert smoothed.dtype == np.float32


@pytest.mark.parametrize("method", METHODS)
def test_after_a_reset_nothing_of_before_is_left(method):
    smoothing = smoother(method)
    for index in range(10):
        smoothing.update(SURE_A, index * 0.1)
    smoothing.reset()
    assert smoothing.update(SURE_B, 1.0).tolist() == [0, 1, 0]


@pytest.mark.parametrize("method", METHODS)
def test_what_was_given_and_what_was_returned_before_is_left_alone(method):
    smoothing, given_first = smoother(method), SURE_A.copy()
    first = smoothing.update(given_first, 0.0)
    smoothing.update(SURE_B, 1.0)
    assert first.tolist() == [1, 0, 0]
    assert given_first.tolist() == [1, 0, 0]


def a_distribution(scores: list[float]) -> np.ndarray:
    exponentials = np.exp(np.asarray(scores, np.float32))
    return (exponentials / exponentials.sum()).astype(np.float32)


@settings(deadline=None, max_examples=100)
@given(
    st.sampled_from(METHODS),
    st.lists(
        st.tuples(st.lists(st.floats(-9, 9), min_size=4, max_size=4), st.floats(-0.5, 3)), min_size=1, max_size=25
    ),
)
def test_probabilities_stay_probabilities(method, windows):
    smoothing, time = smoother(method), 0.0
    for scores, step in windows:
        time += step
        smoothed = smoothing.update(a_distribution(scores), time)
        assert smoothed.sum() == pytest.approx(1, abs=1e-5)
        assert smoothed.min() >= 0 and smoothed.max() <= 1 + 1e-6


def test_the_configuration_picks_the_smoother():
    kinds = {method: type(smoother(method)) for method in METHODS}
    assert kinds == {"ema": ExponentialSmoother, "mean": MeanSmoother, "vote": VoteSmoother, "none": NoSmoother}


# --- exponential


def test_after_one_time_constant_the_change_has_gone_63_percent_of_the_way():
    smoothing = smoother("ema", time_constant_s=0.8)
    smoothing.update(SURE_A, 0.0)
    assert smoothing.update(SURE_B, 0.8)[1] == pytest.approx(1 - math.exp(-1), abs=1e-6)


@pytest.mark.parametrize("time_constant_s", [0.05, 0.5, 3.0])
def test_the_same_change_reads_the_same_at_equal_times_whatever_the_stride(time_constant_s):
    def at_every(stride: int) -> dict[int, np.ndarray]:
        """Smoothed probabilities by frame number; after frame 48 the label changes (25 frames a second)."""
        smoothing = smoother("ema", time_constant_s=time_constant_s)
        return {seq: smoothing.update(SURE_A if seq <= 48 else SURE_B, seq / 25) for seq in range(0, 200, stride)}

    fine, coarse = at_every(4), at_every(8)
    for seq, value in coarse.items():
        np.testing.assert_allclose(value, fine[seq], atol=1e-5)
        left = math.exp(-max(0, seq - 48) / 25 / time_constant_s)
        np.testing.assert_allclose(value, [left, 1 - left, 0], atol=1e-5)


def test_time_that_steps_back_changes_nothing_and_does_no_harm():
    smoothing = smoother("ema")
    smoothing.update(SURE_A, 100.0)
    assert smoothing.update(SURE_B, 40.0).tolist() == [1, 0, 0]
    assert smoothing.update(SURE_B, 60.0)[1] == pytest.approx(1)


# --- mean


def test_the_mean_is_over_the_last_windows_only():
    smoothing = smoother("mean", last=4)
    for probabilities in (SURE_C, SURE_C, SURE_A, SURE_A, SURE_A, SURE_B):
        smoothed = smoothing.update(probabilities, 0.0)
    assert smoothed.tolist() == [0.75, 0.25, 0]


def test_the_mean_of_fewer_windows_than_asked_for_is_theirs():
    smoothing = smoother("mean", last=10)
    smoothing.update(SURE_A, 0.0)
    assert smoothing.update(SURE_B, 0.1).tolist() == [0.5, 0.5, 0]


# --- vote


def test_a_vote_counts_windows_and_not_their_confidence():
    smoothing = smoother("vote", last=5)
    hesitant = np.array([0.4, 0.3, 0.3], np.float32)
    for probabilities in (SURE_B, hesitant, hesitant):
        smoothed = smoothing.update(probabilities, 0.0)
    np.testing.assert_allclose(smoothed, [2 / 3, 1 / 3, 0], atol=1e-6)


@pytest.mark.parametrize("last_vote", [0, 1, 2])
def test_a_tie_goes_to_the_label_voted_for_last(last_vote):
    smoothing = smoother("vote", last=3)
    votes = [SURE_A, SURE_B, SURE_C]
    votes.append(votes.pop(last_vote))
    for probabilities in votes:
        smoothed = smoothing.update(probabilities, 0.0)
    assert int(np.argmax(smoothed)) == last_vote
    np.testing.assert_allclose(smoothed, [1 / 3] * 3, atol=1e-6)


def test_old_votes_leave():
    smoothing = smoother("vote", last=2)
    for probabilities in (SURE_A, SURE_A, SURE_B, SURE_B):
        smoothed = smoothing.update(probabilities, 0.0)
    assert smoothed.tolist() == [0, 1, 0]


# --- other settings while it runs


def test_an_average_goes_on_from_where_it_stood_with_another_time_constant():
    slow = smoother("ema", time_constant_s=1000.0)
    slow.update(SURE_A, 0.0)
    fast = retune_smoother(slow, SmoothingConfig(method="ema", time_constant_s=1.0))
    np.testing.assert_allclose(fast.update(SURE_B, 1.0), [math.exp(-1), 1 - math.exp(-1), 0], atol=1e-6)


@pytest.mark.parametrize("method", ["mean", "vote"])
@pytest.mark.parametrize(("last", "share"), [(2, 0.0), (4, 0.5)])
def test_the_last_windows_are_kept_as_far_as_they_are_wanted(method, last, share):
    before = smoother(method, last=3)
    for window in (SURE_A, SURE_A, SURE_B):
        before.update(window, 0.0)
    after = retune_smoother(before, SmoothingConfig(method=method, last=last))
    assert after.update(SURE_B, 1.0)[0] == pytest.approx(share)


def test_another_method_starts_anew():
    before = smoother("ema", time_constant_s=1000.0)
    before.update(SURE_A, 0.0)
    for method in ("mean", "vote", "none"):
        after = retune_smoother(before, SmoothingConfig(method=method))
        assert np.argmax(after.update(SURE_B, 1.0)) == 1
