"""A line over the pictures when the service is in trouble, with a button where something can be done."""

from __future__ import annotations

from PyQt6.QtCore import Qt, pyqtSignal
from PyQt6.QtWidgets import QFrame, QHBoxLayout, QLabel, QPushButton, QWidget

from .theme import Theme


class Banner(QFrame):
    """Hidden while all is well.

    Signals:
        taken: The button was pressed; the id of what is to be done.
    """

    taken = pyqtSignal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.words = QLabel()
        self.words.setWordWrap(True)
        self.words.setTextFormat(Qt.TextFormat.PlainText)
        self.button = QPushButton(self.tr("Start again"))
        self.button.setToolTip(self.tr("Start the service as before"))
        self.button.clicked.connect(lambda: self.taken.emit("again"))
        row = QHBoxLayout(self)
        row.setContentsMargins(12, 6, 12, 6)
        row.addWidget(self.words, 1)
        row.addWidget(self.button)
        self.hide()

    def set_theme(self, theme: Theme) -> None:
        """Take over the window's colours."""
        self.setStyleSheet(f"Banner {{ background: {theme.raised}; border-bottom: 2px solid {theme.danger}; }}")

    def show_trouble(self, words: str, can_restart: bool) -> None:
        """Show the words; none hides the line."""
        self.words.setText(words)
        self.setAccessibleName(words)
        self.button.setVisible(can_restart)
        self.setVisible(bool(words))
