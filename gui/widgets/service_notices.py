"""Tells how the service is: in the status line with its figures, over the pictures, and in their place."""

from __future__ import annotations

from collections.abc import Callable

from PyQt6.QtCore import QObject, QTimer

from ..session import Session
from ..state.first_run import emptiness
from ..state.statistics import Statistic, status_line
from .picture_area import PictureArea
from .status_bar import StatusLine

_REMARK_MS = 6000


class ServiceNotices(QObject):
    """Keeps the status line and the picture area up to date with the session; remarks come between for a while."""

    def __init__(
        self,
        session: Session,
        line: StatusLine,
        pictures: PictureArea,
        count_cameras: Callable[[], int],
        parent: QObject | None = None,
    ) -> None:
        """Args: `count_cameras` returns how many cameras this machine has."""
        super().__init__(parent)
        self._session = session
        self._line = line
        self._pictures = pictures
        self._count_cameras = count_cameras
        self._remark: tuple[str, bool] | None = None
        self._forgetter = QTimer(self)
        self._forgetter.setInterval(_REMARK_MS)
        self._forgetter.setSingleShot(True)
        self._forgetter.timeout.connect(self._forget_remark)
        session.notice.connect(self.say)

    def say(self, words: str, bad: bool = False) -> None:
        """Say something for a few seconds in the status line."""
        self._remark = (words, bad)
        self._forgetter.start()
        self._show_line()

    def refresh(self) -> None:
        """Show what may be a second old."""
        self._show_area()
        self._line.set_figures(self._figures())
        self._show_line()

    def _show_area(self) -> None:
        session = self._session
        if session.board.cameras:
            trouble = session.state in ("lost", "failed")
            self._pictures.show_cameras(self._service_words() if trouble else "", session.state == "failed")
        else:
            found = self._count_cameras()
            self._pictures.show_emptiness(emptiness(session.state, session.watch.address, session.failure, found))

    def _figures(self) -> list[Statistic]:
        session, hello = self._session, self._session.hello
        figures = status_line([camera.figures for camera in session.board.cameras.values()], session.clock())
        if hello is not None and hello.ready:
            device = f"{hello.device} · {hello.precision}"
            model = session.board.model or (f"{hello.model.name} · {hello.model.checkpoint}" if hello.model else "")
            figures.append(Statistic(self.tr("Device"), device, self.tr("Device, precision")))
            figures.append(Statistic(self.tr("Model"), model, self.tr("Network and weights")))
        return figures

    def _service_words(self) -> str:
        session = self._session
        if session.state == "failed":
            return self.tr("The service has ended: {why}").format(why=session.failure)
        if session.state == "none":
            return self.tr("No service")
        if session.state in ("starting", "loading"):
            return self.tr("Starting; the model is being loaded")
        if session.state == "up" and session.own:
            return self.tr("The service of this window runs")
        return session.watch.describe(session.clock())

    def _show_line(self) -> None:
        if self._remark is not None:
            self._line.set_service(*self._remark)
        else:
            self._line.set_service(self._service_words(), self._session.state in ("lost", "failed"))

    def _forget_remark(self) -> None:
        self._remark = None
        self._show_line()
