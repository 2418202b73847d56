"""What stands where pictures would: why there are none, and buttons that change it."""

from __future__ import annotations

from PyQt6.QtCore import Qt, pyqtSignal
from PyQt6.QtWidgets import QFrame, QHBoxLayout, QLabel, QPushButton, QScrollArea, QVBoxLayout, QWidget

from ..state.first_run import Emptiness, Offer
from .theme import Theme, current_theme


class EmptyState(QWidget):
    """A title, a few words, and offers; the first one is the one that is meant.

    Signals:
        taken: An offer was taken; its id.
    """

    taken = pyqtSignal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.theme: Theme = current_theme()
        self.title = QLabel()
        self.text = QLabel()
        for label, scale in ((self.title, 1.7), (self.text, 1.05)):
            label.setAlignment(Qt.AlignmentFlag.AlignCenter)
            label.setWordWrap(True)
            label.setTextFormat(Qt.TextFormat.PlainText)
            font = label.font()
            font.setPointSizeF(font.pointSizeF() * scale)
            font.setBold(label is self.title)
            label.setFont(font)
        self.buttons: dict[str, QPushButton] = {}
        self._row = QHBoxLayout()
        self._row.setSpacing(10)
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(24, 24, 24, 24)
        column.setSpacing(14)
        column.addStretch()
        column.addWidget(self.title)
        column.addWidget(self.text)
        column.addSpacing(8)
        column.addLayout(self._row)
        column.addStretch()
        scroll = QScrollArea()
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setWidgetResizable(True)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setWidget(inner)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(scroll)
        self._shown: Emptiness | None = None

    def show_state(self, shown: Emptiness) -> None:
        """Say what is missing and offer what helps; nothing moves where it was said already."""
        if self._shown == shown:
            return
        same_offers = self._shown is not None and self._shown.offers == shown.offers
        self._shown = shown
        self.title.setText(shown.title)
        self.text.setText(shown.text)
        self.setAccessibleName(shown.title)
        self.setAccessibleDescription(shown.text)
        if not same_offers:
            self._make_buttons(shown.offers)

    def _make_buttons(self, offers: tuple[Offer, ...]) -> None:
        while (item := self._row.takeAt(0)) is not None:
            if (widget := item.widget()) is not None:
                widget.hide()
                widget.deleteLater()
        self.buttons = {}
        self._row.addStretch()
        for number, offer in enumerate(offers):
            button = QPushButton(offer.text)
            button.setToolTip(offer.meaning)
            button.setAccessibleDescription(offer.meaning)
            button.setProperty("primary", number == 0)
            button.clicked.connect(lambda _=False, name=offer.id: self.taken.emit(name))
            self.buttons[offer.id] = button
            self._row.addWidget(button)
        self._row.addStretch()
