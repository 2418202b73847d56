"""Plain data as validated settings: unknown keys are refused, and a mistake is one line that names the dotted key.

msgspec decides what is valid. The message about a mistake comes from the type hints: the limits, the choices, and the
words of a pattern (`Meta(extra={"expected": ...})`). Knows nothing of what the settings are for.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
import msgspec.inspect as inspection
from msgspec import Struct

from stream_i3d.errors import ConfigError, did_you_mean
from stream_i3d.redact import HIDDEN, names_a_secret, redact_data

_MAX_SHOWN = 200
_LIMITS: tuple[tuple[str, str, Callable[[Any, Any], bool]], ...] = (
    ("ge", ">=", lambda value, limit: value >= limit),
    ("gt", ">", lambda value, limit: value > limit),
    ("le", "<=", lambda value, limit: value <= limit),
    ("lt", "<", lambda value, limit: value < limit),
)
_NAMES = {type(None): "null", list: "array", tuple: "array", dict: "object"}
_TYPE_NAMES: dict[type[inspection.Type], str] = {
    inspection.NoneType: "null",
    inspection.BoolType: "bool",
    inspection.IntType: "int",
    inspection.FloatType: "float",
    inspection.StrType: "str",
    inspection.ListType: "array",
    inspection.VarTupleType: "array",
    inspection.TupleType: "array",
    inspection.DictType: "object",
    inspection.StructType: "object",
}

_Settings = TypeVar("_Settings", bound=Struct)


def validate(kind: type[_Settings], data: Any) -> _Settings:
    """Return plain `data` as validated settings.

    Args:
        kind: The class of the settings.
        data: Mappings, lists and scalars, as YAML gives them.

    Raises:
        ConfigError: Names the dotted key, what was given and what is allowed.
    """
    refuse_unknown_keys(data, kind, "")
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(find_problem(kind, data, "") or str(error)) from None


def shown(dotted: str, given: Any) -> str:
    """Return a value as an error may show it: shortened, and without secrets."""
    secret = any(names_a_secret(part) for part in dotted.replace("[", ".").replace("]", "").split("."))
    return HIDDEN if secret else shortened(repr(redact_data(given)))


def shortened(text: str) -> str:
    """Return a text as a part of one line, 200 characters at most."""
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def field_names(kind: type[Struct]) -> tuple[str, ...]:
    """Return the keys that a section allows."""
    return kind.__struct_encode_fields__


def refuse_unknown_keys(data: Any, kind: type[Struct], where: str) -> None:
    """Raise ConfigError at the first key that its section does not know."""
    if not isinstance(data, dict):
        return
    hints, tag_field = get_type_hints(kind), kind.__struct_config__.tag_field
    for key, value in data.items():
        here = f"{where}.{key}" if where else str(key)
        if key is None:
            raise ConfigError(f"{where or 'the configuration'}: a key that is no text; put it in quotes")
        if key == tag_field:
            continue
        if key not in hints:
            hint = did_you_mean(str(key)[:_MAX_SHOWN], hints)
            allowed = ", ".join(field_names(kind))
            raise ConfigError(f"unknown key {shortened(repr(here))}{hint}; allowed here: {allowed}")
        inner = list(_structs_in(hints[key]))
        for index, item in enumerate(value if isinstance(value, list) else [value]):
            place = f"{here}[{index}]" if isinstance(value, list) else here
            for one in _with_tag(item, inner, place):
                refuse_unknown_keys(item, one, place)


def find_problem(hint: Any, value: Any, where: str) -> str | None:
    """Return what is wrong with a value, in one line; None where nothing is.

    Args:
        hint: Its type hint, with its `Meta`.
        value: Plain data.
        where: Its dotted key; "" for the whole.
    """
    try:
        msgspec.convert(value, hint)
        return None
    except msgspec.ValidationError as error:
        cause = error.__cause__
    for member in _members(hint):
        for inner, item, place in _parts(member, value, where):
            if inner is None:
                return f"{place or 'the configuration'}: a key that is no text; put it in quotes"
            if (problem := find_problem(inner, item, place)) is not None:
                return problem
        if isinstance(value, dict) and _is_struct(member) and _has_tag(member, value):
            if (missing := _missing_key(member, value)) is not None:
                return _at(where, f"object missing required field {missing}; add it")
            return _at(where, str(cause))  # each value is right by itself: __post_init__ refuses them together
    return _at(where, f"{_expected(hint, value)}, got {_got(hint, value, where)}")


def _at(where: str, text: str) -> str:
    return f"{where}: {text}" if where else text


def _members(hint: Any) -> list[Any]:
    """Return the types that a value may have, without their `Meta`."""
    if get_origin(hint) is Annotated:
        return _members(get_args(hint)[0])
    if get_origin(hint) in (Union, types.UnionType):
        return [member for argument in get_args(hint) for member in _members(argument)]
    return [hint]


def _parts(member: Any, value: Any, where: str) -> Iterator[tuple[Any, Any, str]]:
    """Yield type hint, value and key of each part of a value of a type; the hint None for a key that is no text."""
    origin, arguments = get_origin(member), get_args(member)
    if isinstance(value, list) and origin in (list, tuple) and arguments:
        fixed = origin is tuple and arguments[-1] is not ...
        for index, item in enumerate(value):
            if not fixed or index < len(arguments):
                yield arguments[index] if fixed else arguments[0], item, f"{where}[{index}]"
    elif isinstance(value, dict) and origin is dict:
        for key, item in value.items():
            yield (
                arguments[1] if isinstance(key, str) else None,
                item,
                f"{where}.{key}" if isinstance(key, str) else where,
            )
    elif isinstance(value, dict) and _is_struct(member) and _has_tag(member, value):
        hints = get_type_hints(member, include_extras=True)
        for key, item in value.items():
            if key in hints:
                yield hints[key], item, f"{where}.{key}" if where else key


def _missing_key(kind: type[Struct], value: dict[str, Any]) -> str | None:
    fields = msgspec.structs.fields(kind)
    return next((field.encode_name for field in fields if field.required and field.encode_name not in value), None)


def _expected(hint: Any, value: Any) -> str:
    """Return what a single value may be, as far as this one is not."""
    members, words = _inspected(hint)
    choices = [str(word) for one in _members(hint) if get_origin(one) is Literal for word in get_args(one)]
    numbers = [one for one in members if isinstance(one, inspection.IntType | inspection.FloatType)]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if choices and not (numbers and is_number):
        listed = ", ".join(choices)
        return f"expected a number or {listed}" if numbers else f"expected one of {listed}"
    for number in numbers if is_number else ():
        if isinstance(number, inspection.FloatType) or isinstance(value, int):
            for field, sign, holds in _LIMITS:
                limit = getattr(number, field)
                if limit is not None and not holds(value, limit):
                    is_float = isinstance(number, inspection.FloatType)
                    return f"expected {_TYPE_NAMES[type(number)]} {sign} {float(limit) if is_float else limit}"
    for text in (one for one in members if isinstance(one, inspection.StrType) and isinstance(value, str)):
        return f"expected {words or _length(text)}"
    for array in (one for one in members if isinstance(one, inspection.ListType) and isinstance(value, list)):
        return f"expected at most {array.max_length} of them"
    names = dict.fromkeys(_TYPE_NAMES.get(type(one), "value") for one in members)
    return f"expected {' | '.join(names)}"


def _length(text: inspection.StrType) -> str:
    if text.pattern is not None:
        return f"text like {text.pattern}"
    most = "" if text.max_length is None else f", at most {text.max_length}"
    return f"text of at least {text.min_length or 0} characters{most}"


def _got(hint: Any, value: Any, where: str) -> str:
    """Return a value that is of an allowed type, or the type of another."""
    name = _NAMES.get(type(value), type(value).__name__)
    members, _ = _inspected(hint)
    allowed = {_TYPE_NAMES.get(type(one)) for one in members}
    if "float" in allowed:
        allowed.add("int")
    if any(isinstance(one, inspection.LiteralType) for one in members):
        allowed.update(("str", name if name in ("int", "float", "bool") else "str"))
    return shown(where, value) if name in allowed and name not in ("array", "object") else name


def _inspected(hint: Any) -> tuple[list[inspection.Type], str]:
    """Return the types of a hint, and the words for its pattern."""
    found: list[inspection.Type] = []
    words = ""
    waiting: list[inspection.Type] = [inspection.type_info(hint)]
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, inspection.Metadata):
            words = words or (one.extra or {}).get("expected", "")
            waiting.insert(0, one.type)
        elif isinstance(one, inspection.UnionType):
            waiting[:0] = one.types
        else:
            found.append(one)
    return found, words


def _is_struct(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, Struct)


def _has_tag(kind: type[Struct], value: dict[str, Any]) -> bool:
    field = kind.__struct_config__.tag_field
    return field is None or value.get(field) == kind.__struct_config__.tag


def _structs_in(hint: Any) -> Iterator[type[Struct]]:
    if _is_struct(hint):
        yield hint
    else:
        for argument in get_args(hint):
            yield from _structs_in(argument)


def _with_tag(item: Any, kinds: Sequence[type[Struct]], where: str) -> Sequence[type[Struct]]:
    """Return which of `kinds` an item is: where a tag tells them apart, the one that it names."""
    field = kinds[0].__struct_config__.tag_field if kinds else None
    if field is None or not isinstance(item, dict):
        return kinds
    tags = {str(kind.__struct_config__.tag): kind for kind in kinds}
    given = item.get(field)
    if not isinstance(given, str) or given not in tags:
        hint = did_you_mean(str(given)[:_MAX_SHOWN], tags) if field in item else ""
        what = f"unknown {field} {shortened(repr(given))}{hint}" if field in item else f"no {field}"
        raise ConfigError(f"{where}: {what}; allowed: {', '.join(tags)}")
    return [tags[given]]
