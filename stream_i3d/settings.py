"""Settings as files: YAML over defaults, `key=value` over YAML, unknown keys refused, one line for a mistake.

Any tree of `Section`s can be read; knows nothing of what the settings are for (config.py, training/config.py).
"""

from __future__ import annotations

import copy
import os
import re
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
import yaml
from msgspec import NODEFAULT, Meta, Struct, structs

from stream_i3d.errors import ConfigError, brief
from stream_i3d.redact import redact_data
from stream_i3d.validation import field_names, shortened, shown, validate
from stream_i3d.yaml_text import MAX_BYTES, parse_yaml

Reading = Callable[[dict[str, Any]], dict[str, Any]]
"""Plain data as it was written -> as everyone means it."""


class Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all settings: immutable, and strict about keys."""


FlagGroup = Literal["recognition", "service", "sources", "keys"]
"""Which commands have a flag: those that recognise, that start a service, that read sources, or `run` alone."""


class Setting(Struct, frozen=True, kw_only=True):
    """One setting, as its class declares it.

    Attributes:
        key: Dotted.
        hint: Its type hint, with limits.
        default: The value where none is given; `msgspec.NODEFAULT` where one must be.
        description: One or two sentences.
        flag: On the command line, as click writes it; "" for none.
        group: Which commands have the flag.
        completes: The function of cli/completion.py that completes a value; "" for the words of the type, if any.
        bare_value: What the flag means without a value; None where it needs one.
        live: Whether it can be changed while a service runs.
    """

    key: str
    hint: Any
    default: Any
    description: str
    flag: str = ""
    group: FlagGroup = "recognition"
    completes: str = ""
    bare_value: str | None = None
    live: bool = False

    @property
    def words(self) -> tuple[str, ...]:
        """The words that it allows as a value, of `Literal` and `bool`; none for numbers, texts and lists."""
        return _words(self.hint)


def setting(
    description: str,
    *,
    flag: str = "",
    group: FlagGroup = "recognition",
    completes: str = "",
    bare_value: str | None = None,
    live: bool = False,
) -> Meta:
    """Describe a setting where it is declared; the arguments are the attributes of `Setting`.

    Example:
        >>> stride: Annotated[int, Meta(ge=1), setting("Frames to the next window.", flag="--stride")] = 8
    """
    more = {"flag": flag, "group": group, "completes": completes, "bare_value": bare_value, "live": live}
    return Meta(description=description, extra=more)


def settings_of(kind: type[Struct], prefix: str = "") -> list[Setting]:
    """Return all settings of a section and of the sections in it, in order."""
    found: list[Setting] = []
    hints = get_type_hints(kind, include_extras=True)
    for field in structs.fields(kind):
        hint, key = hints[field.name], f"{prefix}{field.name}"
        if isinstance(hint, type) and issubclass(hint, Struct):
            found += settings_of(hint, f"{key}.")
            continue
        default = field.default if field.default_factory is NODEFAULT else field.default_factory()
        made = next((one for one in get_args(hint)[1:] if isinstance(one, Meta) and one.description), Meta())
        found.append(
            Setting(key=key, hint=hint, default=default, description=made.description or "", **(made.extra or {}))
        )
    return found


def _words(hint: Any) -> tuple[str, ...]:
    if hint is bool:
        return ("true", "false")
    origin = get_origin(hint)
    if origin is Literal:
        return tuple(str(word) for word in get_args(hint))
    if origin in (Union, types.UnionType, Annotated):
        return tuple(word for argument in get_args(hint) for word in _words(argument))
    return ()


_Settings = TypeVar("_Settings", bound=Section)


def load_settings(
    kind: type[_Settings],
    path: Path | None,
    overrides: Mapping[str, Any],
    environ: Mapping[str, str] = os.environ,
    as_meant: Reading = lambda data: data,
) -> _Settings:
    """Read `path` (None: defaults only), put `overrides` over it, and validate the whole.

    Args:
        kind: What the file holds.
        path: A YAML file; `${NAME}` in its strings is taken from `environ`.
        overrides: Dotted keys to values, such as {"window.stride": 4}; None values are left out.
        environ: Where `${NAME}` is looked up.
        as_meant: Applied before validation.

    Raises:
        ConfigError: The file cannot be read, or a key or value is not allowed. One line, with the dotted key, and with
            whether the file or, over a file, an override is at fault.
    """
    read: dict[str, Any] = {} if path is None else _read_yaml(kind, path, environ)
    given = {key: value for key, value in overrides.items() if value is not None}
    try:
        data = copy.deepcopy(read)
        for key, value in given.items():
            _set(data, key, value)
        return convert_settings(kind, data, as_meant)
    except ConfigError as error:
        if path is None:
            raise
        own = _error_of(kind, read, as_meant)
        file_at_fault = own is not None and (own == str(error) or "expected a mapping" in str(error))
        raise ConfigError(f"{error} ({'in' if file_at_fault else 'on the command line, over'} {path})") from None


def _error_of(kind: type[_Settings], data: dict[str, Any], as_meant: Reading) -> str | None:
    """Return what is wrong with settings as they stand in a file; None where nothing is."""
    try:
        convert_settings(kind, copy.deepcopy(data), as_meant)
    except ConfigError as error:
        return str(error)
    return None


def convert_settings(kind: type[_Settings], data: Any, as_meant: Reading = lambda data: data) -> _Settings:
    """Return plain `data` as validated settings; a section left empty (None) is one not given.

    Raises:
        ConfigError: Names the key, what was given and what is allowed.
    """
    if isinstance(data, dict):
        data = {key: value for key, value in data.items() if value is not None or key not in field_names(kind)}
        data = as_meant(data)
    return validate(kind, data)


def parse_overrides(arguments: Sequence[str]) -> dict[str, Any]:
    """Return `key=value` arguments as dotted keys to values, each value read as YAML.

    Raises:
        ConfigError: An argument has no "=", or its value is no YAML.
    """
    overrides: dict[str, Any] = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not (equals and key):
            raise ConfigError(f"{shortened(repr(argument))} is no setting: write key=value, such as optimizer.lr=0.01")
        try:
            parsed = parse_yaml(value, key)
        except ConfigError:
            raise ConfigError(
                f"{brief(key)}: {shortened(repr(value))} is not valid YAML; quote it if it is meant as text"
            ) from None
        # YAML 1.1 reads 1e-3 as text (it wants 1.0e-3); everyone means the number.
        if isinstance(parsed, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", parsed):
            parsed = float(parsed)
        overrides[key] = parsed
    return overrides


_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def to_yaml(settings: Section) -> str:
    """Return settings as YAML, with their secrets hidden."""
    return yaml.safe_dump(redact_data(msgspec.to_builtins(settings)), sort_keys=False, allow_unicode=True)


def _read_yaml(kind: type[Struct], path: Path, environ: Mapping[str, str]) -> Any:
    try:
        with path.open("rb") as file:  # not by its size: it may be a pipe, or a device that never ends
            text = file.read(MAX_BYTES * 4 + 1).decode("utf-8")
    except (OSError, ValueError) as error:  # ValueError: also a NUL character in the path
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(
            f"cannot read the configuration {path}: {reason}; give a YAML file such as configs/webcam.yaml"
        ) from None
    data = look_up_variables(parse_yaml(text, str(path)), environ, "")
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(
            f"{path} holds a {type(data).__name__}; allowed is a mapping of {', '.join(field_names(kind))}"
        )
    return data


def look_up_variables(value: Any, environ: Mapping[str, str], where: str) -> Any:
    """Return plain data with `${NAME}` in its strings taken from `environ`; ConfigError where that has none."""
    if isinstance(value, dict):
        return {key: look_up_variables(item, environ, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list):
        return [look_up_variables(item, environ, f"{where}[{index}]") for index, item in enumerate(value)]
    if not isinstance(value, str):
        return value

    def look_up(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in environ:
            raise ConfigError(f"{where.lstrip('.')}: the environment has no {name}; set it before starting")
        return environ[name]

    return _VARIABLE.sub(look_up, value)


def _set(data: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    for parent in parents:
        inner = data.get(parent)
        if inner is None:
            inner = data[parent] = {}
        if not isinstance(inner, dict):
            raise ConfigError(f"{parent}: expected a mapping, got {shown(parent, inner)}")
        data = inner
    data[last] = value
