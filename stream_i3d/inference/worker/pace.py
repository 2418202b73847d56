"""Which windows a worker runs when, and at which stride its cameras are recognised: batching.py and admission.py on it.

In streaming mode turns.py says which cameras are served at all. Measures how busy the engine is; the clock is an
argument.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from stream_i3d.config import WindowConfig
from stream_i3d.inference.worker.admission import Admission, Load, allowed_strides
from stream_i3d.inference.worker.batching import Batch, Batching, Waiting
from stream_i3d.inference.worker.drain import Camera
from stream_i3d.inference.worker.turns import CameraLoad, Turns
from stream_i3d.messages import Clip
from stream_i3d.overload import Overload, describe

log = logging.getLogger(__name__)

_PERIOD_S = 1.0
_LOG_S = 60.0
_SETTLED_S = 3.0
_REMEDY_STREAMING = "give fewer cameras, a faster backend or a smaller network, or use --mode window"
_LIVE_S = 1.0
"""A camera without a frame for longer gives its turn to another."""


class Pace:
    """Chooses what runs, and follows the load; times are of the monotonic clock."""

    def __init__(
        self,
        window: WindowConfig,
        sample_fps: float,
        batch_limit: int,
        measured: Mapping[int, float] | None = None,
        wall_time: Callable[[], float] = time.time,
    ) -> None:
        """Make it.

        Args:
            window: The settings.
            sample_fps: Of all cameras.
            batch_limit: At most so many windows run as one batch.
            measured: Seconds by batch size, in streaming mode, as far as they are known.
            wall_time: Seconds since 1970.
        """
        self.batching = Batching(batch_limit, window.batch_wait_ms * 1e-3)
        self.turns = Turns(window.stride, sample_fps, measured) if window.mode == "streaming" else None
        self._sample_fps = sample_fps
        self._wall_time = wall_time
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
        self._said_overload = False
        self._arrived: dict[int, tuple[int, float]] = {}  # of each camera: frames so far, when the newest was noticed
        self._done: deque[tuple[int, float]] = deque(maxlen=10)  # windows and seconds of the newest periods
        self._overload: Overload | None = None

    @property
    def stride(self) -> int:
        """The stride in force."""
        return self._admission.stride if self.turns is None else round(self.turns.stride * self.turns.frame_interval)

    @property
    def overload(self) -> Overload | None:
        """Return how the cameras are served while the machine cannot keep up; None while it can."""
        return self._overload

    def retune(self, window: WindowConfig, cameras: Sequence[Camera]) -> None:
        """Take other settings, or other cameras."""
        self.batching.wait_s = window.batch_wait_ms * 1e-3
        self._window, self._lossless = window, _any_lossless(cameras)
        self._asked = window.stride
        if self.turns is not None:
            self.turns.retune(window.stride)
            for camera in cameras:
                if not self._takes_turns(camera):
                    camera.serve(True, window.stride, 1)
            return
        self._admission.retune(_strides(window, cameras))
        if not self._admission.raised:
            self._said_stride = self.stride  # it is as asked for, which says nothing of the machine
        self._apply(cameras)

    def forget(self, camera: Camera) -> None:
        """Expect nothing more of a camera that is removed."""
        self.batching.forget(id(camera))
        self._arrived.pop(id(camera), None)

    def choose(self, cameras: Sequence[Camera], now_ns: int) -> tuple[list[Camera], Batch]:
        """Return the cameras whose windows should run now, and for how long to wait where there are none."""
        stride_ns = round(self.stride / self._sample_fps * 1e9)
        due = [(camera, at_ns) for camera in cameras if (at_ns := camera.windows.due_ns()) is not None]
        if self.turns is not None:
            served = self.turns.served
            due = [one for one in due if not self._takes_turns(one[0]) or id(one[0]) in served]
            # A file that is read at full speed always has a chunk waiting: it gets the time that the others leave.
            due = [one for one in due if not one[0].slot.lossless] or due
        waiting = [Waiting(id(camera), at_ns + stride_ns) for camera, at_ns in due]
        batch = self.batching.choose(waiting, now_ns)
        by_number = {id(camera): camera for camera in cameras}
        return [by_number[number] for number in batch.cameras], batch

    def ran(self, due: Sequence[tuple[Camera, Clip]], seconds: float) -> None:
        """Note that the engine ran these windows as one batch, for so long."""
        self._windows += len(due)
        self._busy_s += seconds
        if self.turns is not None:
            self.turns.ran({id(camera): clip.number for camera, clip in due}, seconds)

    def look(self, cameras: Sequence[Camera], now: float) -> list[Camera]:
        """Look at the load; return the cameras that are not recognised for a while from now on."""
        cut = self._take_turns(cameras, now)
        replaced = sum(camera.windows.feed.windows_dropped["stale"] for camera in cameras)
        if self._began is None:
            self._began, self._replaced = now, replaced
        if (passed := now - self._began) < _PERIOD_S:
            return cut
        self.busy = min(1.0, self._busy_s / passed)
        load = Load(self.busy, self._windows, max(0, replaced - self._replaced))
        self._began, self._replaced, self._busy_s, self._windows = now, replaced, 0.0, 0
        if _any_lossless(cameras) != self._lossless:  # of a URL that is known once it is opened
            self.retune(self._window, cameras)
        if self.turns is None:
            if self._admission.update(load):
                self._apply(cameras)
            self._note_windows(load, passed, cameras)
            self._tell(load, now)
        return cut

    def _takes_turns(self, camera: Camera) -> bool:
        return self._window.adaptive and not camera.slot.lossless

    def _take_turns(self, cameras: Sequence[Camera], now: float) -> list[Camera]:
        """In streaming mode, decide which cameras are served; return those whose stream was cut."""
        if self.turns is None:
            return []
        turns = self.turns
        turns.batch_limit = self.batching.limit
        taking = [camera for camera in cameras if self._takes_turns(camera)]
        turns.update([self._load_of(camera, now) for camera in taking], now)
        overloaded, cut = turns.overloaded_since is not None, []
        for camera in taking:
            since = turns.waiting_since(id(camera))
            camera.overloaded = overloaded
            if since is None:
                camera.waiting_since = None
            elif camera.waiting_since is None:
                camera.waiting_since = round(self._wall_time(), 3)
            served = id(camera) in turns.served
            if (served or turns.is_waiting(id(camera))) and camera.serve(served, turns.stride, turns.frame_interval):
                cut.append(camera)
        self._note_turns(len(taking), now)
        return cut

    def _load_of(self, camera: Camera, now: float) -> CameraLoad:
        feed = camera.windows.feed
        frames, seen_at = self._arrived.get(id(camera), (0, float("-inf")))
        if feed.frames != frames:
            seen_at = now
            self._arrived[id(camera)] = feed.frames, now
        return CameraLoad(id(camera), now - seen_at < _LIVE_S, feed.backlog, feed.overflows)

    def _note_turns(self, cameras: int, now: float) -> None:
        """Keep what is told of the turns, and log when they begin and end."""
        turns = self.turns
        assert turns is not None
        if turns.overloaded_since is None:
            self._overload = None
            if self._said_overload:
                self._said_overload = False
                log.info("this machine keeps up again: all cameras are recognised all the time")
            return
        since = self._wall_time() if self._overload is None else self._overload.since
        served = len(turns.served)
        waiting = sum(turns.is_waiting(one) for one in self._arrived)
        self._overload = Overload(
            since=round(since, 3),
            cameras=served + waiting,
            served=served,
            asked_stride=self._asked,
            stride=self.stride,
            frame_interval=turns.frame_interval,
            turn_s=round(turns.turn_s, 1) if waiting else None,
            prediction_s=round(self.stride / self._sample_fps, 2),
        )
        if not self._said_overload and now - turns.overloaded_since >= _SETTLED_S and now - self._logged_at >= _LOG_S:
            self._said_overload, self._logged_at = True, now
            log.warning("%s; %s", describe(self._overload), _REMEDY_STREAMING)

    def _apply(self, cameras: Sequence[Camera]) -> None:
        for camera in cameras:
            camera.set_stride(self.stride)

    def _note_windows(self, load: Load, passed: float, cameras: Sequence[Camera]) -> None:
        """Keep what is told of an overload in window mode."""
        self._done.append((load.windows, passed))
        lossless = any(camera.slot.lossless for camera in cameras)
        overloaded = self._admission.overloaded and not lossless
        for camera in cameras:
            camera.overloaded = overloaded
        if not overloaded:
            self._overload = None
            return
        done, seconds = (sum(part) for part in zip(*self._done, strict=True))
        self._overload = Overload(
            since=round(self._wall_time() if self._overload is None else self._overload.since, 3),
            cameras=len(cameras),
            served=len(cameras),
            asked_stride=self._asked,
            stride=self.stride,
            prediction_s=round(len(cameras) * seconds / done, 2) if done else None,
        )

    def _tell(self, load: Load, now: float) -> None:
        """Log where the stride has settled, at most once a minute."""
        short = self._overload is not None
        if (self.stride == self._said_stride and short == self._said_overload) or now - self._logged_at < _LOG_S:
            return
        said, self._said_overload = self._said_overload, short
        self._said_stride, self._logged_at = self.stride, now
        if self._overload is not None:
            log.warning(
                "%s (engine busy for %.0f %% of the time); give fewer cameras, a larger window.stride or a faster "
                "backend",
                describe(self._overload),
                100 * load.busy,
            )
        elif said:
            log.info("this machine keeps up again: stride %d as asked for", self.stride)


def _strides(window: WindowConfig, cameras: Sequence[Camera]) -> tuple[int, ...]:
    # A file that is read at full speed keeps every engine busy, which says nothing.
    adaptive = window.adaptive and not _any_lossless(cameras)
    return allowed_strides(window.stride, window.mode == "streaming", adaptive)


def _any_lossless(cameras: Sequence[Camera]) -> bool:
    return any(camera.slot.lossless for camera in cameras)
