"""What a recording is made with: its file's name and size, and which pictures are due. Pure."""

from __future__ import annotations

import re
import time

FPS = 20


def file_name(camera: str, wall_time: float, suffix: str) -> str:
    """Return a file's name such as "door-20261121-140309.png"; safe whatever the camera's name is."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(wall_time))
    safe = re.sub(r"[^A-Za-z0-9_.-]+", "-", camera).strip("-.") or "camera"
    return f"{safe}-{stamp}.{suffix}"


def even(width: int, height: int) -> tuple[int, int]:
    """Return the size with both sides even, as H.264 with 4:2:0 colour needs it."""
    return max(2, width - width % 2), max(2, height - height % 2)


class Pace:
    """Keeps a recording at FPS whatever the rate of the pictures: tells how many times each is written."""

    def __init__(self, start: float) -> None:
        self._start = start
        self.written = 0

    def due(self, now: float) -> int:
        """Return how often the picture of `now` is written (0: it is not yet time); at most two seconds' worth."""
        number = int((now - self._start) * FPS) + 1 - self.written
        number = max(0, min(number, 2 * FPS))
        self.written += number
        return number
