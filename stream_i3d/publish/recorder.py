"""The clip recorder: each event as H.264 in MP4, with seconds before and after, made of the camera's previews.

One thread reads previews into a ring per camera (preview_rings.py); another one encodes, so that what is slow there
costs pictures of a clip at most. Both are this sink's own: nobody else waits.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

import av

from stream_i3d.errors import ConfigError
from stream_i3d.messages import ActionEvent, Recognition
from stream_i3d.publish.clip_folder import ClipFolder, clip_name
from stream_i3d.publish.clip_writer import ClipWriter
from stream_i3d.publish.preview_rings import PreviewRings
from stream_i3d.publish.recording import Clocks, Recording, is_wall_clock
from stream_i3d.publish.sink import Outlet, SinkContext, Writable
from stream_i3d.sink_settings import RecorderSettings
from stream_i3d.stage import SinkFigures
from stream_i3d.thread_names import name_background_thread
from stream_i3d.transport.curve import ClientKeys
from stream_i3d.transport.wire import Published

log = logging.getLogger(__name__)

_TICK_S = 0.1
_ROOM_EVERY_BYTES = 1_000_000

NoteClip = Callable[[str | None, str], None]
"""Told an event's id and the name of its clip; None where the clip of that name is gone."""


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
            keys: With which previews are to be had, where clients need keys.
            note: Told of clips, by the encoding thread.

        Raises:
            ConfigError: The folder cannot be had, or this PyAV has no encoder for H.264.
        """
        self.name = name
        self._settings = settings
        self._note = note
        _check_encoder()
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
        """Take one message: events are recorded, predictions tell how their times relate to those of pictures."""
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
        """Return how it fares: `queued` are clips being made, `dropped` those that could not be."""
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
                self._go_on(event_id, time.monotonic())
        for event_id in list(self._making):
            self._go_on(event_id, float("inf"))

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
            return  # said again after a restart
        if len(self._making) >= settings.at_once:
            self._fails(f"{settings.at_once} clips are being made already", recording.name)
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
            self._fails(str(error), recording.name)
            return
        self._making[event.id] = recording, writer

    def _go_on(self, event_id: str, now: float) -> None:
        """Encode the pictures of a clip that have come; finish it where there are no more."""
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
        except (OSError, av.FFmpegError) as error:
            del self._making[event_id]
            writer.abort()
            self._folder.drop(recording.name)
            self._fails(str(error), recording.name)

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

    def _fails(self, reason: str, clip: str) -> None:
        """Count a clip that is not made; said once until one is."""
        self._dropped += 1
        if not self._failure:
            log.warning("%s: cannot record %s (%s); clips are left out until it works again", self.name, clip, reason)
        self._failure = reason


def _check_encoder() -> None:
    try:
        av.codec.Codec("libx264", "w")
    except (av.FFmpegError, av.codec.codec.UnknownCodecError):
        raise ConfigError(
            "the recorder needs H.264, which this PyAV cannot write: pip install 'stream-i3d[recorder]'"
        ) from None


def make_sink(settings: RecorderSettings, context: SinkContext) -> RecorderSink:
    """Return the sink at work; ConfigError where its folder cannot be written to, or PyAV has no encoder for H.264."""
    note = {} if context.store is None else {"note": context.store.note_clip}
    return RecorderSink(settings, context.name, context.keys, **note)


def needs(settings: RecorderSettings) -> Writable:
    """Return the folder of clips, with room for those that the quota still allows."""
    folder = Path(settings.folder).expanduser().absolute()
    room_mb = settings.min_free_mb + max(0.0, settings.quota_mb - _clips_mb(folder))
    return Writable(folder, room_mb, made=True)


def _clips_mb(folder: Path) -> float:
    """Return the size of the clips that are there, which counts towards the quota."""
    try:
        return sum(clip.stat().st_size for clip in folder.glob("*.mp4")) / 2**20
    except OSError:
        return 0.0
