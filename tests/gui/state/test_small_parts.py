"""Bars, series, grid, service watch, preferences, shortcuts, recording, found cameras."""

from __future__ import annotations

import pytest
from stream_i3d_gui.sources import found_cameras
from stream_i3d_gui.state.bars import Bars
from stream_i3d_gui.state.grid import Layout, best_columns
from stream_i3d_gui.state.preferences import Preferences, from_plain, to_plain
from stream_i3d_gui.state.recording import FPS, Pace, even, file_name
from stream_i3d_gui.state.series import Series
from stream_i3d_gui.state.service import ServiceWatch
from stream_i3d_gui.state.shortcuts import actions, groups


def test_bars_move_towards_their_value_and_then_rest():
    bars = Bars(time_constant_s=0.1)
    bars.aim([("waving", 0.8)])
    assert bars.moving and bars.shown == [("waving", 0.0)]
    seen = [0.0]
    while bars.step(0.016):
        seen.append(bars.shown[0][1])
        assert len(seen) < 200
    assert seen == sorted(seen) and bars.shown == [("waving", 0.8)] and not bars.moving


def test_bars_move_alike_at_every_frame_rate():
    slow, fast = Bars(), Bars()
    for bars, steps in ((slow, 1), (fast, 10)):
        bars.aim([("waving", 0.8)])
        for _ in range(steps):
            bars.step(0.1 / steps)
    assert slow.shown[0][1] == pytest.approx(fast.shown[0][1])


def test_a_bar_starts_where_the_label_was_and_a_new_one_from_nothing():
    bars = Bars()
    bars.aim([("waving", 0.8)])
    bars.settle()
    bars.aim([("left", 0.7), ("waving", 0.2)])
    assert bars.shown == [("left", 0.0), ("waving", 0.8)]


def test_series_forget_what_is_old_and_know_rate_and_median():
    series = Series(span_s=10)
    for number in range(40):
        series.add(number * 0.5, float(number))
    assert series.points(19.5)[0] == (9.5, 19.0)
    assert series.latest(20.0) == 39.0 and series.latest(30.0) is None
    assert series.percentile(0.5, 19.5, 2.0) == 37.0
    assert series.rate(19.5) == 2.0 and series.rate(60.0) is None
    assert Series().percentile(0.5, 0.0) is None


def test_series_are_bounded():
    series = Series(limit=5)
    for _ in range(100):
        series.add(1.0, 1.0)
    assert len(series.points(1.0)) == 5


@pytest.mark.parametrize(
    ("cameras", "width", "height", "columns"),
    [(1, 1280, 720, 1), (2, 1280, 720, 2), (2, 600, 1200, 1), (4, 1280, 720, 2), (5, 1280, 720, 3), (9, 1280, 720, 3)],
)
def test_the_grid_makes_the_pictures_as_large_as_it_can(cameras, width, height, columns):
    assert best_columns(cameras, width, height) == columns


def test_cameras_keep_their_place_and_new_ones_come_last():
    layout = Layout(["yard", "door"])
    assert layout.settle(["door", "attic", "yard"])
    assert layout.cameras == ["yard", "door", "attic"]
    assert not layout.settle(["attic", "door", "yard"])
    assert layout.settle(["door", "attic"])
    assert layout.settle(["door", "attic", "yard"])
    assert layout.cameras == ["yard", "door", "attic"]


def test_cameras_that_are_there_keep_their_place_however_many_came_and_went():
    layout = Layout()
    for number in range(100):
        layout.settle(["door", "yard", f"passing-{number}"])
    layout.settle(["door", "yard"])
    order = layout.as_plain()["order"]
    assert order[:2] == ["door", "yard"] and len(order) == 66 and order[-1] == "passing-99"


def test_an_enlarged_camera_fills_the_window_while_it_is_there():
    layout = Layout()
    layout.settle(["a", "b", "c"])
    layout.enlarge("b")
    assert layout.visible == ["b"]
    layout.step(1)
    assert layout.enlarged == "c"
    layout.step(1)
    assert layout.enlarged == "a"
    layout.settle(["b", "c"])
    assert layout.enlarged is None and layout.visible == ["b", "c"]
    layout.step(-1)
    assert layout.enlarged == "c"


