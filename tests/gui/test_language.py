"""Translations are loaded, and pylupdate6 finds all that there is to translate."""

from __future__ import annotations

import ast
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from PyQt6.QtCore import QCoreApplication, QLocale, QTranslator
from stream_i3d_gui.language import speak
from stream_i3d_gui.state import translation
from stream_i3d_gui.state.formats import age

ROOT = Path(__file__).parents[2]
_MAGIC = bytes.fromhex("3cb86418caef9c95cd211cbf60a1bddd")
_END, _TRANSLATION, _SOURCE, _CONTEXT, _COMMENT = 1, 3, 6, 7, 8


def elf_hash(text: bytes) -> int:
    """The hash by which Qt finds a message (QTranslator's elfHash)."""
    value = 0
    for byte in text:
        value = (value << 4) + byte
        high = value & 0xF0000000
        value = (value ^ high >> 24) & ~high
    return value or 1


def write_qm(path: Path, translations: dict[tuple[str, str], str]) -> None:
    """Write what lrelease makes of a .ts file: messages, and where each begins, by hash."""
    messages, places = b"", []
    for (context, source), translated in translations.items():
        places.append((elf_hash(source.encode()), len(messages)))
        words_ = translated.encode("utf-16-be")
        messages += struct.pack(">BI", _TRANSLATION, len(words_)) + words_
        for tag, text in ((_COMMENT, ""), (_SOURCE, source), (_CONTEXT, context)):
            messages += struct.pack(">BI", tag, len(text.encode())) + text.encode()
        messages += struct.pack(">B", _END)
    hashes = b"".join(struct.pack(">II", *place) for place in sorted(places))
    path.write_bytes(
        _MAGIC + struct.pack(">BI", 0x42, len(hashes)) + hashes + struct.pack(">BI", 0x69, len(messages)) + messages
    )


@pytest.fixture
def folder(application: object, tmp_path: Path) -> Iterator[Path]:
    """A folder with a few words of German."""
    write_qm(
        tmp_path / "stream_i3d_de.qm",
        {("Formats", "{number} h"): "{number} Std.", ("Banner", "Start again"): "Neu starten"},
    )
    yield tmp_path
    app = QCoreApplication.instance()
    assert app is not None
    for translator in app.findChildren(QTranslator):
        QCoreApplication.removeTranslator(translator)
        translator.deleteLater()
    translation.install(None)


def spoken() -> tuple[str, str]:
    """A word of the state, and one of a widget."""
    return age(7200.0), QCoreApplication.translate("Banner", "Start again")


def test_the_words_of_the_users_language_are_loaded_for_state_and_widgets(folder):
    assert spoken() == ("2 h", "Start again")
    speak(QLocale("de_AT"), folder)
    assert spoken() == ("2 Std.", "Neu starten")


def test_qt_speaks_the_users_language_too(folder):
    speak(QLocale("de_AT"), folder)
    assert QCoreApplication.translate("QPlatformTheme", "Cancel") == "Abbrechen"


def test_a_language_without_a_translation_stays_english(folder):
    speak(QLocale("fr_FR"), folder)
    assert spoken() == ("2 h", "Start again")


def test_a_language_that_is_less_wished_for_does_not_win_over_english(folder):
    class EnglishBeforeGerman(QLocale):
        def uiLanguages(self, *_: object) -> list[str]:  # noqa: N802
            return ["en-US", "en", "de-DE", "de"]

    speak(EnglishBeforeGerman("en_US"), folder)
    assert spoken() == ("2 h", "Start again")


def test_every_word_to_translate_is_written_where_it_is_asked_for():
    """A variable would be translated, too, but pylupdate6 finds literal words only, and says nothing about others."""
    for path in (ROOT / "gui").rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(call, ast.Call):
                continue
            name = getattr(call.func, "attr", getattr(call.func, "id", ""))
            if name in ("tr", "translate"):
                text = call.args[-1]
                through = path.name == "shortcuts.py" and isinstance(text, ast.Name)  # Shortcuts.tr itself
                assert through or isinstance(text, ast.Constant), f"{path}:{call.lineno}"
