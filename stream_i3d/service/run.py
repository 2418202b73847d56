"""One run of the service, from a configuration to its figures."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stream_i3d.config import Config
from stream_i3d.inference.worker import worker_main
from stream_i3d.service.plan import make_plan
from stream_i3d.service.supervisor import Supervisor, stop_on_signals
from stream_i3d.stage import Ready, Stage, Summary


def run_service(
    config: Config,
    duration_s: float | None = None,
    on_ready: Callable[[Ready], None] = lambda ready: None,
    worker: Callable[[Stage, Any], None] = worker_main,
) -> Summary:
    """Run until SIGINT or SIGTERM, for `duration_s`, or until all files have ended; call from the main thread.

    Raises:
        StreamI3DError: The configuration cannot be run, or a process met an error that a restart will not mend.
    """
    with tempfile.TemporaryDirectory(prefix="stream-i3d-") as folder:  # mode 0700: the frame channels are private
        supervisor = Supervisor(make_plan(config, Path(folder), worker), on_ready)
        with stop_on_signals(supervisor.stop):
            return supervisor.run(duration_s)
