"""Controls, details, curves, status line, empty state, help sheet, the question for a camera."""

from __future__ import annotations

import pytest
from PyQt6.QtCore import QRect, Qt
from PyQt6.QtTest import QTest
from PyQt6.QtWidgets import QApplication, QDialogButtonBox, QLabel, QScrollArea
from stream_i3d_gui.sources import FoundCamera
from stream_i3d_gui.state.first_run import emptiness
from stream_i3d_gui.state.shortcuts import actions
from stream_i3d_gui.state.statistics import CameraStatistics, Statistic
from stream_i3d_gui.state.timeline import Timeline
from stream_i3d_gui.widgets.add_camera import SCENE, AddCamera, name_problem
from stream_i3d_gui.widgets.controls import ControlPanel
from stream_i3d_gui.widgets.curves import Curve
from stream_i3d_gui.widgets.details import DetailsPanel
from stream_i3d_gui.widgets.empty import EmptyState
from stream_i3d_gui.widgets.help_sheet import HelpSheet
from stream_i3d_gui.widgets.status_bar import StatusLine
from stream_i3d_gui.widgets.theme import DARK, LIGHT
from stream_i3d_gui.widgets.timeline_strip import TimelineStrip

from tests.gui.service import SETTINGS
from tests.samples import recognition


@pytest.fixture
def controls(application, qtbot):
    made = ControlPanel()
    qtbot.addWidget(made)
    made.set_available(True)
    made.set_settings(SETTINGS)
    made.set_labels(["waving", "left", "right"], frozenset({"left"}))
    made.show()
    return made


def test_the_controls_show_the_services_settings_and_ask_for_nothing_by_it(controls, qtbot):
    with qtbot.assertNotEmitted(controls.changed, wait=300):
        controls.set_settings({**SETTINGS, "idle.min_confidence": 0.62, "window.stride": 500})
    assert controls.threshold.value() == 62 and controls.threshold_slider.value() == 62
    assert controls.stride.value() == 500
    assert controls.smoothing.currentData() == "ema"
    assert controls.time_constant.isEnabled() and not controls.last.isEnabled()


@pytest.mark.parametrize(
    ("act", "asked"),
    [
        (lambda c: c.threshold_slider.setValue(55), {"idle.min_confidence": 0.55}),
        (lambda c: c.stride.setValue(4), {"window.stride": 4}),
        (lambda c: c.time_constant.setValue(1.25), {"smoothing.time_constant_s": 1.25}),
        (lambda c: c.motion.setValue(3.5), {"idle.min_motion": 3.5}),
        (lambda c: c.skip.setChecked(True), {"idle.skip_inference": True}),
        (lambda c: c.smoothing.setCurrentIndex(c.smoothing.findData("vote")), {"smoothing.method": "vote"}),
    ],
)
def test_a_control_asks_at_once(controls, qtbot, act, asked):
    with qtbot.waitSignal(controls.changed, timeout=2000) as changed:
        act(controls)
    assert changed.args == [asked]


def test_a_dragged_slider_asks_once_for_its_last_value(controls, qtbot):
    with qtbot.waitSignal(controls.changed, timeout=2000) as changed:
        for value in range(31, 60):
            controls.threshold_slider.setValue(value)
    assert changed.args == [{"idle.min_confidence": 0.59}]


def test_the_smoothing_that_is_chosen_decides_which_number_counts(controls):
    controls.smoothing.setCurrentIndex(controls.smoothing.findData("mean"))
    assert not controls.time_constant.isEnabled() and controls.last.isEnabled()


def test_keys_change_a_number(controls, qtbot):
    controls.stride.setFocus()
    with qtbot.waitSignal(controls.changed, timeout=2000) as changed:
        QTest.keyClick(controls.stride, Qt.Key.Key_Up)
    assert changed.args == [{"window.stride": 9}]


def test_labels_can_be_found_and_switched_off(controls, qtbot):
    items = controls._items()
    assert [item.checkState() == Qt.CheckState.Checked for item in items] == [True, False, True]
    with qtbot.waitSignal(controls.hidden_changed) as hidden:
        items[0].setCheckState(Qt.CheckState.Unchecked)
    assert hidden.args == [("waving", "left")]
    QTest.keyClicks(controls.label_search, "RIG")
    assert [item.isHidden() for item in items] == [True, True, False]
    with qtbot.waitSignal(controls.hidden_changed) as hidden:
        controls.all_labels.click()
    assert hidden.args == [()]


