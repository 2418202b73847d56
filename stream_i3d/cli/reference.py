"""The reference of all settings as Markdown, made from their declarations: docs/configuration.md."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

from msgspec import NODEFAULT, Struct
from msgspec import inspect as inspection

from stream_i3d.config import Config
from stream_i3d.settings import Setting, settings_of
from stream_i3d.training.config import TrainConfig

_INTRODUCTION = """\
# Configuration

<!-- Made by `stream-i3d config reference`; change the settings' declarations, and run it again. -->

`run`, `gui`, `recognize` and `doctor` take a YAML file (`--config`), `train` and `evaluate` another. Flags, or
`KEY=VALUE` arguments of `train`, lie over the file, and the file over the defaults. `${NAME}` in a text is taken from
the environment. An unknown key is an error. `stream-i3d config show` prints the configuration in force,
`stream-i3d config check FILE` checks one, and `stream-i3d config list` names those that come with the package.

In the tables, *live* settings can be changed while a service runs: `stream-i3d ctl set KEY=VALUE`.
"""


def make_reference() -> str:
    """Return docs/configuration.md."""
    parts = [_INTRODUCTION, "## `run`, `gui`, `recognize`, `doctor`\n", *_sections(Config)]
    parts += ["## `train` and `evaluate`\n", *_sections(TrainConfig)]
    return "\n".join(parts)


def _sections(kind: type[Struct]) -> Iterator[str]:
    """Yield the text of each section of a configuration."""
    alone: list[Setting] = []
    for name, hint in get_type_hints(kind, include_extras=True).items():
        inner = _section_of(hint)
        if name == "sinks":
            yield from _sinks(hint)
        elif inner is None:
            alone += [one for one in settings_of(kind) if one.key == name]
        else:
            yield _section(name if hint is inner else f"{name}[]", inner)
    if alone:
        yield _table(alone)


def _section_of(hint: Any) -> type[Struct] | None:
    """Return the section that a setting is, or is a list of; None for a single value."""
    for one in (hint, *get_args(hint)):
        if isinstance(one, type) and issubclass(one, Struct):
            return one
    return None


def _sinks(hint: Any) -> Iterator[str]:
    """Yield the text of each type of sink, and of the sections in it."""
    yield "### `sinks[]`\n\nEach has a `type`; docs/sinks.md says more of them.\n"
    for kind in get_args(get_args(hint)[0]):
        tag = kind.__struct_config__.tag
        yield _section(f"type: {tag}", kind, level=4)
        for name, inner in get_type_hints(kind).items():
            if (section := _section_of(inner)) is not None:
                yield _section(f"type: {tag}, {name}", section, level=5)


def _section(title: str, kind: type[Struct], level: int = 3) -> str:
    text = inspect.cleandoc(kind.__doc__ or "")
    return f"{'#' * level} `{title}`\n\n{text}\n\n{_table(settings_of(kind))}"


def _table(settings: list[Setting]) -> str:
    rows = ["| Setting | Allowed | Default | Flag | |", "|---|---|---|---|---|"]
    for one in settings:
        flag = f"`{one.flag}`" if one.flag else ""
        text = f"{one.description} *Live.*" if one.live else one.description
        cells = [f"`{one.key}`", _allowed(one.hint), _default(one.default), flag, text]
        rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(rows) + "\n"


def _default(value: Any) -> str:
    if value is NODEFAULT:
        return "required"
    if value is None:
        return "`null`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{list(value) if isinstance(value, tuple) else value}`"


def _allowed(hint: Any) -> str:
    return _words_of(inspection.type_info(hint))


def _words_of(one: inspection.Type, expected: str = "") -> str:
    """Return what a type allows, in words."""
    if isinstance(one, inspection.Metadata):
        return _words_of(one.type, (one.extra or {}).get("expected", expected))
    if isinstance(one, inspection.UnionType):
        return " or ".join(dict.fromkeys(_words_of(member, expected) for member in one.types))
    if isinstance(one, inspection.LiteralType):
        return ", ".join(f"`{word}`" for word in one.values)
    if isinstance(one, inspection.IntType | inspection.FloatType):
        return _number(one)
    if isinstance(one, inspection.ListType | inspection.VarTupleType):
        return f"list of {_words_of(one.item_type)}"
    if isinstance(one, inspection.TupleType):
        return f"[{', '.join(map(_words_of, one.item_types))}]"
    if isinstance(one, inspection.DictType):
        return f"mapping of {_words_of(one.key_type)} to {_words_of(one.value_type)}"
    if isinstance(one, inspection.StructType):
        return "a section"
    plain = {inspection.NoneType: "`null`", inspection.BoolType: "`true`, `false`"}
    return expected or plain.get(type(one), "text")


def _number(one: inspection.IntType | inspection.FloatType) -> str:
    name = "whole number" if isinstance(one, inspection.IntType) else "number"
    limits = [(">=", one.ge), (">", one.gt), ("<=", one.le), ("<", one.lt)]
    given = [f"{sign} {limit:g}" if isinstance(limit, float) else f"{sign} {limit}"
             for sign, limit in limits if limit is not None]  # fmt: skip
    return " ".join([name, ", ".join(given)]).strip()
