"""Keeps one camera delivering: opens it, passes its frames on, reports its state, and opens it again when it fails.

What is sampled is sampling.py's, how pictures are prepared is preprocess.py's, how long to wait is backoff.py's. Time,
the source and the channel are arguments.
"""

from __future__ import annotations

import logging
import random
from typing import Protocol

from msgspec import Struct, structs

from stream_i3d.backoff import Backoff
from stream_i3d.capture.address import SourceAddress
from stream_i3d.capture.frozen_picture import FrozenPictureWatch
from stream_i3d.capture.key_frames import DamageWatch
from stream_i3d.capture.paced import PacedReader
from stream_i3d.capture.previews import Previewer
from stream_i3d.capture.reader import NO_TROUBLE, Clock, FrameReader, PreviewTap, Trouble, rate_trouble
from stream_i3d.capture.source import Source, open_source
from stream_i3d.capture.stderr import CapturedStderr
from stream_i3d.capture.stream_answers import comes_in_segments
from stream_i3d.capture.timing import StreamTiming
from stream_i3d.config import CaptureConfig, PreviewConfig, SecurityConfig
from stream_i3d.errors import SourceNotFound, SourceUnavailable
from stream_i3d.messages import CameraReport, CameraState, Frame
from stream_i3d.preprocess import Preprocessing
from stream_i3d.redact import redact
from stream_i3d.sampling import too_short, too_slow
from stream_i3d.stage import CaptureOrder, Done, SourceNews, Stage

log = logging.getLogger(__name__)

_REPORT_INTERVAL_S = 1.0
_WAIT_S = 0.1
_OPEN_SLACK_S = 10.0
_READ_SLACK_S = 2.0
_WEBCAM_READ_S = 10.0  # OpenCV's own limit for V4L2
_LEAST_ROUND_S = 1.0
_HELD_BACK_S = 0.25
_SEGMENT_LIMIT_S = 22.0  # a read for the next segment may take as long; see video.open_url


class CaptureJob(Struct, frozen=True, kw_only=True):
    """What one capture process is to do.

    Attributes:
        channel: Address of its frame channel.
        preview_channel: Where it publishes previews; None where it does not.
        security: Who may watch them.
        paused: Whether it starts paused.
    """

    camera: str
    source: str
    channel: str
    preprocessing: Preprocessing
    config: CaptureConfig
    preview: PreviewConfig = PreviewConfig()
    preview_channel: str | None = None
    security: SecurityConfig = SecurityConfig()
    paused: bool = False


class Sender(Protocol):
    """What the loop needs of a FrameSender."""

    def connected(self, wait_s: float) -> bool:
        """Wait for a worker at the other end; tell whether there is one."""

    def send(self, frame: Frame, wait_s: float = 0.0) -> bool:
        """Send a frame, waiting for room at most `wait_s`."""

    def report(self, report: CameraReport, wait_s: float = 0.0) -> bool:
        """Send a camera report likewise."""


