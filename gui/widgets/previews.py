"""Asks for the pictures that can be seen, in the size in which they are; others are not even encoded."""

from __future__ import annotations

from PyQt6.QtCore import QObject, QSize, QTimer

from ..session import Session
from .media_saver import MediaSaver
from .picture_area import PictureArea

_SETTLE_MS = 120


class Previews(QObject):
    """Tells the session which previews are wanted."""

    def __init__(
        self, session: Session, pictures: PictureArea, saver: MediaSaver, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._session = session
        self._pictures = pictures
        self._saver = saver
        self._settler = QTimer(self)
        self._settler.setInterval(_SETTLE_MS)
        self._settler.setSingleShot(True)
        self._settler.timeout.connect(self.ask)
        pictures.grid.layout_changed.connect(self.ask_soon)
        saver.recording_changed.connect(self.ask)

    def ask_soon(self) -> None:
        """Ask once the window has its size: it may still be dragged."""
        self._settler.start()

    def ask(self) -> None:
        """Ask for the pictures that can be seen, and for the one that is recorded in full."""
        window = self._pictures.window()
        seen = self._pictures.shows_cameras and window is not None and not window.isMinimized()
        tiles = self._pictures.grid.visible_tiles if seen else []
        wanted: dict[str, QSize | None] = {tile.camera: tile.view.pixels_wanted for tile in tiles}
        if self._saver.camera:
            wanted[self._saver.camera] = None
        self._session.show_previews(wanted)
