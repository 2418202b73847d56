"""When live pictures were taken: streams as arrival times and stamps, without a clock."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_i3d.capture.timing import MAX_DELAY_S, PlayoutQueue, StreamTiming
from stream_i3d.sampling import Sampler

Picture = tuple[float, float]
"""Stamp and arrival, in seconds."""

WRAP_S = 2**33 / 90_000


class Followed:
    """A stream run through `StreamTiming`, picture by picture."""

    def __init__(self, pictures: Iterable[Picture], bursty: bool = False) -> None:
        self.timing = StreamTiming(bursty)
        self.times: list[float] = []
        self.arrivals: list[float] = []
        self.restarts: list[int] = []
        self.trusted: list[bool] = []
        self.delays: list[float] = []
        self.due: list[float] = []
        for number, (stamp, arrival) in enumerate(pictures):
            timing = self.timing.push(stamp, arrival)
            self.times.append(timing.time_s)
            self.arrivals.append(arrival)
            self.trusted.append(self.timing.trusted)
            self.delays.append(self.timing.delay_s)
            self.due.append(timing.time_s + self.timing.mapping.release_s)
            if timing.restarted:
                self.restarts.append(number)

    @property
    def steps(self) -> list[float]:
        return [after - before for before, after in pairwise(self.times)]


def steady(
    seconds: float, fps: float = 25.0, jitter_s: float = 0.0, rate: float = 1.0, start: float = 50.0
) -> list[Picture]:
    """`rate` is how fast stamps run; jitter is late by up to that, in order."""
    chance = random.Random(1)
    pictures, last = [], 0.0
    for number in range(round(seconds * fps)):
        last = max(last, start + number / fps + chance.uniform(0, jitter_s))
        pictures.append((number / fps * rate, last))
    return pictures


def segments(seconds: float, segment_s: float, fps: float = 25.0, poll_s: float = 0.0) -> list[Picture]:
    """A live playlist: each segment's pictures come at once when it is over, and polling finds it late."""
    chance = random.Random(2)
    pictures, last = [], 0.0
    for number in range(round(seconds * fps)):
        segment = int(number / fps / segment_s + 1e-9)
        if number / fps - segment * segment_s < 1e-9:
            last = max(last, 50 + (segment + 1) * segment_s + chance.uniform(0, poll_s))
        last += 0.002
        pictures.append((number / fps, last))
    return pictures


# --- steady cameras


@pytest.mark.parametrize("fps", [1.0, 5.0, 12.5, 25.0, 29.97, 60.0])
def test_a_steady_camera_is_timed_by_its_stamps_and_never_held_back(fps: float) -> None:
    seen = Followed(steady(60, fps, jitter_s=min(0.02, 0.5 / fps)))
    assert all(seen.trusted[2:]) and not seen.restarts
    assert max(seen.delays) == 0.0
    assert seen.steps == pytest.approx([1 / fps] * len(seen.steps))
    assert all(due <= arrival + 1e-9 for due, arrival in zip(seen.due, seen.arrivals, strict=True))


def test_a_hiccup_of_the_network_holds_nothing_back_afterwards() -> None:
    pictures = [(stamp, max(arrival, 83.0) if 80 < arrival < 83 else arrival) for stamp, arrival in steady(60)]
    seen = Followed(pictures)
    assert all(seen.trusted[2:]) and not seen.restarts
    assert max(seen.delays) < 0.2


def test_what_a_server_sends_of_the_past_at_connection_is_passed_on_at_once() -> None:
    backlog = [(number / 25, 50 + number * 0.002) for number in range(50)]
    live = [(2 + number / 25, 50.1 + number / 25) for number in range(200)]
    seen = Followed(backlog + live)
    assert max(seen.delays) < 0.1 and not seen.restarts
    assert seen.steps == pytest.approx([1 / 25] * len(seen.steps))


def test_pictures_that_come_unevenly_by_300_ms_leave_evenly_at_most_a_third_of_a_second_late() -> None:
    seen = Followed(steady(120, jitter_s=0.3))
    assert seen.steps == pytest.approx([1 / 25] * len(seen.steps))
    assert max(seen.delays) < 0.35


# --- bursts