def test_moving_and_renaming_keep_the_rest_in_place():
    layout = Layout()
    layout.settle(["a", "b", "c"])
    layout.move("c", -1)
    layout.move("a", -1)
    assert layout.cameras == ["a", "c", "b"]
    layout.enlarge("c")
    layout.rename("c", "gate")
    layout.settle(["b", "gate", "a"])
    assert layout.cameras == ["a", "gate", "b"] and layout.enlarged == "gate"


def test_a_layout_is_remembered_and_nonsense_is_not():
    layout = Layout()
    layout.settle(["b", "a"])
    layout.enlarge("a")
    again = Layout.from_plain(layout.as_plain())
    again.settle(["a", "b"])
    assert again.cameras == ["b", "a"] and again.enlarged == "a"
    assert Layout.from_plain({"order": 3, "enlarged": [1]}).cameras == []


def test_a_silent_service_is_lost_within_three_seconds_and_found_again():
    watch = ServiceWatch("tcp://127.0.0.1:5557")
    assert watch.state(100.0) == "searching"
    watch.heard(100.0)
    assert watch.state(102.0) == "up"
    assert watch.state(102.9) == "lost"
    assert "3.0 s" in watch.describe(103.0)
    watch.heard(110.0)
    assert watch.state(110.0) == "up"


def test_a_broken_connection_is_a_lost_service_at_once():
    watch = ServiceWatch("x")
    watch.broken(1.0)
    assert watch.state(1.0) == "searching"
    watch.heard(2.0)
    watch.broken(2.1)
    assert watch.state(2.1) == "lost"


def test_preferences_survive_a_store_that_knows_only_words():
    chosen = Preferences(top_k=3, show_bars=False, hidden_labels=("left", "right"), folder="/tmp/x")
    words = {
        key: value if isinstance(value, list) else str(value).lower() if isinstance(value, bool) else str(value)
        for key, value in to_plain(chosen).items()
    }
    assert from_plain(words) == chosen
    assert from_plain(to_plain(chosen)) == chosen


def test_preferences_that_make_no_sense_are_the_defaults():
    nonsense = {"top_k": "999", "show_bars": [], "hidden_labels": 7, "panel_tab": "-1", "folder": None, "x": 1}
    assert from_plain(nonsense) == Preferences()
    assert from_plain({"hidden_labels": "one"}).hidden_labels == ("one",)


def test_no_two_actions_share_a_key_or_a_name():
    keys = [key for action in actions() for key in action.keys]
    assert len(keys) == len(set(keys)) and all(action.keys for action in actions())
    assert len({action.id for action in actions()}) == len(actions())
    assert sum(len(group.actions) for group in groups()) == len(actions())


def test_a_recording_keeps_its_pace_whatever_the_pictures_do():
    pace = Pace(100.0)
    assert pace.due(100.0) == 1
    assert pace.due(100.01) == 0
    assert pace.due(101.0) == FPS
    assert pace.due(1000.0) == 2 * FPS  # a suspended machine does not fill the disk
    assert pace.written == 1 + FPS + 2 * FPS


def test_a_recording_has_even_sides():
    assert even(641, 361) == (640, 360)


def test_a_files_name_has_no_character_that_leads_elsewhere():
    assert file_name("../../etc", 0.0, "png").startswith("etc-19700101-")
    assert file_name("...", 0.0, "png").startswith("camera-")


def test_cameras_are_found_by_number_and_each_once(tmp_path):
    devices, system = tmp_path / "dev", tmp_path / "sys"
    devices.mkdir()
    for number, index, name in ((10, "0", "Desk camera"), (2, "0", "Door camera"), (3, "1", "Door camera")):
        (devices / f"video{number}").touch()
        (system / f"video{number}").mkdir(parents=True)
        (system / f"video{number}" / "index").write_text(index + "\n")
        (system / f"video{number}" / "name").write_text(name + "\n")
    (devices / "video-enc").touch()
    (devices / "video4").touch()  # a node that the system says nothing about
    found = found_cameras(devices, system)
    assert [(one.source, one.name) for one in found] == [("2", "Door camera"), ("4", "Camera 4"), ("10", "Desk camera")]
    assert found_cameras(tmp_path / "none", system) == []
