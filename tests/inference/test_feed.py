from __future__ import annotations

import random
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_i3d.config import ModeName, WindowConfig
from stream_i3d.inference.feed import Augmenting, Feed
from stream_i3d.messages import Clip, FrameStamp
from stream_i3d.preprocess import Preprocessing
from tests.samples import number_of, pixels, stamp

SIZE = 32
SIXTEEN = Preprocessing(short_side=SIZE, crop_size=SIZE)
SPREAD = Preprocessing(short_side=SIZE, crop_size=SIZE, clip_len=8, frame_interval=3)  # 22 frames from first to last


def numbers(frames: np.ndarray) -> list[int]:
    return [number_of(picture) for picture in frames]


def test_windows_whose_newest_frame_is_lost_are_counted_too():
    feed = Feed(SIXTEEN, WindowConfig(stride=8))
    for seq in range(64):
        if seq != 31:  # windows ending at 31, 39 want it
            feed.push(stamp(seq), pixels(seq, SIZE))
            feed.take()
    assert feed.windows_dropped == {"gap": 2}


def feed_of(stamps: Iterable[FrameStamp], preprocessing: Preprocessing = SIXTEEN, stride: int = 8) -> Feed:
    feed = Feed(preprocessing, WindowConfig(stride=stride))
    for item in stamps:
        feed.push(item, pixels(item.seq, SIZE))
    return feed


@pytest.mark.parametrize("mode", ["window", "streaming"])
@pytest.mark.parametrize(
    ("seqs", "lost"),
    [([0, 1, 2, 6, 7, 100, 101], 3 + 92), ([*range(10), 9, *range(10, 16)], 0), (list(range(1000, 1048)), 0)],
    ids=["gaps", "a number again", "a worker that comes late"],
)
def test_missing_frames_are_counted_by_their_numbers(mode: ModeName, seqs: list[int], lost: int):
    feed = Feed(SIXTEEN, WindowConfig(mode=mode))
    for seq in seqs:
        feed.push(stamp(seq), pixels(seq, SIZE))
    assert feed.frames_dropped == lost


def test_a_new_epoch_loses_no_frame():
    feed = Feed(SIXTEEN, WindowConfig())
    for item in [stamp(seq, epoch=1) for seq in range(20)] + [stamp(seq, epoch=2) for seq in range(40)]:
        feed.push(item, pixels(item.seq, SIZE))
    assert feed.frames_dropped == 0


def test_notes_and_the_window_that_waits_come_in_the_order_of_the_stream():
    feed = Feed(SIXTEEN, WindowConfig(stride=4))
    for seq in [*range(20), *range(22, 32)]:  # windows end at 15 and 19; then one is broken at 23, 27 and 31
        feed.push(stamp(seq), pixels(seq, SIZE))
    assert [newest.seq for _, newest in feed.notes()] == [3, 7, 11]
    clip = feed.take()
    assert clip is not None and clip.newest.seq == 19
    assert [newest.seq for _, newest in feed.notes()] == [23, 27, 31]


def test_a_clip_is_the_windows_frames_with_their_times():
    feed = feed_of(stamp(seq, time=100 + seq / 25) for seq in range(24))
    clip = feed.take()
    assert clip is not None
    assert numbers(clip.frames) == list(range(8, 24))
    assert clip.frames.shape == (16, SIZE, SIZE, 3)
    assert (clip.window.first_frame, clip.window.last_frame, clip.newest.seq) == (8, 23, 23)
    assert (clip.window.start_time, clip.window.end_time) == (1e9 + 100.32, 1e9 + 100.92)


def test_a_clip_of_a_file_has_media_times():
    clip = feed_of(stamp(seq, media_time=seq / 25) for seq in range(16)).take()
    assert clip is not None and (clip.window.start_time, clip.window.end_time) == (0.0, 0.6)


def test_a_clip_with_an_interval_takes_every_so_many_th_frame():
    clip = feed_of(map(stamp, range(22)), SPREAD).take()
    assert clip is not None
    assert numbers(clip.frames) == [0, 3, 6, 9, 12, 15, 18, 21]
    assert (clip.window.first_frame, clip.window.last_frame) == (0, 21)


