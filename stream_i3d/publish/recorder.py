"""The clip recorder: each event as H.264 in MP4, with seconds before and after, made of the camera's previews.

One thread reads previews into a ring per camera (preview_buffer.py); another one encodes, so that a slow encoder costs
pictures of a clip at most. Nothing outside this sink waits for either.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from stream_i3d.errors import ConfigError
from stream_i3d.messages import ActionEvent, Recognition
from stream_i3d.mp4 import can_write_mp4
from stream_i3d.publish.clip_folder import ClipFolder, clip_name
from stream_i3d.publish.clip_writer import ClipWriter
from stream_i3d.publish.preview_buffer import PreviewRings
from stream_i3d.publish.sink import Folder, Outlet, SinkContext
from stream_i3d.recognition.events import is_wall_clock
from stream_i3d.sink_settings import RecorderSettings
from stream_i3d.stage import SinkFigures
from stream_i3d.thread_names import name_background_thread
from stream_i3d.transport.keys import ClientKeys, load_server_keys
from stream_i3d.transport.wire import Published

log = logging.getLogger(__name__)

_TICK_S = 0.1
_ROOM_EVERY_BYTES = 1_000_000

NoteClip = Callable[[str | None, str], None]
"""Called with an event's id and the name of its clip; None for the id where that clip was removed."""


def make(settings: RecorderSettings, name: str, context: SinkContext) -> Outlet:
    """Start the sink."""
    keys = load_server_keys(context.security)
    note = {} if context.store is None else {"note": context.store.note_clip}
    return RecorderSink(settings, name, None if keys is None else keys.own_client(), **note)


def needs(settings: RecorderSettings) -> Folder:
    """Return the folder of the clips, with what is left of their quota."""
    folder = Path(settings.folder).expanduser().absolute()
    try:
        used_mb = sum(clip.stat().st_size for clip in folder.glob("*.mp4")) / 2**20
    except OSError:
        used_mb = 0.0
    return Folder(folder, settings.min_free_mb + max(0.0, settings.quota_mb - used_mb), made=True)


