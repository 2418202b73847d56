from __future__ import annotations

import numpy as np
import pytest

from stream_i3d.config import Config, IdleConfig, SmoothingConfig
from stream_i3d.messages import FrameStamp, Prediction, Window
from stream_i3d.training.outlook import JudgedWindow, judge_windows, make_outlook, recommend_threshold
from stream_i3d.training.streaming import Said

LABELS = ("bend", "wave")


def said(place: int, bend: float | None, motion: float = 9.0) -> Said:
    last = 15 + 8 * place
    stamp = FrameStamp(camera="c", epoch=0, seq=last, capture_ns=0, wall_time=0.0, media_time=last / 25)
    window = Window(first_frame=last - 15, last_frame=last, start_time=(last - 15) / 25, end_time=last / 25)
    prediction = None if bend is None else Prediction(np.array([bend, 1 - bend], np.float32), 1.0)
    return Said(window, stamp, prediction, motion)


def test_windows_are_judged_as_live_smoothed_and_by_motion() -> None:
    config = Config(smoothing=SmoothingConfig(method="mean", last=2), idle=IdleConfig(min_motion=2.0))
    judged = judge_windows([said(0, None), said(1, 0.9), said(2, 0.3), said(3, 0.1, 1.0)], "bend", LABELS, config)
    assert [round(one.confidence, 3) for one in judged] == [0.9, 0.6, 0.8]
    assert [one.right for one in judged] == [True, True, False]
    assert [one.moving for one in judged] == [True, True, False]


def windows(*confidences: float, right: bool = True, moving: bool = True) -> list[JudgedWindow]:
    return [JudgedWindow(confidence, right, moving) for confidence in confidences]


def test_the_outlook_counts_what_passes_and_what_is_right() -> None:
    judged = [*windows(0.9, 0.8, 0.2), *windows(0.7, right=False), *windows(0.6, moving=False)]
    outlook = make_outlook(2, judged, 0.3, recommended=False)
    assert (outlook.windows, outlook.confident, outlook.recognised, outlook.right) == (5, 4, 3, 2)
    assert outlook.lines()[0] == (
        "live: of 5 windows of 2 validation videos, 4 pass min_confidence 0.3, 2 are recognised and right, 2 are idle"
    )


def test_a_network_that_is_idle_live_is_told_with_what_to_do() -> None:
    outlook = make_outlook(10, windows(*[0.2] * 9, 0.4), 0.3, recommended=False)
    assert outlook.few
    assert "few windows pass" in outlook.lines()[1] and "--min-confidence 0.15" in outlook.lines()[1]
    still = make_outlook(10, windows(*[0.9] * 10, moving=False), 0.3, recommended=False)
    assert "--min-motion" in still.lines()[1]
    assert len(make_outlook(10, windows(*[0.9] * 10), 0.3, recommended=False).lines()) == 1


def test_no_video_as_long_as_a_window_is_told() -> None:
    assert make_outlook(3, [], 0.3, recommended=False).lines() == [
        "live: no validation video is as long as a window, so what live use will be like is not known"
    ]


@pytest.mark.parametrize(
    ("right", "wrong", "classes", "threshold"),
    [
        ([0.2] * 20, [0.1] * 5, 10, 0.2),  # unsure, but right: all pass
        ([0.9] * 20, [0.2] * 5, 10, None),  # the usual threshold serves
        ([0.05] * 20, [], 10, 0.15),  # not down to chance
        ([], [0.2] * 5, 10, None),  # never right: nothing to keep
        ([0.6] * 20, [], 2, None),
    ],
)
def test_a_threshold_lets_nine_in_ten_right_windows_pass(
    right: list[float], wrong: list[float], classes: int, threshold: float | None
) -> None:
    judged = [*windows(*right), *windows(*wrong, right=False)]
    assert recommend_threshold(judged, classes) == threshold
