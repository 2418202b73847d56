"""Asks for a camera: one of those found, an address, a video, or a made scene; and for its name."""

from __future__ import annotations

import re
from collections.abc import Sequence

from PyQt6.QtCore import QCoreApplication, Qt
from PyQt6.QtWidgets import (
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from ..sources import FoundCamera

SCENE = "synthetic://?fps=30&size=640x480"
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")


def name_problem(name: str, taken: Sequence[str]) -> str:
    """Return what is wrong with a camera's name in a few words, or an empty string; an empty name is allowed."""
    if name and not _NAME.match(name):
        return QCoreApplication.translate("AddCamera", "1 to 64 letters, digits, '_', '.' or '-'")
    return QCoreApplication.translate("AddCamera", "this name is taken") if name in taken else ""


class AddCamera(QDialog):
    """Asks for a source and a name; `source` and `name` hold the answer."""

    def __init__(
        self, found: Sequence[FoundCamera], taken: Sequence[str], parent: QWidget | None = None, local: bool = True
    ) -> None:
        """Args: `local`: the service is on this machine, so its cameras and files are the ones found here."""
        super().__init__(parent)
        self.setWindowTitle(self.tr("Add a camera"))
        self._taken = taken
        self.cameras = QComboBox()
        self.cameras.setAccessibleName(self.tr("Camera"))
        for camera in found:
            self.cameras.addItem(
                self.tr("{name} (number {source})").format(name=camera.name, source=camera.source), camera.source
            )
        self.cameras.addItem(self.tr("Another address, or a video…"), "")
        self.cameras.addItem(self.tr("A made scene, without a camera"), SCENE)
        self.address = QLineEdit()
        self.address.setAccessibleName(self.tr("Address"))
        self.address.setPlaceholderText("rtsp://user:password@camera/stream")
        self.address.setToolTip(
            self.tr("A webcam's number, a /dev path, an rtsp:// or http:// address, or a video file")
        )
        self.browse = QPushButton(self.tr("Video…"))
        self.browse.setToolTip(self.tr("Choose a video file"))
        self.browse.setEnabled(local)
        self.browse.clicked.connect(self._browse)
        self.camera_name = QLineEdit()
        self.camera_name.setAccessibleName(self.tr("Name"))
        self.camera_name.setPlaceholderText(self.tr("made from the source"))
        self.problem = QLabel()
        self.problem.setTextFormat(Qt.TextFormat.PlainText)
        self.problem.setWordWrap(True)
        self.buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Ok | QDialogButtonBox.StandardButton.Cancel)
        self.buttons.accepted.connect(self.accept)
        self.buttons.rejected.connect(self.reject)
        self._lay_out(self._advice(bool(found), local))
        self.cameras.currentIndexChanged.connect(self._check)
        self.address.textChanged.connect(self._check)
        self.camera_name.textChanged.connect(self._check)
        self._check()

    def _advice(self, any_found: bool, local: bool) -> str:
        if any_found:
            return ""
        if not local:
            return self.tr("The service is on another machine: give an address, or a path, that it can open.")
        return self.tr("No camera was found on this machine. A stream's address or a video will do.")

    def _lay_out(self, advice: str) -> None:
        form = QFormLayout()
        form.addRow(self.tr("Camera"), self.cameras)
        row = QHBoxLayout()
        row.addWidget(self.address, 1)
        row.addWidget(self.browse)
        form.addRow(self.tr("Address"), row)
        form.addRow(self.tr("Name"), self.camera_name)
        layout = QVBoxLayout(self)
        if advice:
            none = QLabel(advice)
            none.setWordWrap(True)
            layout.addWidget(none)
        layout.addLayout(form)
        layout.addWidget(self.problem)
        layout.addWidget(self.buttons)
        self.setMinimumWidth(460)

    @property
    def source(self) -> str:
        """What is to be opened, as `run --source` takes it."""
        return str(self.cameras.currentData() or self.address.text().strip())

    @property
    def name(self) -> str | None:
        """The name wished for, or None."""
        return self.camera_name.text().strip() or None

    def _browse(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, self.tr("Open a video"))
        if path:
            self.cameras.setCurrentIndex(self.cameras.findData(""))
            self.address.setText(path)

    def _check(self) -> None:
        other = self.cameras.currentData() == ""
        self.address.setEnabled(other)
        wrong = name_problem(self.camera_name.text().strip(), self._taken)
        self.problem.setText(self.tr("Name: {problem}").format(problem=wrong) if wrong else "")
        ok = self.buttons.button(QDialogButtonBox.StandardButton.Ok)
        if ok is not None:
            ok.setEnabled(bool(self.source) and not wrong)
