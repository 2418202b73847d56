"""Records labelled clips from an opened source: reads, writes and throws away as takes.py says.

Knows no network and no terminal; its caller shows the cues. The clock is an argument.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

from stream_i3d.capture.address import parse_source
from stream_i3d.capture.clip_file import ClipFile, ClipFolder, check_label, fitted_size, parse_side
from stream_i3d.capture.collect_schedule import STALL_S, CollectPlan, CollectSchedule, Cue
from stream_i3d.capture.reader import Clock
from stream_i3d.capture.source import Source, open_source
from stream_i3d.config import CaptureConfig
from stream_i3d.errors import SourceError, SourceUnavailable
from stream_i3d.preprocess import Image
from stream_i3d.redact import redact

Ending = Literal["complete", "stopped", "end of file"]

_SETTLE_S: Final = 0.5  # a webcam's exposure and white balance find their level
_MAX_BREAKS: Final = 3
_NAP_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class CollectJob:
    """What one session is to do.

    Attributes:
        source: As `--source`.
        label: The class.
        output: Folder of all classes.
        plan: How many clips, how long.
        size: "WIDTHxHEIGHT"; larger pictures are shrunk to its longer side.
        fast: Do not hold a file back to its own speed.
    """

    source: str
    label: str
    output: Path
    plan: CollectPlan
    size: str = "640x480"
    fast: bool = False


@dataclass(frozen=True, slots=True)
class Collected:
    """What came of a session: why it ended, the clips, and their folder."""

    ending: Ending
    kept: list[Path]
    folder: Path

    def describe(self) -> str:
        """Return it as one line."""
        why = {"complete": "", "stopped": "stopped: ", "end of file": "the file ended: "}
        return why[self.ending] + _kept(self.kept, self.folder)


class Observer(Protocol):
    """Follows what goes on."""

    def opened(self, description: str) -> None:
        """The source is open."""

    def cue(self, cue: Cue) -> None:
        """A picture has come, and this is done with it."""

    def kept(self, path: Path) -> None:
        """A clip is whole."""


class Stop:
    """A request to end. A plain flag: a signal handler must not wait for a lock, as threading.Event would."""

    def __init__(self) -> None:
        self.stopped = False

    def tell(self) -> None:
        """Ask for the end; may be called from a signal handler."""
        self.stopped = True

    def clock(self) -> Clock:
        """Return the machine's clock; its sleep ends when told to stop."""
        return Clock(time.monotonic_ns, time.time, self._sleep_until)

    def _sleep_until(self, until_s: float) -> bool:
        while not self.stopped and (left := until_s - time.monotonic()) > 0:
            time.sleep(min(left, _NAP_S))
        return not self.stopped


class Collector:
    """Records one session of a label.

    Every picture is grabbed, also while nothing is recorded, so that a camera's buffers hold nothing old when it
    begins; only what is kept is decoded.
    """

    def __init__(
        self,
        source: Source,
        plan: CollectPlan,
        folder: ClipFolder,
        observer: Observer,
        clock: Clock,
        stopped: Callable[[], bool],
        *,
        side: int,
        paced: bool,
    ) -> None:
        """Set up a session.

        Args:
            source: Opened; its opener closes it.
            plan: How many clips, how long.
            folder: Where they go.
            observer: Follows what goes on.
            clock: Gives a camera's pictures their time, and holds back files.
            stopped: Whether to end now.
            side: Pixels that the longer side of a clip may have.
            paced: Hold a file back to its own speed.
        """
        self._source = source
        self._plan = plan
        self._folder = folder
        self._observer = observer
        self._clock = clock
        self._stopped = stopped
        self._side = side
        self._paced = paced and not source.live
        self._start_s: float | None = None
        self._takes = CollectSchedule(plan, _SETTLE_S if source.live else 0.0)
        self._file: ClipFile | None = None
        self._picture: Image | None = None
        self.kept: list[Path] = []
        """The clips so far."""

    def run(self) -> Ending:
        """Record until the plan is done, the medium ends or the stop is asked for; a clip under way is thrown away.

        Raises:
            SourceUnavailable: The source stopped delivering, or is too slow.
            ConfigError: Clips cannot be written.
        """
        try:
            while not self._takes.done:
                media_time = self._source.grab()
                if self._stopped() or (media_time is not None and not self._pace(media_time)):
                    return "stopped"
                if media_time is None:
                    self._write(self._takes.finish())
                    return "complete" if self._takes.done else "end of file"
                self._take(self._clock.monotonic_ns() * 1e-9 if self._source.live else media_time)
            return "complete"
        finally:
            self._discard()
            self._folder.leave()

    def _take(self, now: float) -> None:
        cue = self._takes.push(now)
        if cue.gap_s:
            self._discard()
        self._observer.cue(cue)
        if self._takes.breaks >= _MAX_BREAKS:
            raise SourceUnavailable(
                f"{_MAX_BREAKS} clips in a row had gaps of more than {STALL_S:g} s; check the camera or its network"
            )
        if cue.frames:
            self._picture = self._source.retrieve()
            self._write(cue.frames)

    def _write(self, copies: int) -> None:
        for _ in range(copies):
            assert self._picture is not None
            if self._file is None:
                size = fitted_size(self._picture, self._side, self._source.pixel_aspect)
                self._file = self._folder.start(size, self._plan.fps)
            self._file.write(self._picture)
            if self._file.frames == self._plan.clip_frames:
                whole, self._file = self._file, None
                self.kept.append(whole.keep())
                self._observer.kept(self.kept[-1])

    def _discard(self) -> None:
        if self._file is not None:
            self._file.discard()
            self._file = None

    def _pace(self, media_time: float) -> bool:
        if not self._paced:
            return True
        if self._start_s is None:
            self._start_s = self._clock.monotonic_ns() * 1e-9 - media_time
        return self._clock.sleep_until(self._start_s + media_time)


def collect_clips(job: CollectJob, observer: Observer, stop: Stop) -> Collected:
    """Open the source and record one session.

    Raises:
        ConfigError: The job cannot be done, or clips cannot be written.
        SourceError: The source cannot be opened, or failed; the message says how many clips were kept until then.
    """
    address, side, name = parse_source(job.source), parse_side(job.size), redact(job.source)
    check_label(job.label)
    source = open_source(address, CaptureConfig())
    try:
        clock = stop.clock()
        stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(clock.wall()))
        folder = ClipFolder(job.output, job.label, stamp)
        observer.opened(f"{name}: {source.description}")
        collector = Collector(
            source, job.plan, folder, observer, clock, lambda: stop.stopped, side=side, paced=not job.fast
        )
        try:
            ending = collector.run()
        except SourceError as error:
            raise type(error)(f"{error}; {_kept(collector.kept, folder.path)}") from None
    finally:
        source.close()
    if ending == "end of file" and not collector.kept:
        raise SourceError(f"{name} ended before a clip was whole; give a longer one, or less --seconds and --countdown")
    return Collected(ending, collector.kept, folder.path)


def _kept(kept: list[Path], folder: Path) -> str:
    return f"{len(kept)} clip{'' if len(kept) == 1 else 's'} kept in {folder}" if kept else "no clip kept"
