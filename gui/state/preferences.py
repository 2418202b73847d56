"""What the window remembers between sessions, validated: a file of settings may come from anywhere. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Preferences:
    """The window's own settings; those of recognition belong to the service and are asked of it.

    Attributes:
        top_k: Bars shown at most.
        show_bars: Whether the top-k bars are shown.
        show_strip: Whether the strip of the last two minutes is shown.
        show_panel: Whether the side panel is shown.
        panel_tab: Which of its tabs is open.
        on_top: The window stays over all others.
        hidden_labels: Labels that are not shown.
        folder: Where snapshots and recordings go; empty is the user's pictures folder.
    """

    top_k: int = 5
    show_bars: bool = True
    show_strip: bool = True
    show_panel: bool = True
    panel_tab: int = 0
    on_top: bool = False
    hidden_labels: tuple[str, ...] = ()
    folder: str = ""


_LIMITS = {"top_k": (1, 10), "panel_tab": (0, 2)}


def to_plain(preferences: Preferences) -> dict[str, Any]:
    """Return plain data that any store can keep."""
    return {**asdict(preferences), "hidden_labels": list(preferences.hidden_labels)}


def from_plain(data: Mapping[str, Any]) -> Preferences:
    """Return the preferences in `data`; a value that makes no sense is the default instead."""
    preferences = Preferences()
    for field in fields(Preferences):
        value = _read(field.name, data.get(field.name), getattr(preferences, field.name))
        preferences = replace(preferences, **{field.name: value})
    return preferences


def _read(name: str, value: Any, default: Any) -> Any:
    if isinstance(default, bool):
        # An INI file keeps booleans as words.
        return (
            {True: True, False: False, "true": True, "false": False}.get(value, default) if _plain(value) else default
        )
    if isinstance(default, int):
        low, high = _LIMITS[name]
        text = str(value) if _plain(value) and not isinstance(value, bool) else ""
        return int(text) if text.isascii() and text.isdigit() and low <= int(text) <= high else default
    if isinstance(default, tuple):
        values = [value] if isinstance(value, str) else value
        return tuple(one for one in values if isinstance(one, str)) if isinstance(values, list) else default
    return value if isinstance(value, str) else default


def _plain(value: Any) -> bool:
    return isinstance(value, bool | int | str)