def test_hidden_labels_of_another_model_stay_hidden(controls, qtbot):
    controls.set_labels(["waving", "left", "right"], frozenset({"left", "juggling"}))
    with qtbot.waitSignal(controls.hidden_changed) as hidden:
        controls._items()[0].setCheckState(Qt.CheckState.Unchecked)
    assert hidden.args == [("waving", "left", "juggling")]
    with qtbot.waitSignal(controls.hidden_changed) as hidden:
        controls.all_labels.click()
    assert hidden.args == [()]


def test_without_a_service_only_the_windows_own_controls_work(controls):
    controls.set_available(False)
    assert not controls.stride.isEnabled() and controls.top_k.isEnabled()


def test_every_control_has_a_name_and_a_tip(controls):
    for widget in (controls.threshold, controls.threshold_slider, controls.smoothing, controls.time_constant):
        assert widget.accessibleName() and widget.toolTip()
    for widget in (controls.last, controls.stride, controls.motion, controls.top_k, controls.labels):
        assert widget.accessibleName() and widget.toolTip()


def test_details_show_the_newest_figures_with_units_and_facts_by_name(application, qtbot):
    panel = DetailsPanel()
    qtbot.addWidget(panel)
    panel.resize(320, 900)
    figures = CameraStatistics()
    panel.refresh("door", figures, {"Messages that were not ours": "0"}, 1.0)
    blank = panel.curves["total_ms"].grab().toImage()
    assert panel.curves["total_ms"].newest == "no values yet"
    for number in range(20):
        figures.take_recognition(recognition(), 1.0 + number)
    panel.refresh("door", figures, {"Messages that were not ours": "3"}, 20.0)
    assert panel.curves["total_ms"].newest == "22.2 ms"
    assert panel.curves["total_ms"].accessibleDescription() == "22.2 ms"
    assert panel.curves["total_ms"].grab().toImage() != blank
    assert panel.fact("Messages that were not ours") == "3"
    assert panel.camera.text() == "Camera door"


def test_the_status_line_leaves_out_what_has_no_room_and_cuts_nothing(application, qtbot):
    line = StatusLine()
    qtbot.addWidget(line)
    figures = [Statistic(name, "12.3 ms", "a meaning") for name in ("Pictures", "Inference", "Latency", "Model")]
    line.resize(1200, 28)
    line.show()
    line.set_service("Connected to tcp://127.0.0.1:5557", bad=False)
    line.set_figures(figures)
    assert all(label.isVisible() for label in line._figures.values())
    line.resize(300, 28)
    line.set_figures(figures)
    seen = [name for name, label in line._figures.items() if label.isVisible()]
    assert seen and seen == ["Pictures", "Inference", "Latency", "Model"][: len(seen)] and len(seen) < 4
    for name in seen:
        label = line._figures[name]
        assert label.width() >= label.sizeHint().width()
        assert label.toolTip() == "a meaning" and label.accessibleName() == f"{name} 12.3 ms"
    assert line.service.accessibleDescription() == "Connected to tcp://127.0.0.1:5557"


def test_the_figures_take_over_another_theme_and_go_with_what_they_were_about(application, qtbot):
    line = StatusLine()
    qtbot.addWidget(line)
    line.set_theme(LIGHT)
    line.set_figures([Statistic("Latency", "22 ms", ""), Statistic("Device", "cpu", "")])
    line.set_service("Connected", bad=True)
    line.set_theme(DARK)
    assert DARK.muted in line._figures["Device"].text() and LIGHT.muted not in line._figures["Device"].text()
    assert DARK.danger in line.service.styleSheet()
    line.set_figures([Statistic("Latency", "22 ms", "")])
    assert line.value("Device") == "" and list(line._figures) == ["Latency"]


@pytest.mark.parametrize("state", ["none", "starting", "searching", "loading", "up", "lost", "failed"])
@pytest.mark.parametrize("found", [0, 2])
def test_every_empty_state_says_something_and_offers_something(state, found):
    shown = emptiness(state, "tcp://x:1", "cannot open 0", found)
    assert shown.title and shown.text and shown.offers
    assert len({offer.id for offer in shown.offers}) == len(shown.offers)


def test_the_first_offer_is_the_one_that_works_here():
    assert emptiness("none", "", "", 1).offers[0].id == "camera"
    assert emptiness("none", "", "", 0).offers[0].id == "demo"
    assert emptiness("failed", "", "cannot read checkpoint x.pt", 1).offers[0].id == "carried"
    assert emptiness("failed", "", "cannot open webcam 0", 1).offers[0].id == "again"


