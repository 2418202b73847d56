"""The figures of the status bar and the details panel, per camera and over all. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from stream_i3d.messages import CameraStatus, Recognition, ViewName

from .formats import NOTHING, count, milliseconds, rate
from .series import Series
from .translation import translate

_RECENT_S = 10.0


@dataclass(slots=True)
class CameraStatistics:
    """One camera's figures over time.

    Attributes:
        pictures: A value per preview painted: milliseconds from its capture to its painting.
        camera_fps: What the camera delivers.
        inference_ms: Time of the network per window.
        total_ms: From the newest frame's capture to publishing.
        dropped: Frames and windows dropped so far.
        frames_dropped: Since the service started.
        windows_dropped: The same for windows.
        previews_dropped: Previews that came while a newer one was to be shown; counted in the window.
        view: What of the picture the network sees; None while that is not known.
        view_share: Share of the picture's area that this is; None before the first picture.
    """

    pictures: Series = field(default_factory=Series)
    camera_fps: Series = field(default_factory=Series)
    inference_ms: Series = field(default_factory=Series)
    total_ms: Series = field(default_factory=Series)
    dropped: Series = field(default_factory=Series)
    frames_dropped: int = 0
    windows_dropped: int = 0
    previews_dropped: int = 0
    view: ViewName | None = None
    view_share: float | None = None

    def take_recognition(self, message: Recognition, now: float) -> None:
        """Take in a prediction; one without inference has no time of it."""
        if message.state != "warming" and message.skipped is None:
            self.inference_ms.add(now, message.latency_ms.inference)
        self.total_ms.add(now, message.latency_ms.total)
        self.frames_dropped, self.windows_dropped = message.frames_dropped, message.windows_dropped
        self.dropped.add(now, self.frames_dropped + self.windows_dropped)

    def take_status(self, message: CameraStatus, now: float) -> None:
        """Take in a status."""
        self.camera_fps.add(now, message.fps)
        self.frames_dropped = message.frames_dropped
        self.view, self.view_share = message.view, message.view_share

    def take_painted(self, now: float, latency_ms: float) -> None:
        """A preview was painted."""
        self.pictures.add(now, latency_ms)


@dataclass(frozen=True, slots=True)
class Statistic:
    """One figure: what it is, its value with its unit, and what it means."""

    name: str
    value: str
    meaning: str


def status_line(cameras: list[CameraStatistics], now: float) -> list[Statistic]:
    """Return the status bar's figures over all `cameras`."""
    shown = [fps for camera in cameras if (fps := camera.pictures.rate(now)) is not None]
    inference = _worst([camera.inference_ms for camera in cameras], now)
    total = _worst([camera.total_ms for camera in cameras], now)
    frames = sum(camera.frames_dropped for camera in cameras)
    windows = sum(camera.windows_dropped for camera in cameras)
    return [
        Statistic(
            translate("Figures", "Pictures"),
            rate(sum(shown)) if shown else NOTHING,
            translate("Figures", "Pictures painted per second, all cameras together"),
        ),
        Statistic(
            translate("Figures", "Inference"),
            milliseconds(inference),
            translate("Figures", "Milliseconds of the network per window, median of 10 s"),
        ),
        Statistic(
            translate("Figures", "Latency"),
            milliseconds(total),
            translate("Figures", "Milliseconds from capture to the published action, median of 10 s"),
        ),
        Statistic(
            translate("Figures", "Dropped"),
            f"{count(frames)} / {count(windows)}",
            translate("Figures", "Frames / windows that were dropped since the service started; newest wins"),
        ),
    ]


def _worst(series: list[Series], now: float) -> float | None:
    medians = [value for one in series if (value := one.percentile(0.5, now, _RECENT_S)) is not None]
    return max(medians) if medians else None
