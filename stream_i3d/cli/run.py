"""`stream-i3d run`: cameras in, published actions out."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import click

from stream_i3d.cli.options import (
    CARRIED_MODEL_NOTE,
    cameras_of,
    config_of,
    group_options,
    recognition_options,
    service_options,
    source_options,
)
from stream_i3d.display_text import clean_text


@click.command()
@source_options
@recognition_options
@service_options
@group_options("keys")
@click.option("--gui", is_flag=True, help="Open the window on it; the service ends with the window.")
@click.option("--end-with-input", is_flag=True, hidden=True)
def run(
    sources: tuple[str, ...],
    config_file: Path | None,
    duration: float | None,
    quiet: bool,
    gui: bool,
    end_with_input: bool,
    **flags: Any,
) -> None:
    """Recognise actions in cameras and publish them, until Ctrl-C.

    \b
    stream-i3d run --source 0
    stream-i3d run --source door=rtsp://camera/stream --checkpoint rgb_imagenet.pt
    stream-i3d run --config headless
    stream-i3d run --source 0 --publish 'tcp://*:5556' --key service.key_secret --clients clients

    Where all sources are files, it ends with the last; with exit code 2 if none of them gave a prediction.
    """
    config = config_of(config_file, flags, {**cameras_of(sources), "logging.level": "warning" if quiet else None})
    if gui:
        from stream_i3d.cli.gui import open_window  # before anything else is imported: no OpenCV in that process

        given: dict[str, Any] = {} if duration is None else {"duration_s": duration}
        open_window(config=config, **given)
        return

    from stream_i3d.inference.setup import calibration_note
    from stream_i3d.logs import configure_logging
    from stream_i3d.models.spec import CARRIED_CHECKPOINT
    from stream_i3d.service.run import run_service
    from stream_i3d.service.terminal.summary import describe
    from stream_i3d.stage import Ready
    from stream_i3d.stderr_writer import StderrWriter

    configure_logging(config.logging)
    log = logging.getLogger("stream_i3d")

    def on_ready(ready: Ready) -> None:  # not earlier: a mistake is answered by its one line alone
        log.info("publishing on %s: %s", ready.address, ready.detail)
        if ready.control:
            log.info("taking requests on %s", ready.control)
        if ready.monitor:
            log.info("metrics and health on %s", ready.monitor)
        if config.model.checkpoint == CARRIED_CHECKPOINT:
            log.info(CARRIED_MODEL_NOTE)
        if note := calibration_note(config):
            log.info(note)

    summary = run_service(config, duration, on_ready, end_with_input=end_with_input)
    StderrWriter(sys.stderr).write(clean_text(describe(summary)) + "\n")  # which may be a pipe that nobody reads
    if summary.ended and not summary.windows and not summary.skipped:
        sys.exit(2)  # why is in the log
