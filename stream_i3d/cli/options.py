"""Options of commands, made from the settings that they stand for, and how they lie over the configuration.

A setting's flag, help, completion and type come from its declaration in `stream_i3d.config`. The parameter of a command
is named after the setting's key: `window__stride` is `window.stride`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin

import click

from stream_i3d.capture.address import split_name
from stream_i3d.cli import completion
from stream_i3d.cli.config_files import ConfigFile
from stream_i3d.config import Config, load_config
from stream_i3d.files import kind_of
from stream_i3d.settings import FlagGroup, Setting, settings_of

if TYPE_CHECKING:
    from stream_i3d.transport.keys import ClientKeys

CARRIED_MODEL_NOTE = (
    "the carried model 'motion' knows ten plain motions (left, up, waving, ...), not everyday actions; for those: "
    "stream-i3d weights download i3d-rgb-scratch-kinetics400, then give --checkpoint i3d-rgb-scratch-kinetics400 "
    "--mode streaming"
)
"""What someone who gave no checkpoint should know."""

SETTINGS = {one.key: one for one in settings_of(Config)}

_F = TypeVar("_F", bound=Callable[..., Any])


class SecondsOption(click.FloatRange):
    """Seconds, more than none; `nan`, which is in no order with any number, is refused."""

    name = "seconds"

    def __init__(self, most: float | None = None) -> None:
        super().__init__(min=0, max=most, min_open=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number; UsageError where it is none, or out of range."""
        seconds = float(super().convert(value, param, ctx))
        return self.fail(f"{value} is no number of seconds", param, ctx) if math.isnan(seconds) else seconds


def setting_option(key: str, help_text: str = "") -> Callable[[_F], _F]:
    """Return the option of a setting; its value is checked with all settings, in `config_of`.

    Args:
        key: Dotted, of a setting with a flag.
        help_text: In place of the setting's own description.
    """
    setting = SETTINGS[key]
    more: dict[str, Any] = {"help": help_text or help_of(setting), "default": None}
    kind = _type_of(setting.hint)
    if kind is bool:
        more |= {} if "/" in setting.flag else {"is_flag": True}
    elif kind is list:
        more |= {"multiple": True, "type": str}
    else:
        more["type"] = kind
    if setting.bare_value is not None:
        more |= {"is_flag": False, "flag_value": setting.bare_value}
    if setting.completes:
        more["shell_complete"] = getattr(completion, setting.completes)
    elif kind is not bool and setting.words:
        more |= {"metavar": f"[{'|'.join(setting.words)}]", "shell_complete": completion.words(*setting.words)}
    return click.option(setting.flag, parameter_of(key), **more)


def help_of(setting: Setting) -> str:
    """Return a setting's description with its default."""
    default = setting.default
    if default is None or isinstance(default, bool) or default in ("auto", 0):
        return setting.description
    return f"{setting.description.rstrip('.')} (default: {default})."


def parameter_of(key: str) -> str:
    """Return the name of a command's parameter for a setting."""
    return key.replace(".", "__")


def group_options(group: FlagGroup) -> Callable[[_F], _F]:
    """Return a decorator that adds the options of all settings of a group."""

    def add(command: _F) -> _F:
        for setting in reversed(SETTINGS.values()):
            if setting.flag and setting.group == group:
                command = setting_option(setting.key)(command)
        return command

    return add


def recognition_options(command: _F) -> _F:
    """Add --config and the options of model, windows and smoothing."""
    config = click.option(
        "--config", "config_file", type=ConfigFile("run"), help="YAML file, or a name of `config list`."
    )
    return config(group_options("recognition")(command))


def source_options(command: _F) -> _F:
    """Add --source and --loop, for `cameras_of`."""
    source = click.option(
        "--source",
        "sources",
        multiple=True,
        metavar="[NAME=]SOURCE",
        help="Webcam index, /dev path, URL, file or synthetic://; repeatable.",
        shell_complete=completion.sources,
    )
    return source(group_options("sources")(command))


def cameras_of(sources: Sequence[str]) -> dict[str, Any]:
    """Return the configuration's override of the cameras that --source names, for `config_of`; none without any.

    Raises:
        ConfigError: A name is not allowed.
    """
    cameras = []
    for given in sources:
        name, source = split_source(given)
        cameras.append({"source": source} if name is None else {"source": source, "name": name})
    return {"cameras": cameras or None}


def split_source(given: str) -> tuple[str | None, str]:
    """Return the name (None where none is given) and the source of [NAME=]SOURCE; ConfigError for a wrong name."""
    return split_name(given, lambda path: kind_of(path) is not None)


def service_options(command: _F) -> _F:
    """Add the options of a service that is started: where results go, how it runs, how long; not its keys."""
    for option in (
        click.option("--quiet", is_flag=True, help="Log warnings only."),
        click.option("--duration", type=SecondsOption(), help="Seconds to run; else until stopped."),
        group_options("service"),
    ):
        command = option(command)
    return command


def client_key_options(command: _F) -> _F:
    """Add --key and --server-key, for `client_keys`."""
    own = click.option(
        "--key", type=click.Path(path_type=Path), help="Your secret key file, where the service needs keys."
    )
    other = click.option("--server-key", type=click.Path(path_type=Path), help="The service's public key file.")
    return own(other(command))


def client_keys(key: Path | None, server_key: Path | None) -> ClientKeys | None:
    """Return the keys of `client_key_options`, or None; ConfigError where a file is not a key."""
    if key is None and server_key is None:
        return None
    from stream_i3d.transport.keys import load_client_keys

    return load_client_keys(key, server_key)


def config_of(config_file: Path | None, flags: dict[str, Any], more: dict[str, Any] | None = None) -> Config:
    """Return the validated configuration of a command.

    Args:
        config_file: A YAML file; None for the defaults.
        flags: Values by parameter, as `setting_option` names them.
        more: Values by dotted key.

    Raises:
        ConfigError: A value is not allowed.
    """
    given = {name.replace("__", "."): list(value) or None if isinstance(value, tuple) else value
             for name, value in flags.items()}  # fmt: skip
    return load_config(config_file, {**given, **(more or {})})


def _type_of(hint: Any) -> type:
    """Return what click converts a value to: bool, int, float, str, or list for an option that can be repeated."""
    if isinstance(hint, type):
        return hint
    members = [_type_of(one) for one in get_args(hint) if one is not type(None) and not hasattr(one, "extra")]
    if get_origin(hint) is list:
        return list
    found = next((kind for kind in (list, bool, int, float) if kind in members), str)
    return str if str in members and found is not list else found
