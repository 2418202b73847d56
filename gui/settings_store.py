"""Keeps the window's preferences, layout and place in QSettings."""

from __future__ import annotations

from dataclasses import fields

from PyQt6.QtCore import QByteArray, QSettings

from .state.grid import Layout
from .state.preferences import Preferences, from_plain, to_plain


class SettingsStore:
    """Reads and writes `settings` (None: the user's own)."""

    def __init__(self, settings: QSettings | None = None) -> None:
        self._settings = QSettings("stream-i3d", "gui") if settings is None else settings

    def preferences(self) -> Preferences:
        """Return the preferences; what cannot be understood is the default."""
        return from_plain(
            {field.name: self._settings.value(f"preferences/{field.name}") for field in fields(Preferences)}
        )

    def layout(self) -> Layout:
        """Return the remembered layout."""
        order = self._settings.value("layout/order")
        return Layout.from_plain(
            {
                "order": [order] if isinstance(order, str) else order,
                "enlarged": self._settings.value("layout/enlarged"),
            }
        )

    def place(self, name: str) -> QByteArray | None:
        """Return a remembered geometry or state, as Qt's own bytes."""
        value = self._settings.value(f"window/{name}")
        return value if isinstance(value, QByteArray) else None

    def save(self, preferences: Preferences, layout: Layout, places: dict[str, QByteArray]) -> None:
        """Write everything."""
        for key, value in to_plain(preferences).items():
            self._settings.setValue(f"preferences/{key}", value)
        for key, value in layout.as_plain().items():
            self._settings.setValue(f"layout/{key}", value)
        for key, place in places.items():
            self._settings.setValue(f"window/{key}", place)
        self._settings.sync()
