"""The capture process: one per camera. A thin shell around the capture loop; imports no torch."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from stream_i3d.capture.address import parse_source
from stream_i3d.capture.loop import CaptureJob, CaptureLoop
from stream_i3d.capture.previews import Previewer
from stream_i3d.capture.reader import Clock
from stream_i3d.capture.stderr import CapturedStderr
from stream_i3d.errors import TransportError
from stream_i3d.stage import Done, Ready, Stage
from stream_i3d.transport.frames import FrameSender
from stream_i3d.transport.keys import load_server_keys
from stream_i3d.transport.preview import PreviewPublisher

log = logging.getLogger(__name__)

_BEAT_S = 1.0


def capture_main(stage: Stage, job: CaptureJob) -> None:
    """Entry point of the process."""
    stderr = CapturedStderr()
    address = parse_source(job.source)
    clock = Clock(time.monotonic_ns, time.time, lambda until: _sleep_until(stage, until))
    with FrameSender(job.channel) as sender, _previews(job) as (previewer, preview_address):
        stage.say(Ready(detail=f"capturing {address.kind}", address=preview_address))
        CaptureLoop(stage, job, address, sender, clock, stderr, previewer).run()
        # A file has ended. When a peer closes, ZeroMQ throws away what a held-back reader has not read yet (seen: the
        # last frame and the final report of a file at full speed), so the channel stays open until the service stops.
        while not stage.stopping.wait(_BEAT_S):
            stage.beat()
            if (order := stage.order()) is not None:
                stage.say(Done(number=order.number))


@contextmanager
def _previews(job: CaptureJob) -> Iterator[tuple[Previewer | None, str]]:
    """Give the maker of previews and where they can be had, or nothing where they are off."""
    if job.preview_channel is None or not job.preview.enabled:
        yield None, ""
        return
    try:
        publisher = PreviewPublisher(job.preview_channel, load_server_keys(job.security))
    except TransportError as error:
        log.warning("%s: %s; this camera has no previews", job.camera, error)  # nobody asked for that port by name
        yield None, ""
        return
    with Previewer(publisher, job.preview) as previewer:
        yield previewer, publisher.address


def _sleep_until(stage: Stage, until_s: float) -> bool:
    while (left := until_s - time.monotonic()) > 0:
        stage.beat()
        if stage.stopping.wait(min(left, _BEAT_S)):
            return False
    return not stage.stopping.is_set()
