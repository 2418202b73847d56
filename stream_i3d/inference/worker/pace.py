"""Which windows a worker runs when, and at which stride its cameras are recognised: batching.py and admission.py on it.

Measures how busy the engine is; the clock is an argument.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from stream_i3d.config import WindowConfig
from stream_i3d.inference.worker.admission import Admission, Load, allowed_strides
from stream_i3d.inference.worker.batching import Batch, Batching, Waiting
from stream_i3d.inference.worker.drain import Camera

log = logging.getLogger(__name__)

_PERIOD_S = 1.0
_LOG_S = 60.0


class Pace:
    """Chooses what runs, and follows the load; times are of the monotonic clock."""

    def __init__(self, window: WindowConfig, sample_fps: float, batch_limit: int) -> None:
        """Args: at most `batch_limit` windows run as one batch."""
        self.batching = Batching(batch_limit, window.batch_wait_ms * 1e-3)
        self._sample_fps = sample_fps
        self._admission = Admission(_strides(window, []))
        self._window = window
        self._lossless = False
        self._asked = window.stride
        self.busy = 0.0
        """Share of the last period for which the engine ran."""
        self._busy_s = 0.0
        self._windows = self._replaced = 0
        self._began: float | None = None
        self._logged_at = float("-inf")
        self._said_stride = window.stride

    @property
    def stride(self) -> int:
        """The stride in force."""
        return self._admission.stride

    def retune(self, window: WindowConfig, cameras: Sequence[Camera]) -> None:
        """Take other settings, or other cameras."""
        self.batching.wait_s = window.batch_wait_ms * 1e-3
        self._window, self._lossless = window, _any_lossless(cameras)
        self._asked = window.stride
        self._admission.retune(_strides(window, cameras))
        if not self._admission.raised:
            self._said_stride = self.stride  # it is as asked for, which says nothing of the machine
        self._apply(cameras)

    def forget(self, camera: Camera) -> None:
        """Expect nothing more of a camera that is removed."""
        self.batching.forget(id(camera))

    def choose(self, cameras: Sequence[Camera], now_ns: int) -> tuple[list[Camera], Batch]:
        """Return the cameras whose windows should run now, and for how long to wait where there are none."""
        stride_ns = round(self.stride / self._sample_fps * 1e9)
        waiting = [
            Waiting(id(camera), captured_ns + stride_ns)
            for camera in cameras
            if (captured_ns := camera.windows.due_ns()) is not None
        ]
        batch = self.batching.choose(waiting, now_ns)
        by_number = {id(camera): camera for camera in cameras}
        return [by_number[number] for number in batch.cameras], batch

    def ran(self, windows: int, seconds: float) -> None:
        """Note that the engine ran so many windows, for so long."""
        self._windows += windows
        self._busy_s += seconds

    def look(self, cameras: Sequence[Camera], now: float) -> bool:
        """Once a period, look at the load; where the stride changes, give it to all cameras and return True."""
        replaced = sum(camera.windows.feed.windows_dropped["stale"] for camera in cameras)
        if self._began is None:
            self._began, self._replaced = now, replaced
        if (passed := now - self._began) < _PERIOD_S:
            return False
        self.busy = min(1.0, self._busy_s / passed)
        load = Load(self.busy, self._windows, max(0, replaced - self._replaced))
        self._began, self._replaced, self._busy_s, self._windows = now, replaced, 0.0, 0
        if _any_lossless(cameras) != self._lossless:  # of a URL that is known once it is opened
            self.retune(self._window, cameras)
        changed = self._admission.update(load)
        if changed:
            self._apply(cameras)
        self._tell(load, now)
        return changed

    def _apply(self, cameras: Sequence[Camera]) -> None:
        for camera in cameras:
            camera.set_stride(self.stride)

    def _tell(self, load: Load, now: float) -> None:
        """Log where the stride has settled, at most once a minute."""
        if self.stride == self._said_stride or now - self._logged_at < _LOG_S:
            return
        self._said_stride, self._logged_at = self.stride, now
        if self._admission.raised:
            log.warning(
                "this machine cannot keep up (engine busy for %.0f %% of the time): stride %d instead of %d for all "
                "cameras until it can; give fewer cameras, a larger window.stride or a faster backend",
                100 * load.busy,
                self.stride,
                self._asked,
            )
        else:
            log.info("this machine keeps up again: stride %d as asked for", self.stride)


def _strides(window: WindowConfig, cameras: Sequence[Camera]) -> tuple[int, ...]:
    # A file that is read at full speed keeps every engine busy, which says nothing.
    adaptive = window.adaptive and not _any_lossless(cameras)
    return allowed_strides(window.stride, window.mode == "streaming", adaptive)


def _any_lossless(cameras: Sequence[Camera]) -> bool:
    return any(camera.slot.lossless for camera in cameras)
