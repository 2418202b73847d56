"""The details panel: the figures over time, and what the window knows of the service and of itself."""

from __future__ import annotations

from collections.abc import Mapping

from PyQt6.QtCore import Qt
from PyQt6.QtWidgets import QFormLayout, QLabel, QVBoxLayout, QWidget

from ..state.statistics import CameraStatistics
from .curves import Curve
from .scrolling import scrolled
from .theme import Theme


class DetailsPanel(QWidget):
    """Curves of the chosen camera, then facts in words; `refresh` when it is seen."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        tr = self.tr
        self.camera = QLabel()
        self.camera.setTextFormat(Qt.TextFormat.PlainText)
        self.curves = {
            "pictures": Curve(
                tr("Picture, capture to screen"), tr("ms"), tr("Milliseconds from a picture's capture to its painting")
            ),
            "camera_fps": Curve(tr("Camera"), tr("fps"), tr("New pictures per second that the camera delivers")),
            "inference_ms": Curve(tr("Inference"), tr("ms"), tr("Milliseconds of the network per window")),
            "total_ms": Curve(
                tr("Total latency"), tr("ms"), tr("Milliseconds from the newest frame's capture to publishing")
            ),
            "dropped": Curve(tr("Dropped frames and windows"), "", tr("Dropped so far, frames and windows together")),
        }
        self._facts: dict[str, QLabel] = {}
        self._form = QFormLayout()
        self._form.setLabelAlignment(Qt.AlignmentFlag.AlignLeft)
        self._form.setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapLongRows)
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(10, 10, 10, 10)
        column.setSpacing(8)
        column.addWidget(self.camera)
        for curve in self.curves.values():
            column.addWidget(curve)
        column.addLayout(self._form)
        column.addStretch()
        scrolled(inner, self, tr("Details"))

    def set_theme(self, theme: Theme) -> None:
        """Take over the window's colours."""
        for curve in self.curves.values():
            curve.theme = theme
            curve.update()

    def refresh(self, camera: str, figures: CameraStatistics | None, facts: Mapping[str, str], now: float) -> None:
        """Show one camera's figures, and facts by their names."""
        self.camera.setText(self.tr("Camera {name}").format(name=camera) if camera else self.tr("No camera"))
        for name, curve in self.curves.items():
            curve.set_points([] if figures is None else getattr(figures, name).points(now), now)
        for name, value in facts.items():
            if name not in self._facts:
                label = QLabel()
                label.setWordWrap(True)
                label.setTextFormat(Qt.TextFormat.PlainText)
                label.setTextInteractionFlags(
                    Qt.TextInteractionFlag.TextSelectableByMouse | Qt.TextInteractionFlag.TextSelectableByKeyboard
                )
                label.setAccessibleName(name)
                self._facts[name] = label
                self._form.addRow(self.tr("{name}:").format(name=name), label)
            self._facts[name].setText(value)

    def fact(self, name: str) -> str:
        """Return what is shown as a fact."""
        return self._facts[name].text() if name in self._facts else ""
