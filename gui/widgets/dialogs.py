"""The window's questions: which camera, which name, whether it is to go. None stops the window while it is open."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PyQt6.QtCore import QObject, Qt, pyqtSignal
from PyQt6.QtWidgets import QInputDialog, QMessageBox, QWidget

from ..session import Session
from ..sources import FoundCamera
from .add_camera import AddCamera, name_problem

_LOCAL = ("tcp://127.", "tcp://localhost:", "tcp://[::1]", "ipc://")


class Dialogs(QObject):
    """Asks, and passes the answers on to the session.

    Signals:
        source_chosen: A source is to be watched; it, and the name wished for (may be empty).
    """

    source_chosen = pyqtSignal(str, str)

    def __init__(self, window: QWidget, session: Session, find_cameras: Callable[[], Sequence[FoundCamera]]) -> None:
        super().__init__(window)
        self._window = window
        self._session = session
        self.find_cameras = find_cameras

    def camera(self) -> None:
        """Ask which camera is to be added."""
        local = not self._session.can_ask or self._session.watch.address.startswith(_LOCAL)
        found = list(self.find_cameras()) if local else []
        dialog = AddCamera(found, list(self._session.board.cameras), self._window, local)
        dialog.accepted.connect(lambda: self.source_chosen.emit(dialog.source, dialog.name or ""))
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.open()

    def name(self, camera: str) -> None:
        """Ask for a camera's new name."""
        if not camera:
            return
        dialog = QInputDialog(self._window)
        dialog.setWindowTitle(self.tr("Rename camera"))
        dialog.setLabelText(self.tr("New name of {camera}:").format(camera=camera))
        dialog.setTextValue(camera)
        dialog.textValueSelected.connect(lambda name: self._rename(camera, name.strip()))
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.open()

    def _rename(self, camera: str, name: str) -> None:
        if not name or name == camera:
            return
        wrong = name_problem(name, list(self._session.board.cameras))
        if wrong:
            self._session.notice.emit(self.tr("Cannot rename to {name}: {why}").format(name=name, why=wrong), True)
        else:
            self._session.rename_camera(camera, name)

    def removal(self, camera: str) -> None:
        """Ask whether a camera is really to go."""
        if not camera:
            return
        box = QMessageBox(self._window)
        box.setIcon(QMessageBox.Icon.Question)
        box.setWindowTitle(self.tr("Remove camera"))
        box.setText(self.tr("Take {camera} out of the service?").format(camera=camera))
        box.setInformativeText(self.tr("Its events stay in the list."))
        box.setStandardButtons(QMessageBox.StandardButton.Yes | QMessageBox.StandardButton.Cancel)
        box.setDefaultButton(QMessageBox.StandardButton.Cancel)
        box.accepted.connect(lambda: self._session.remove_camera(camera))
        box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        box.open()
