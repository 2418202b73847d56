from __future__ import annotations

from collections.abc import Iterable

import pytest

from stream_i3d.config import WindowConfig
from stream_i3d.inference.schedule import Due, Schedule
from stream_i3d.messages import FrameStamp
from stream_i3d.preprocess import Preprocessing
from tests.samples import stamp

SIZE = 32
SIXTEEN = Preprocessing(short_side=SIZE, crop_size=SIZE)
SPREAD = Preprocessing(short_side=SIZE, crop_size=SIZE, clip_len=8, frame_interval=3)  # 22 frames from first to last


def schedule(
    stamps: Iterable[FrameStamp], preprocessing: Preprocessing = SIXTEEN, stride: int = 8, ratio: float = 1.5
) -> list[tuple[int, Due]]:
    """(seq, what was due at it) for each frame at which something was."""
    schedule_ = Schedule(preprocessing, WindowConfig(stride=stride, max_span_ratio=ratio))
    dues = [(stamp.seq, schedule_.push(stamp, position)) for position, stamp in enumerate(stamps)]
    return [(seq, due) for seq, due in dues if due is not None]


@pytest.mark.parametrize(("preprocessing", "span"), [(SIXTEEN, 16), (SPREAD, 22)])
@pytest.mark.parametrize("stride", [1, 4, 7, 8, 40])
def test_windows_end_at_the_span_and_every_stride_after_it(preprocessing, span, stride):
    whole = [
        (seq, due.first, due.last) for seq, due in schedule(map(stamp, range(100)), preprocessing, stride) if due.ready
    ]
    assert whole == [(seq, seq - span + 1, seq) for seq in range(span - 1, 100, stride)]


def test_before_the_first_whole_window_strides_are_due_as_warming():
    dues = schedule(map(stamp, range(16)), stride=4)
    assert [(seq, due.first, due.ready, due.reason) for seq, due in dues] == [
        (3, 0, False, None),
        (7, 0, False, None),
        (11, 0, False, None),
        (15, 0, True, None),
    ]


def test_a_worker_that_comes_late_takes_the_same_windows():
    schedule_ = Schedule(SIXTEEN, WindowConfig())
    dues = [(seq, schedule_.push(stamp(seq), seq - 1000)) for seq in range(1000, 1048)]
    whole = [seq for seq, due in dues if due and due.ready]
    assert whole == [seq for seq in range(1000, 1048) if seq >= 1015 and seq % 8 == 7]
    assert all(due.reason is None for _, due in dues if due)


def test_a_missing_frame_costs_the_windows_over_it_and_no_others():
    dues = schedule(stamp(seq) for seq in range(64) if seq != 30)
    assert [(seq, due.reason or "whole") for seq, due in dues if seq >= 15] == [
        (15, "whole"),
        (23, "whole"),
        (31, "gap"),
        (39, "gap"),
        (47, "whole"),
        (55, "whole"),
        (63, "whole"),
    ]


def test_a_number_that_comes_again_breaks_the_window():
    schedule_ = Schedule(SIXTEEN, WindowConfig())
    seqs = [*range(10), 9, *range(10, 16)]
    due = [schedule_.push(stamp(seq), position) for position, seq in enumerate(seqs)][-1]
    assert due is not None
    assert (due.first, due.last, due.whole, due.ready, due.reason) == (10, 16, False, False, "gap")


def test_a_new_epoch_starts_a_new_window():
    schedule_ = Schedule(SIXTEEN, WindowConfig())
    stamps = [stamp(seq, epoch=1) for seq in range(20)] + [stamp(seq, epoch=2) for seq in range(40)]
    dues = [(item, schedule_.push(item, position)) for position, item in enumerate(stamps)]
    found = [(item.epoch, item.seq, due.reason or due.ready) for item, due in dues if due]
    assert found == [
        (1, 7, False),
        (1, 15, True),
        (2, 7, "epoch"),
        (2, 15, True),
        (2, 23, True),
        (2, 31, True),
        (2, 39, True),
    ]


def test_epochs_are_only_compared_for_equality():
    dues = schedule([stamp(seq, epoch=9) for seq in range(20)] + [stamp(seq, epoch=3) for seq in range(20, 24)])
    assert [due.reason for seq, due in dues if seq >= 20] == ["epoch"]


def test_a_broken_window_starts_after_the_break():
    dues = dict(schedule([stamp(seq, epoch=1) for seq in range(20)] + [stamp(seq, epoch=2) for seq in range(8)]))
    due = dues[7]
    assert (due.first, due.last, due.whole, due.ready, due.reason) == (20, 27, False, False, "epoch")


def test_a_window_that_spans_too_long_is_rejected_once_for_every_stride_over_the_pause():
    times = [seq / 25 + (0.5 if seq >= 20 else 0) for seq in range(64)]
    dues = schedule((stamp(seq, time=time) for seq, time in enumerate(times)), stride=4)
    assert [(seq, due.reason) for seq, due in dues if due.reason] == [
        (23, "span"),
        (27, "span"),
        (31, "span"),
    ]
    assert [due.first for _, due in dues if due.reason] == [8, 12, 16]
    assert all(due.ready for seq, due in dues if seq >= 35)


@pytest.mark.parametrize(("pause_s", "whole"), [(0.30, True), (0.34, False)])
def test_the_allowed_span_is_the_ratio_of_the_nominal_one_and_half_a_frame(pause_s, whole):
    # 15 frames at 25 a second are 0.6 s; 1.5 of that and half of 0.04 s are 0.92 s.
    times = [seq / 25 + (pause_s if seq >= 8 else 0) for seq in range(16)]
    (due,) = (due for seq, due in schedule(stamp(seq, time=time) for seq, time in enumerate(times)) if seq == 15)
    assert due.ready == whole


def test_the_span_of_a_file_is_its_media_time_however_fast_it_is_read():
    steady = schedule(stamp(seq, time=0.0, media_time=seq / 25) for seq in range(16))
    assert steady[-1][1].ready
    pausing = schedule(stamp(seq, time=seq / 25, media_time=seq / 25 + (seq > 7)) for seq in range(16))
    assert pausing[-1][1].reason == "span"


def test_a_step_of_the_wall_clock_is_no_pause():
    dues = schedule(stamp(seq, wall_time=1e9 + seq / 25 + (3600 if seq > 7 else 0)) for seq in range(16))
    assert dues[-1][1].ready
