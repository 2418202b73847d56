"""A figure over time, as a curve with its newest value, its range and its unit."""

from __future__ import annotations

from collections.abc import Sequence

from PyQt6.QtCore import QEvent, QPointF, QRectF, QSize, Qt
from PyQt6.QtGui import QFont, QFontMetricsF, QPainter, QPaintEvent, QPen, QPolygonF
from PyQt6.QtWidgets import QSizePolicy, QWidget

from .theme import Theme, colour, current_theme, font_scale

_BREAK_S = 8.0
_HEIGHT = 92


class Curve(QWidget):
    """Points of the last `span_s` seconds; `unit` stands behind every number."""

    def __init__(
        self, title: str, unit: str, meaning: str, span_s: float = 120.0, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.title = title
        self.unit = unit
        self.theme: Theme = current_theme()
        self._span_s = span_s
        self._points: Sequence[tuple[float, float]] = ()
        self._now = 0.0
        self.setToolTip(meaning)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName(title)
        self._fit_font()

    def _fit_font(self) -> None:
        self._scale = font_scale(self.font())
        self.setFixedHeight(round(_HEIGHT * self._scale))

    def changeEvent(self, event: QEvent | None) -> None:  # noqa: N802
        """Follow the size of the letters."""
        super().changeEvent(event)
        if event is not None and event.type() == QEvent.Type.FontChange:
            self._fit_font()

    def sizeHint(self) -> QSize:  # noqa: N802
        """Return the curve's own height."""
        return QSize(260, round(_HEIGHT * self._scale))

    def set_points(self, points: Sequence[tuple[float, float]], now: float) -> None:
        """Show (seconds, value) pairs, oldest first, as of `now`."""
        self._points, self._now = points, now
        self.setAccessibleDescription(self.newest)
        self.update()

    @property
    def newest(self) -> str:
        """The newest value with its unit, or a word for none."""
        return f"{_short(self._points[-1][1])} {self.unit}" if self._points else self.tr("no values yet")

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802
        """Paint title, newest value, the curve, and the scale's end."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        font = QFont(self.font())
        font.setPixelSize(round(12 * self._scale))
        painter.setFont(font)
        metrics = QFontMetricsF(font)
        head = QRectF(0, 0, self.width(), 18 * self._scale)
        left = head.width() - metrics.horizontalAdvance(self.newest) - 8
        title = metrics.elidedText(self.title, Qt.TextElideMode.ElideRight, max(0.0, left))
        painter.setPen(colour(self.theme.muted))
        painter.drawText(head, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, title)
        painter.setPen(colour(self.theme.text))
        painter.drawText(head, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, self.newest)
        top = head.bottom() + 4
        room = QRectF(0, top, self.width() - 1, self.height() - top - 6)
        painter.setPen(QPen(colour(self.theme.line), 1))
        painter.drawLine(room.bottomLeft(), room.bottomRight())
        if self._points:
            self._paint_curve(painter, room)
        painter.end()

    def _paint_curve(self, painter: QPainter, room: QRectF) -> None:
        top = _nice(max(value for _, value in self._points))
        painter.setPen(QPen(colour(self.theme.line), 1, Qt.PenStyle.DotLine))
        painter.drawLine(room.topLeft(), room.topRight())
        painter.setPen(QPen(colour(self.theme.accent), 1.6))
        line, last = QPolygonF(), None
        for time, value in self._points:
            if last is not None and time - last > _BREAK_S:
                painter.drawPolyline(line)
                line = QPolygonF()
            x = room.right() - (self._now - time) / self._span_s * room.width()
            line.append(QPointF(x, room.bottom() - value / top * room.height()))
            last = time
        painter.drawPolyline(line)
        words = f"{_short(top)} {self.unit}"
        box = QRectF(
            room.x(), room.y() + 1, QFontMetricsF(painter.font()).horizontalAdvance(words) + 6, 15 * self._scale
        )
        painter.fillRect(box, colour(self.theme.base, 0.85))
        painter.setPen(colour(self.theme.muted))
        painter.drawText(box, Qt.AlignmentFlag.AlignCenter, words)


def _nice(value: float) -> float:
    """Return the next of 1, 2, 5, 10, 20, ... at or above `value`."""
    scale = 1.0
    while scale * 10 < value:
        scale *= 10
    return next((scale * step for step in (1, 2, 5, 10) if scale * step >= value), scale * 10)


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"
