"""Reads untrusted YAML within limits, and refuses it in one line. Pure.

PyYAML's safe loader runs no code. But a page of aliases and merges can fill the memory, the second of two equal keys
wins silently, and a malformed number, date or boolean may raise any of Python's errors.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from stream_i3d.errors import ConfigError
from stream_i3d.redact import HIDDEN

MAX_BYTES = 256 * 1024
"""Of a file; 64 cameras with every setting written out are 30 KB."""

MAX_VALUES = 20_000
"""Of a file, each alias counted as what it stands for."""

_MAX_NUMBER = 2**64
_MERGE = "tag:yaml.org,2002:merge"
_PROBLEM_LENGTH = 160


class _Refusal(yaml.MarkedYAMLError):
    """Valid YAML that is refused here. Its message may be shown as it is."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with limited merges. It refuses equal keys."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Merge the mappings that `<<` names; PyYAML calls this before it builds a mapping."""
        flattened: set[int] = self.__dict__.setdefault("_flattened", set())
        if id(node) in flattened:  # seen by another alias: merged keys may stand beside its own
            return
        flattened.add(id(node))
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
                continue
            if (key.tag, key.value) in seen:
                raise _Refusal(problem=f"the key {key.value!r} is there twice", problem_mark=key.start_mark)
            seen.add((key.tag, key.value))
        size = len(node.value) + sum(self._merged(value) for key, value in node.value if key.tag == _MERGE)
        if size > MAX_VALUES:
            raise _Refusal(problem=f"it merges {size} keys", problem_mark=node.start_mark)
        super().flatten_mapping(node)

    def _merged(self, value: yaml.Node) -> int:
        """Return how many keys a merge adds; flattens the mappings that it names."""
        if isinstance(value, yaml.SequenceNode):
            return sum(self._merged(item) for item in value.value)
        if not isinstance(value, yaml.MappingNode):
            return 0  # PyYAML refuses it
        self.flatten_mapping(value)
        return len(value.value)


def parse_yaml(text: str, what: str) -> Any:
    """Parse YAML text into dicts, lists, strings, numbers, booleans, dates, sets and None.

    Args:
        text: YAML from any source.
        what: What it is, for the message: a path or a key.

    Raises:
        ConfigError: It is not YAML, is too large, or has a value that no setting can have.
    """
    if len(text) > MAX_BYTES:
        raise ConfigError(f"{what} is larger than {MAX_BYTES // 1024} KiB, and no configuration: give another file")
    try:
        value = yaml.load(text, _Loader)
        _check(value, 0)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or error
        if not isinstance(error, _Refusal):  # the name of an alias may be a password such as *x
            problem = re.sub(r"'[^'<]{3,}'", f"'{HIDDEN}'", str(problem))
        raise ConfigError(f"{what}{line} is not valid YAML: {_brief(problem)}") from None
    except RecursionError:
        raise ConfigError(f"{what} is not valid YAML: it is nested too deeply, or refers to itself") from None
    except ValueError as error:  # a malformed date or number, or _check's
        raise ConfigError(f"{what} is not valid YAML: {_brief(error)}") from None
    except (LookupError, AttributeError, TypeError, OverflowError):  # of `!!int ""`, `!!bool x`, `!!timestamp x`
        raise ConfigError(f"{what} is not valid YAML: a value is not of the kind that its tag (!!) says") from None
    return value


def _check(value: Any, counted: int) -> int:
    """Check every value; return their number plus `counted`. Raises ValueError for one that no setting can have."""
    counted += 1
    if counted > MAX_VALUES:
        raise ValueError(f"it has more than {MAX_VALUES} values, its aliases written out")
    if isinstance(value, dict):
        for key, item in value.items():
            counted = _check(item, _check(key, counted))
    elif isinstance(value, list | tuple | set):
        for item in value:
            counted = _check(item, counted)
    elif isinstance(value, str) and not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise ValueError(f"the text {value[:20]!r} has half a character (\\ud800 to \\udfff) in it")
    elif isinstance(value, int) and abs(value) >= _MAX_NUMBER:
        raise ValueError("it has a number of more than 20 digits")
    return counted


def _brief(problem: object) -> str:
    """Return a problem as a part of one line."""
    text = " ".join(str(problem).split()) or type(problem).__name__
    return text if len(text) <= _PROBLEM_LENGTH else f"{text[:_PROBLEM_LENGTH]}..."