def test_an_offer_is_taken_by_a_click_and_by_a_key(application, qtbot):
    empty = EmptyState()
    qtbot.addWidget(empty)
    empty.show()
    empty.show_state(emptiness("none", "", "", 0))
    with qtbot.waitSignal(empty.taken) as taken:
        QTest.mouseClick(empty.buttons["demo"], Qt.MouseButton.LeftButton)
    assert taken.args == ["demo"]
    with qtbot.waitSignal(empty.taken) as taken:
        QTest.keyClick(empty.buttons["video"], Qt.Key.Key_Space)
    assert taken.args == ["video"]
    before = empty.buttons["demo"]
    empty.show_state(emptiness("none", "", "", 0))
    assert empty.buttons["demo"] is before  # nothing is made anew under the pointer


def test_no_offer_is_cut_off_in_a_narrow_window(application, qtbot):
    empty = EmptyState()
    qtbot.addWidget(empty)
    empty.resize(900, 500)
    empty.show_state(emptiness("none", "", "", 0))
    empty.show()
    assert len({button.y() for button in empty.buttons.values()}) == 1
    empty.resize(260, 500)
    QApplication.processEvents()
    assert len({button.y() for button in empty.buttons.values()}) == 3
    for button in empty.buttons.values():
        assert button.x() >= 0 and button.geometry().right() < empty.width()


def test_the_controls_fit_the_narrowest_panel_and_are_scrolled_where_there_is_less_room(controls):
    scroll = controls.findChild(QScrollArea)
    controls.resize(280, 600)
    assert scroll.horizontalScrollBar().maximum() == 0
    controls.resize(140, 600)
    QApplication.processEvents()
    assert scroll.horizontalScrollBar().maximum() > 0 and scroll.horizontalScrollBar().isVisible()


def test_what_is_painted_follows_the_size_of_the_letters(application, qtbot):
    curve, strip = Curve("Latency", "ms", ""), TimelineStrip(Timeline())
    for widget in (curve, strip):
        qtbot.addWidget(widget)
        before, font = widget.height(), widget.font()
        font.setPixelSize(24)
        widget.setFont(font)
        assert widget.height() == widget.sizeHint().height() == 2 * before


def test_a_curves_title_leaves_room_for_its_value(application, qtbot):
    right_ends = []
    for title in ("Latency", "A title that is longer than the panel is wide, as other languages have them"):
        curve = Curve(title, "ms", "")
        qtbot.addWidget(curve)
        curve.resize(260, 92)
        curve.set_points([(1.0, 22.2)], 1.0)
        right_ends.append(curve.grab(QRect(210, 0, 50, 18)).toImage())
    assert right_ends[0] == right_ends[1]


def test_the_help_sheet_lists_every_action(application, qtbot):
    sheet = HelpSheet()
    qtbot.addWidget(sheet)
    words = {label.text() for label in sheet.findChildren(QLabel)}
    assert {action.meaning for action in actions()} <= words


def test_a_found_camera_is_chosen_with_a_name(application, qtbot):
    dialog = AddCamera([FoundCamera("2", "Door camera")], ["door"])
    qtbot.addWidget(dialog)
    ok = dialog.buttons.button(QDialogButtonBox.StandardButton.Ok)
    assert ok is not None and ok.isEnabled() and dialog.source == "2" and dialog.name is None
    dialog.camera_name.setText("door")
    assert not ok.isEnabled() and "taken" in dialog.problem.text()
    dialog.camera_name.setText("a b")
    assert not ok.isEnabled() and "letters" in dialog.problem.text()
    dialog.camera_name.setText("gate")
    assert ok.isEnabled() and dialog.name == "gate"


def test_without_cameras_an_address_is_asked_for(application, qtbot):
    dialog = AddCamera([], [])
    qtbot.addWidget(dialog)
    ok = dialog.buttons.button(QDialogButtonBox.StandardButton.Ok)
    assert ok is not None and not ok.isEnabled() and dialog.address.isEnabled()
    dialog.address.setText(" rtsp://camera/stream ")
    assert ok.isEnabled() and dialog.source == "rtsp://camera/stream"
    dialog.cameras.setCurrentIndex(dialog.cameras.findData(SCENE))
    assert dialog.source == SCENE and not dialog.address.isEnabled()


def test_for_a_service_elsewhere_nothing_is_said_of_the_cameras_here(application, qtbot):
    dialog = AddCamera([], [], local=False)
    qtbot.addWidget(dialog)
    words = " ".join(label.text() for label in dialog.findChildren(QLabel))
    assert "on another machine" in words and "No camera" not in words and not dialog.browse.isEnabled()


def test_names_are_those_that_the_service_takes():
    assert name_problem("", []) == "" and name_problem("gate-1", ["door"]) == ""
    assert name_problem("a" * 65, []) and name_problem("a/b", []) and name_problem("a\n", [])