class CaptureLoop:
    """Keeps one camera delivering until told to stop, or until its file ends."""

    def __init__(
        self,
        stage: Stage,
        job: CaptureJob,
        address: SourceAddress,
        sender: Sender,
        clock: Clock,
        stderr: CapturedStderr,
        previewer: Previewer | None = None,
    ) -> None:
        self._stage = stage
        self._job = job
        self._address = address
        self._sender = sender
        self._clock = clock
        self._stderr = stderr
        self._previewer = previewer
        self._paused, self._view = job.paused, job.preprocessing.view
        self._view_share: float | None = None
        config = job.config
        # A host that does not answer is asked up to five times while a camera is opened; see video.open_url.
        self._open_limit_s = 5 * config.open_timeout_s + config.read_timeout_s + _OPEN_SLACK_S
        self._read_limit_s = max(config.read_timeout_s, _WEBCAM_READ_S) + _READ_SLACK_S
        self._stillness = FrozenPictureWatch(config.frozen_timeout_s if address.live else None)
        self._watched = address.live
        self._rounds = 0  # of a file that is read again and again
        self._media_start_s = 0.0
        self._lossless = False
        self._delay_s = 0.0
        self._backoff = Backoff(random.Random(), config.backoff_first_s, config.backoff_limit_s)
        self._epoch = 0
        self._connections = 0
        self._last_sent: tuple[CameraState, str] | None = None
        self._news = SourceNews(memory_limit_mb=0.0)
        self._reported_at = -_REPORT_INTERVAL_S

    def run(self) -> None:
        """Capture until stopped or at the end of the medium; raises SourceError where trying again is not wanted."""
        self._report("connecting", "opening")
        while self._go_on():
            try:
                with self._stage.long_call(self._open_limit_s):
                    source = open_source(self._address, self._job.config)
            except SourceNotFound as error:
                if not self._address.live or (not self._connections and not self._was_there):
                    raise
                self._wait_to_retry(str(error))
                continue
            except SourceUnavailable as error:
                self._wait_to_retry(self._explained(error))
                continue
            problem = None
            began = self._now()
            try:
                if self._stream(source) and not self._goes_round(source):
                    break
            except SourceUnavailable as error:
                problem = self._explained(error)
            finally:
                with self._stage.long_call(self._read_limit_s):
                    # Before the wait: a webcam that is held while unplugged comes back as another device.
                    source.close()
            if problem is not None:
                self._wait_to_retry(problem)
            elif not source.live and not self._clock.sleep_until(began + _LEAST_ROUND_S):
                break  # a file of one picture must not be opened without a pause
        self._report_final()

    @property
    def _was_there(self) -> bool:
        """Whether a process before this one had the camera, which may be unplugged just now; a file stays away."""
        return self._stage.again and self._address.live

    def _goes_round(self, source: Source) -> bool:
        """Tell whether a source that has ended begins again."""
        return self._job.config.loop and not source.live and not self._stage.stopping.is_set()

    def _stream(self, source: Source) -> bool:
        """Send an opened source's frames until it ends or fails (raises SourceUnavailable).

        Returns False where a camera was paused: it is left, and opened anew afterwards. A file only holds on.
        """
        if not source.live and not self._wait_for_worker():
            return True
        self._tell_memory(source)
        damage = DamageWatch(source, self._stderr)
        reader = self._begin(source, self._now(), damage)
        if isinstance(reader, PacedReader):
            return self._pass_on_paced(source, reader, damage)
        try:
            return self._pass_on(source, reader, damage)
        finally:
            if not source.live:
                self._media_start_s = reader.end_s

    def _pass_on_paced(self, source: Source, reader: PacedReader, damage: DamageWatch) -> bool:
        """Send what a network stream gives, which is read in another thread; returns and raises as `_stream`.

        Heartbeats follow that thread: `_beat_with` gives one for each picture that it reads.
        """
        segmented = comes_in_segments(self._address.target)
        with self._stage.long_call(_SEGMENT_LIMIT_S if segmented else self._read_limit_s):
            try:
                return self._pass_on(source, reader, damage)
            finally:
                while not self._stage.stopping.is_set() and not reader.close(_WAIT_S):
                    self._beat_with(reader)

    def _pass_on(self, source: Source, reader: FrameReader | PacedReader, damage: DamageWatch) -> bool:
        """Send what the reader gives until it ends; returns and raises as `_stream`."""
        config, started = self._job.config, self._now()
        while not self._stage.stopping.is_set():
            fresh = self._beat_with(reader)
            self._obey()
            if reader.view != self._view:
                reader.set_view(self._view)
            if self._paused:
                if source.live:
                    return False
                self._go_on()
                reader.resume()
                continue
            frames = self._read(reader)
            if frames is None:
                if isinstance(reader, FrameReader):
                    self._warn_of_shortfall(reader)
                return True
            if isinstance(reader, FrameReader):
                damage.look()
            if self._frozen():
                if config.retry and self._stillness.should_reopen(self._now()):
                    log.warning("%s: still the same picture; opening it anew", self._job.camera)
                    return False
                continue
            for frame in frames:
                self._send(frame, source.live)
            if frames or fresh:
                self._tell_live(source, reader)
                self._backoff.healthy_for(self._now() - started)
        return True

    def _beat_with(self, reader: FrameReader | PacedReader) -> bool:
        """Show that this process lives, as long as pictures are read; return whether one was, since the last time."""
        if isinstance(reader, FrameReader):
            self._stage.beat()
            return True
        fresh = reader.progressed()
        if fresh:
            self._stage.beat()
        return fresh

    def _read(self, reader: FrameReader | PacedReader) -> list[Frame] | None:
        if isinstance(reader, PacedReader):
            return reader.read()
        with self._stage.long_call(self._read_limit_s):
            return reader.read()

    def _warn_of_shortfall(self, reader: FrameReader) -> None:
        """Say why a file that has ended gave nothing to recognise, or little."""
        made, name = self._job.preprocessing, self._job.camera
        if self._stage.stopping.is_set() or self._address.kind not in ("file", "url") or self._rounds > 1:
            return
        if round(reader.end_s * made.sample_fps) < made.window_frames:
            log.warning("%s", too_short(name, reader.pictures, reader.end_s, made.window_frames, made.sample_fps))
        elif (problem := too_slow(name, reader.pictures, reader.end_s, made)) is not None:
            log.warning("%s", problem)

    def _begin(self, source: Source, now: float, damage: DamageWatch) -> FrameReader | PacedReader:
        """Record a new connection."""
        self._epoch = max(self._epoch + 1, int(self._clock.wall() * 1000))
        if not self._rounds:
            self._connections += 1
        log.debug("%s: connected (%s)", self._job.camera, source.description)
        if source.live != self._watched:  # only opening could tell
            self._stillness = FrozenPictureWatch(self._job.config.frozen_timeout_s if source.live else None)
            self._watched = source.live
        self._stillness.opened(now)
        if not source.live:
            self._rounds += 1
            self._announce()
        if source.live and self._address.kind == "url":
            return self._paced(source, damage)
        return self._reader(source, None, self._previewer)

    def _paced(self, source: Source, damage: DamageWatch) -> PacedReader:
        """Return a started reader of a network stream."""
        segmented = comes_in_segments(self._address.target)
        reader = PacedReader(
            lambda timing, tap: self._reader(source, timing, tap),
            StreamTiming(bursty=segmented),
            self._clock,
            self._previewer,
            damage.look,
        )
        reader.start()
        return reader

    def _reader(self, source: Source, timing: StreamTiming | None, preview: PreviewTap | None) -> FrameReader:
        return FrameReader(
            source,
            self._job.camera,
            self._epoch,
            structs.replace(self._job.preprocessing, view=self._view),
            self._clock,
            paced=not self._job.config.fast,
            preview=preview,
            stillness=self._stillness,
            timing=timing,
            media_start_s=self._media_start_s,
        )

    def _announce(self) -> None:
        """Tell the worker, before the first frame, that no frame of a URL that is a file may be dropped."""
        if not self._job.config.fast or self._address.kind != "url":
            return
        self._lossless = True
        report = self._report_of("live", "opened")
        while not self._stage.stopping.is_set() and not self._sender.report(report, _WAIT_S):
            self._stage.beat()

    def _frozen(self) -> bool:
        """Say that the picture has been the same for too long, where that is so: nothing is recognised in it."""
        if (seconds := self._stillness.frozen_for(self._now())) is None:
            return False
        problem = f"the same picture for over {int(seconds)} s; the camera is frozen, or nothing moves"
        self._report("stalled", problem, trouble=Trouble(problem))
        return True

    def _tell_live(self, source: Source, reader: FrameReader | PacedReader) -> None:
        if reader.epoch != self._epoch:
            self._epoch = reader.epoch
            self._tell_memory(source)
            log.info(
                "%s: the picture has another size or view now (%s, %s)",
                self._job.camera,
                source.description,
                reader.view,
            )
        self._delay_s, self._view_share = round(reader.delay_s, 1), reader.view_share
        if source.intact:
            trouble = rate_trouble(reader.fps, self._job.preprocessing.sample_fps, source.live)
            self._report("live", self._live_detail(source, trouble), reader.fps, trouble)
        elif self._last_sent is None or self._last_sent[0] != "live":
            self._report(self._state_before_live(), "connected; waiting for a key picture")
        else:
            self._report("live", "the stream was damaged; waiting for the next key picture", fps=reader.fps)

    def _tell_memory(self, source: Source) -> None:
        """Tell the supervisor how much memory pictures of this size need, and that they are read from now on."""
        once = self._address.kind == "url" and not source.live and not self._job.config.loop
        self._news = SourceNews(memory_limit_mb=source.memory_limit_mb, plays_once=once)
        self._stage.say(self._news)

    def _state_before_live(self) -> CameraState:
        return "reconnecting" if self._connections > 1 else "connecting"

    def _now(self) -> float:
        return self._clock.monotonic_ns() * 1e-9

    def _obey(self) -> None:
        """Carry out the newest order, if one has come."""
        order = self._stage.order()
        if order is None:
            return
        if isinstance(order, CaptureOrder):
            self._paused, self._view = order.paused, order.view or self._view
        self._stage.say(Done(number=order.number))

    def _go_on(self) -> bool:
        """Wait out a pause; return False when told to stop."""
        self._obey()
        while self._paused and not self._stage.stopping.is_set():
            self._report("stopped", "paused")
            if not self._clock.sleep_until(self._clock.monotonic_ns() * 1e-9 + _WAIT_S):
                return False
            self._obey()
        return not self._stage.stopping.is_set()

    def _wait_for_worker(self) -> bool:
        """Hold a file back until somebody reads: its first frames must not be lost while the model loads.

        Returns False when told to stop meanwhile.
        """
        while self._go_on():
            if self._sender.connected(_WAIT_S):
                return True
            self._stage.beat()
        return False

    def _send(self, frame: Frame, live: bool) -> None:
        """A live frame that finds the channel full is dropped; a file waits, since nothing is lost by waiting."""
        if live:
            self._sender.send(frame)
            return
        while not self._stage.stopping.is_set() and not self._sender.send(frame, _WAIT_S):
            self._stage.beat()

    def _live_detail(self, source: Source, trouble: Trouble) -> str:
        shown = source.description
        if self._delay_s >= _HELD_BACK_S:  # rounded, for another detail is another report
            shown += f"; comes in bursts, so it is shown {max(0.5, round(2 * self._delay_s) / 2):g} s late"
        return f"{shown}; {trouble.problem}" if trouble.problem else shown

    def _explained(self, error: SourceUnavailable) -> str:
        reason = self._stderr.reason()
        return f"{error} (FFmpeg: {reason})" if reason else str(error)

    def _wait_to_retry(self, problem: str) -> None:
        if not self._job.config.retry:
            raise SourceUnavailable(problem)
        delay = self._backoff.failed()
        if self._backoff.failures == 1:
            log.debug(  # its status says so too, and that is logged by the supervisor
                "%s: %s; trying again with pauses of up to %g s",
                self._job.camera,
                problem,
                self._job.config.backoff_limit_s,
            )
        until = self._clock.monotonic_ns() * 1e-9 + delay
        state: CameraState = "reconnecting" if self._connections else "connecting"
        while (left := until - self._clock.monotonic_ns() * 1e-9) > 0:
            seconds = max(1, round(left))
            self._report(state, f"{problem}; next try in {seconds} s", trouble=Trouble(problem, retry_in_s=seconds))
            if not self._clock.sleep_until(min(until, until - left + _REPORT_INTERVAL_S)):
                return
            self._obey()
            if self._paused:
                return

    def _report(self, state: CameraState, detail: str, fps: float = 0.0, trouble: Trouble = NO_TROUBLE) -> None:
        """Tell the worker, at every change of state and every second (an early report may find no worker yet)."""
        now = self._clock.monotonic_ns() * 1e-9
        if (state, detail) == self._last_sent and now - self._reported_at < _REPORT_INTERVAL_S:
            return
        if self._sender.report(self._report_of(state, detail, fps, trouble=trouble)):
            self._last_sent = (state, detail)
        self._reported_at = now

    def _report_final(self) -> None:
        """Say that no frame follows: at the end of a file until there is room, for good; when told to stop, once.

        A process that is told to stop may be started again (silent, or too much memory): that is not the camera's end.
        """
        self._paused = False
        if self._stage.stopping.is_set():
            self._sender.report(self._report_of("stopped", "stopped"))
            return
        while not self._sender.report(self._report_of("stopped", "the end", final=True), _WAIT_S):
            self._stage.beat()
            if self._stage.stopping.is_set():
                return
        self._stage.say(structs.replace(self._news, ended=True))

    def _report_of(
        self,
        state: CameraState,
        detail: str,
        fps: float = 0.0,
        final: bool = False,
        trouble: Trouble = NO_TROUBLE,
    ) -> CameraReport:
        return CameraReport(
            camera=self._job.camera,
            state=state,
            fps=fps,
            reconnects=max(0, self._connections - 1),
            detail=redact(detail),
            final=final,
            paused=self._paused,
            previews_dropped=0 if self._previewer is None else self._previewer.dropped,
            lossless=self._lossless,
            delay_s=self._delay_s if state == "live" else 0.0,
            problem=redact(trouble.problem),
            retry_in_s=trouble.retry_in_s,
            too_slow=trouble.too_slow,
            view=self._view,
            view_share=self._view_share,
        )
