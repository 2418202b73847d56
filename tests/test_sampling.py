from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_i3d.config import WindowConfig
from stream_i3d.inference.feed import Feed
from stream_i3d.preprocess import Preprocessing
from stream_i3d.sampling import FileSampler, RateMeter, Sampler, too_short, too_slow
from tests.samples import pixels, stamp

RATES = [10, 15, 19.62, 24, 25, 29.97, 30, 50, 60]
SPAN_S = 15 / 25
ROUNDING_S = 1e-9


def sampled(times: Iterable[float], sample_fps: float = 25.0) -> list[float]:
    """Arrival times of the sampled stream's frames, repeats included."""
    sampler = Sampler(sample_fps)
    return [time for time in times for _ in range(sampler.push(time))]


def arrivals(fps: float, seconds: float, start: float = 0.0) -> list[float]:
    return [start + index / fps for index in range(round(seconds * fps))]


# --- one span whatever the camera's rate


@pytest.mark.parametrize("fps", RATES)
@pytest.mark.parametrize("start", [0.0, 86_400.321])
def test_sixteen_frames_span_the_same_time_within_one_of_the_cameras_frames(fps, start):
    times = sampled(arrivals(fps, 40, start))
    spans = [last - first for first, last in zip(times, times[15:], strict=False)]
    assert len(spans) > 900
    assert max(abs(span - SPAN_S) for span in spans) <= 1 / fps + ROUNDING_S
    assert sum(spans) / len(spans) == pytest.approx(SPAN_S, abs=0.002)


@pytest.mark.parametrize("fps", RATES)
def test_the_sampled_stream_keeps_time_with_the_camera(fps):
    assert len(sampled(arrivals(fps, 40))) == pytest.approx(40 * 25, abs=25 / fps + 1)


@pytest.mark.parametrize("fps", RATES)
def test_no_window_of_a_steady_camera_is_rejected(fps):
    feed = Feed(Preprocessing(short_side=32, crop_size=32), WindowConfig(stride=4, max_span_ratio=1.5))
    windows = 0
    for seq, time in enumerate(sampled(arrivals(fps, 10))):
        feed.push(stamp(seq, time=time), pixels(seq))
        windows += feed.take() is not None
    assert not feed.windows_dropped
    assert windows == pytest.approx((10 * 25 - 15) / 4, abs=2)


@pytest.mark.parametrize(("fps", "copies"), [(100, 0.25), (50, 0.5), (25, 1), (12.5, 2), (5, 5)])
def test_a_faster_camera_is_thinned_and_a_slower_one_repeated(fps, copies):
    times = arrivals(fps, 20)
    assert len(sampled(times)) / len(times) == pytest.approx(copies, rel=0.01)


def test_the_first_frame_is_always_kept_once():
    assert Sampler(25).push(1234.5) == 1


def test_a_camera_at_the_sampling_rate_is_passed_through():
    sampler = Sampler(25)
    assert [sampler.push(time) for time in arrivals(25, 4)] == [1] * 100


@pytest.mark.parametrize("sample_fps", [5.0, 12.5, 30.0])
def test_other_sampling_rates_are_kept_too(sample_fps):
    assert len(sampled(arrivals(60, 20), sample_fps)) == pytest.approx(20 * sample_fps, abs=1)


def test_repeats_are_of_the_newest_frame_and_fill_the_time_since_the_last():
    sampler = Sampler(25)
    assert [sampler.push(index * 0.12) for index in range(5)] == [1, 3, 3, 3, 3]


# --- jitter

JITTER_S = 0.010


@settings(deadline=None, max_examples=150)
@given(st.lists(st.floats(-JITTER_S, JITTER_S), min_size=2, max_size=200))
def test_jitter_of_ten_milliseconds_at_the_sampling_rate_drops_and_repeats_nothing(jitter):
    sampler = Sampler(25)
    kept = [sampler.push(10 + index * 0.04 + late) for index, late in enumerate(jitter)]
    assert kept == [1] * len(jitter)


