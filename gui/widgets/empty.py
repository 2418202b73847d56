"""What stands where pictures would: why there are none, and buttons that change it."""

from __future__ import annotations

from PyQt6.QtCore import Qt, pyqtSignal
from PyQt6.QtGui import QResizeEvent
from PyQt6.QtWidgets import QBoxLayout, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from ..state.first_run import Emptiness, Offer
from .scrolling import scrolled

_MARGIN = 24
_GAP = 10


class EmptyState(QWidget):
    """A title, a few words, and offers; the first one is the one that is meant.

    Signals:
        taken: An offer was taken; its id.
    """

    taken = pyqtSignal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
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
        self._row.setSpacing(_GAP)
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(_MARGIN, _MARGIN, _MARGIN, _MARGIN)
        column.setSpacing(14)
        column.addStretch()
        column.addWidget(self.title)
        column.addWidget(self.text)
        column.addSpacing(8)
        column.addLayout(self._row)
        column.addStretch()
        scrolled(inner, self, self.tr("Nothing to watch"))
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
        self._turn()

    def _turn(self) -> None:
        """Put the buttons beside one another, or under one another where they do not fit."""
        needed = sum(button.sizeHint().width() + _GAP for button in self.buttons.values()) + _GAP + 2 * _MARGIN
        beside = needed <= self.width()
        self._row.setDirection(QBoxLayout.Direction.LeftToRight if beside else QBoxLayout.Direction.TopToBottom)

    def resizeEvent(self, event: QResizeEvent | None) -> None:  # noqa: N802
        """Make room for the buttons."""
        super().resizeEvent(event)
        self._turn()
