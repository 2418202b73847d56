"""Logs each change of a camera's state, or of what is wrong with it, as one line."""

from __future__ import annotations

import logging

from stream_i3d.messages import CameraStatus
from stream_i3d.stage import CameraNews, StageMessage

log = logging.getLogger(__name__)

_WORRYING = ("stalled", "reconnecting")
_MAX_CAMERAS = 256


class CameraLog:
    """Remembers what was last logged of each camera."""

    def __init__(self) -> None:
        self._logged: dict[str, tuple[object, ...]] = {}

    def on_message(self, name: str, pid: int, message: StageMessage) -> None:
        """Take a message of a stage; only statuses of cameras matter."""
        if isinstance(message, CameraNews):
            self.take(message.status)

    def take(self, status: CameraStatus) -> None:
        """Log a status whose state or problem is new; a rate that varies is not."""
        key = _key(status)
        if self._logged.get(status.camera) == key:
            return
        self._logged.pop(status.camera, None)
        self._logged[status.camera] = key
        if len(self._logged) > _MAX_CAMERAS:
            del self._logged[next(iter(self._logged))]
        level = logging.WARNING if status.state in _WORRYING or status.retry_in_s is not None else logging.INFO
        log.log(level, "%s: %s (%s)", status.camera, status.state, status.detail)


def _key(status: CameraStatus) -> tuple[object, ...]:
    """Return what makes a status worth another line."""
    if status.state == "live":  # its problem names a rate, and its detail a size
        return status.state, bool(status.problem), status.too_slow, status.delay_s > 0
    return status.state, status.problem or status.detail
