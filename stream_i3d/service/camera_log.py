"""Says each change of a camera's state once, as one line of the log. Pure but for logging."""

from __future__ import annotations

import logging
import re

from stream_i3d.messages import CameraStatus
from stream_i3d.stage import CameraNews, StageMessage

log = logging.getLogger(__name__)

_WORRYING = ("stalled", "reconnecting")
_MOST = 256
_TRIES = "next try in"
_NUMBER = re.compile(r"\d+(\.\d+)?")


class CameraLog:
    """Knows what was last said of each camera."""

    def __init__(self) -> None:
        self._said: dict[str, tuple[str, str]] = {}

    def heard(self, name: str, pid: int, said: StageMessage) -> None:
        """Take what a stage says; only statuses of cameras matter."""
        if isinstance(said, CameraNews):
            self.take(said.status)

    def take(self, status: CameraStatus) -> None:
        """Log the status where its state or the reason for it is new, and not for other numbers in that reason."""
        state = status.state, _NUMBER.sub("0", status.detail)
        if self._said.get(status.camera) == state:
            return
        self._said.pop(status.camera, None)
        self._said[status.camera] = state
        if len(self._said) > _MOST:  # of those that were removed long ago
            del self._said[next(iter(self._said))]
        level = logging.WARNING if status.state in _WORRYING or _TRIES in status.detail else logging.INFO
        log.log(level, "%s: %s (%s)", status.camera, status.state, status.detail)
