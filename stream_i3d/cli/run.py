"""`stream-i3d run`: cameras in, published actions out."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click

from stream_i3d.cli.options import CARRIED_MODEL_NOTE, SecondsOption, config_of, recognition_options
from stream_i3d.cli.output import say


@click.command()
@click.option(
    "--source", "sources", multiple=True, help="Webcam index, /dev path, URL, file or synthetic://; repeatable."
)
@recognition_options
@click.option("--publish", help="Address of the PUB socket (default: tcp://127.0.0.1:5556).")
@click.option("--jsonl", help="Also write messages as JSON lines to this file; '-' is standard output.")
@click.option("--fast", is_flag=True, default=None, help="Read files at full speed, dropping nothing.")
@click.option("--retry/--no-retry", default=None, help="Whether to try again when a camera cannot be reached.")
@click.option("--control", help="Address that takes requests (default: one port above --publish), or 'off'.")
@click.option("--stay", is_flag=True, default=None, help="Go on when all cameras have ended; start without one.")
@click.option("--state", help="File that keeps what is changed at run time, for the next start.")
@click.option("--key", help="The service's secret key file; with it, only --clients can connect, also from elsewhere.")
@click.option("--clients", multiple=True, help="Folder of clients' public key files, or such a file; repeatable.")
@click.option("--gui", is_flag=True, help="Open the window on it; the service ends with the window.")
@click.option("--end-with-input", is_flag=True, hidden=True)
@click.option("--duration", type=SecondsOption(), help="Seconds to run; else until stopped.")
@click.option("--quiet", is_flag=True, help="Log warnings only.")
@click.option(
    "--monitor",
    is_flag=False,
    flag_value="auto",
    help="Serve /metrics, /healthz, /readyz, /status there (without a value: 127.0.0.1:8556).",
)
@click.option("--log-format", help="text (default), or json: one object a line.")
def run(
    sources: tuple[str, ...],
    config_file: Path | None,
    duration: float | None,
    quiet: bool,
    gui: bool,
    end_with_input: bool,
    clients: tuple[str, ...],
    **flags: Any,
) -> None:
    """Recognise actions in cameras and publish them, until Ctrl-C.

    \b
    stream-i3d run --source 0
    stream-i3d run --source rtsp://camera/stream --checkpoint rgb_imagenet.pt
    stream-i3d run --config configs/headless.yaml
    stream-i3d run --source 0 --publish 'tcp://*:5556' --key service.key_secret --clients clients
    """
    flags["clients"] = list(clients) or None
    flags["log_level"] = "warning" if quiet else None
    config = config_of(config_file, flags, {"cameras": [{"source": source} for source in sources] or None})
    if gui:
        from stream_i3d.cli.gui import open_window  # before anything else is imported: no OpenCV in that process

        given: dict[str, Any] = {} if duration is None else {"duration_s": duration}
        open_window(config=config, **given)
        return

    from stream_i3d.logs import configure_logging
    from stream_i3d.models.spec import CARRIED_CHECKPOINT
    from stream_i3d.service.run import run_service
    from stream_i3d.service.terminal.summary import describe
    from stream_i3d.stage import Ready

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

    say(describe(run_service(config, duration, on_ready, end_with_input=end_with_input)), err=True)
