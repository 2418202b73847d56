"""A camera in the grid: its picture, and its strip under it."""

from __future__ import annotations

from PyQt6.QtCore import QRectF, Qt, pyqtSignal
from PyQt6.QtGui import QContextMenuEvent, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen
from PyQt6.QtWidgets import QVBoxLayout, QWidget

from ..state.board import CameraBoard
from .camera_view import CameraView
from .theme import Theme, colour, current_theme
from .timeline_strip import TimelineStrip

_EDGE = 3
_SMALL = 420


class CameraTile(QWidget):
    """Can be chosen by click or Tab, and enlarged by click or Return.

    Signals:
        chosen: It has the focus now; its camera.
        enlarge_asked: It is to fill the window; its camera.
        menu_asked: Its menu was asked for; its camera and where on the screen.
    """

    chosen = pyqtSignal(str)
    enlarge_asked = pyqtSignal(str)
    menu_asked = pyqtSignal(str, object)

    def __init__(self, board: CameraBoard, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.board = board
        self.view = CameraView(board.track.name, self)
        self.strip = TimelineStrip(board.timeline, self)
        self.theme: Theme = current_theme()
        self._is_chosen = False
        layout = QVBoxLayout(self)
        layout.setContentsMargins(_EDGE, _EDGE, _EDGE, _EDGE)
        layout.setSpacing(0)
        layout.addWidget(self.view, 1)
        layout.addWidget(self.strip)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMouseTracking(True)
        self.refresh_names()

    @property
    def camera(self) -> str:
        """The camera's name now."""
        return self.board.track.name

    def refresh_names(self) -> None:
        """Take over the camera's name."""
        self.setAccessibleName(self.tr("Camera {name}").format(name=self.camera))
        self.strip.setAccessibleName(self.tr("The last two minutes of {name}").format(name=self.camera))
        self.setToolTip("")

    def set_theme(self, theme: Theme) -> None:
        """Take over the window's colours."""
        self.theme = self.strip.theme = theme
        self.update()

    def set_chosen(self, chosen: bool) -> None:
        """Mark as the camera that actions are about."""
        if chosen != self._is_chosen:
            self._is_chosen = chosen
            self.update()

    def refresh(self, now: float, top_k: int, hidden: frozenset[str]) -> None:
        """Show what is known at `now`."""
        self.view.set_shown(self.board.track.shown(now, top_k, hidden))
        if self.view.shown.spoken != self.accessibleDescription():
            self.setAccessibleDescription(self.view.shown.spoken)
        if self.strip.isVisibleTo(self):
            self.strip.set_compact(self.width() < _SMALL or self.height() < _SMALL * 0.8)
            self.strip.refresh(now)

    def focusInEvent(self, event: object) -> None:  # noqa: N802
        """Become the chosen camera."""
        super().focusInEvent(event)  # type: ignore[arg-type]
        self.chosen.emit(self.camera)

    def mouseReleaseEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802
        """A click enlarges."""
        if event is not None and event.button() == Qt.MouseButton.LeftButton and self.rect().contains(event.pos()):
            self.chosen.emit(self.camera)
            self.enlarge_asked.emit(self.camera)

    def keyPressEvent(self, event: QKeyEvent | None) -> None:  # noqa: N802
        """Return enlarges."""
        if event is not None and event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self.enlarge_asked.emit(self.camera)
            return
        super().keyPressEvent(event)

    def contextMenuEvent(self, event: QContextMenuEvent | None) -> None:  # noqa: N802
        """Ask for the camera's menu."""
        if event is not None:
            self.chosen.emit(self.camera)
            self.menu_asked.emit(self.camera, event.globalPos())

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802
        """Paint the edge of the chosen camera."""
        painter = QPainter(self)
        painter.fillRect(self.rect(), colour(self.theme.window))
        if self._is_chosen:
            width = _EDGE if self.hasFocus() else 1.5
            painter.setPen(QPen(colour(self.theme.accent), width))
            painter.drawRect(QRectF(self.rect()).adjusted(width / 2, width / 2, -width / 2, -width / 2))
        painter.end()
