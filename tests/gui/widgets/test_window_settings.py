"""What the window remembers."""

from __future__ import annotations

from PyQt6.QtCore import QSettings, Qt
from stream_i3d_gui.session import Session
from stream_i3d_gui.settings_store import SettingsStore
from stream_i3d_gui.widgets.main_window import MainWindow

from stream_i3d.config import Config
from tests.gui.widgets.conftest import until

CTRL = Qt.KeyboardModifier.ControlModifier


def test_what_was_chosen_is_there_again(application, store, launcher, service, qtbot, tmp_path):
    first = MainWindow(Session(launcher), store, lambda: Config(), list)
    qtbot.addWidget(first)
    first.show()
    first.session.connect_to(service.control)
    until(qtbot, lambda: "door" in first.grid.tiles)
    first.session.add_camera("synthetic://", "yard")
    until(qtbot, lambda: "yard" in first.grid.tiles)
    first.grid.choose("yard")
    first.grid.move_chosen(-1)
    first.grid.enlarge("yard")
    first.window_settings.prefer(top_k=3, show_bars=False, hidden_labels=("left",), panel_tab=2)
    first.close()
    again = SettingsStore(QSettings(str(tmp_path / "gui.ini"), QSettings.Format.IniFormat))
    second = MainWindow(Session(launcher), again, lambda: Config(), list)
    qtbot.addWidget(second)
    assert second.window_settings.now.top_k == 3 and second.window_settings.now.hidden_labels == ("left",)
    assert not second.window_settings.now.show_bars and second.panel.currentIndex() == 2
    second.show()
    second.session.connect_to(service.control)
    until(qtbot, lambda: set(second.grid.tiles) == {"door", "yard"})
    assert second.grid.cameras.cameras == ["yard", "door"] and second.grid.cameras.enlarged == "yard"
    second.close()