class RecorderSink(Outlet):
    """Records clips. Drop policies: of previews the oldest go; with too many clips at once the new one is not made."""

    def __init__(
        self,
        settings: RecorderSettings,
        name: str,
        keys: ClientKeys | None = None,
        note: NoteClip = lambda event_id, clip: None,
    ) -> None:
        """Open the folder.

        Args:
            settings: What is recorded, and where.
            name: Of this sink.
            keys: Authenticate the connection to the previews; None where the service has no keys.
            note: Called by the encoding thread when a clip was made or removed.

        Raises:
            ConfigError: The folder cannot be used, or this PyAV has no encoder for H.264.
        """
        self.name = name
        self._settings = settings
        self._note = note
        if not can_write_mp4():
            raise ConfigError(
                "the recorder needs H.264, which this PyAV cannot write: pip install 'stream-i3d[recorder]'"
            )
        path = Path(settings.folder).expanduser()
        self._folder = ClipFolder(path, int(settings.quota_mb * 1e6), int(settings.min_free_mb * 1e6))
        self._pictures = PreviewRings(settings, name, keys)
        self._clocks = Clocks()
        self._changed = threading.Condition()
        self._events: deque[tuple[ActionEvent, float]] = deque()
        self._making: dict[str, tuple[Recording, ClipWriter]] = {}
        self._grown = 0
        self._until = float("inf")
        self._failure = ""
        self._written = self._dropped = 0
        self._thread = threading.Thread(target=self._run, name=f"sink-{name}", daemon=True)
        self._thread.start()

    def write(self, message: Published) -> None:
        """Take one message: events are recorded, predictions relate the times of events to those of pictures."""
        now = time.monotonic()
        if isinstance(message, Recognition):
            self._clocks.take(message, now)
        elif isinstance(message, ActionEvent) and self._is_wanted(message):
            at = message.start_time if message.end_time is None else message.end_time
            with self._changed:
                if len(self._events) >= self._settings.queue:
                    self._dropped += 1
                    return
                self._events.append((message, self._clocks.of(message.camera, at, now, time.time())))
                self._changed.notify()

    def follow(self, cameras: Mapping[str, str]) -> None:
        """Record these cameras, whose previews are at these addresses."""
        self._pictures.follow(cameras)

    def figures(self) -> SinkFigures:
        """Return the counters and the state: `queued` are clips being made, `dropped` those that could not be made."""
        return SinkFigures(
            name=self.name,
            queued=len(self._making),
            written=self._written,
            dropped=self._dropped,
            failing=bool(self._failure),
            detail=self._failure,
        )

    def close(self, timeout_s: float = 1.0) -> None:
        """Finish the clips that are being made with what there is."""
        with self._changed:
            self._until = time.monotonic() + timeout_s
            self._changed.notify()
        self._thread.join(timeout_s)
        self._pictures.close()

    def _is_wanted(self, event: ActionEvent) -> bool:
        return self._settings.labels is None or event.label in self._settings.labels

    def _run(self) -> None:
        name_background_thread("recorder")
        while self._until == float("inf"):
            with self._changed:
                self._changed.wait_for(
                    lambda: self._events or self._until < float("inf"), _TICK_S if self._making else None
                )
                events = list(self._events)
                self._events.clear()
            for event, at in events:
                self._take(event, at)
            for event_id in list(self._making):
                self._continue(event_id, time.monotonic())
        for event_id in list(self._making):
            self._continue(event_id, float("inf"))

    def _take(self, event: ActionEvent, at: float) -> None:
        """Begin a clip at an event's start; learn at its end where the clip ends."""
        settings = self._settings
        if event.id in self._making:
            if event.event == "end":
                self._making[event.id][0].ends_at(at + settings.after_s)
            return
        if event.event == "end":
            return
        start = at - settings.before_s
        wall = event.start_time if is_wall_clock(event.start_time) else time.time() - (time.monotonic() - at)
        recording = Recording(event, clip_name(event, wall), start, start + settings.max_s)
        if self._folder.has(recording.name):
            return  # published again after a restart
        if len(self._making) >= settings.at_once:
            self._failed(f"{settings.at_once} clips are being made already", recording.name)
            return
        try:
            self._folder.check_disk()
            self._make_room(_ROOM_EVERY_BYTES)
            self._folder.drop(recording.name)
            writer = ClipWriter(
                self._folder.part(recording.name),
                int(settings.mode, 8),
                settings.fps,
                settings.max_side,
                settings.crf,
                f"{event.label} at {event.camera}",
                wall - settings.before_s,
            )
        except OSError as error:
            self._failed(str(error), recording.name)
            return
        self._making[event.id] = recording, writer

    def _continue(self, event_id: str, now: float) -> None:
        """Encode the pictures of a clip that have arrived; finish it where there are no more."""
        recording, writer = self._making[event_id]
        camera = recording.event.camera
        newest = self._pictures.newest(camera)
        try:
            for picture in self._pictures.between(camera, recording.next_number, recording.start, recording.end):
                recording.next_number = picture.number + 1
                before = writer.size
                if not writer.add(picture.jpeg, picture.time):
                    log.warning("%s: a preview of %s is no picture and is left out", self.name, camera)
                self._grown += writer.size - before
                if self._grown > _ROOM_EVERY_BYTES:
                    self._grown = 0
                    self._folder.check_disk()
                    self._make_room(_ROOM_EVERY_BYTES)
            if recording.is_over(newest, now):
                self._finish(recording, writer)
        except OSError as error:
            del self._making[event_id]
            writer.abort()
            self._folder.drop(recording.name)
            self._failed(str(error), recording.name)

    def _finish(self, recording: Recording, writer: ClipWriter) -> None:
        if not writer.pictures:
            raise OSError(f"no pictures came from {recording.event.camera}")
        writer.finish()
        self._make_room(0)
        self._folder.keep(recording.name)
        del self._making[recording.event.id]
        self._written += 1
        self._note(recording.event.id, recording.name)
        if self._failure:
            log.info("%s: clips are recorded again", self.name)
            self._failure = ""

    def _make_room(self, more: int) -> None:
        """Remove the oldest clips where that is needed for what is being made and `more` bytes."""
        for name in self._folder.make_room(sum(writer.size for _, writer in self._making.values()) + more):
            self._note(None, name)

    def _failed(self, reason: str, clip: str) -> None:
        """Count a clip that could not be made; logged once until one can be."""
        self._dropped += 1
        if not self._failure:
            log.warning("%s: cannot record %s (%s); clips are left out until it works again", self.name, clip, reason)
        self._failure = reason


_LATE_S = 1.0
"""How long a picture may take from its capture to the ring, in seconds."""


class Clocks:
    """Converts times of a camera's events (wall clock, or a file's own time) to the monotonic clock of its pictures."""

    def __init__(self) -> None:
        self._offsets: dict[str, float] = {}

    def take(self, recognition: Recognition, now: float) -> None:
        """Learn from a prediction, which carries both, that came at `now` (monotonic, seconds)."""
        captured = now - recognition.latency_ms.total / 1000
        self._offsets[recognition.camera] = captured - recognition.window.end_time

    def of(self, camera: str, time: float, now: float, wall_now: float) -> float:
        """Return an event's `time` on the monotonic clock; before any prediction it is taken for the wall clock's.

        The result is never in the future: a clip would wait for it for ever.
        """
        return min(now, time + self._offsets.get(camera, now - wall_now))


@dataclass(slots=True)
class Recording:
    """A clip that is being made; times are monotonic, in seconds.

    Attributes:
        event: Its start.
        name: Of its file.
        start: Of the first picture.
        end: Of the last picture, as far as is known now.
        next_number: Of the next picture.
    """

    event: ActionEvent
    name: str
    start: float
    end: float
    next_number: int = 0

    def ends_at(self, end: float) -> None:
        """Set when the clip ends; its greatest length still limits it."""
        self.end = min(self.end, max(end, self.start))

    def is_over(self, newest: float, now: float) -> bool:
        """Return whether the clip is complete: a later picture has arrived, or none has for too long."""
        return newest > self.end or now > self.end + _LATE_S
