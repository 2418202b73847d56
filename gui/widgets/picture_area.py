"""Where the pictures are: all cameras, or what stands in their place, and a line over them when there is trouble."""

from __future__ import annotations

from PyQt6.QtWidgets import QStackedWidget, QVBoxLayout, QWidget

from ..state.board import Board
from ..state.first_run import Emptiness
from ..state.grid import Layout
from .banner import Banner
from .empty import EmptyState
from .grid import CameraGrid


class PictureArea(QWidget):
    """Shows the grid where there are cameras, else an empty state."""

    def __init__(self, board: Board, layout: Layout, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.grid = CameraGrid(board, layout)
        self.empty = EmptyState()
        self.banner = Banner()
        self.stack = QStackedWidget()
        self.stack.addWidget(self.empty)
        self.stack.addWidget(self.grid)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.banner)
        column.addWidget(self.stack, 1)

    @property
    def shows_cameras(self) -> bool:
        """Whether the grid is what is seen."""
        return self.stack.currentWidget() is self.grid

    def show_cameras(self, trouble: str, can_restart: bool) -> None:
        """Show the cameras; `trouble` stands over them, unless it is empty."""
        self.banner.show_trouble(trouble, can_restart)
        self.stack.setCurrentWidget(self.grid)

    def show_emptiness(self, shown: Emptiness) -> None:
        """Show what stands in place of cameras."""
        self.banner.show_trouble("", False)
        self.empty.show_state(shown)
        self.stack.setCurrentWidget(self.empty)
