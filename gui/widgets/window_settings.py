"""What the window remembers: what was chosen in it, and its place on the screen."""

from __future__ import annotations

from dataclasses import replace

from PyQt6.QtCore import QObject, pyqtSignal
from PyQt6.QtWidgets import QSplitter, QWidget

from ..settings_store import SettingsStore
from ..state.grid import Layout
from ..state.preferences import Preferences


class WindowSettings(QObject):
    """Holds the preferences; who shows something of them listens.

    Signals:
        changed: Others are chosen now; the names of those that were.
    """

    changed = pyqtSignal(set)

    def __init__(self, store: SettingsStore, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._store = store
        self.now: Preferences = store.preferences()

    @property
    def hidden(self) -> frozenset[str]:
        """The labels that are not shown."""
        return frozenset(self.now.hidden_labels)

    def prefer(self, **changed: object) -> None:
        """Choose something else; by the names of `Preferences`."""
        self.now = replace(self.now, **changed)  # type: ignore[arg-type]
        self.changed.emit(set(changed))

    def restore_place(self, window: QWidget, splitter: QSplitter) -> None:
        """Put the window where it was."""
        geometry, state = self._store.place("geometry"), self._store.place("splitter")
        if geometry is not None:
            window.restoreGeometry(geometry)
        if state is not None:
            splitter.restoreState(state)

    def save(self, window: QWidget, splitter: QSplitter, layout: Layout) -> None:
        """Write everything down."""
        self._store.save(self.now, layout, {"geometry": window.saveGeometry(), "splitter": splitter.saveState()})
