from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_i3d.config import WindowConfig
from stream_i3d.inference.feed import MAX_WAITING_FRAMES, Feed
from stream_i3d.messages import Clip, FrameStamp
from stream_i3d.preprocess import Preprocessing
from tests.samples import number_of, pixels, stamp

SIXTEEN = Preprocessing(short_side=32, crop_size=32)


def make_feed(stride: int = 8, averaging: int = 1) -> Feed:
    return Feed(SIXTEEN, WindowConfig(mode="streaming", stride=stride, averaging=averaging))


def numbers(frames: np.ndarray) -> list[int]:
    return [number_of(picture) for picture in frames]


def taken(feed: Feed, stamps: Iterable[FrameStamp]) -> list[Clip]:
    """Push frames one by one, each picture telling its seq; take what is due at once."""
    chunks = []
    for one in stamps:
        if feed.push(one, pixels(one.seq)):
            list(feed.notes())
            if (chunk := feed.take()) is not None:
                assert feed.intact(chunk)
                assert chunk.newest == one
                chunks.append(replace(chunk, frames=chunk.frames.copy(), recent=chunk.recent.copy()))
    assert not feed.pending
    return chunks


def frames(first: int, last: int, epoch: int = 1) -> list[FrameStamp]:
    return [stamp(seq, epoch=epoch, time=seq / 25 + epoch * 1000) for seq in range(first, last + 1)]


def test_each_frame_is_in_one_chunk_in_order() -> None:
    chunks = taken(make_feed(), frames(0, 130))
    assert [number for chunk in chunks for number in numbers(chunk.frames)] == list(range(128))
    assert [chunk.number for chunk in chunks] == list(range(16))
    assert {(chunk.run, chunk.phase) for chunk in chunks} == {(0, 0)}


def test_with_stride_4_two_phases_take_turns_and_each_sees_every_frame() -> None:
    chunks = taken(make_feed(4), frames(0, 99))
    assert [chunk.newest.seq for chunk in chunks] == list(range(7, 100, 4))
    assert [chunk.phase for chunk in chunks][:4] == [0, 4, 0, 4]
    for phase in (0, 4):
        own = [chunk for chunk in chunks if chunk.phase == phase]
        assert [number for chunk in own for number in numbers(chunk.frames)] == list(
            range(phase, own[-1].newest.seq + 1)
        )
        assert [chunk.number for chunk in own] == list(range(len(own)))


def test_the_eighth_chunk_is_the_first_that_means_anything() -> None:
    chunks = taken(make_feed(), frames(0, 79))
    assert [chunk.newest.seq for chunk in chunks if chunk.ready] == [63, 71, 79]


def test_a_chunks_window_is_all_that_its_prediction_depends_on() -> None:
    chunks = taken(make_feed(), frames(0, 127))
    first_to_last = [(chunk.window.first_frame, chunk.window.last_frame) for chunk in chunks]
    assert first_to_last[:2] == [(0, 7), (0, 15)]
    assert first_to_last[-3:] == [(5, 111), (13, 119), (21, 127)]
    window = chunks[-1].window
    assert (window.start_time, window.end_time) == pytest.approx((1e9 + 1000 + 21 / 25, 1e9 + 1000 + 127 / 25))


@pytest.mark.parametrize(("stride", "averaging", "more"), [(8, 3, 16), (4, 3, 8), (4, 1, 0), (8, 64, 504)])
def test_averaged_predictions_depend_on_more_frames(stride: int, averaging: int, more: int) -> None:
    last = taken(make_feed(stride, averaging), frames(0, 799))[-1].window
    assert (last.first_frame, last.last_frame) == (799 - 106 - more, 799)


def test_motion_is_measured_on_as_many_frames_as_a_window_has() -> None:
    chunks = taken(make_feed(), frames(0, 39))
    assert numbers(chunks[0].recent) == list(range(8))
    assert [numbers(chunk.recent) for chunk in chunks[1:]] == [
        list(range(end - 15, end + 1)) for end in (15, 23, 31, 39)
    ]


def test_before_the_first_chunk_a_stride_is_told() -> None:
    feed = make_feed(4)
    for one in frames(0, 3):
        feed.push(one, pixels(one.seq))
    [(window, newest)] = feed.notes()
    assert (window.first_frame, window.last_frame, newest.seq) == (0, 3, 3)
    assert feed.take() is None
    assert not feed.pending


def test_what_waits_is_taken_in_the_order_in_which_it_came() -> None:
    feed = make_feed()
    for one in [*frames(0, 7), *frames(10, 23)]:
        feed.push(one, pixels(one.seq))
    assert list(feed.notes()) == []  # the note of frame 15 comes after the chunk of frame 7
    chunk = feed.take()
    assert chunk is not None and chunk.newest.seq == 7
    assert feed.take() is None
    assert [newest.seq for _, newest in feed.notes()] == [15]
    chunk = feed.take()
    assert chunk is not None and (chunk.newest.seq, chunk.number) == (23, 0)


