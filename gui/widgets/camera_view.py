"""One camera's picture with its overlay. Only the newest picture is painted; bars move at 60 Hz, while they move."""

from __future__ import annotations

import time
from collections.abc import Callable

from PyQt6.QtCore import QElapsedTimer, QRectF, QSize, Qt, QTimer, pyqtSignal
from PyQt6.QtGui import QColor, QImage, QPainter, QPaintEvent, QPixmap
from PyQt6.QtWidgets import QSizePolicy, QWidget

from ..picture import Picture, full_size
from ..state.bars import Bars
from ..state.camera import CameraTrack, Shown
from .overlay import OverlayPainter, fit

_FRAME_MS = 16


class CameraView(QWidget):
    """Shows what `state.camera.Shown` says over the newest picture.

    Signals:
        painted: A new picture was painted; milliseconds since its capture (this host's clock).
    """

    painted = pyqtSignal(float)

    def __init__(
        self, camera: str, parent: QWidget | None = None, clock_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        super().__init__(parent)
        self._clock_ns = clock_ns
        self._picture: Picture | None = None
        self._unpainted = False
        self._bars = Bars()
        self.show_bars = True
        self.shown: Shown = CameraTrack(camera).shown(0.0)
        self._elapsed = QElapsedTimer()
        self._mover = QTimer(self)
        self._mover.setInterval(_FRAME_MS)
        self._mover.setTimerType(Qt.TimerType.PreciseTimer)
        self._mover.timeout.connect(self._move_bars)
        self.setMinimumSize(80, 60)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        self.setAccessibleName(self.tr("Camera {name}").format(name=camera))

    def sizeHint(self) -> QSize:  # noqa: N802
        """Return a picture's usual shape."""
        return QSize(640, 360)

    @property
    def picture(self) -> Picture | None:
        """The newest picture, or None before the first."""
        return self._picture

    @property
    def moving(self) -> bool:
        """Whether bars are on their way."""
        return self._mover.isActive()

    @property
    def pixels_wanted(self) -> QSize:
        """The size in which pictures are to be decoded: that of the widget in the screen's own pixels."""
        return self.size() * self.devicePixelRatioF()

    def set_picture(self, picture: Picture) -> None:
        """Show a newer picture."""
        self._picture = picture
        self._unpainted = True
        self.update()

    def set_shown(self, shown: Shown) -> None:
        """Show other words; nothing is painted where they are the same."""
        if shown.bars != self.shown.bars:
            self._bars.aim(shown.bars)
            if not self._bars.moving:
                self.update()
            elif self.isVisible() and self.show_bars:
                if not self._mover.isActive():
                    self._elapsed.start()
                    self._mover.start()
            else:
                self._bars.settle()
        if shown != self.shown:
            self.shown = shown
            if shown.spoken != self.accessibleName():  # the age of the window is not spoken, and changes always
                self.setAccessibleName(shown.spoken)
            self.update()

    def _move_bars(self) -> None:
        if not self._bars.step(self._elapsed.restart() / 1000) or not self.isVisible():
            self._mover.stop()
        self.update()

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802
        """Paint picture and overlay."""
        painter = QPainter(self)
        room = QRectF(self.rect())
        painter.fillRect(self.rect(), QColor("#05070a"))
        image = self._picture.image if self._picture is not None else None
        place = fit(image, room)
        if image is not None:
            _draw_image(painter, place, image, self.devicePixelRatioF())
        # A picture much narrower than its place leaves no room for words: they may use the black beside it.
        wide = place if place.width() > 0.5 * room.width() and place.height() > 0.5 * room.height() else room
        OverlayPainter(painter, wide, self.font()).paint(self.shown, self._bars.shown if self.show_bars else [])
        painter.end()
        if self._unpainted and self._picture is not None:
            self._unpainted = False
            self.painted.emit((self._clock_ns() - self._picture.capture_ns) / 1e6)

    def snapshot(self, full: bool = True) -> QImage:
        """Return the picture with what is painted over it; `full`: in the size in which the camera's preview came."""
        image = None if self._picture is None else full_size(self._picture) if full else self._picture.image
        size = QSize(1280, 720) if image is None else image.size()
        made = QImage(size, QImage.Format.Format_RGB32)
        made.fill(QColor("#05070a"))
        painter = QPainter(made)
        room = QRectF(made.rect())
        if image is not None:
            painter.drawImage(room, image)
        OverlayPainter(painter, room, self.font()).paint(self.shown, self._bars.shown if self.show_bars else [])
        painter.end()
        return made

    def thumbnail(self, size: QSize) -> QPixmap:
        """Return the newest picture alone, small; empty before the first."""
        if self._picture is None:
            return QPixmap()
        scaled = self._picture.image.scaled(
            size, Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.SmoothTransformation
        )
        return QPixmap.fromImage(scaled)


def _draw_image(painter: QPainter, place: QRectF, image: QImage, ratio: float) -> None:
    """Paint without scaling where the picture already has the screen's own pixels: sharp, and several times faster."""
    exact = abs(place.width() * ratio - image.width()) < 1.5 and abs(place.height() * ratio - image.height()) < 1.5
    if exact:
        at = place.topLeft()
        copy = QImage(image)
        copy.setDevicePixelRatio(ratio)
        painter.drawImage(QRectF(round(at.x()), round(at.y()), image.width() / ratio, image.height() / ratio), copy)
        return
    painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
    painter.drawImage(place, image)
