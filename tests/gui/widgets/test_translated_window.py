"""The window in a language in which every word is marked: none may be left in English."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import pytest
from PyQt6.lupdate.lupdate import lupdate
from PyQt6.QtCore import QCoreApplication, Qt, QTranslator
from PyQt6.QtGui import QAction
from PyQt6.QtTest import QTest
from PyQt6.QtWidgets import QAbstractButton, QComboBox, QGroupBox, QLabel, QLineEdit, QWidget
from stream_i3d_gui.state import translation
from stream_i3d_gui.widgets.add_camera import AddCamera
from stream_i3d_gui.widgets.help_sheet import HelpSheet

from tests.gui.widgets.conftest import send, until
from tests.samples import event, recognition

GUI = Path(__file__).parents[3] / "gui"
CTRL = Qt.KeyboardModifier.ControlModifier
_DATA = re.compile(
    r"stream-i3d|door|waving|left|right|desk camera|synthetic|i3d|motion|cpu|bf16|torch|"  # names and labels
    r"\b(ipc|tcp|rtsp)://\S*|events\.csv|"  # addresses
    r"ctrl|shift|f\d+|delete|del|return|esc|escape",  # keys, which Qt names
    re.IGNORECASE,
)


class Marking(QTranslator):
    """Puts marks around our words, and remembers which were asked for; Qt's own contexts begin with Q."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: set[tuple[str, str]] = set()
        self.of_qt: set[str] = set()

    def isEmpty(self) -> bool:  # noqa: N802
        return False

    def translate(self, context: str, source: str, disambiguation: str | None = None, n: int = -1) -> str | None:
        if not source or context.startswith("Q"):
            self.of_qt.add(source)
            return None
        self.asked.add((context, source))
        return f"«{source}»"


@pytest.fixture
def marking(application: object) -> Iterator[Marking]:
    translator = Marking()
    QCoreApplication.installTranslator(translator)
    translation.install(QCoreApplication.translate)
    yield translator
    translation.install(None)
    QCoreApplication.removeTranslator(translator)


def unmarked(text: str) -> str:
    """Return what of a text stands outside of all marks, without what is no word of ours."""
    before = None
    while before != text:
        before, text = text, re.sub("«[^«»]*(»|$)", "", text)  # the status line cuts an end off
    return "".join(re.findall(r"[^\W\d_]{3,}", _DATA.sub("", re.sub("<[^>]*>", "", text))))


def said_by(widget: QWidget) -> Iterator[str]:
    """Everything that a widget and those within it say."""
    for one in [widget, *widget.findChildren(QWidget)]:
        yield from (one.toolTip(), one.accessibleName(), one.accessibleDescription(), one.windowTitle())
        if isinstance(one, QLabel | QAbstractButton):
            yield one.text()
        elif isinstance(one, QLineEdit):
            yield one.placeholderText()
        elif isinstance(one, QGroupBox):
            yield one.title()
        elif isinstance(one, QComboBox):
            yield from (one.itemText(number) for number in range(one.count()))
    for action in widget.findChildren(QAction):
        yield from (action.text(), action.toolTip())


def left_in_english(widget: QWidget, marking: Marking) -> set[str]:
    return {text for text in said_by(widget) if unmarked(text)} - marking.of_qt


def test_state_and_widgets_speak_the_language_of_the_window(marking, watching, service, qtbot):
    tile = watching.grid.tiles["door"]
    send(service, recognition(state="idle", label=None), lambda: tile.view.shown.kind == "idle", qtbot)
    assert tile.view.shown.headline == "«Idle»"  # of the state
    assert watching.actions_.by_id["quit"].text() == "«Quit»"  # of a table of the state
    assert watching.panel.tabText(0) == "«Events»"  # of a widget
    until(qtbot, lambda: watching.line.value("«Latency»") == "«22 ms»")
    assert watching.line.service.accessibleDescription().startswith("«Connected to ipc:")


def test_no_word_of_the_window_is_left_in_english(marking, watching, service, qtbot):
    send(service, recognition(), lambda: watching.grid.tiles["door"].view.shown.kind == "action", qtbot)
    send(service, event(), lambda: watching.panel.events.model.rows, qtbot)
    QTest.keyClick(watching, Qt.Key.Key_3, CTRL)
    until(qtbot, lambda: watching.panel.details.fact("«Device»"))
    QTest.keyClick(watching, Qt.Key.Key_F1)
    watching.findChild(HelpSheet).reject()
    watching.dialogs.camera()
    watching.findChild(AddCamera).reject()
    assert left_in_english(watching, marking) == set()


def test_nor_one_of_the_first_run(marking, window):
    assert left_in_english(window, marking) == set()
    assert "«Nothing to watch yet»" in set(said_by(window))


def test_pylupdate_finds_every_word_that_the_window_asks_for(marking, watching, service, qtbot, tmp_path):
    send(service, recognition(), lambda: watching.grid.tiles["door"].view.shown.kind == "action", qtbot)
    until(qtbot, lambda: ("Formats", "{number} ms") in marking.asked)
    lupdate([str(GUI)], [str(tmp_path / "x.ts")])
    found = {
        (context.findtext("name"), message.findtext("source"))
        for context in ElementTree.parse(tmp_path / "x.ts").iter("context")
        for message in context.iter("message")
    }
    assert marking.asked <= found
    assert {("Camera", "live"), ("Shortcuts", "Quit"), ("Banner", "Start again")} <= found
