"""The help sheet: every action with its keys."""

from __future__ import annotations

from PyQt6.QtCore import Qt
from PyQt6.QtGui import QKeySequence
from PyQt6.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QFrame,
    QGridLayout,
    QLabel,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from ..state.shortcuts import groups


class HelpSheet(QDialog):
    """Lists the actions of `state.shortcuts` by group."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle(self.tr("Keyboard shortcuts"))
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        inner = QWidget()
        grid = QGridLayout(inner)
        grid.setHorizontalSpacing(24)
        grid.setVerticalSpacing(6)
        row = 0
        for group in groups():
            grid.addWidget(QLabel(f"<b>{group.name}</b>"), row, 0, 1, 2)
            row += 1
            for action in group.actions:
                native = " / ".join(
                    QKeySequence(key).toString(QKeySequence.SequenceFormat.NativeText) for key in action.keys
                )
                keys = QLabel(native)
                keys.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
                grid.addWidget(keys, row, 0)
                grid.addWidget(QLabel(action.meaning), row, 1)
                row += 1
        grid.addWidget(QLabel(f"<b>{self.tr('In the strip')}</b>"), row, 0, 1, 2)
        grid.addWidget(QLabel(self.tr("Left / Right")), row + 1, 0)
        grid.addWidget(QLabel(self.tr("Move the mark by a second and hear what was recognised then")), row + 1, 1)
        grid.setColumnStretch(1, 1)
        scroll = QScrollArea()
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setWidgetResizable(True)
        scroll.setWidget(inner)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        layout.addWidget(scroll)
        layout.addWidget(buttons)
        self.resize(640, min(620, parent.height() - 20 if parent is not None and parent.height() > 200 else 620))
