from __future__ import annotations

import random
from collections.abc import Iterable
from itertools import groupby

import pytest

from stream_i3d.capture.collect_schedule import STALL_S, CollectPlan, CollectSchedule, Cue
from stream_i3d.errors import ConfigError

START_S = 1000.0


def steady(fps: float, seconds: float) -> list[float]:
    return [START_S + index / fps for index in range(round(fps * seconds))]


def drive(takes: CollectSchedule, times: Iterable[float]) -> list[tuple[float, Cue]]:
    """Push pictures until all takes are done; return each one's time from the first on, and what is done with it."""
    seen: list[tuple[float, Cue]] = []
    for time in times:
        if takes.done:
            break
        seen.append((time - START_S, takes.push(time)))
    return seen


def phases(seen: list[tuple[float, Cue]]) -> list[tuple[str, int, float]]:
    """Return (phase, take, time of its first picture) in order."""
    runs = groupby(seen, key=lambda one: (one[1].phase, one[1].take))
    return [(phase, take, round(next(run)[0], 3)) for (phase, take), run in runs]


def frames_of(seen: list[tuple[float, Cue]], take: int) -> int:
    return sum(cue.frames for _, cue in seen if cue.take == take)


def test_a_camera_settles_once_then_each_take_is_counted_down_recorded_and_followed_by_a_pause() -> None:
    takes = CollectSchedule(CollectPlan(takes=2, seconds=2, countdown_s=3, pause_s=1), settle_s=0.5)
    seen = drive(takes, steady(20, 60))
    assert takes.done
    assert phases(seen) == [
        ("settling", 1, 0.0),
        ("countdown", 1, 0.5),
        ("recording", 1, 3.5),
        ("pause", 2, 5.5),
        ("countdown", 2, 6.45),
        ("recording", 2, 9.45),
    ]


def test_nothing_is_recorded_but_while_recording() -> None:
    seen = drive(CollectSchedule(CollectPlan(takes=2)), steady(30, 60))
    assert {cue.phase for _, cue in seen if cue.frames} == {"recording"}


def test_the_countdown_says_how_long_it_lasts() -> None:
    seen = drive(CollectSchedule(CollectPlan(takes=1, countdown_s=2)), steady(10, 60))
    left = [cue.left_s for _, cue in seen if cue.phase == "countdown"]
    assert left == pytest.approx([2 - index / 10 for index in range(20)])


def test_the_recording_says_how_much_is_left() -> None:
    seen = drive(CollectSchedule(CollectPlan(takes=1, seconds=2, countdown_s=0)), steady(25, 60))
    left = [cue.left_s for _, cue in seen]
    assert left == pytest.approx([2 - (index + 1) / 25 for index in range(50)])


def test_without_countdown_and_pause_takes_follow_each_other() -> None:
    seen = drive(CollectSchedule(CollectPlan(takes=3, seconds=1, countdown_s=0, pause_s=0)), steady(25, 60))
    assert phases(seen) == [("recording", 1, 0.0), ("recording", 2, 1.0), ("recording", 3, 2.0)]


@pytest.mark.parametrize("camera_fps", [5, 10, 15, 24, 25, 29.97, 60, 120])
@pytest.mark.parametrize("clip_fps", [12.5, 25, 30])
def test_a_take_has_its_frames_and_its_time_whatever_the_rates(camera_fps: float, clip_fps: float) -> None:
    plan = CollectPlan(takes=2, seconds=4, countdown_s=1, fps=clip_fps)
    seen = drive(CollectSchedule(plan), steady(camera_fps, 60))
    for take in (1, 2):
        assert frames_of(seen, take) == round(4 * clip_fps)
        times = [time for time, cue in seen if cue.take == take and cue.phase == "recording"]
        assert times[-1] - times[0] == pytest.approx(4, abs=1 / camera_fps + 1.7 / clip_fps)


def test_a_take_has_its_frames_and_its_time_from_a_camera_that_jitters() -> None:
    rng = random.Random(1)
    times = [time + rng.uniform(-0.03, 0.03) for time in steady(15, 60)]
    seen = drive(CollectSchedule(CollectPlan(takes=3)), times)
    for take in (1, 2, 3):
        assert frames_of(seen, take) == 75
        of_take = [time for time, cue in seen if cue.take == take and cue.phase == "recording"]
        assert of_take[-1] - of_take[0] == pytest.approx(3, abs=0.15)


def test_a_source_slower_than_the_phases_still_fills_its_takes() -> None:
    takes = CollectSchedule(CollectPlan(takes=2, seconds=0.5, countdown_s=0.2, pause_s=0.2), settle_s=0.2)
    seen = drive(takes, steady(1.25, 60))
    assert takes.done
    assert [frames_of(seen, take) for take in (1, 2)] == [12, 12]


