from __future__ import annotations

import csv
import json

import pytest
from PyQt6.QtCore import Qt
from PyQt6.QtGui import QGuiApplication, QPixmap
from PyQt6.QtTest import QTest
from stream_i3d_gui.state.history import History
from stream_i3d_gui.widgets.event_list import THUMBNAIL, EventList

from tests.samples import event


@pytest.fixture
def events(application, qtbot):
    history = History()
    made = EventList(history)
    qtbot.addWidget(made)
    made.show()
    for number, (camera, label) in enumerate([("door", "waving"), ("yard", "left"), ("door", "right")]):
        history.take(event(id=str(number), camera=camera, label=label, start_time=float(number)))
    made.refresh(["door", "yard"])
    return made


def texts(events: EventList) -> list[str]:
    model = events.model
    return [str(model.data(model.index(row))).split("\n")[0] for row in range(model.rowCount())]


def test_the_newest_event_stands_first_with_camera_time_and_length(events):
    assert texts(events) == ["right", "left", "waving"]
    assert events.model.data(events.model.index(0)) == "right\ndoor · 0:02.0 · going on"


def test_an_empty_list_says_what_will_be_there(application, qtbot):
    made = EventList(History())
    qtbot.addWidget(made)
    made.show()
    assert made.empty.isVisible() and not made.view.isVisible() and not made.export_button.isEnabled()


def test_letters_and_camera_filter_the_list(events):
    QTest.keyClicks(events.search, "wav")
    assert texts(events) == ["waving"]
    events.search.clear()
    events.camera.setCurrentIndex(events.camera.findData("yard"))
    assert texts(events) == ["left"]
    events.camera.setCurrentIndex(0)
    assert len(texts(events)) == 3


def test_a_new_event_keeps_the_selection(events):
    events.view.setCurrentIndex(events.model.index(1))
    events.model._history.take(event(id="new", label="up"))
    events.refresh(["door", "yard"])
    assert texts(events)[0] == "up"
    assert [one.label for one in events.chosen_events()] == ["left"]


def test_a_new_event_keeps_the_selection_when_the_oldest_is_forgotten(application, qtbot):
    history = History(limit=3)
    made = EventList(history)
    qtbot.addWidget(made)
    for number in range(3):
        history.take(event(id=str(number), label=f"label {number}"))
    made.refresh(["door"])
    made.view.setCurrentIndex(made.model.index(0))
    with qtbot.assertNotEmitted(made.model.modelReset):
        for number in (3, 4):
            history.take(event(id=str(number), label=f"label {number}", event="end", end_time=1002.0))
        made.refresh(["door"])
    assert texts(made) == ["label 4", "label 3", "label 2"]
    assert [one.label for one in made.chosen_events()] == ["label 2"]
    history.take(event(id="5", label="label 5"))
    made.refresh(["door"])
    assert texts(made) == ["label 5", "label 4", "label 3"]


def test_events_that_all_changed_are_listed_anew(events):
    for number in range(2000):
        events.model._history.take(event(id=f"later {number}", label="up"))
    events.refresh(["door", "yard"])
    assert set(texts(events)) == {"up"} and len(texts(events)) == 2000
    events.model._history.clear()
    events.refresh(["door", "yard"])
    assert texts(events) == []


def test_a_camera_with_events_can_be_chosen_whatever_is_listed(events):
    QTest.keyClicks(events.search, "nothing")
    events.refresh([])
    assert [events.camera.itemText(number) for number in range(events.camera.count())] == [
        "All cameras",
        "door",
        "yard",
    ]


def test_the_events_of_a_renamed_camera_stay_listed_with_their_pictures(events, picture):
    events.model.set_thumbnail(events.model.rows[1], QPixmap.fromImage(picture().image))
    events.camera.setCurrentIndex(events.camera.findData("yard"))
    events.model._history.renamed("yard", "garden")
    events.renamed("yard", "garden")
    events.refresh(["door", "garden"])
    assert events.camera.currentText() == "garden" and texts(events) == ["left"]
    framed = events.model.data(events.model.index(0), Qt.ItemDataRole.DecorationRole)
    assert isinstance(framed, QPixmap) and framed.toImage().pixelColor(50, 10).blue() > 150


def test_the_end_of_an_event_changes_its_line(events):
    events.model._history.take(event(id="2", event="end", label="right", start_time=2.0, end_time=5.5))
    events.refresh(["door", "yard"])
    assert "3.5 s · 75 %" in str(events.model.data(events.model.index(0)))


def test_selected_events_are_copied_as_text(events, qtbot):
    with qtbot.waitActive(events):
        events.activateWindow()
    events.view.setFocus()
    events.view.setCurrentIndex(events.model.index(2))
    with qtbot.waitSignal(events.notice):
        QTest.keyClick(events.view, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    clipboard = QGuiApplication.clipboard()
    assert clipboard is not None and clipboard.text() == "door\t0:00.0\twaving\tend not seen\tup to 75 %"


def test_the_listed_events_are_exported(events, tmp_path, qtbot):
    QTest.keyClicks(events.search, "door")
    events.export(tmp_path / "a.csv")
    events.export(tmp_path / "a.json")
    with (tmp_path / "a.csv").open() as file:
        assert [row["label"] for row in csv.DictReader(file)] == ["right", "waving"]
    assert [row["label"] for row in json.loads((tmp_path / "a.json").read_text())] == ["right", "waving"]
    with qtbot.waitSignal(events.notice) as said:
        events.export(tmp_path / "missing" / "a.csv")
    assert said.args[0].startswith("Cannot write")


def test_an_event_has_the_picture_of_its_start_beside_its_colour(events, picture):
    shown = events.model.rows[0]
    bare = events.model.data(events.model.index(1), Qt.ItemDataRole.DecorationRole)
    events.model.set_thumbnail(shown, QPixmap.fromImage(picture().image))
    framed = events.model.data(events.model.index(0), Qt.ItemDataRole.DecorationRole)
    assert isinstance(framed, QPixmap) and isinstance(bare, QPixmap)
    assert framed.toImage().pixelColor(50, 10).blue() > 150 and bare.toImage().pixelColor(50, 10).blue() < 50


def test_thumbnails_have_the_pixels_of_the_screen(events, monkeypatch):
    monkeypatch.setattr(QGuiApplication, "devicePixelRatio", lambda self: 2.0)
    events.model._history.take(event(id="new", label="up"))
    events.refresh(["door", "yard"])
    bare = events.model.data(events.model.index(0), Qt.ItemDataRole.DecorationRole)
    assert bare.size() == 2 * THUMBNAIL and bare.deviceIndependentSize().toSize() == THUMBNAIL


def test_a_screen_reader_hears_the_whole_event(events):
    spoken = events.model.data(events.model.index(0), Qt.ItemDataRole.AccessibleTextRole)
    assert spoken == "door, 0:02.0, right, going on, up to 75 %"