@settings(deadline=None, max_examples=100)
@given(
    st.sampled_from(RATES),
    st.lists(st.floats(-JITTER_S, JITTER_S), min_size=60, max_size=120),
)
def test_jitter_moves_a_windows_span_by_no_more_than_a_frame_and_itself(fps, jitter):
    # Strictly increasing, as a clock read at each arrival is, also where the jitter is more than half a frame.
    times = sorted(index / fps + late for index, late in enumerate(jitter))
    kept = sampled(times)
    spans = [last - first for first, last in zip(kept, kept[15:], strict=False)]
    assert all(abs(span - SPAN_S) <= 1 / fps + 2 * JITTER_S + ROUNDING_S for span in spans)


# --- stalls and steps


def test_a_stall_restarts_the_clock_and_is_not_filled():
    sampler = Sampler(25)
    for time in arrivals(25, 2):
        sampler.push(time)
    assert sampler.push(7.013) == 1
    assert [sampler.push(7.013 + index * 0.04) for index in range(1, 50)] == [1] * 49


def test_after_a_stall_a_faster_camera_is_thinned_as_before():
    sampler = Sampler(25)
    for time in arrivals(50, 2):
        sampler.push(time)
    kept = [sampler.push(time) for time in arrivals(50, 2, start=7)]
    assert kept[0] == 1 and sum(kept) in (50, 51)


def test_a_gap_of_up_to_eight_ticks_is_filled_and_a_longer_one_is_not():
    assert sampled([0.0, 8 / 25]) == [0.0] + [8 / 25] * 8
    assert sampled([0.0, 9 / 25]) == [0.0, 9 / 25]


def test_the_window_over_a_stall_is_rejected_for_its_span():
    feed = Feed(Preprocessing(short_side=32, crop_size=32), WindowConfig(stride=4, max_span_ratio=1.5))
    times = sampled(arrivals(25, 2) + arrivals(25, 2, start=2.5))
    for seq, time in enumerate(times):
        feed.push(stamp(seq, time=time), pixels(seq))
        feed.take()
    assert feed.windows_dropped == {"span": 4}  # sixteen frames cross the stall, a window is due at every fourth


def test_time_that_steps_far_back_restarts_the_clock():
    sampler = Sampler(25)
    for time in arrivals(25, 4, start=100):
        sampler.push(time)
    assert [sampler.push(5 + index * 0.04) for index in range(20)] == [1] * 20


def test_a_frame_a_little_back_in_time_is_left_out_and_nothing_is_made_twice():
    sampler = Sampler(25)
    kept = [sampler.push(time) for time in (0.0, 0.04, 0.08, 0.05, 0.08, 0.12, 0.16)]
    assert kept == [1, 1, 1, 0, 0, 1, 1]


@settings(deadline=None, max_examples=200)
@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=60))
def test_no_arrival_ever_makes_more_than_the_allowed_repeats(times):
    sampler = Sampler(25)
    assert all(0 <= sampler.push(time) <= 9 for time in times)


# --- the rate


@pytest.mark.parametrize("fps", [0.5, 10, 29.97, 240])
def test_the_rate_meter_measures_a_steady_rate(fps):
    meter = RateMeter()
    times = arrivals(fps, 10)
    for time in times:
        meter.push(time)
    assert meter.fps(times[-1]) == pytest.approx(fps, rel=1e-6)


def test_the_rate_follows_a_change_within_its_span():
    meter = RateMeter(span_s=3)
    for time in arrivals(30, 10) + arrivals(10, 3.2, start=10):
        meter.push(time)
    assert meter.fps(13.2) == pytest.approx(10, rel=0.01)


def test_no_rate_is_claimed_of_fewer_than_two_frames():
    meter = RateMeter()
    assert meter.fps(5.0) == 0
    meter.push(5.0)
    assert meter.fps(5.0) == 0


def test_the_rate_of_a_camera_that_stopped_falls_to_nothing():
    meter = RateMeter(span_s=3)
    for time in arrivals(25, 10):
        meter.push(time)
    assert meter.fps(10) == pytest.approx(25)
    assert meter.fps(16) == 0