@pytest.mark.parametrize("segment_s", [1.0, 2.0, 4.0, 6.0, 10.0])
@pytest.mark.parametrize("bursty", [True, False])
def test_segments_are_spread_over_their_own_time_after_a_bounded_delay(segment_s: float, bursty: bool) -> None:
    seen = Followed(segments(120, segment_s, poll_s=segment_s / 10), bursty)
    assert all(seen.trusted[2:]) and not seen.restarts
    assert seen.steps == pytest.approx([1 / 25] * len(seen.steps))
    settled = round(25 * segment_s * (2 if bursty else 5))
    passed = [max(due, arrival) for due, arrival in zip(seen.due, seen.arrivals, strict=True)][settled:]
    gaps = [after - before for before, after in pairwise(passed)]
    assert max(gaps) < 0.04 + 0.15 * segment_s
    assert segment_s * 0.9 < seen.timing.delay_s < min(1.4 * segment_s + 0.1, MAX_DELAY_S)


def test_the_delay_goes_when_bursts_go() -> None:
    bursts = segments(60, 2.0)
    seen = Followed(bursts + [(60 + n / 25, bursts[-1][1] + 0.04 + n / 25) for n in range(25 * 150)])
    assert seen.delays[len(bursts) - 1] > 1.8
    assert seen.timing.delay_s == pytest.approx(0.0, abs=0.01)


@pytest.mark.parametrize("drift", [-2e-4, 2e-4])
def test_a_cameras_clock_that_drifts_for_days_adds_no_delay(drift: float) -> None:
    seen = Followed((n * (1 + drift), float(n)) for n in range(3600 * 6))
    assert all(seen.trusted[2:]) and not seen.restarts
    assert max(seen.delays) < 0.05
    offset = seen.times[-1] + seen.timing.mapping.offset_s
    assert offset == pytest.approx(seen.arrivals[-1], abs=0.05)


def test_the_delay_of_drifting_segments_stays_what_they_need() -> None:
    pictures = [(stamp * 1.0002, arrival) for stamp, arrival in segments(3600, 4.0, fps=5)]
    seen = Followed(pictures, bursty=True)
    assert all(seen.trusted[2:])
    assert max(seen.delays[5 * 60 :]) < 5.5


# --- jumps of the stream's clock


def jumping(pictures: Sequence[Picture], at_s: float, by_s: float) -> list[Picture]:
    return [(stamp + (by_s if stamp >= at_s else 0), arrival) for stamp, arrival in pictures]


@pytest.mark.parametrize("by_s", [-WRAP_S, WRAP_S, -30.0, -5.0, 3600.0, 1e8])
@pytest.mark.parametrize("bursty", [False, True])
def test_a_jump_of_the_stamps_is_bridged(by_s: float, bursty: bool) -> None:
    seen = Followed(jumping(segments(40, 2.0) if bursty else steady(40), 30.0, by_s), bursty)
    assert all(seen.trusted[2:]) and not seen.restarts
    assert seen.steps == pytest.approx([1 / 25] * len(seen.steps), rel=1e-5)


def test_segments_that_each_begin_at_nought_make_one_time() -> None:
    seen = Followed([(stamp % 2.0, arrival) for stamp, arrival in segments(60, 2.0)], bursty=True)
    assert all(seen.trusted[2:])
    assert seen.steps == pytest.approx([1 / 25] * len(seen.steps))


def test_a_gap_in_the_stream_stays_one() -> None:
    seen = Followed([picture for picture in steady(40) if not 20 <= picture[0] < 23])
    assert max(seen.steps) == pytest.approx(3.04) and not seen.restarts


def test_a_stream_whose_clock_stood_still_with_it_begins_anew() -> None:
    pictures = steady(20) + [(20 + number / 25, 170 + number / 25) for number in range(500)]
    seen = Followed(pictures)
    assert seen.restarts == [500]
    assert seen.timing.delay_s == 0.0


# --- stamps that are not to be trusted


@pytest.mark.parametrize("stamp", [0.0, 7.5, float("nan")])
def test_stamps_that_never_advance_leave_arrival(stamp: float) -> None:
    seen = Followed((stamp, arrival) for _, arrival in steady(20, jitter_s=0.01))
    assert not any(seen.trusted) and not seen.restarts
    assert seen.times == seen.arrivals == seen.due


@pytest.mark.parametrize("rate", [0.25, 0.5, 0.8, 1.25, 2.0, 4.0])
def test_stamps_at_the_wrong_speed_are_given_up_within_seconds_and_times_begin_anew(rate: float) -> None:
    seen = Followed(steady(20, jitter_s=0.02, rate=rate))
    given_up = seen.trusted.index(False, 5)
    assert given_up / 25 <= 5
    assert seen.restarts == [given_up]
    assert seen.times[given_up:] == seen.arrivals[given_up:]


