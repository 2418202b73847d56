from __future__ import annotations

from itertools import pairwise

import pytest

from stream_i3d.capture.frame_times import CUT_STILL_S, LONGEST_STILL_S, FrameTimes


def times_of(stamps: list[float | None], fps: float | None = 25.0, dts: list[float] | None = None) -> list[float]:
    times = FrameTimes(fps)
    return [times.push(stamp, None if dts is None else dts[place]) for place, stamp in enumerate(stamps)]


@pytest.mark.parametrize("start", [0.0, 3600.0, -5.0, 95443.7])
def test_the_first_picture_is_at_nought_wherever_the_file_begins(start: float) -> None:
    assert times_of([start, start + 0.033, start + 0.1, start + 30.1]) == pytest.approx([0, 0.033, 0.1, 30.1])


@pytest.mark.parametrize("stamps", [[None] * 5, [0.0] * 5, [0.0, 0.04, 0.04, 0.03, 0.0]])
def test_time_stamps_that_are_missing_or_do_not_advance_are_replaced_by_the_nominal_step(
    stamps: list[float | None],
) -> None:
    assert times_of(stamps) == pytest.approx([0.0, 0.04, 0.08, 0.12, 0.16])


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan"), float("inf"), 90000.0, None])
def test_a_nominal_rate_that_is_nonsense_still_gives_times_that_advance(fps: float | None) -> None:
    assert times_of([0.0] * 3, fps) == pytest.approx([0.0, 1 / 25, 2 / 25])


def test_a_step_back_of_more_than_a_second_begins_a_new_part_and_keeps_its_steps() -> None:
    times = FrameTimes(25.0)
    got = [times.push(stamp) for stamp in (0.0, 0.1, 10.0, 0.0, 0.3, 0.4)]
    assert got == pytest.approx([0.0, 0.1, 10.0, 10.04, 10.34, 10.44])
    assert times.jumps == [(10.0, pytest.approx(-10.0))]


def test_an_hour_between_two_pictures_is_believed_and_more_is_cut() -> None:
    assert times_of([0.0, LONGEST_STILL_S, LONGEST_STILL_S + 1]) == [0.0, LONGEST_STILL_S, LONGEST_STILL_S + 1]
    times = FrameTimes(25.0)
    assert [times.push(stamp) for stamp in (0.0, 36000.0, 36000.1)] == pytest.approx(
        [0.0, CUT_STILL_S, CUT_STILL_S + 0.1]
    )
    assert times.jumps == [(0.0, 36000.0)]


def test_however_many_jumps_there_are_only_a_few_are_kept() -> None:
    times = FrameTimes(25.0)
    for number in range(100):
        times.push(36000.0 * number)
    assert len(times.jumps) == 3


def test_presentation_times_out_of_order_give_way_to_decoding_times() -> None:
    """H.264 with B-frames in AVI, whose container has no presentation times."""
    pts, dts = [0.04, 0.12, 0.16, 0.08, 0.2, 0.28, 0.32, 0.24], [0.08, 0.12, 0.16, 0.2, 0.24, 0.28, 0.32, 0.36]
    got = times_of(list(pts), dts=dts)
    assert got[3:] == pytest.approx([0.16, 0.2, 0.24, 0.28, 0.32])
    assert all(later > earlier for earlier, later in pairwise(got))


@pytest.mark.parametrize(("own", "lasts"), [(2.0, 2.0), (None, 0.04), (0.0, 0.04), (-1.0, 0.04), (1e9, 0.04)])
def test_the_last_picture_lasts_its_own_time_where_that_makes_sense(own: float | None, lasts: float) -> None:
    assert FrameTimes(25.0).lasts(own) == pytest.approx(lasts)
