"""Paints words and bars over a picture. Used alike for the screen, for snapshots and for recordings.

Everything is painted within `room`, and all sizes follow from its height, so a snapshot looks as the window does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from PyQt6.QtCore import QCoreApplication, QPointF, QRectF, Qt
from PyQt6.QtGui import QFont, QFontMetricsF, QImage, QPainter, QPainterPath, QPolygonF

from ..state.camera import Shown
from ..state.colours import label_style
from ..state.formats import percent, sentence
from .theme import ON_PICTURE, SCRIM, SCRIM_ALPHA, colour, pattern_brush

TRACK_ALPHA = 0.16
_LEFT = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
_RIGHT = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
_WRAP = Qt.AlignmentFlag.AlignHCenter | Qt.AlignmentFlag.AlignTop | Qt.TextFlag.TextWordWrap


def fit(picture: QImage | None, room: QRectF) -> QRectF:
    """Return where a picture stands in `room`: as large as it can, its aspect kept, centred; no picture: all of it."""
    if picture is None or picture.isNull():
        return QRectF(room)
    scale = min(room.width() / picture.width(), room.height() / picture.height())
    width, height = picture.width() * scale, picture.height() * scale
    return QRectF(room.x() + (room.width() - width) / 2, room.y() + (room.height() - height) / 2, width, height)


class OverlayPainter:
    """Paints one picture's overlay; made anew for every painting."""

    def __init__(self, painter: QPainter, room: QRectF, font: QFont) -> None:
        self._painter = painter
        self._room = room
        self._unit = max(10.0, min(room.height() / 34, room.width() / 44, 22.0))
        self._family = font
        self._margin = self._unit * 0.8

    def paint(self, shown: Shown, bars: Sequence[tuple[str, float]]) -> None:
        """Paint all of it; `bars` are labels and values as they are to be drawn now."""
        painter = self._painter
        painter.save()
        painter.setClipRect(self._room)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if shown.dimmed:
            painter.fillRect(self._room, colour(SCRIM, 0.66))
        top = self._chips(shown)
        if shown.dimmed:
            self._trouble(shown, top)
        else:
            self._words(shown, bars)
        painter.restore()

    def _font(self, scale: float, bold: bool = False) -> QFont:
        font = QFont(self._family)
        font.setPixelSize(max(9, round(self._unit * scale)))
        font.setBold(bold)
        return font

    def _panel(self, rect: QRectF) -> None:
        self._painter.setPen(Qt.PenStyle.NoPen)
        self._painter.setBrush(colour(SCRIM, SCRIM_ALPHA))
        self._painter.drawRoundedRect(rect, self._unit * 0.5, self._unit * 0.5)

    def _text(
        self, rect: QRectF, words: str, font: QFont, ink: str = ON_PICTURE.text, flags: Qt.AlignmentFlag = _LEFT
    ) -> None:
        self._painter.setFont(font)
        self._painter.setPen(colour(ink))
        fitted = QFontMetricsF(font).elidedText(words, Qt.TextElideMode.ElideRight, rect.width() + 0.5)
        self._painter.drawText(rect, flags, fitted)

    def _chips(self, shown: Shown) -> float:
        """Paint name and state on the left, the window's age on the right; returns where they end."""
        room, unit, pad = self._room, self._unit, self._unit * 0.55
        name, small = self._font(1.05, bold=True), self._font(0.95)
        height = unit * 1.9
        age = _age(shown)
        if room.width() < 22 * unit:
            age = ""  # where there is room for one, name and state come first
        age_width = QFontMetricsF(small).horizontalAdvance(age) + 2 * pad if age else 0.0
        free = room.width() - 2 * self._margin - (age_width + unit if age else 0.0)
        name_width = min(QFontMetricsF(name).horizontalAdvance(shown.camera) + 1, free * 0.6)
        state_width = min(
            QFontMetricsF(small).horizontalAdvance(shown.state) + 1, max(0.0, free - name_width - 3 * pad - unit)
        )
        left, top = room.left() + self._margin, room.top() + self._margin
        chip = QRectF(left, top, name_width + state_width + 3 * pad + unit * 0.9, height)
        self._panel(chip)
        self._lamp(QRectF(left + pad, top + height / 2 - unit * 0.28, unit * 0.56, unit * 0.56), shown)
        at = left + pad + unit * 0.9
        self._text(QRectF(at, top, name_width, height), shown.camera, name)
        ink = ON_PICTURE.warning if shown.dimmed else ON_PICTURE.muted
        self._text(QRectF(at + name_width + pad, top, state_width, height), shown.state, small, ink)
        if age:
            box = QRectF(room.right() - self._margin - age_width, top, age_width, height)
            self._panel(box)
            self._text(box.adjusted(pad, 0, -pad, 0), age, small, ON_PICTURE.muted, _RIGHT)
        return top + height

    def _lamp(self, rect: QRectF, shown: Shown) -> None:
        """A disc when live, a triangle in trouble: told by shape, and by the words beside it."""
        self._painter.setPen(Qt.PenStyle.NoPen)
        if not shown.dimmed:
            self._painter.setBrush(colour(ON_PICTURE.good))
            self._painter.drawEllipse(rect)
            return
        self._painter.setBrush(colour(ON_PICTURE.warning))
        tip = QPointF(rect.center().x(), rect.top())
        self._painter.drawPolygon(QPolygonF([tip, rect.bottomLeft(), rect.bottomRight()]))

    def _trouble(self, shown: Shown, top: float) -> None:
        """Paint, in the middle, what is wrong and when it is tried again."""
        unit, room = self._unit, self._room
        head, body = self._font(1.7, bold=True), self._font(1.1)
        width = min(room.width() - 2 * self._margin, unit * 34)
        inner = width - 2 * unit
        reason = sentence(shown.reason)
        below = room.bottom() - self._margin - top - unit
        needed = QFontMetricsF(body).boundingRect(QRectF(0, 0, inner, 4000), _WRAP, reason).height() if reason else 0.0
        lines = QFontMetricsF(body).lineSpacing()
        wait = "" if shown.next_try_s is None else _next_try(shown.next_try_s)
        fixed = unit * 3.2 + (lines * 1.3 if wait else 0.0)
        text_height = max(lines, min(needed, below - fixed))
        height = fixed + text_height
        box = QRectF(
            room.center().x() - width / 2, max(top + unit * 0.4, room.center().y() - height / 2), width, height
        )
        self._panel(box)
        at = box.adjusted(unit, unit * 0.6, -unit, 0)
        state = sentence(shown.state)
        centre = Qt.AlignmentFlag.AlignCenter
        self._text(QRectF(at.x(), at.y(), inner, unit * 2.0), state, head, ON_PICTURE.warning, centre)
        self._painter.setFont(body)
        self._painter.setPen(colour(ON_PICTURE.text))
        self._painter.drawText(QRectF(at.x(), at.y() + unit * 2.1, inner, text_height + 1), _WRAP, reason)
        if wait:
            row = QRectF(at.x(), box.bottom() - lines - unit * 0.6, inner, lines)
            self._text(row, wait, self._font(1.1, bold=True), ON_PICTURE.text, centre)

    def _words(self, shown: Shown, bars: Sequence[tuple[str, float]]) -> None:
        """Paint the label with its confidence, and the bars beside it, or above it where there is no room beside."""
        unit, room, margin = self._unit, self._room, self._margin
        roomy = room.width() >= 34 * unit
        width = room.width() - 2 * margin
        head_width = min(width, 20 * unit) if roomy else width
        note = shown.note or (shown.reason if not shown.dimmed else "")
        height = unit * (5.2 if shown.confidence is not None else 3.6 if not note else 4.8)
        head = QRectF(room.left() + margin, room.bottom() - margin - height, head_width, height)
        self._panel(head)
        self._headline(head, shown, note)
        if not bars:
            return
        limit = len(bars) if roomy else min(3, len(bars))
        row = unit * 1.55
        if roomy:
            left = head.right() + margin
            space = QRectF(left, 0, min(room.right() - margin - left, 26 * unit), 0)
            space.moveRight(room.right() - margin)
            bottom, free = head.bottom(), room.height() - 5 * unit
        else:
            space, bottom = QRectF(head.left(), 0, head_width, 0), head.top() - margin / 2
            free = bottom - room.top() - 3.6 * unit
        limit = min(limit, int((free - unit) / row))
        if limit > 0:
            box = QRectF(space.left(), bottom - limit * row - unit * 0.8, space.width(), limit * row + unit * 0.8)
            self._panel(box)
            self._bars(
                box.adjusted(unit * 0.7, unit * 0.4, -unit * 0.7, -unit * 0.4), bars[:limit], row, dict(shown.bars)
            )

    def _headline(self, box: QRectF, shown: Shown, note: str) -> None:
        unit, sure = self._unit, shown.confidence
        inner = box.adjusted(unit * 0.9, unit * 0.5, -unit * 0.9, -unit * 0.5)
        ink = ON_PICTURE.text if shown.kind == "action" else ON_PICTURE.muted
        right = 0.0
        if sure is not None:
            share = self._font(1.7, bold=True)
            right = QFontMetricsF(share).horizontalAdvance(percent(1.0)) + unit * 0.4
            self._text(QRectF(inner.right() - right, inner.y(), right, unit * 2.6), percent(sure), share, flags=_RIGHT)
        large = self._fitting(shown.headline, inner.width() - right, bold=shown.kind == "action")
        self._text(QRectF(inner.x(), inner.y(), inner.width() - right, unit * 2.6), shown.headline, large, ink)
        if sure is not None:
            track = QRectF(inner.x(), inner.y() + unit * 3.2, inner.width(), unit * 0.8)
            self._bar(track, shown.headline, sure)
        elif note:
            line = QRectF(inner.x(), inner.y() + unit * 2.5, inner.width(), unit * 1.4)
            self._text(line, note, self._font(0.95), ON_PICTURE.muted)

    def _fitting(self, words: str, width: float, bold: bool) -> QFont:
        """Return the largest font in which the words fit; the smallest where none does, and they are cut then."""
        for tenths in range(21, 11, -1):
            font = self._font(tenths / 10, bold)
            if QFontMetricsF(font).horizontalAdvance(words) <= width:
                break
        return font

    def _bars(self, box: QRectF, bars: Sequence[tuple[str, float]], row: float, values: Mapping[str, float]) -> None:
        unit, font = self._unit, self._font(1.0)
        share = QFontMetricsF(font).horizontalAdvance(percent(1.0)) + unit * 0.3
        names = min(box.width() * 0.5, 11.5 * unit)
        for number, (label, value) in enumerate(bars):
            top = box.top() + number * row
            self._text(QRectF(box.left(), top, names - unit * 0.4, row), label, font)
            track = QRectF(box.left() + names, top + row * 0.26, box.width() - names - share, row * 0.48)
            self._bar(track, label, value)
            # The bar moves; the number is the value at once.
            shown = percent(values.get(label, value))
            self._text(QRectF(box.right() - share, top, share, row), shown, font, flags=_RIGHT)

    def _bar(self, track: QRectF, label: str, value: float) -> None:
        painter, radius = self._painter, track.height() / 2
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(colour(ON_PICTURE.text, TRACK_ALPHA))
        painter.drawRoundedRect(track, radius, radius)
        if value <= 0:
            return
        style = label_style(label, dark=True)
        shape = QPainterPath()
        shape.addRoundedRect(track, radius, radius)
        filled = QRectF(track.x(), track.y(), max(2.0, track.width() * min(1.0, value)), track.height())
        painter.save()
        painter.setClipPath(shape, Qt.ClipOperation.IntersectClip)
        painter.fillRect(filled, colour(style.fill))
        painter.fillRect(filled, pattern_brush(style.pattern, style.text))
        painter.restore()


def _age(shown: Shown) -> str:
    if shown.dimmed or not shown.window_age:
        return ""
    return QCoreApplication.translate("Overlay", "window {age} old").format(age=shown.window_age)


def _next_try(seconds: int) -> str:
    if not seconds:
        return QCoreApplication.translate("Overlay", "Trying now")
    return QCoreApplication.translate("Overlay", "Next try in {seconds} s").format(seconds=seconds)