@pytest.mark.parametrize(
    ("stamps", "reason"),
    [
        ([*frames(0, 79), *frames(82, 159)], "gap"),
        ([*frames(0, 85), *frames(0, 79, epoch=2)], "epoch"),
        # A stall of a second, after which the sampler counts on.
        ([*frames(0, 81), *(stamp(seq, time=1001 + seq / 25) for seq in range(82, 160))], "span"),
    ],
    ids=["gap", "epoch", "span"],
)
def test_where_a_frame_is_missing_the_network_begins_anew_and_it_is_counted(
    stamps: list[FrameStamp], reason: str
) -> None:
    feed = make_feed()
    chunks = taken(feed, stamps)
    anew = [index for index, chunk in enumerate(chunks) if chunk.number == 0]
    assert len(anew) == 2
    assert [chunk.run for chunk in chunks] == [0] * anew[1] + [1] * (len(chunks) - anew[1])
    after = chunks[anew[1] :]
    fed = [number for chunk in after for number in numbers(chunk.frames)]
    assert fed == list(range(fed[0], fed[0] + len(fed)))
    assert fed[0] % 8 == 0
    assert [chunk.number for chunk in after] == list(range(len(after)))
    assert after[-1].ready
    assert after[-1].window.first_frame == fed[0]
    missed = 7 if reason == "epoch" else 8  # strides without a prediction, between the last one and the next
    assert feed.windows_dropped == {reason: missed}
    assert feed.frames_dropped == (2 if reason == "gap" else 0)


def test_a_gap_of_many_frames_counts_every_stride_it_took() -> None:
    feed = make_feed()
    taken(feed, [*frames(0, 79), *frames(160, 239)])
    # Due at 87, 95, ... 215; the next prediction is at 223.
    assert feed.windows_dropped == {"gap": len(range(87, 216, 8))}
    assert feed.frames_dropped == 80


