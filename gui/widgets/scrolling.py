"""A column of widgets that is scrolled where there is no room for it; nothing of it is cut off."""

from __future__ import annotations

from PyQt6.QtWidgets import QFrame, QScrollArea, QVBoxLayout, QWidget


def scrolled(column: QWidget, into: QWidget, name: str) -> QScrollArea:
    """Fill `into` with a scrolled column, and return what scrolls it; screen readers say `name` when Tab reaches it."""
    scroll = QScrollArea()
    scroll.setWidgetResizable(True)
    scroll.setFrameShape(QFrame.Shape.NoFrame)
    scroll.setAccessibleName(name)
    scroll.setWidget(column)
    layout = QVBoxLayout(into)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.addWidget(scroll)
    return scroll
