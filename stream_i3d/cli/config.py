"""`stream-i3d config show|check`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from stream_i3d.cli.config_files import ConfigFile
from stream_i3d.cli.options import (
    cameras_of,
    config_of,
    group_options,
    recognition_options,
    service_options,
    source_options,
)
from stream_i3d.cli.output import say, say_lines
from stream_i3d.shipped_configs import ConfigKind, shipped_configs, summary

_KINDS: dict[ConfigKind, str] = {"run": "run, recognize, doctor", "train": "train, evaluate"}


@click.group()
def config() -> None:
    """List, show or check configurations."""


@config.command("list")
def list_configs() -> None:
    """List the configurations that come with the package; --config takes their names."""

    for kind, command in _KINDS.items():
        say(f"{command}:")
        for name, path in shipped_configs(kind).items():
            say(f"  {name:<22} {summary(path)}")


@config.command()
@source_options
@recognition_options
@service_options
@group_options("keys")
def show(sources: tuple[str, ...], config_file: Path | None, duration: float | None, quiet: bool, **flags: Any) -> None:
    """Print the whole configuration that run would use, defaults included; passwords are hidden."""
    from stream_i3d.settings import to_yaml

    given = {**cameras_of(sources), "logging.level": "warning" if quiet else None}
    say_lines(to_yaml(config_of(config_file, flags, given)))


@config.command()
@click.argument("files", nargs=-1, required=True, type=ConfigFile("run"), metavar="NAME|FILE...")
def check(files: tuple[Path, ...]) -> None:
    """Check configuration files: words, values, cameras, and whether model, key files and what sinks need are there."""
    from stream_i3d.config import load_config
    from stream_i3d.inference.setup import settle_model
    from stream_i3d.publish.factory import check_sinks
    from stream_i3d.service.camera_names import name_cameras
    from stream_i3d.service.monitoring.access import monitor_token
    from stream_i3d.transport.addresses import check_bind
    from stream_i3d.transport.curve import load_server_keys

    for file in files:
        loaded = load_config(file, {})
        cameras = name_cameras(loaded)
        check_sinks(loaded)
        monitor_token(loaded.monitoring)
        check_bind(loaded.publish.address, load_server_keys(loaded.security) is not None)
        setup = settle_model(loaded.model, loaded.window)
        names = ", ".join(f"{name} ({address.kind})" for name, address, _ in cameras)
        say(f"{file}: ok: {names}; {setup.model_name.name} with {setup.model_name.checkpoint}")


@config.command()
def reference() -> None:
    """Print the reference of all settings, as Markdown: allowed values, defaults, flags."""
    from stream_i3d.cli.reference import make_reference

    say_lines(make_reference())
