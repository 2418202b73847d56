"""Events, controls and details on a service."""

from __future__ import annotations

from PyQt6.QtCore import Qt
from PyQt6.QtTest import QTest

from stream_i3d.transport.control import ChangeSettings
from tests.gui.widgets.conftest import SOON_MS, send, until
from tests.samples import event, status

CTRL = Qt.KeyboardModifier.ControlModifier


def test_an_event_is_listed_with_a_thumbnail(watching, service, qtbot):
    send(service, event(), lambda: watching.panel.events.model.rows, qtbot)
    key = ("door", "door-1-1")
    assert key in watching.panel.events.model._thumbnails
    assert watching.panel.events.view.isVisible()


def test_a_control_reaches_the_service_at_once(watching, service, qtbot):
    QTest.keyClick(watching, Qt.Key.Key_2, CTRL)
    until(qtbot, watching.panel.controls.isVisible)
    until(qtbot, lambda: watching.panel.controls.service_group.isEnabled())
    watching.panel.controls.stride.setValue(4)
    until(qtbot, lambda: service.settings["window.stride"] == 4)
    watching.panel.controls.stride.setValue(128)
    until(qtbot, lambda: watching.panel.controls.stride.value() == 4)  # refused: it shows what is
    assert "too large" in watching.line.service.accessibleDescription()
    assert isinstance(service.asked[0], ChangeSettings)


def test_malformed_messages_are_shown_in_details(watching, service, qtbot):
    send(service, status(), lambda: watching.session.board.cameras["door"].track.status is not None, qtbot)
    QTest.keyClick(watching, Qt.Key.Key_3, CTRL)

    def shown() -> bool:
        service.raw(b"v1/door/status", b"[]")
        return watching.panel.details.fact("Messages that were not ours") not in ("", "0")

    qtbot.waitUntil(shown, timeout=SOON_MS)
    assert int(watching.panel.details.fact("Messages that were not ours")) >= 1
    assert watching.session.board.cameras["door"].track.status == status()
