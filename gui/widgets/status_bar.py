"""The status bar: the service on the left, the figures on the right; what has no room is left out, never cut."""

from __future__ import annotations

from collections.abc import Sequence

from PyQt6.QtCore import Qt
from PyQt6.QtGui import QResizeEvent
from PyQt6.QtWidgets import QHBoxLayout, QLabel, QSizePolicy, QWidget

from ..state.statistics import Statistic
from .theme import Theme, current_theme


class StatusLine(QWidget):
    """Words about the service, and figures with their names; passing remarks take the words' place for a while."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.theme: Theme = current_theme()
        self.service = QLabel()
        self.service.setTextFormat(Qt.TextFormat.PlainText)
        self.service.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.service.setAccessibleName(self.tr("Service"))
        self._figures: dict[str, QLabel] = {}
        self._shown: dict[str, Statistic] = {}
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(10, 2, 10, 2)
        self._row.setSpacing(16)
        self._row.addWidget(self.service, 1)
        self._words = ""
        self._bad = False

    def set_theme(self, theme: Theme) -> None:
        """Take over the window's colours."""
        self.theme = theme
        for name in self._figures:
            self._write(name)
        self.set_service(self._words, self._bad)

    def set_service(self, words: str, bad: bool) -> None:
        """Say how the service is; trouble is told by colour and by the words."""
        self._words, self._bad = words, bad
        self.service.setStyleSheet(f"color: {self.theme.danger if bad else self.theme.text};")
        self.service.setToolTip(words)
        self._elide()

    def set_figures(self, figures: Sequence[Statistic]) -> None:
        """Show figures, most important first; those that are not among them any more go."""
        for name in self._figures.keys() - {figure.name for figure in figures}:
            label = self._figures.pop(name)
            self._row.removeWidget(label)
            label.deleteLater()
            del self._shown[name]
        for figure in figures:
            if figure.name not in self._figures:
                label = QLabel()
                label.setTextFormat(Qt.TextFormat.RichText)
                self._figures[figure.name] = label
                self._row.addWidget(label)
            if self._shown.get(figure.name) != figure:
                self._shown[figure.name] = figure
                self._write(figure.name)
        self._make_room()

    def _write(self, name: str) -> None:
        figure, label = self._shown[name], self._figures[name]
        label.setText(f'<span style="color:{self.theme.muted}">{_plain(name)}</span> {_plain(figure.value)}')
        label.setToolTip(figure.meaning)
        label.setAccessibleName(f"{name} {figure.value}")

    def value(self, name: str) -> str:
        """Return a figure as it is shown."""
        return self._shown[name].value if name in self._shown else ""

    def _make_room(self) -> None:
        """Hide the last figures where the row is too narrow; the words keep a third."""
        free = self.width() * 2 / 3 - 20
        for label in self._figures.values():
            needed = label.sizeHint().width() + self._row.spacing()
            label.setVisible(needed <= free)
            free -= needed if needed <= free else self.width()
        self._row.activate()  # now, so that no painting finds a longer figure in its old place
        self._elide()

    def _elide(self) -> None:
        width = max(40, self.service.width())
        self.service.setText(self.service.fontMetrics().elidedText(self._words, Qt.TextElideMode.ElideRight, width))
        if self._words != self.service.accessibleDescription():
            self.service.setAccessibleDescription(self._words)

    def resizeEvent(self, event: QResizeEvent | None) -> None:  # noqa: N802
        """Show as many figures as there is room for."""
        super().resizeEvent(event)
        self._make_room()


def _plain(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
