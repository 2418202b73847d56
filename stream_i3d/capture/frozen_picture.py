"""Notices a camera that shows the same picture again and again: frozen, though it sends. Pure: time is an argument.

A picture is the same when every byte of its samples is as in one of the pictures before: a motionless scene has noise,
which never repeats itself over a whole picture. Not only the last picture counts: an encoder that goes on over a frozen
sensor makes the same few pictures again with every key picture. So a short loop of a motionless scene is frozen too;
one in which something moves is not.
"""

from __future__ import annotations

import zlib
from collections import deque

import numpy as np
from numpy.typing import NDArray

from stream_i3d.preprocess import Image

_ROWS = 120
_REMEMBERED = 256  # pictures: ten seconds at 25 fps, longer than cameras' distance of key pictures
_NEAR = 3.0  # grey levels on average: the differences that encoding makes are smaller, those of motion larger
_LONGEST_S = 3600.0


class FrozenPictureWatch:
    """Follows one camera's pictures, over reconnections too."""

    def __init__(self, timeout_s: float | None) -> None:
        """Args: the picture is frozen after `timeout_s` seconds without a new one; None: never."""
        self._timeout_s = timeout_s
        self._known: deque[int] = deque(maxlen=_REMEMBERED)
        self._last_new: NDArray[np.uint8] | None = None
        self._new_at = 0.0
        self._interval_s = timeout_s or 0.0
        self._opened_at = 0.0
        self._shown_at = 0.0

    def opened(self, now: float) -> None:
        """Note that the camera was opened (anew)."""
        self._opened_at = now

    def push(self, now: float, picture: Image) -> None:
        """Take in a picture, (H, W, 3) uint8."""
        if self._timeout_s is None:
            return
        self._shown_at = now
        step = max(1, picture.shape[0] // _ROWS)
        samples = np.ascontiguousarray(picture[::step, ::step])
        digest = zlib.crc32(samples.data)
        if digest in self._known and self._near(samples):
            return
        if digest not in self._known:
            self._known.append(digest)
        self._last_new, self._new_at = samples, now
        if now - self._opened_at > self._timeout_s:
            self._interval_s = self._timeout_s  # it moves, and not only because it was opened

    def frozen_for(self, now: float) -> float | None:
        """Return for how many seconds the picture has been the same, or None where that is not too long yet."""
        if self._timeout_s is None or self._last_new is None or self._shown_at < self._opened_at:
            return None  # also while a camera that was away has shown nothing yet
        if self._shown_at - self._new_at <= self._timeout_s:
            return None  # no picture has been shown for so long, which is another fault
        still = now - self._new_at
        return still if still > self._timeout_s else None

    def should_reopen(self, now: float) -> bool:
        """Tell once whether the frozen camera should be opened anew: ever more rarely, for it may really be still."""
        frozen = self.frozen_for(now)
        if frozen is None or now - max(self._opened_at, self._new_at + (self._timeout_s or 0.0)) < self._interval_s:
            return False
        self._interval_s = min(2 * self._interval_s, _LONGEST_S)
        return True

    def _near(self, samples: NDArray[np.uint8]) -> bool:
        before = self._last_new
        if before is None or before.shape != samples.shape:
            return False
        return bool(np.abs(samples.astype(np.int16) - before).mean() < _NEAR)
