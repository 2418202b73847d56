from __future__ import annotations

from stream_i3d.messages import LabelScore
from stream_i3d.scenes import LABELS
from stream_i3d.service.camera_names import name_cameras
from stream_i3d.service.demo import DemoScore, demo_config
from stream_i3d.transport.addresses import check_bind
from tests.samples import recognition


def scores(smoothed: str, alone: str) -> list[LabelScore]:
    """A top list whose smoothed best is one label and whose best of the window alone may be another."""
    return [
        LabelScore(
            index=index,
            label=label,
            probability=0.9 if label == smoothed else 0.01,
            raw_probability=0.9 if label == alone else 0.01,
        )
        for index, label in enumerate(LABELS)
    ]


def test_a_window_is_right_as_shown_and_by_itself_apart() -> None:
    score = DemoScore()
    score.take(recognition(label="left", top_k=scores("left", "left")), "left")
    score.take(recognition(label="left", top_k=scores("left", "right")), "right")  # smoothing lags a change
    score.take(recognition(label="up", top_k=scores("up", "down")), "left")
    assert (score.windows, score.shown_right, score.window_right) == (3, 1, 2)


def test_mistakes_of_windows_are_kept_as_pairs_of_truth_and_answer() -> None:
    score = DemoScore()
    for _ in range(3):
        score.take(recognition(label="up", top_k=scores("up", "down")), "left")
    score.take(recognition(label="up", top_k=scores("up", "up")), "left")
    score.take(recognition(label="left", top_k=scores("left", "left")), "left")
    assert score.confusions == {("left", "down"): 3, ("left", "up"): 1}


def test_windows_across_a_change_of_motion_are_left_out() -> None:
    score = DemoScore()
    score.take(recognition(label="left", top_k=scores("left", "left")), None)
    assert score.windows == 0


def test_windows_that_were_not_judged_are_left_out() -> None:
    score = DemoScore()
    score.take(recognition(state="warming", label=None, top_k=[]), "left")
    assert score.windows == 0


def test_idle_is_right_where_nothing_moves() -> None:
    score = DemoScore()
    score.take(recognition(state="idle", label=None, top_k=scores("still", "still")), "still")
    score.take(recognition(state="idle", label=None, top_k=scores("still", "still")), "left")
    assert (score.windows, score.shown_right) == (2, 1)


def test_the_result_is_one_line_of_percentages() -> None:
    score = DemoScore()
    for truth in ("left", "left", "left", "right"):
        score.take(recognition(label="left", top_k=scores("left", truth)), truth)
    line = score.describe()
    assert "live accuracy 100.0 % window by window, 75.0 % as shown" in line
    assert "over 4 windows" in line
    assert "\n" not in line


def test_no_window_at_all_is_said_rather_than_divided_by() -> None:
    assert DemoScore().describe() == "no window was recognised"


def test_the_demo_shows_every_label_and_keeps_still_as_a_label() -> None:
    config = demo_config(7)
    assert config.publish.top_k == len(LABELS)
    assert (config.idle.min_confidence, config.idle.min_motion) == (0.0, 0.0)
    check_bind(config.publish.address)
    [(name, address, source)] = name_cameras(config)
    assert (name, address.kind) == ("demo", "synthetic")
    assert "seed=7" in source