def test_a_take_is_cut_into_whole_clips_and_no_rest_is_recorded() -> None:
    plan = CollectPlan(takes=1, seconds=60, split_s=7)
    assert (plan.clips_per_take, plan.clip_frames, plan.take_frames) == (8, 175, 1400)
    assert frames_of(drive(CollectSchedule(plan), steady(25, 100)), 1) == 1400


def test_a_length_that_is_a_multiple_but_for_rounding_loses_no_clip() -> None:
    assert CollectPlan(seconds=0.6, split_s=0.2).clips_per_take == 3


def test_a_stall_breaks_a_take_off_and_it_is_counted_down_and_recorded_again() -> None:
    takes = CollectSchedule(CollectPlan(takes=1, seconds=2, countdown_s=1, pause_s=0))
    before, after = steady(25, 2), [time + 1.5 for time in steady(25, 60) if time >= START_S + 2]
    seen = drive(takes, before + after)
    assert phases(seen) == [
        ("countdown", 1, 0.0),
        ("recording", 1, 1.0),
        ("countdown", 1, 3.5),
        ("recording", 1, 4.5),
    ]
    assert [(time, cue.gap_s) for time, cue in seen if cue.gap_s] == [(3.5, pytest.approx(1.54))]
    assert sum(cue.frames for time, cue in seen if time >= 3.5) == 50


def test_after_a_stall_the_whole_clips_of_a_take_count() -> None:
    takes = CollectSchedule(CollectPlan(takes=1, seconds=10, split_s=2, countdown_s=0))
    before, after = steady(25, 5), [time + 3 for time in steady(25, 60) if time >= START_S + 5]
    seen = drive(takes, before + after)
    assert frames_of(seen[: len(before)], 1) == 125  # two clips, and half of the third
    assert frames_of(seen[len(before) :], 1) == 150


def test_a_gap_that_is_no_stall_is_filled_with_repeats() -> None:
    takes = CollectSchedule(CollectPlan(takes=1, seconds=2, countdown_s=0))
    frames = [takes.push(time).frames for time in (0.0, 0.04, 0.04 + STALL_S, 0.08 + STALL_S)]
    assert frames == [1, 1, 25, 1]


def test_a_stall_while_nothing_is_recorded_breaks_nothing_off() -> None:
    takes = CollectSchedule(CollectPlan(takes=1, countdown_s=3))
    assert [takes.push(time).gap_s for time in (0.0, 0.5, 2.5, 4.5, 4.6)] == [0, 0, 0, 0, 0]
    assert takes.breaks == 0


def test_breaks_in_a_row_are_counted_until_a_clip_is_whole() -> None:
    takes = CollectSchedule(CollectPlan(takes=2, seconds=1, countdown_s=0, pause_s=0))
    takes.push(0.0)
    assert takes.push(2.0).gap_s == 2.0
    takes.push(4.0)
    assert takes.breaks == 2
    assert [takes.push(time).frames for time in (4.5, 5.0)] == [12, 12]
    assert takes.breaks == 0


def test_the_last_picture_of_a_file_is_there_for_its_own_time() -> None:
    takes = CollectSchedule(CollectPlan(takes=1, seconds=3, countdown_s=0, fps=25))
    seen = drive(takes, steady(10, 3))  # the last at 2.9 s, seen until 3.0 s
    assert not takes.done
    assert takes.finish() == 75 - frames_of(seen, 1)
    assert takes.done


def test_a_file_that_ends_too_early_leaves_its_take_unfinished() -> None:
    takes = CollectSchedule(CollectPlan(takes=1, seconds=3, countdown_s=0, fps=25))
    drive(takes, steady(10, 2.9))
    takes.finish()
    assert not takes.done


def test_the_end_of_a_file_between_takes_records_nothing() -> None:
    takes = CollectSchedule(CollectPlan(takes=2, seconds=1, countdown_s=0.1))
    assert takes.finish() == 0
    takes.push(0.0)
    assert takes.finish() == 0


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"takes": 0}, "--clips 0: allowed is 1 to 10000"),
        ({"seconds": float("nan")}, "--seconds nan: allowed is 0.2 to 3600"),
        ({"countdown_s": -1.0}, "--countdown -1: allowed is 0 to 3600"),
        ({"pause_s": float("inf")}, "--pause inf: allowed is 0 to 3600"),
        ({"fps": 0.0}, "--fps 0: allowed is 5 to 240"),
        ({"split_s": 0.1}, "--split 0.1: allowed is 0.2 to 3600"),
        ({"split_s": 5.0}, "--split 5: longer than the recording; give at most --seconds 3"),
    ],
)
def test_a_value_out_of_range_is_told(values: dict[str, float], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        CollectPlan(**values)  # type: ignore[arg-type]
    assert str(caught.value) == told
