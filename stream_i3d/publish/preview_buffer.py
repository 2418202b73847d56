"""The newest previews of each camera, kept so that a clip can begin before its event was known."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stream_i3d.errors import StreamI3DError
from stream_i3d.sampling import Sampler
from stream_i3d.sink_settings import RecorderSettings
from stream_i3d.thread_names import name_background_thread
from stream_i3d.transport.addresses import reachable
from stream_i3d.transport.keys import ClientKeys
from stream_i3d.transport.preview import PreviewReceivers
from stream_i3d.transport.sockets import wait_for_any


@dataclass(frozen=True, slots=True)
class Picture:
    """A JPEG, its number among those of its camera, and when it was captured (monotonic, seconds)."""

    number: int
    time: float
    jpeg: bytes


class PictureRing:
    """Bounded by time and by bytes. Drop policy: the oldest go."""

    def __init__(self, fps: float, seconds: float, max_bytes: int) -> None:
        """Start empty.

        Args:
            fps: Greatest rate of kept pictures; further ones are left out.
            seconds: Greatest age of a picture.
            max_bytes: Greatest size of all pictures.
        """
        self._pace = Sampler(fps)
        self._seconds = seconds
        self._max_bytes = max_bytes
        self._pictures: deque[Picture] = deque()
        self._bytes = 0
        self._taken = 0

    def __len__(self) -> int:
        return len(self._pictures)

    def add(self, time: float, jpeg: bytes) -> None:
        """Process a picture captured at `time`; one that is not later than the newest is left out."""
        if (self._pictures and time <= self._pictures[-1].time) or not self._pace.push(time):
            return
        self._pictures.append(Picture(self._taken, time, jpeg))
        self._taken += 1
        self._bytes += len(jpeg)
        while self._bytes > self._max_bytes or self._pictures[0].time < time - self._seconds:
            self._bytes -= len(self._pictures.popleft().jpeg)
            if not self._pictures:
                return

    def between(self, number: int, start: float, end: float) -> Sequence[Picture]:
        """Return the pictures from `number` on that were captured from `start` to `end`, in order."""
        return [one for one in self._pictures if one.number >= number and start <= one.time <= end]

    @property
    def newest(self) -> float:
        """When the newest picture was captured; -inf before the first."""
        return self._pictures[-1].time if self._pictures else float("-inf")


log = logging.getLogger(__name__)

_TICK_S = 0.1
_KNOWN_LATE_S = 15.0
"""How long after its beginning an event may become known: streaming mode is seconds late."""
_PREVIEWS_KEPT = 32


class PreviewRings:
    """Follows cameras' previews from its beginning to `close`. Drop policy: the oldest pictures go."""

    def __init__(self, settings: RecorderSettings, name: str, keys: ClientKeys | None) -> None:
        """Start the thread.

        Args:
            settings: Of the recorder.
            name: Of the sink.
            keys: Authenticate the connection to the previews; None where the service has no keys.
        """
        self._settings = settings
        self._name = name
        self._keys = keys
        self._lock = threading.Lock()
        self._rings: dict[str, PictureRing] = {}
        self._wanted: Mapping[str, str] = {}
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"sink-{name}-previews", daemon=True)
        self._thread.start()

    def follow(self, cameras: Mapping[str, str]) -> None:
        """Read the previews of these cameras, from these addresses ("" where there is none), and of no others."""
        # A service bound to all interfaces publishes that address; this process is on the same machine.
        here = {camera: reachable(address, "tcp://127.0.0.1:1") for camera, address in cameras.items() if address}
        with self._lock:
            self._wanted = here
            for camera in set(self._rings) - set(cameras):
                del self._rings[camera]

    def newest(self, camera: str) -> float:
        """Return when a camera's newest picture was captured (monotonic, seconds); -inf before the first."""
        with self._lock:
            ring = self._rings.get(camera)
            return float("-inf") if ring is None else ring.newest

    def between(self, camera: str, number: int, start: float, end: float) -> list[Picture]:
        """Return a camera's pictures from `number` on that were captured from `start` to `end`, in order."""
        with self._lock:
            ring = self._rings.get(camera)
            return [] if ring is None else list(ring.between(number, start, end))

    def close(self) -> None:
        """End the thread."""
        self._closing.set()
        self._thread.join(1.0)

    def _run(self) -> None:
        name_background_thread("previews")
        following: Mapping[str, str] = {}
        with PreviewReceivers(self._keys, keep=_PREVIEWS_KEPT) as receivers:
            while not self._closing.is_set():
                if self._wanted != following:
                    following = self._wanted
                    self._follow(receivers, following)
                if not following:
                    self._closing.wait(_TICK_S)
                elif wait_for_any([receivers], _TICK_S):
                    for camera, preview in receivers.receive():
                        self._add(camera, preview.capture_ns * 1e-9, preview.jpeg)

    def _follow(self, receivers: PreviewReceivers, cameras: Mapping[str, str]) -> None:
        try:
            receivers.follow(cameras)
        except StreamI3DError as error:
            log.error("%s: no previews: %s", self._name, error)

    def _add(self, camera: str, at: float, jpeg: bytes) -> None:
        with self._lock:
            if camera not in self._wanted:
                return
            if camera not in self._rings:
                seconds = self._settings.before_s + _KNOWN_LATE_S
                self._rings[camera] = PictureRing(self._settings.fps, seconds, int(self._settings.ring_mb * 1e6))
            self._rings[camera].add(at, jpeg)
