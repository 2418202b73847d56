"""The cameras' newest previews, read by a thread of the recorder into a ring for each. Knows no events and no clips."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping

from stream_i3d.errors import StreamI3DError
from stream_i3d.publish.picture_ring import Picture, PictureRing
from stream_i3d.sink_settings import RecorderSettings
from stream_i3d.thread_names import name_background_thread
from stream_i3d.transport.addresses import reachable
from stream_i3d.transport.curve import ClientKeys
from stream_i3d.transport.preview import PreviewReceivers
from stream_i3d.transport.sockets import wait_for_any

log = logging.getLogger(__name__)

_TICK_S = 0.1
_KNOWN_LATE_S = 15.0
"""How long after its beginning an event may become known: streaming mode is seconds late."""
_PREVIEWS_KEPT = 32


class PreviewRings:
    """Follows cameras' previews from its beginning to `close`. Drop policy: the oldest pictures go."""

    def __init__(self, settings: RecorderSettings, name: str, keys: ClientKeys | None) -> None:
        """Args: `name` is the sink's; `keys` are those with which previews are to be had, where clients need some."""
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
        # A service bound to all interfaces says so; from here it is on this machine.
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
