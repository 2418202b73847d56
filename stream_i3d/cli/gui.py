"""`stream-i3d gui`: the window. Also how `run --gui` and `demo` open it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stream_i3d.cli.options import (
    cameras_of,
    client_key_options,
    client_keys,
    config_of,
    recognition_options,
    service_options,
    source_options,
)
from stream_i3d.config import Config
from stream_i3d.errors import ConfigError

if TYPE_CHECKING:
    from stream_i3d.transport.curve import ClientKeys


@click.command()
@click.option("--connect", help="Control address of a running service (default: tcp://127.0.0.1:5557).")
@client_key_options
@source_options
@recognition_options
@service_options
def gui(
    connect: str | None,
    key: Path | None,
    server_key: Path | None,
    sources: tuple[str, ...],
    config_file: Path | None,
    duration: float | None,
    quiet: bool,
    **flags: Any,
) -> None:
    """Show what cameras see and what the model thinks, in a window.

    \b
    stream-i3d gui                              # attach to a service on this machine, or begin one from the window
    stream-i3d gui --connect tcp://127.0.0.1:6001
    stream-i3d gui --connect tcp://camera-host:5557 --key me.key_secret --server-key service.key
    stream-i3d gui --source 0                   # with a service of its own; takes the options of `run` but its keys
    stream-i3d gui --source clip.mp4 --source rtsp://camera/stream --fast
    """
    own = bool(sources) or quiet or config_file is not None or any(value is not None for value in flags.values())
    keys = client_keys(key, server_key)
    if own and (connect is not None or keys is not None):
        raise ConfigError(
            "--connect or --key with --source, --config or a flag of a service: give --connect alone (with keys, where "
            "it wants them) to attach to a service that runs, or the others to start one"
        )
    given: dict[str, Any] = {} if duration is None else {"duration_s": duration}
    if not own:
        open_window(connect=connect, keys=keys, **given)
        return
    config = config_of(config_file, flags, {**cameras_of(sources), "logging.level": "warning" if quiet else None})
    open_window(config=config, **given)


def open_window(
    config: Config | None = None,
    connect: str | None = None,
    duration_s: float | None = None,
    keys: ClientKeys | None = None,
) -> None:
    """Show the window until it is closed: on a service of its own, or on one that runs.

    Args:
        config: Of a service of its own.
        connect: Control address of one that runs.
        duration_s: Close by itself so many seconds after the service is ready, or when it fails.
        keys: For a service that runs and wants them.

    Raises:
        ConfigError: PyQt6 is not installed, or `connect` is no address.
    """
    try:
        from stream_i3d_gui.app import main
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("PyQt6"):
            raise
        raise ConfigError("the window needs PyQt6, which is not installed: pip install 'stream-i3d[gui]'") from None
    sys.exit(main(config, connect, duration_s, keys))