@pytest.mark.parametrize("rate", [0.5, 2.0])
def test_segments_with_stamps_at_the_wrong_speed_are_given_up_too(rate: float) -> None:
    seen = Followed([(stamp * rate, arrival) for stamp, arrival in segments(90, 2.0)], bursty=True)
    assert not seen.timing.trusted


def test_stamps_that_stop_in_mid_stream_are_given_up() -> None:
    pictures = [(min(stamp, 10.0), arrival) for stamp, arrival in steady(20)]
    seen = Followed(pictures)
    assert not seen.timing.trusted
    assert len(seen.restarts) == 1


def test_stamps_that_came_right_again_are_trusted_again_after_half_a_minute() -> None:
    wrong = steady(20, rate=2.0)
    right = [(100 + number / 25, wrong[-1][1] + 0.04 + number / 25) for number in range(25 * 120)]
    seen = Followed(wrong + right)
    assert seen.timing.trusted
    assert len(seen.restarts) == 2


# --- the same frames, however they come


@settings(max_examples=60, deadline=None)
@given(
    fps=st.sampled_from([10.0, 15.0, 25.0, 29.97, 50.0]),
    bursts=st.lists(st.floats(0.0, 3.0), min_size=1, max_size=40),
    start=st.floats(0.0, 95_000.0),
)
def test_frames_in_bursts_are_sampled_as_the_same_frames_that_come_evenly(
    fps: float, bursts: list[float], start: float
) -> None:
    """Bursts begin at given distances; a picture comes with the first burst after it was taken."""
    ends, end = [], 0.0
    for length in bursts:
        ends.append(end := end + length + 0.05)
    taken = [number / fps for number in range(int(end * fps))]
    late = [next(at for at in ends if at >= time) for time in taken]
    assert _sampled(taken, [start + time for time in taken], taken) == _sampled(taken, [start + t for t in taken], late)


def _sampled(taken: list[float], stamps: list[float], arrivals: list[float]) -> list[int]:
    timing, sampler = StreamTiming(), Sampler(25.0)
    del taken
    copies = [sampler.push(timing.push(stamp, 50 + at).time_s) for stamp, at in zip(stamps, arrivals, strict=True)]
    assert timing.trusted or len(stamps) < 2
    return copies


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(0, 20)), max_size=300), st.booleans())
def test_whatever_comes_nothing_is_held_back_for_longer_than_the_limit(steps: list[Picture], bursty: bool) -> None:
    timing, arrival = StreamTiming(bursty), 10.0
    for stamp, gap in steps:
        arrival += gap
        time = timing.push(stamp, arrival).time_s
        assert 0.0 <= timing.delay_s <= MAX_DELAY_S + 1e-6
        assert time + timing.mapping.release_s <= arrival + MAX_DELAY_S + 1e-3


def test_things_leave_in_order_when_they_are_due() -> None:
    queue: PlayoutQueue[str] = PlayoutQueue(100)
    assert queue.wait_s(0.0) is None and queue.pop(0.0) is None
    for name, due in (("a", 1.0), ("b", 2.0)):
        queue.push(name, lambda due=due: due, 10)  # type: ignore[misc]
    assert queue.wait_s(0.25) == 0.75 and queue.pop(0.25) is None
    assert queue.pop(1.0) == "a" and queue.pop(1.5) is None
    assert queue.pop(5.0) == "b"
    assert (len(queue), queue.bytes, queue.early, queue.dropped) == (0, 0, 0, 0)


def test_when_a_thing_is_due_may_change_while_it_waits() -> None:
    queue: PlayoutQueue[str] = PlayoutQueue(100)
    due = [9.0]
    queue.push("a", lambda: due[0], 10)
    assert queue.pop(5.0) is None
    due[0] = 4.0
    assert queue.pop(5.0) == "a"


def test_a_full_queue_passes_its_oldest_on_early_and_loses_nothing() -> None:
    queue: PlayoutQueue[int] = PlayoutQueue(100)
    for number in range(15):
        queue.push(number, lambda: 1000.0, 10)
    early = []
    while (item := queue.pop(0.0)) is not None:
        early.append(item)
    assert early == [0, 1, 2, 3, 4]
    assert (queue.early, queue.dropped, queue.bytes) == (5, 0, 100)


def test_where_nobody_takes_them_the_oldest_are_dropped_and_counted() -> None:
    queue: PlayoutQueue[int] = PlayoutQueue(100)
    for number in range(1000):
        queue.push(number, lambda: 0.0, 10)
        assert queue.bytes <= 200
    assert queue.dropped == 980
    assert queue.pop(0.0) == 980
