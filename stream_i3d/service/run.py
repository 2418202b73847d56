"""One run of the service, from a configuration to its figures."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msgspec import structs

from stream_i3d.capture.preflight import check_present
from stream_i3d.config import Config, MonitoringConfig
from stream_i3d.errors import ConfigError, TransportError
from stream_i3d.inference.setup import with_checkpoint_threshold
from stream_i3d.inference.worker.process import worker_main
from stream_i3d.service.camera_log import CameraLog
from stream_i3d.service.camera_names import ends_without_camera, name_cameras
from stream_i3d.service.control_handler import ControlHandler
from stream_i3d.service.monitoring.access import monitor_address, monitor_token
from stream_i3d.service.monitoring.http_server import HttpServer
from stream_i3d.service.monitoring.monitor import Monitor, stage_snapshot
from stream_i3d.service.monitoring.routes import MonitorRoutes
from stream_i3d.service.plan import Plan
from stream_i3d.service.process_limits import raise_open_files_limit, tighten_umask
from stream_i3d.service.run_folder import RunFolder
from stream_i3d.service.saved_changes import ChangeSaver, StateFile, apply
from stream_i3d.service.supervisor import Supervisor, stop_on_signals
from stream_i3d.service.systemd import SystemdNotifier
from stream_i3d.stage import Ready, Stage, Summary
from stream_i3d.transport.addresses import control_address
from stream_i3d.transport.control_sockets import ControlServer
from stream_i3d.transport.curve import ServerKeys, load_server_keys

log = logging.getLogger(__name__)


def run_service(
    config: Config,
    duration_s: float | None = None,
    on_ready: Callable[[Ready], None] = lambda ready: None,
    worker: Callable[[Stage, Any], None] = worker_main,
    end_with_input: bool = False,
) -> Summary:
    """Run until SIGINT or SIGTERM, for `duration_s`, or until all files have ended; call from the main thread.

    Args:
        config: What to run.
        duration_s: Seconds to run from when the worker is ready.
        on_ready: Called once, when predictions are published.
        worker: Entry point of the worker (benchmarks put a slow one in its place).
        end_with_input: Also end when standard input closes: with the program that started this one.

    Raises:
        StreamI3DError: The configuration cannot be run, or a process met an error that a restart will not mend.
    """
    raise_open_files_limit()
    tighten_umask()
    config, keeper = _with_what_was_kept(with_checkpoint_threshold(config))
    keys = load_server_keys(config.security)
    if keys is not None and not len(keys.clients):
        log.warning("no client has a key in %s, so nobody can connect yet", ", ".join(map(str, keys.clients.places)))
    monitor = Monitor()
    with (
        RunFolder() as folder,  # mode 0700: the channels in it are private
        _control_server(config, keys) as server,
        _endpoint(config.monitoring, monitor) as endpoint,
    ):
        plan = Plan(config, folder.path, worker)
        _check_sources(config)
        desk = None if server is None else ControlHandler(plan, server, keeper)
        notifier = SystemdNotifier()
        addresses = {"control": "" if server is None else server.address, "monitor": endpoint}

        def tell_ready(ready: Ready) -> None:
            notifier.ready(f"publishing on {ready.address}: {ready.detail}")
            on_ready(structs.replace(ready, **addresses))

        def turned(now: float) -> None:
            notifier.alive(now)
            monitor.turned()

        supervisor = Supervisor(plan.rows, tell_ready, desk, turned, (monitor.on_message, CameraLog().on_message))
        monitor.stages = lambda: [stage_snapshot(row, health) for row, health in supervisor.stages()]

        def stop() -> None:
            notifier.stopping()
            supervisor.stop()

        if end_with_input:
            threading.Thread(target=_at_end_of_input, args=(stop,), daemon=True).start()
        with stop_on_signals(stop):
            return supervisor.run(duration_s)


def _check_sources(config: Config) -> None:
    """Look for sources that can never be read, before anything is loaded, where one of them would end the run.

    Raises:
        SourceNotFound: A file or a device is not there, or a URL is none.
    """
    if ends_without_camera(config):
        for _, address, _ in name_cameras(config):
            check_present(address)


def _with_what_was_kept(config: Config) -> tuple[Config, ChangeSaver | None]:
    """Return the configuration with what was changed of it in earlier runs, and who keeps what will be."""
    if config.control.state is None:
        return config, None
    names = [name for name, _, _ in name_cameras(config)]
    cameras = [structs.replace(camera, name=name) for camera, name in zip(config.cameras, names, strict=True)]
    base, file = structs.replace(config, cameras=cameras), StateFile(Path(config.control.state))
    kept = file.load()
    try:
        settled = apply(base, kept)
        name_cameras(settled)
    except ConfigError as error:
        raise ConfigError(f"{error} (kept in {file.path}; remove it to start with the configuration alone)") from None
    return settled, ChangeSaver(base, file)


@contextmanager
def _endpoint(config: MonitoringConfig, monitor: Monitor) -> Iterator[str]:
    """Serve metrics and health over HTTP and give the address, or "" where that is off."""
    address, token = monitor_address(config), monitor_token(config)
    if address is None:
        yield ""
        return
    with HttpServer(*address, MonitorRoutes(monitor.snapshot, token)) as server:
        yield server.address


@contextmanager
def _control_server(config: Config, keys: ServerKeys | None) -> Iterator[ControlServer | None]:
    """Give the bound control channel, or None where it is off."""
    address = control_address(config.control.address, config.publish.address, keys is not None)
    if address is None:
        yield None
        return
    try:
        server = ControlServer(address, keys)
    except TransportError as error:
        if config.control.address != "auto":
            raise
        log.warning("%s; this service cannot be controlled", error)  # nobody asked for it by name
        yield None
        return
    with server:
        yield server


def _at_end_of_input(stop: Callable[[], None]) -> None:
    # Not sys.stdin: a thread that waits in it would keep the interpreter from ending.
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    stop()
