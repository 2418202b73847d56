"""Says each change of a camera's state once, as one line of the log. Pure but for logging."""

from __future__ import annotations

import logging
import re

from stream_i3d.messages import CameraStatus

log = logging.getLogger(__name__)

_WORRYING = ("stalled", "reconnecting")
_TRIES = "next try in"
_NUMBER = re.compile(r"\d+(\.\d+)?")


class CameraLog:
    """Knows what was last said of each camera."""

    def __init__(self) -> None:
        self._said: dict[str, tuple[str, str]] = {}

    def take(self, status: CameraStatus) -> None:
        """Log the status where its state or the reason for it is new, and not for other numbers in that reason."""
        state = status.state, _NUMBER.sub("0", status.detail)
        if self._said.get(status.camera) == state:
            return
        self._said[status.camera] = state
        level = logging.WARNING if status.state in _WORRYING or _TRIES in status.detail else logging.INFO
        log.log(level, "%s: %s (%s)", status.camera, status.state, status.detail)

    def forget(self, camera: str) -> None:
        """Forget a camera that is gone."""
        self._said.pop(camera, None)
