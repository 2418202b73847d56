"""`stream-i3d ctl`: shows the state of a running service, and changes its cameras and settings."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from stream_i3d.cli import completion
from stream_i3d.cli.options import SecondsOption, client_key_options, client_keys, split_source
from stream_i3d.cli.output import say_json

if TYPE_CHECKING:
    from stream_i3d.transport.control import Reply, Request

_DEFAULT = "tcp://127.0.0.1:5557"
_VIEWS = ("centre", "whole", "squeeze", "default")
_LONGEST_S = 86400.0
_LONGEST_LINE = 64 * 1024  # bytes: longer than any source may be
_F = TypeVar("_F", bound=Callable[..., Any])


@click.group(no_args_is_help=True)
def ctl() -> None:
    """Show and change a running service: cameras, settings, processes.

    \b
    stream-i3d ctl status
    stream-i3d ctl add rtsp://camera/stream --name gate
    stream-i3d ctl set idle.min_confidence=0.6 window.stride=4
    """


def _connection(command: _F) -> _F:
    """Add --connect, --timeout, --json and the options of keys."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print the answers as JSON lines, not as tables."),
        click.option("--timeout", default=3.0, type=SecondsOption(_LONGEST_S), help="Seconds to wait for an answer."),
        client_key_options,
        click.option("--connect", default=_DEFAULT, show_default=True, help="Control address of the service."),
    ):
        command = option(command)
    return command


@ctl.command()
@_connection
def cameras(**connection: Any) -> None:
    """List the cameras."""
    from stream_i3d.transport.control import ListCameras

    _ask(ListCameras(), **connection)


@ctl.command()
@click.argument("source", metavar="[NAME=]SOURCE", shell_complete=completion.sources)
@click.option("--name", help="Its name; else it is named after its source.", shell_complete=completion.cameras)
@click.option("--replace", is_flag=True, help="If there is a camera --name, give it this source.")
@_connection
def add(source: str, name: str | None, replace: bool, **connection: Any) -> None:
    """Add a camera: a webcam index, /dev path, URL, file or synthetic://.

    `add -` reads the source from standard input: all users of a machine can see arguments, and a password in them.
    """
    from stream_i3d.errors import ConfigError
    from stream_i3d.transport.control import AddCamera, CamerasReply, ChangeSource, ListCameras

    named, source = split_source(_read_source(source))
    if named is not None and name not in (None, named):
        raise ConfigError(f"two names for one camera, {named!r} and {name!r}: give NAME=SOURCE or --name")
    name = name or named
    if replace and name is None:
        raise ConfigError("--replace needs --name: which camera should show the new source?")
    if replace:
        [known] = _answers([ListCameras()], **connection)
        if isinstance(known, CamerasReply) and name in {camera.name for camera in known.cameras}:
            _ask(ChangeSource(camera=str(name), source=source), **connection)
            return
    _ask(AddCamera(source=source, name=name), **connection)


@ctl.command("source")
@click.argument("camera", shell_complete=completion.cameras)
@click.argument("source", shell_complete=completion.sources)
@_connection
def change_source(camera: str, source: str, **connection: Any) -> None:
    """Give a camera another source; `-` reads it from standard input."""
    from stream_i3d.transport.control import ChangeSource

    _ask(ChangeSource(camera=camera, source=_read_source(source)), **connection)


@ctl.command("view")
@click.argument("camera", shell_complete=completion.cameras)
@click.argument("view", metavar=f"[{'|'.join(_VIEWS)}]", shell_complete=completion.words(*_VIEWS))
@_connection
def change_view(camera: str, view: str, **connection: Any) -> None:
    """Change what the network sees of a camera's picture: `default` is as the service was started."""
    from stream_i3d.errors import ConfigError, did_you_mean
    from stream_i3d.transport.control import ChangeView

    if view not in _VIEWS:
        raise ConfigError(f"view {view!r}{did_you_mean(view, _VIEWS)}: give one of {', '.join(_VIEWS)}")
    _ask(ChangeView(camera=camera, view=None if view == "default" else view), **connection)  # type: ignore[arg-type]


