"""How the service is, told in the window."""

from __future__ import annotations

from PyQt6.QtCore import Qt

from tests.gui.widgets.conftest import send, until
from tests.samples import event

CTRL = Qt.KeyboardModifier.ControlModifier


def test_no_service_is_said_with_its_address(window, qtbot, tmp_path):
    window.session.connect_to(f"ipc://{tmp_path / 'nobody'}")
    assert window.pictures.empty.title.text() == "No service yet"
    assert str(tmp_path) in window.pictures.empty.text.text()


def test_a_lost_service_is_said_and_nothing_is_forgotten(watching, service, qtbot):
    send(service, event(), lambda: watching.panel.events.model.rows, qtbot)
    service.stop()
    until(qtbot, watching.pictures.banner.isVisible)
    until(qtbot, lambda: watching.grid.tiles["door"].view.shown.dimmed)
    assert "does not answer" in watching.pictures.banner.words.text()
    assert watching.grid.tiles["door"].view.picture is not None
    assert len(watching.panel.events.model.rows) == 1 and not watching.panel.controls.service_group.isEnabled()
    service.start()
    until(qtbot, lambda: not watching.pictures.banner.isVisible())
