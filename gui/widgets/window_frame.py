"""What is around the pictures: tool bar, status bar, side panel; folded away where there is no room or none wished."""

from __future__ import annotations

from PyQt6.QtCore import Qt
from PyQt6.QtWidgets import QMainWindow, QToolBar, QWidget

_NARROW = 860


class WindowFrame:
    """Shows and hides them, and the window itself over others or over the whole screen."""

    def __init__(self, window: QMainWindow, toolbar: QToolBar, panel: QWidget) -> None:
        self._window = window
        self._toolbar = toolbar
        self._panel = panel
        self._panel_wanted = True
        self._folded = False
        self._narrow = False
        self._full = False

    @property
    def panel_shown(self) -> bool:
        """Whether there is a side panel, once the window is shown."""
        return self._panel.isVisibleTo(self._window)

    def want_panel(self, wanted: bool, unfold: bool) -> None:
        """Show the side panel or not; `unfold`: even where there is little room, or the screen is full."""
        self._panel_wanted = wanted
        self._folded = self._folded and not unfold
        self._panel.setVisible(wanted and not self._folded)

    def resized(self) -> bool:
        """Fold the panel away where the window became too narrow for it; returns whether something changed."""
        narrow = self._window.width() < _NARROW
        if self._full or narrow == self._narrow:
            return False  # who unfolded it in a narrow window may drag that window's edge
        self._folded = self._narrow = narrow
        self._panel.setVisible(self._panel_wanted and not narrow)
        return True

    def fill_screen(self, on: bool) -> None:
        """Fill the screen, or go back to what was; `follow_screen` does the rest."""
        state, full = self._window.windowState(), Qt.WindowState.WindowFullScreen
        self._window.setWindowState(state | full if on else state & ~full)

    def follow_screen(self) -> bool:
        """Leave the pictures alone where the window fills the screen, by whatever means; returns whether it does."""
        full = self._window.isFullScreen()
        if full != self._full:
            self._full = full
            self._toolbar.setVisible(not full)
            bar = self._window.statusBar()
            if bar is not None:
                bar.setVisible(not full)
            self._folded = full or self._narrow
            self._panel.setVisible(self._panel_wanted and not self._folded)
        return full

    def stay_on_top(self, on: bool) -> None:
        """Keep the window over all others, or not."""
        window = self._window
        if on != bool(window.windowFlags() & Qt.WindowType.WindowStaysOnTopHint):
            visible = window.isVisible()
            window.setWindowFlag(Qt.WindowType.WindowStaysOnTopHint, on)
            if visible:
                window.show()  # Qt hides a window whose flags change