def test_frames_of_one_instant_do_not_divide_by_zero():
    meter = RateMeter()
    meter.push(1.0)
    meter.push(1.0)
    assert meter.fps(1.0) > 0


# --- files: a picture lasts until the next one


def of_file(times: list[float], end: float, sample_fps: float = 25.0) -> list[int]:
    """Numbers of the pictures that make the sampled stream."""
    sampler, spans = FileSampler(sample_fps), zip(times, [*times[1:], end], strict=True)
    return [number for number, (time, until) in enumerate(spans) for _ in range(sampler.push(time, until))]


@pytest.mark.parametrize("fps", [0.1, 0.5, 1, 2, 3, 5, 10, 12.5, 15, 19.62, 24, 25, 29.97, 30])
@pytest.mark.parametrize("start", [0.0, 86_400.321])
def test_a_file_has_as_many_frames_as_ticks_and_each_shows_what_is_seen_then(fps: float, start: float) -> None:
    count = max(2, round(20 * fps))
    numbers = of_file([start + index / fps for index in range(count)], start + count / fps)
    assert len(numbers) == pytest.approx(count / fps * 25, abs=1)
    # A picture counts for a tick up to 0.7 of a tick early.
    assert all(
        -0.71 / 25 < tick / 25 - number / fps + 1e-9 < 1 / fps + 0.31 / 25 for tick, number in enumerate(numbers)
    )


@pytest.mark.parametrize("fps", [25, 29.97, 30, 50, 59.94, 60, 120])
def test_a_file_of_the_models_rate_or_more_is_sampled_as_a_camera_is(fps: float) -> None:
    times = arrivals(fps, 10)
    sampler = Sampler(25.0)
    live = [number for number, time in enumerate(times) for _ in range(sampler.push(time))]
    assert of_file(times, 10.0) == live


def test_a_still_picture_is_held_for_as_long_as_it_is_shown() -> None:
    times = [*arrivals(25, 4.4), 14.4, 14.44]
    numbers = of_file(times, 14.48)
    assert len(numbers) == 362
    assert numbers.count(109) == 251
    assert numbers[-2:] == [110, 111]


@settings(deadline=None)
@given(st.lists(st.floats(0.0005, 20), min_size=1, max_size=50), st.sampled_from([5.0, 25.0, 30.0]))
def test_whatever_the_gaps_a_files_frames_are_its_length_and_in_order(gaps: list[float], sample_fps: float) -> None:
    times = [0.0]
    for gap in gaps:
        times.append(times[-1] + gap)
    numbers = of_file(times[:-1], times[-1], sample_fps)
    assert numbers == sorted(numbers)
    assert abs(len(numbers) - times[-1] * sample_fps) <= 1.7


KINETICS = Preprocessing()


def test_a_short_video_is_told_with_what_a_prediction_takes() -> None:
    assert too_short("a.mp4", 10, 0.4, 16, 25) == (
        "a.mp4 lasts 0.40 s (10 pictures); nothing is recognised in less than 0.64 s (16 frames at 25 a second)"
    )


def test_a_single_picture_is_told_as_such() -> None:
    assert "a.gif holds a single picture" in too_short("a.gif", 1, 0.04, 16, 25)
    assert "holds a single picture" in str(too_slow("a.gif", 1, 10.0, KINETICS))


@pytest.mark.parametrize(("fps", "slow"), [(25, False), (5, False), (3.2, False), (3, True), (2, True), (0.1, True)])
def test_fewer_than_two_pictures_a_window_are_too_few(fps: float, slow: bool) -> None:
    problem = too_slow("a.mp4", round(100 * fps), 100.0, KINETICS)
    assert (problem is not None) == slow
    assert problem is None or f"has {fps:.2g} pictures a second, fewer than 2 in a window of 0.64 s" in problem


def test_a_longer_window_takes_a_slower_video() -> None:
    assert too_slow("a.mp4", 40, 20.0, Preprocessing(clip_len=64)) is None
    assert too_slow("a.mp4", 40, 20.0, Preprocessing(frame_interval=4)) is None
