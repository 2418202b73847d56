"""The strip under a picture: the last two minutes as segments, confidence as a curve, events as brackets."""

from __future__ import annotations

from PyQt6.QtCore import QEvent, QPoint, QPointF, QRectF, QSize, Qt
from PyQt6.QtGui import (
    QFocusEvent,
    QFont,
    QFontMetricsF,
    QHelpEvent,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QPolygonF,
)
from PyQt6.QtWidgets import QSizePolicy, QToolTip, QWidget

from ..state.colours import label_style
from ..state.formats import duration, milliseconds, percent
from ..state.timeline import EventMark, Span, Timeline
from .theme import Theme, colour, current_theme, font_scale, pattern_brush

_HEIGHT = 84
_COMPACT = 56
_SEGMENT = 24.0
_BREAK_S = 2.5


class TimelineStrip(QWidget):
    """Shows a `state.timeline.Timeline`; `refresh` moves it on to another time.

    With the focus, the left and right keys move a mark over it, whose details are shown as under the pointer.
    """

    def __init__(self, timeline: Timeline, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._timeline = timeline
        self._now = 0.0
        self._mark_s: float | None = None  # seconds before now
        self._compact = False
        self.theme: Theme = current_theme()
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._fit_font()

    def sizeHint(self) -> QSize:  # noqa: N802
        """Return the strip's own height."""
        return QSize(480, self._wanted_height())

    def _wanted_height(self) -> int:
        return round((_COMPACT if self._compact else _HEIGHT) * self._scale)

    def _fit_font(self) -> None:
        self._scale = font_scale(self.font())
        self.setFixedHeight(self._wanted_height())

    def changeEvent(self, event: QEvent | None) -> None:  # noqa: N802
        """Follow the size of the letters."""
        super().changeEvent(event)
        if event is not None and event.type() == QEvent.Type.FontChange:
            self._fit_font()

    def set_compact(self, compact: bool) -> None:
        """Leave out the axis and the brackets' names, for small pictures."""
        if compact != self._compact:
            self._compact = compact
            self.setFixedHeight(self._wanted_height())

    def refresh(self, now: float) -> None:
        """Show the two minutes before `now`."""
        self._now = now
        self.update()

    @property
    def spans(self) -> list[Span]:
        """The segments that are shown."""
        return self._timeline.spans(self._now)

    def describe(self, at: float) -> str:
        """Return the details of a time, over several lines; empty where nothing was recognised."""
        point = self._timeline.at(at, self._now)
        lines = []
        if point is not None:
            state = self.tr("idle") if point.state == "idle" else self.tr("first window not full")
            words = f"{point.label}, {percent(point.confidence)}" if point.label else state
            lines.append(self.tr("{age} ago: {words}").format(age=duration(self._now - at), words=words))
            lines.append(self.tr("latency {ms}").format(ms=milliseconds(point.latency_ms)))
        for mark in self._timeline.events(self._now):
            if mark.start <= at <= (self._now if mark.end is None else mark.end):
                lines.append(_event_line(mark, self._now, self.tr("going on")))
        return "\n".join(lines)

    def _x(self, time: float) -> float:
        plot = self._plot()
        return plot.right() - (self._now - time) / self._timeline.span_s * plot.width()

    def _time(self, x: float) -> float:
        plot = self._plot()
        return self._now - (plot.right() - x) / max(1.0, plot.width()) * self._timeline.span_s

    def _plot(self) -> QRectF:
        return QRectF(self.rect()).adjusted(8, 0, -8, 0)

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802
        """Paint brackets, segments, the curve and the axis."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.fillRect(self.rect(), colour(self.theme.base))
        top = 8.0 if self._compact else 18.0 * self._scale
        below = 4.0 if self._compact else 20.0 * self._scale
        band = QRectF(self._plot().left(), top, self._plot().width(), self.height() - top - below)
        painter.save()
        painter.setClipRect(self._plot())
        self._paint_spans(painter, band)
        self._paint_curve(painter, band)
        self._paint_events(painter, band)
        painter.restore()
        painter.setPen(QPen(colour(self.theme.line), 1))
        painter.drawLine(band.bottomLeft(), band.bottomRight())
        if not self._compact:
            self._paint_axis(painter, band)
        if self._mark_s is not None:
            painter.setPen(QPen(colour(self.theme.accent), 2))
            x = self._x(self._now - self._mark_s)
            painter.drawLine(QPointF(x, band.top() - 4), QPointF(x, band.bottom()))
        if self.hasFocus():
            painter.setPen(QPen(colour(self.theme.accent), 2))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRect(QRectF(self.rect()).adjusted(1, 1, -1, -1))
        painter.end()

    def _paint_spans(self, painter: QPainter, band: QRectF) -> None:
        font = self._small()
        metrics = QFontMetricsF(font)
        painter.setFont(font)
        height = min(band.height(), _SEGMENT * self._scale)
        for span in self.spans:
            style = label_style(span.label, self.theme.dark)
            left, right = self._x(span.start), self._x(span.end)
            rect = QRectF(left, band.bottom() - height, max(2.0, right - left), height)
            painter.fillRect(rect, colour(style.fill))
            painter.fillRect(rect, pattern_brush(style.pattern, style.text))
            painter.fillRect(QRectF(rect.x(), rect.y(), 1, rect.height()), colour(self.theme.base))
            inner = rect.adjusted(4, 0, -4, 0).intersected(band)
            if inner.width() > metrics.horizontalAdvance(span.label[:3]) + 12:
                words = metrics.elidedText(span.label, Qt.TextElideMode.ElideRight, inner.width())
                box = QRectF(inner.x() - 2, inner.y() + 3, metrics.horizontalAdvance(words) + 4, inner.height() - 6)
                painter.fillRect(box, colour(style.fill))  # the pattern must not run through the words
                painter.setPen(colour(style.text))
                painter.drawText(inner, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, words)

    def _paint_curve(self, painter: QPainter, band: QRectF) -> None:
        room = band.adjusted(0, 2, 0, -min(band.height(), _SEGMENT * self._scale) - 2)
        if room.height() < 8:
            return
        painter.setPen(QPen(colour(self.theme.text), 1.5))
        line = QPolygonF()
        last = None
        for point in self._timeline.points(self._now):
            if last is not None and point.time - last > _BREAK_S:
                painter.drawPolyline(line)
                line = QPolygonF()
            line.append(QPointF(self._x(point.time), room.bottom() - point.confidence * room.height()))
            last = point.time
        painter.drawPolyline(line)

    def _paint_events(self, painter: QPainter, band: QRectF) -> None:
        """Paint a bracket over each event; one that goes on has no end."""
        y = band.top() - (3 if self._compact else 4)
        painter.setPen(QPen(colour(self.theme.muted), 1.5))
        font = self._small()
        painter.setFont(font)
        for mark in self._timeline.events(self._now):
            left, right = self._x(mark.start), self._x(self._now if mark.end is None else mark.end)
            line = QPolygonF([QPointF(left, y + 4), QPointF(left, y), QPointF(right, y)])
            if mark.end is not None:
                line.append(QPointF(right, y + 4))
            painter.drawPolyline(line)
            room = right - left
            if not self._compact and room > 40:
                words = QFontMetricsF(font).elidedText(percent(mark.peak), Qt.TextElideMode.ElideRight, room)
                painter.drawText(QPointF(left + 2, y - 3), words)

    def _paint_axis(self, painter: QPainter, band: QRectF) -> None:
        font = self._small()
        painter.setFont(font)
        painter.setPen(colour(self.theme.muted))
        metrics = QFontMetricsF(font)
        step = 30 if band.width() > 360 * self._scale else 60
        for back in range(0, int(self._timeline.span_s) + 1, step):
            words = self.tr("now") if not back else self.tr("{seconds} s ago").format(seconds=back)
            width = metrics.horizontalAdvance(words) + 2
            x = self._x(self._now - back)
            painter.drawLine(QPointF(x, band.bottom()), QPointF(x, band.bottom() + 3))
            at = min(max(x - width / 2, self._plot().left()), self._plot().right() - width)
            painter.drawText(
                QRectF(at, band.bottom() + 3, width, 16 * self._scale), Qt.AlignmentFlag.AlignCenter, words
            )

    def _small(self) -> QFont:
        font = QFont(self.font())
        font.setPixelSize(round(11 * self._scale))
        return font

    def event(self, event: QEvent | None) -> bool:
        """Show the details under the pointer."""
        if isinstance(event, QHelpEvent) and event.type() == QEvent.Type.ToolTip:
            QToolTip.showText(event.globalPos(), self.describe(self._time(event.pos().x())), self)
            return True
        return super().event(event)

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802
        """Follow the pointer with the details, at once and not only after a rest."""
        if event is not None:
            words = self.describe(self._time(event.position().x()))
            QToolTip.showText(event.globalPosition().toPoint() + QPoint(0, -10), words, self)

    def keyPressEvent(self, event: QKeyEvent | None) -> None:  # noqa: N802
        """Move the mark with the arrow keys."""
        if event is None or event.key() not in (Qt.Key.Key_Left, Qt.Key.Key_Right):
            super().keyPressEvent(event)
            return
        step = 1.0 if event.key() == Qt.Key.Key_Left else -1.0
        self._mark_s = min(max((self._mark_s or 0.0) + step, 0.0), self._timeline.span_s)
        at = self._now - self._mark_s
        words = self.describe(at) or self.tr("{age} ago: nothing").format(age=duration(self._mark_s))
        self.setAccessibleDescription(words.replace("\n", ", "))
        QToolTip.showText(self.mapToGlobal(QPoint(round(self._x(at)), 0)), words, self)
        self.update()

    def focusOutEvent(self, event: QFocusEvent | None) -> None:  # noqa: N802
        """Take the mark away."""
        self._mark_s = None
        super().focusOutEvent(event)


def _event_line(mark: EventMark, now: float, going_on: str) -> str:
    length = going_on if mark.end is None else duration(mark.end - mark.start)
    return f"{mark.label}: {length}, {percent(mark.peak)}"
