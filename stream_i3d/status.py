"""A camera's state as others see it: what its capture process reported, corrected by the age of its frames. Pure.

Health is the age of the last *new* frame, not a connection: a camera can be connected and send nothing for hours.
"""

from __future__ import annotations

from stream_i3d.messages import CameraReport, CameraState, CameraStatus


class CameraHealth:
    """Follows one camera; `now` is the monotonic clock in seconds, given by the caller."""

    def __init__(self, camera: str, stall_timeout_s: float, interval_s: float) -> None:
        """Start without a report.

        Args:
            camera: Name of the camera.
            stall_timeout_s: Seconds without a new frame after which a live camera is stalled.
            interval_s: Seconds between two statuses; one is also due at every change of state and when the rate is
                first known.
        """
        self._camera = camera
        self._stall_timeout_s = stall_timeout_s
        self._interval_s = interval_s
        self._report = CameraReport(camera=camera, state="connecting", fps=0.0, reconnects=0, detail="starting")
        self._last_new_frame: float | None = None
        self._published: tuple[CameraState, bool] | None = None  # the state, and whether its rate was known
        self._published_at = 0.0

    @property
    def finished(self) -> bool:
        """Whether the capture process reported that no frame will follow."""
        return self._report.final

    def report(self, report: CameraReport) -> None:
        """Process a report of the capture process."""
        self._report = report

    def frame(self, now: float) -> None:
        """Note a new (not repeated) frame."""
        self._last_new_frame = now

    def due(self, now: float, frames_dropped: int) -> CameraStatus | None:
        """Return the status to publish now, or None."""
        status = self.status(now, frames_dropped)
        current = status.state, status.fps > 0
        if current == self._published and now - self._published_at < self._interval_s:
            return None
        self._published, self._published_at = current, now
        return status

    def status(self, now: float, frames_dropped: int) -> CameraStatus:
        """Return the state as of `now`."""
        age = None if self._last_new_frame is None else max(0.0, now - self._last_new_frame)
        state, detail, fps = self._report.state, self._report.detail, self._report.fps
        problem, too_slow = self._report.problem, self._report.too_slow
        if state == "live" and age is not None and age > self._stall_timeout_s:
            problem, too_slow = f"no new frame for over {self._stall_timeout_s:g} s", False
            state, detail, fps = "stalled", problem, 0.0
        return CameraStatus(
            camera=self._camera,
            state=state,
            fps=round(fps, 2),
            last_frame_age_s=None if age is None else round(age, 3),
            reconnects=self._report.reconnects,
            frames_dropped=frames_dropped,
            detail=detail,
            paused=self._report.paused,
            previews_dropped=self._report.previews_dropped,
            delay_s=self._report.delay_s,
            problem=problem,
            retry_in_s=self._report.retry_in_s,
            too_slow=too_slow,
            view=self._report.view,
            view_share=self._report.view_share,
        )