@ctl.command()
@click.argument("camera", shell_complete=completion.cameras)
@_connection
def remove(camera: str, **connection: Any) -> None:
    """Remove a camera."""
    from stream_i3d.transport.control import RemoveCamera

    _ask(RemoveCamera(camera=camera), **connection)


@ctl.command()
@click.argument("camera", shell_complete=completion.cameras)
@click.argument("name")
@_connection
def rename(camera: str, name: str, **connection: Any) -> None:
    """Rename a camera."""
    from stream_i3d.transport.control import RenameCamera

    _ask(RenameCamera(camera=camera, name=name), **connection)


@ctl.command()
@click.argument("camera", shell_complete=completion.cameras)
@_connection
def pause(camera: str, **connection: Any) -> None:
    """Pause a camera until it is resumed."""
    from stream_i3d.transport.control import PauseCamera

    _ask(PauseCamera(camera=camera), **connection)


@ctl.command()
@click.argument("camera", shell_complete=completion.cameras)
@_connection
def resume(camera: str, **connection: Any) -> None:
    """Resume a paused camera."""
    from stream_i3d.transport.control import ResumeCamera

    _ask(ResumeCamera(camera=camera), **connection)


@ctl.command("set")
@click.argument("settings", nargs=-1, metavar="[KEY=VALUE]...", shell_complete=completion.live_settings)
@_connection
def change_settings(settings: tuple[str, ...], **connection: Any) -> None:
    """Change settings of all cameras at once; without arguments, list those that can be changed."""
    from stream_i3d.settings import parse_overrides
    from stream_i3d.transport.control import ChangeSettings, GetSettings

    _ask(ChangeSettings(settings=parse_overrides(settings)) if settings else GetSettings(), **connection)


@ctl.command()
@_connection
def status(**connection: Any) -> None:
    """Show the service, its model, processes and cameras."""
    from stream_i3d.transport.control import ListCameras, ListStages, SayHello

    _ask(SayHello(), ListStages(), ListCameras(), **connection)


def _read_source(given: str) -> str:
    """Return the given source; for `-` the first line of standard input, decoded alike in every locale."""
    if given != "-":
        return given
    return sys.stdin.buffer.readline(_LONGEST_LINE).decode("utf-8", errors="surrogateescape").strip()


def _ask(*requests: Request, as_json: bool, **connection: Any) -> None:
    """Send requests and print the answers: as tables, or as one line of JSON each."""
    from stream_i3d.transport.control import encode_control

    for reply in _answers(requests, **connection):
        if as_json:
            say_json(encode_control(reply))
        else:
            _print(reply)


def _answers(
    requests: Sequence[Request],
    connect: str,
    key: Path | None,
    server_key: Path | None,
    timeout: float,
    as_json: bool = False,
) -> list[Reply]:
    """Return the answers to requests, sent one after the other.

    Raises:
        StreamI3DError: A request is not valid or was refused, or no answer came in time.
    """
    from stream_i3d.transport.control import decode_request, encode_control
    from stream_i3d.transport.control_sockets import ControlClient

    checked = [decode_request(encode_control(request)) for request in requests]  # refuses names that are not allowed
    with ControlClient(connect, client_keys(key, server_key)) as client:
        return [client.request(request, timeout) for request in checked]


def _print(reply: Reply) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    from stream_i3d.display_text import rich_text
    from stream_i3d.service.terminal.tables import table_of

    shown = table_of(reply)
    table = Table(*shown.columns, box=SIMPLE, pad_edge=False, show_header=bool(shown.columns[0]))
    for row in shown.rows:
        table.add_row(*map(rich_text, row))
    console = Console(markup=False, highlight=False, soft_wrap=not sys.stdout.isatty())
    console.print(table, width=None if sys.stdout.isatty() else 300)
