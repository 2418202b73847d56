"""Begins what is to be watched: what the offers of an empty state do, and a source that was chosen."""

from __future__ import annotations

from collections.abc import Callable

from PyQt6.QtCore import QObject
from PyQt6.QtWidgets import QFileDialog, QWidget

from stream_i3d.config import CameraConfig, Config, ModelConfig

from ..session import Session
from .dialogs import Dialogs


class SourceStarter(QObject):
    """Starts services of our own, and adds cameras to the one there is."""

    def __init__(self, window: QWidget, session: Session, dialogs: Dialogs, demo: Callable[[], Config]) -> None:
        """Args: `demo` makes the demo's configuration."""
        super().__init__(window)
        self._window = window
        self._session = session
        self._dialogs = dialogs
        self._demo = demo
        self._config: Config | None = None
        dialogs.source_chosen.connect(lambda source, name: self.watch(source, name or None))

    def start(self, config: Config) -> None:
        """Start a service of our own."""
        self._config = config
        self._session.start(config)

    def watch(self, source: str, name: str | None) -> None:
        """Add a camera to the service there is, or start one for it."""
        if self._session.can_ask:
            self._session.add_camera(source, name)
        else:
            self.start(Config(cameras=[CameraConfig(source=source, name=name)]))

    def take_offer(self, offer: str) -> None:
        """Do what a button of an empty state says."""
        if offer == "camera":
            self._dialogs.camera()
        elif offer == "video":
            path, _ = QFileDialog.getOpenFileName(self._window, self.tr("Open a video"))
            if path:
                self.watch(path, None)
        elif offer == "demo":
            self.start(self._demo())
        elif offer == "carried":
            cameras = [] if self._config is None else self._config.cameras
            self.start(Config(cameras=cameras, model=ModelConfig()))
        elif offer == "again":
            self.start(self._config or Config())
        elif offer == "cancel":
            self._session.close()