def test_a_slow_cameras_repeats_do_not_cut_the_stream() -> None:
    # Four pictures a second: each fills six or seven ticks, with the time at which the next one came.
    stamps = [stamp(seq, time=(seq + 6) // 6.25 * 0.25) for seq in range(160)]
    chunks = taken(make_feed(), stamps)
    assert [chunk.number for chunk in chunks] == list(range(20))


def test_a_worker_that_comes_late_makes_the_same_chunks_and_counts_nothing_lost() -> None:
    feed = make_feed()
    chunks = taken(feed, frames(1003, 1050))
    assert numbers(chunks[0].frames) == list(range(1008, 1016))
    assert chunks[0].number == 0
    assert feed.windows_dropped.total() == 0
    taken(feed, frames(2003, 2099, epoch=2))
    # Due at 2007, which ends no whole chunk, and the seven chunks that warm up.
    assert feed.windows_dropped == {"epoch": 8}


@settings(deadline=None, max_examples=40)
@given(st.sets(st.integers(0, 199), max_size=6), st.sampled_from([4, 8]))
def test_whatever_was_lost_each_phase_sees_unbroken_stretches_from_a_chunks_border(lost: set[int], stride: int) -> None:
    feed = make_feed(stride)
    chunks = taken(feed, [one for one in frames(0, 199) if one.seq not in lost])
    seen: dict[int, list[int]] = {}
    for chunk in chunks:
        if chunk.number == 0:
            seen[chunk.phase] = []
        own = seen[chunk.phase]
        own += numbers(chunk.frames)
        assert own == list(range(own[0], own[0] + 8 * (chunk.number + 1)))
        assert own[0] % 8 == chunk.phase
        assert chunk.window.first_frame >= min(each[0] for each in seen.values())
    # Nothing is left out without need: every border with eight unbroken frames before it has its chunk.
    ends = [end for end in range(7, 200, stride) if not lost & set(range(end - 7, end + 1))]
    assert [chunk.newest.seq for chunk in chunks] == ends


# --- too slow, and too late


def test_a_few_chunks_may_wait_and_all_are_taken() -> None:
    feed = make_feed()
    for one in frames(0, MAX_WAITING_FRAMES - 1):
        feed.push(one, pixels(one.seq))
    chunks = [feed.take() for _ in range(5)]
    assert [chunk.newest.seq for chunk in chunks if chunk] == [7, 15, 23, 31]
    assert feed.windows_dropped.total() == 0


@pytest.mark.parametrize("stride", [4, 8])
def test_where_too_many_wait_all_are_dropped_and_the_network_begins_anew(stride: int) -> None:
    feed = make_feed(stride)
    warm = taken(feed, frames(0, 99))
    assert warm[-1].ready
    for one in frames(100, 135):
        feed.push(one, pixels(one.seq))
    assert feed.take() is None
    dropped = feed.windows_dropped["stale"]
    assert dropped == MAX_WAITING_FRAMES // stride + 1
    after = taken(feed, frames(136, 239))
    assert after[0].number == 0
    assert after[0].run == warm[-1].run + 1
    assert after[-1].ready
    ready = [chunk for chunk in after if chunk.ready]
    # Every stride is a prediction or was counted.
    assert len([chunk for chunk in warm if chunk.ready]) + feed.windows_dropped["stale"] + len(ready) == len(
        range(63, 240, stride)
    )


def test_a_chunk_overwritten_while_it_was_read_is_dropped_with_what_waits() -> None:
    feed = make_feed()
    taken(feed, frames(0, 79))
    for one in frames(80, 95):
        feed.push(one, pixels(one.seq))
    chunk = feed.take()
    assert chunk is not None
    feed.take()
    for one in frames(96, 300):
        if feed.push(one, pixels(one.seq)) and one.seq < 200:
            feed.take()
    assert not feed.intact(chunk)
    assert feed.windows_dropped["overrun"] >= 1
    assert feed.take() is None
    after = taken(feed, frames(301, 320))
    assert after[0].number == 0


# --- the stride may change


def test_a_second_phase_begins_while_the_first_goes_on() -> None:
    feed = make_feed()
    chunks = taken(feed, frames(0, 79))
    feed.set_stride(4)
    chunks += taken(feed, frames(80, 159))
    feed.set_stride(8)
    chunks += taken(feed, frames(160, 191))
    feed.set_stride(4)
    chunks += taken(feed, frames(192, 230))
    first = [chunk for chunk in chunks if chunk.phase == 0]
    assert [chunk.number for chunk in first] == list(range(28))
    second = [(chunk.newest.seq, chunk.number) for chunk in chunks if chunk.phase == 4]
    assert second[:2] == [(83, 0), (91, 1)]
    assert second[9:11] == [(155, 9), (195, 0)]  # what it missed meanwhile cannot be made good
    assert feed.windows_dropped.total() == 0


def test_a_feed_keeps_the_pixels_as_they_are() -> None:
    picture = pixels(3)
    assert make_feed().augment(stamp(0), picture) is picture


def test_a_camera_that_waits_for_its_turn_has_no_chunks_and_begins_anew_with_its_turn() -> None:
    feed = make_feed()
    taken(feed, frames(0, 79))
    for one in frames(80, 95):
        feed.push(one, pixels(one.seq))
    assert feed.backlog == 2
    assert feed.serve(False)
    assert (feed.backlog, feed.pending) == (0, False)
    assert taken(feed, frames(96, 151)) == []
    assert feed.serve(True)
    chunks = taken(feed, frames(152, 231))
    assert [chunk.number for chunk in chunks] == list(range(10))
    assert numbers(chunks[0].frames) == list(range(152, 160))
    assert chunks[-1].window.first_frame == 152
    assert feed.windows_dropped == {"overload": len(range(87, 215, 8))}
    assert feed.frames_dropped == 0


def test_serving_it_as_it_is_served_changes_nothing() -> None:
    feed = make_feed()
    taken(feed, frames(0, 79))
    assert not feed.serve(True)
    assert [chunk.number for chunk in taken(feed, frames(80, 95))] == [10, 11]


@pytest.mark.parametrize(("interval", "kept"), [(1.25, [0, 2, 3, 4, 5, 7]), (1.5, [0, 2, 3, 5, 6, 8])])
def test_frames_may_be_left_out_one_by_one(interval: float, kept: list[int]) -> None:
    feed = make_feed()
    feed.serve(True, interval)
    chunks = taken(feed, frames(0, round(80 * interval)))
    seen = [number for chunk in chunks for number in numbers(chunk.frames)]
    assert seen[:6] == kept
    assert len(seen) == 80
    assert [chunk.number for chunk in chunks] == list(range(10))
    assert feed.windows_dropped == {"overload": 7}  # the warm-up
    assert feed.frames_dropped == 0


@pytest.mark.parametrize("interval", [2, 3])
def test_at_a_larger_frame_interval_the_network_sees_every_so_manieth_frame(interval: int) -> None:
    feed = make_feed()
    feed.serve(True, interval)
    chunks = taken(feed, frames(0, 80 * interval - 1))
    seen = [number for chunk in chunks for number in numbers(chunk.frames)]
    assert seen == list(range(0, 80 * interval, interval))
    assert chunks[-1].ready
    assert (chunks[-1].window.first_frame, chunks[-1].window.last_frame) == (0, 79 * interval)
    assert feed.frames == 80 * interval
    assert feed.frames_dropped == 0


def test_at_a_larger_frame_interval_only_a_frame_that_it_needs_makes_a_gap() -> None:
    feed = make_feed()
    feed.serve(True, 2)
    stamps = [one for one in frames(0, 319) if one.seq not in (41, 160)]
    chunks = taken(feed, stamps)
    assert [chunk.number for chunk in chunks] == [*range(10), *range(9)]
    assert feed.frames_dropped == 2


def test_the_frame_interval_may_change_on_the_way() -> None:
    feed = make_feed()
    taken(feed, frames(0, 100))
    assert feed.serve(True, 4)
    chunks = taken(feed, frames(101, 420))
    assert [number for chunk in chunks for number in numbers(chunk.frames)] == list(range(128, 416, 4))
    assert feed.serve(True, 1)
    assert [chunk.number for chunk in taken(feed, frames(421, 500))][:3] == [0, 1, 2]
