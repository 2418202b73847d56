"""The side panel: events, controls and details, a tab each."""

from __future__ import annotations

from PyQt6.QtWidgets import QTabWidget, QWidget

from ..session import Session
from ..state.details import facts
from .controls import ControlPanel
from .details import DetailsPanel
from .event_list import EventList

EVENTS, CONTROLS, DETAILS = range(3)


class SidePanel(QTabWidget):
    """Shows what is known of one session beside its pictures."""

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self.events = EventList(session.board.history)
        self.controls = ControlPanel()
        self.details = DetailsPanel()
        self.setDocumentMode(True)
        bar = self.tabBar()
        assert bar is not None
        bar.setDrawBase(False)  # else a white line over the tabs, in both themes
        self.setMinimumWidth(280)
        self.setAccessibleName(self.tr("Side panel"))
        self.addTab(self.events, self.tr("Events"))
        self.addTab(self.controls, self.tr("Controls"))
        self.addTab(self.details, self.tr("Details"))
        session.settings_known.connect(self.controls.set_settings)
        self.controls.changed.connect(session.change_settings)

    def enter(self) -> None:
        """Give the open tab the focus: the events' filter, where they are open."""
        self.setFocus()
        if self.currentWidget() is self.events:
            self.events.search.setFocus()

    def refresh_events(self) -> None:
        """Take over what changed in the history."""
        self.events.refresh(list(self._session.board.cameras))

    def refresh(self, camera: str, hidden: frozenset[str]) -> None:
        """Show what may be a second old.

        Args:
            camera: The chosen one, whose figures are shown.
            hidden: Labels that are not shown.
        """
        session = self._session
        self.controls.set_labels(session.board.labels, hidden)
        self.controls.set_available(session.can_ask)
        if self.isVisible() and self.currentWidget() is self.details:
            chosen = session.board.cameras.get(camera)
            figures = None if chosen is None else chosen.figures
            known = facts(session.board, session.hello, session.watch.address, figures)
            self.details.refresh(camera, figures, known, session.clock())