def test_a_clip_is_no_copy_of_the_frames():
    feed = feed_of(map(stamp, range(16)))
    clip = feed.take()
    assert clip is not None and clip.frames.base is not None


def test_push_says_when_there_is_something_to_take():
    feed = Feed(SIXTEEN, WindowConfig(stride=8))
    told = [seq for seq in range(32) if feed.push(stamp(seq), pixels(seq, SIZE))]
    assert told == [7, 15, 23, 31]


def test_a_window_is_taken_once():
    feed = feed_of(map(stamp, range(16)))
    assert feed.pending
    assert feed.take() is not None
    assert not feed.pending
    assert feed.take() is None


def test_the_newest_window_wins_and_the_stale_ones_are_counted():
    feed = feed_of(map(stamp, range(16 + 5 * 8)))
    clip = feed.take()
    assert clip is not None and clip.newest.seq == 55
    assert feed.windows_dropped == {"stale": 5}
    assert feed.take() is None  # nothing queued behind it


def test_nothing_grows_while_nobody_takes():
    feed = feed_of([])
    for seq in range(5000):
        feed.push(stamp(seq), pixels(seq, SIZE))
    clip = feed.take()
    assert clip is not None and numbers(clip.frames) == list(range(clip.newest.seq - 15, clip.newest.seq + 1))
    assert feed.frames == 5000
    assert feed.windows_dropped == {"stale": (5000 - 16) // 8}
    assert len(list(feed.notes())) == 1


def test_a_window_that_was_overwritten_before_anyone_took_it_is_still_due_and_then_counted():
    feed = feed_of(map(stamp, range(16)))
    for seq in range(17, 600, 2):  # from then on no window is whole
        feed.push(stamp(seq), pixels(seq, SIZE))
    due = feed.due_stamp
    assert feed.pending and due is not None and due.seq == 15
    assert feed.take() is None
    assert feed.windows_dropped["overrun"] == 1
    assert not feed.pending and feed.due_stamp is None


def test_a_clip_stays_intact_until_it_is_overwritten_and_is_then_counted():
    feed = feed_of(map(stamp, range(16)), stride=1000)
    clip = feed.take()
    assert clip is not None
    seq = 16
    while numbers(clip.frames[:1]) == [0]:
        assert feed.intact(clip)
        feed.push(stamp(seq), pixels(seq, SIZE))
        seq += 1
        assert seq < 10_000
    assert not feed.intact(clip)
    assert feed.windows_dropped == {"overrun": 1}


def test_a_clip_has_room_to_be_read_for_more_than_two_seconds_of_new_frames():
    feed = feed_of(map(stamp, range(16)))
    clip = feed.take()
    for seq in range(16, 16 + 50):
        feed.push(stamp(seq), pixels(seq, SIZE))
    assert clip is not None and feed.intact(clip)


def test_a_window_overwritten_before_it_was_taken_is_dropped_and_counted():
    feed = feed_of(map(stamp, range(16)), stride=1)
    for seq in range(16, 216):
        if seq % 10:  # no whole window any more, so the old one keeps waiting
            feed.push(stamp(seq), pixels(seq, SIZE))
    assert feed.pending
    assert feed.take() is None
    assert feed.windows_dropped["overrun"] == 1
    assert not feed.pending


def test_strides_without_a_whole_window_are_noted_once_each():
    feed = feed_of(map(stamp, range(16)), stride=4)
    notes = list(feed.notes())
    assert [(window.first_frame, window.last_frame, newest.seq) for window, newest in notes] == [
        (0, 3, 3),
        (0, 7, 7),
        (0, 11, 11),
    ]
    assert list(feed.notes()) == []
    assert not feed.windows_dropped


def test_notes_nobody_reads_are_bounded_and_the_newest_stay():
    feed = feed_of(stamp(seq) for seq in range(1000) if seq % 10)  # never a whole window
    notes = list(feed.notes())
    assert 1 <= len(notes) <= 16
    assert notes[-1][1].seq > 980


def test_losses_are_counted_by_reason():
    stamps = [stamp(seq) for seq in range(64) if seq != 30] + [
        stamp(seq, epoch=2, time=10 + seq / 25) for seq in range(15)
    ]
    feed = feed_of([])
    for item in stamps:
        feed.push(item, pixels(item.seq, SIZE))
        feed.take()
    assert feed.windows_dropped == {"gap": 2, "epoch": 1}
    assert feed.frames_dropped == 1


# --- over a link that loses things


def lossy_link(rng: random.Random, epochs: int, loss: float, pause: float) -> Iterable[FrameStamp]:
    """What arrives of a camera that reconnects and sometimes pauses, over a link that loses frames."""
    time = 50.0
    for epoch in range(epochs):
        for seq in range(rng.randint(0, 120)):
            time += 1 / 25 + (rng.uniform(0, 2) if rng.random() < pause else 0)
            if rng.random() >= loss:
                yield stamp(seq, epoch=1000 + epoch, time=time)


def check(clip: Clip, interval: int, clip_len: int, max_span_s: float, seen: dict[tuple[int, int], FrameStamp]) -> None:
    window = clip.window
    seqs = list(range(window.first_frame, window.last_frame + 1, interval))
    assert len(seqs) == clip_len
    assert numbers(clip.frames) == seqs
    stamps = [seen[clip.newest.epoch, seq] for seq in range(window.first_frame, window.last_frame + 1)]  # none missing
    assert clip.newest == stamps[-1]
    assert stamps[-1].elapsed - stamps[0].elapsed <= max_span_s


@settings(deadline=None, max_examples=120)
@given(
    seed=st.integers(0, 2**32),
    preprocessing=st.sampled_from([SIXTEEN, SPREAD]),
    stride=st.integers(1, 20),
    loss=st.sampled_from([0.0, 0.01, 0.05, 0.3]),
    pause=st.sampled_from([0.0, 0.01]),
    attention=st.sampled_from([0.01, 0.2, 1.0]),
)
def test_over_a_lossy_link_every_clip_is_whole_and_every_due_window_is_accounted_for(
    seed, preprocessing, stride, loss, pause, attention
):
    rng = random.Random(seed)
    feed = Feed(preprocessing, WindowConfig(stride=stride))
    max_span_s = ((preprocessing.window_frames - 1) * 1.5 + 0.5) / 25 + 1e-6
    seen: dict[tuple[int, int], FrameStamp] = {}
    due = warming = recognised = 0
    run = 0  # frames since the worker came, or since the last break; what the feed should know by itself
    broken = False
    newest: FrameStamp | None = None
    number = 0  # of the last window that was due, in this epoch
    for item in lossy_link(rng, epochs=3, loss=loss, pause=pause):
        follows = newest is not None and (item.epoch, item.seq) == (newest.epoch, newest.seq + 1)
        broken = broken or (newest is not None and not follows)
        run = run + 1 if follows else 1
        broken = broken and run < preprocessing.window_frames
        if newest is None or item.epoch != newest.epoch:
            number = (item.seq - preprocessing.window_frames) // stride
        now_due = (item.seq - preprocessing.window_frames + 1) // stride - number
        number += now_due
        newest = seen[item.epoch, item.seq] = item
        told = feed.push(item, pixels(item.seq, SIZE))
        assert told == (now_due > 0)
        due += now_due
        warming += told and run < preprocessing.window_frames and not broken
        if rng.random() < attention:
            clip = feed.take()
            if clip is not None:
                check(clip, preprocessing.frame_interval, preprocessing.clip_len, max_span_s, seen)
                assert feed.intact(clip)
                recognised += 1
    waiting = int(feed.pending)
    assert due == recognised + feed.windows_dropped.total() + warming + waiting
    assert feed.frames == len(seen)


# --- what is computed per frame


class Pairs:
    """An `Augment`: beside each picture stands the number of the one before it, 255 where there is none."""

    channels = 4

    def __init__(self) -> None:
        self.calls = 0
        self._last = 255

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        self.calls += 1
        before = np.full((*picture.shape[:2], 1), self._last, np.uint8)
        self._last = number_of(picture)
        return np.concatenate([picture, before], axis=2)

    def reset(self) -> None:
        self._last = 255


def augmented(*stamps: FrameStamp, sample_fps: float = 25.0) -> list[int]:
    """The number of the picture that each frame, numbered in order, was paired with."""
    augmenting = Augmenting(Pairs(), sample_fps)
    return [int(augmenting(one, pixels(index, SIZE))[0, 0, 3]) for index, one in enumerate(stamps)]


def test_each_frame_is_augmented_once_as_it_arrives_and_lies_in_the_ring_so():
    pairs = Pairs()
    feed = Feed(SIXTEEN, WindowConfig(stride=2), pairs)
    clips = []
    for seq in range(24):
        feed.push(stamp(seq), pixels(seq, SIZE))
        if (clip := feed.take()) is not None:
            clips.append(clip.frames.copy())
    assert pairs.calls == 24
    assert len(clips) == 5
    assert clips[-1].shape == (16, SIZE, SIZE, 4)
    assert [int(picture[0, 0, 3]) for picture in clips[-1]] == list(range(7, 23))
    assert numbers(clips[-1][..., :3]) == list(range(8, 24))


def test_without_an_augment_frames_stay_as_they_are():
    picture = pixels(3, SIZE)
    assert Augmenting(None, 25.0)(stamp(), picture) is picture


def test_neighbours_are_paired():
    assert augmented(stamp(0), stamp(1), stamp(2)) == [255, 0, 1]


def test_nothing_is_paired_across_a_lost_frame():
    assert augmented(stamp(0), stamp(1), stamp(3), stamp(4)) == [255, 0, 255, 2]


def test_nothing_is_paired_across_a_reconnect():
    assert augmented(stamp(0), stamp(1, epoch=2, time=0.04), stamp(2, epoch=2, time=0.08)) == [255, 255, 1]


def test_nothing_is_paired_across_a_stall_that_the_sampler_does_not_fill():
    assert augmented(stamp(0, time=0.0), stamp(1, time=0.32), stamp(2, time=0.72), stamp(3, time=0.76)) == [
        255,
        0,
        255,
        2,
    ]


# --- changing the stride


def due_at(feed: Feed, seqs: Iterable[int]) -> list[int]:
    """Push frames; return the last frame of each window that was due, taken at once."""
    due = []
    for seq in seqs:
        feed.push(stamp(seq), pixels(seq, SIZE))
        clip = feed.take()
        if clip is not None:
            assert numbers(clip.frames) == list(range(clip.window.first_frame, clip.window.last_frame + 1))
            due.append(clip.window.last_frame)
    return due


@pytest.mark.parametrize(("before", "after"), [(8, 3), (3, 8), (8, 1), (1, 200), (8, 8)])
def test_from_a_change_of_stride_on_windows_stand_on_its_own_grid_and_none_is_called_dropped(before, after):
    feed = Feed(SIXTEEN, WindowConfig(stride=before))
    assert due_at(feed, range(100)) == list(range(15, 100, before))
    feed.set_stride(after)
    assert due_at(feed, range(100, 700)) == [last for last in range(15, 700, after) if last >= 100]
    assert not feed.windows_dropped


def test_the_stride_may_be_set_before_the_first_frame():
    feed = Feed(SIXTEEN, WindowConfig(stride=8))
    feed.set_stride(5)
    assert due_at(feed, range(40)) == [15, 20, 25, 30, 35]


def test_a_larger_stride_keeps_the_frames_that_are_held_and_the_window_that_waits():
    feed = Feed(SIXTEEN, WindowConfig(stride=8))
    for seq in range(96):
        feed.push(stamp(seq), pixels(seq, SIZE))
    feed.set_stride(1000)
    clip = feed.take()
    assert clip is not None and numbers(clip.frames) == list(range(80, 96))
    for seq in range(96, 900):
        feed.push(stamp(seq), pixels(seq, SIZE))
    assert numbers(clip.frames) == list(range(80, 96))  # what was taken is not written over
    assert feed.intact(clip)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 12), st.integers(1, 60)), min_size=1, max_size=6))
def test_whatever_the_strides_every_window_is_the_frames_it_says(changes):
    feed, seq = Feed(SIXTEEN, WindowConfig(stride=8)), 0
    for stride, count in changes:
        feed.set_stride(stride)
        due = due_at(feed, range(seq, seq + count))
        assert due == [last for last in range(seq, seq + count) if last >= 15 and (last - 15) % stride == 0]
        seq += count
    assert not feed.windows_dropped
