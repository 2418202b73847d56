"""Settings as files: YAML over defaults, `key=value` over YAML, unknown keys refused, mistakes said in one line.

Any tree of `Section`s can be read; knows nothing of what the settings are for (config.py, training/config.py).
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import msgspec
import msgspec.inspect
import yaml
from msgspec import Struct

from stream_i3d.errors import ConfigError, brief, did_you_mean
from stream_i3d.redact import HIDDEN, names_a_secret, redact_data
from stream_i3d.yaml_text import MAX_BYTES, parse_yaml

_SHOWN = 200

Reading = Callable[[dict[str, Any]], dict[str, Any]]
"""Plain data as it was written -> as everyone means it."""


class Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all settings: immutable, and strict about keys."""


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
    _refuse_unknown_keys(data, kind, "")
    if isinstance(data, dict):
        data = as_meant({key: value for key, value in data.items() if value is not None})
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(_explain(kind, str(error), data)) from None


def parse_overrides(arguments: Sequence[str]) -> dict[str, Any]:
    """Return `key=value` arguments as dotted keys to values, each value read as YAML.

    Raises:
        ConfigError: An argument has no "=", or its value is no YAML.
    """
    overrides: dict[str, Any] = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not (equals and key):
            raise ConfigError(f"{_shortened(repr(argument))} is no setting: write key=value, such as optimizer.lr=0.01")
        try:
            parsed = parse_yaml(value, key)
        except ConfigError:
            raise ConfigError(
                f"{brief(key)}: {_shortened(repr(value))} is not valid YAML; quote it if it is meant as text"
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
        raise ConfigError(f"{path} holds a {type(data).__name__}; allowed is a mapping of {', '.join(_fields(kind))}")
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
            raise ConfigError(f"{parent}: expected a mapping, got {_shown(parent, inner)}")
        data = inner
    data[last] = value


def _shortened(text: str) -> str:
    """Return what somebody gave as a part of one line."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _fields(kind: type[Struct]) -> tuple[str, ...]:
    return kind.__struct_encode_fields__


def _refuse_unknown_keys(data: Any, kind: type[Struct], where: str) -> None:
    if not isinstance(data, dict):
        return
    hints, tag_field = get_type_hints(kind), kind.__struct_config__.tag_field
    for key, value in data.items():
        here = f"{where}.{key}" if where else str(key)
        if key == tag_field:
            continue
        if key not in hints:
            hint = did_you_mean(str(key)[:_SHOWN], hints)
            raise ConfigError(f"unknown key {_shortened(repr(here))}{hint}; allowed here: {', '.join(_fields(kind))}")
        inner = _structs_in(hints[key])
        for index, item in enumerate(value if isinstance(value, list) else [value]):
            place = f"{here}[{index}]" if isinstance(value, list) else here
            for one in _tagged(item, inner, place):
                _refuse_unknown_keys(item, one, place)


def _tagged(item: Any, kinds: Sequence[type[Struct]], where: str) -> Sequence[type[Struct]]:
    """Return which of `kinds` an item is meant to be: where a tag tells them apart, the one that it names."""
    field = kinds[0].__struct_config__.tag_field if kinds else None
    if field is None or not isinstance(item, dict):
        return kinds
    tags = {str(kind.__struct_config__.tag): kind for kind in kinds}
    given = item.get(field)
    if not isinstance(given, str) or given not in tags:
        hint = did_you_mean(str(given)[:_SHOWN], tags) if field in item else ""
        what = f"unknown {field} {_shortened(repr(given))}{hint}" if field in item else f"no {field}"
        raise ConfigError(f"{where}: {what}; allowed: {', '.join(tags)}")
    return [tags[given]]


def _structs_in(hint: Any) -> list[type[Struct]]:
    if isinstance(hint, type) and issubclass(hint, Struct):
        return [hint]
    return [inner for argument in get_args(hint) for inner in _structs_in(argument)]


def _explain(kind: type[Struct], message: str, data: Any) -> str:
    """Turn msgspec's "Expected `int` >= 1 - at `$.window.stride`" into ours, with the value that was given."""
    text, _, path = message.partition(" - at `")
    if path.startswith("key` in `"):  # it is not of a value, but of a key that is no text
        where = path.removeprefix("key` in `").rstrip("`").removeprefix("$").lstrip(".")
        return f"{where or 'the configuration'}: a key that is no text; put it in quotes"
    dotted = path.rstrip("`").removeprefix("$").lstrip(".")
    text = (text[:1].lower() + text[1:]).replace("`", "")
    if not dotted:
        return text
    given: Any = data
    for part in re.findall(r"[^.\[\]]+", dotted):
        try:
            given = given[int(part)] if part.isdigit() and isinstance(given, list) else given[part]
        except (KeyError, IndexError, TypeError):
            return f"{dotted}: {text}"
    if text.startswith("invalid enum value"):
        words = ", ".join(_choices(kind, dotted))
        text = f"expected a number or {words}" if _takes_number(kind, dotted) else f"expected one of {words}"
    if "matching regex" in text and dotted.endswith("mode"):
        text = "expected three octal digits, such as 0600"
    elif "matching regex" in text:  # all other settings with a pattern are names
        text = "expected 1 to 64 letters, digits, '_', '.' or '-'"
    got = "" if ", got" in text or isinstance(given, dict) else f", got {_shown(dotted, given)}"
    return f"{dotted}: {text}{got}"


def _shown(dotted: str, given: Any) -> str:
    """Return a value as an error may show it."""
    secret = any(names_a_secret(part) for part in re.findall(r"[^.\[\]]+", dotted))
    return HIDDEN if secret else _shortened(repr(redact_data(given)))


def _choices(kind: type[Struct], dotted: str) -> tuple[str, ...]:
    """Return what a Literal setting of `kind` allows."""
    return _literals(_hint_of(kind, dotted))


def _takes_number(kind: type[Struct], dotted: str) -> bool:
    """Tell whether a setting may be a number beside the words it allows, such as `8` or `auto`."""
    kinds = msgspec.inspect.type_info(_hint_of(kind, dotted))
    one_of = kinds.types if isinstance(kinds, msgspec.inspect.UnionType) else (kinds,)
    return any(isinstance(one, msgspec.inspect.IntType | msgspec.inspect.FloatType) for one in one_of)


def _hint_of(kind: type[Struct], dotted: str) -> Any:
    """Return the type hint of a setting of `kind`."""
    hint: Any = kind
    for part in re.findall(r"[^.\[\]]+", dotted):
        if not part.isdigit():  # of a list, every item is alike, or is of the kind that has this key
            known = [get_type_hints(one, include_extras=True) for one in _structs_in(hint)]
            hint = next(hints[part] for hints in known if part in hints)
    return hint


def _literals(hint: Any) -> tuple[str, ...]:
    """Return the words of the Literals anywhere in a type hint."""
    if isinstance(hint, str | int):
        return (str(hint),)
    return tuple(word for argument in get_args(hint) for word in _literals(argument))
