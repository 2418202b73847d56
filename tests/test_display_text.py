"""Hostile text, and text of all the world that must stay as it is."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from stream_i3d.display_text import clean_json, clean_lines, clean_text, csv_cell, rich_text


@pytest.mark.parametrize(
    ("given_text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("\x9b31m", "\\x9b31m"),
        ("a\x00b\x07\x7f", "a\\x00b\\x07\\x7f"),
        ("two\nlines\r\n\tin", "two\\nlines\\r\\n\\tin"),
        ("abc\u202etxt.exe", "abc\\u202etxt.exe"),
        ("\u2066\u2069\u200e\u061c", "\\u2066\\u2069\\u200e\\u061c"),
        ("wa\u200bve\ufeff\u00ad", "wa\\u200bve\\ufeff\\xad"),
        ("wa\u200dve", "wa\\u200dve"),
        ("line\u2028and\u2029", "line\\u2028and\\u2029"),
        ("half \ud83d", "half \\ud83d"),
        ("\U000e0041tag", "\\U000e0041tag"),
        ("no\ufffe", "no\\ufffe"),
    ],
)
def test_what_a_terminal_may_obey_is_shown_as_an_escape(given_text: str, shown: str) -> None:
    assert clean_text(given_text) == shown
    clean_text(given_text).encode()


@pytest.mark.parametrize(
    "text",
    [
        "挥手",
        "手を振る",
        "يلوّح بيده",
        "می‌خواهم",
        "नमस्ते",
        "क्‍ष",
        "👨‍👩‍👧 🏳️‍🌈 👍🏽",
        "naïve Größe",
        "a b",
        "\u3000x",
        "[/] [link=x]",
    ],
)
def test_ordinary_text_of_any_language_stays(text: str) -> None:
    assert clean_text(text) == text


@given(st.text())
def test_any_text_becomes_one_line_that_can_be_encoded(text: str) -> None:
    shown = clean_text(text)
    shown.encode()
    assert len(shown.splitlines()) <= 1
    assert not any(ord(one) < 32 or 127 <= ord(one) < 160 for one in shown)
    assert clean_text(shown) == shown


def test_long_text_is_cut_off() -> None:
    assert clean_text("x" * 5000, limit=10) == "xxxxxxx..."


def test_lines_stay_lines() -> None:
    assert clean_lines("a\tb\n\x1b[2Jc\n") == "a\tb\n\\x1b[2Jc\n"


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_json_means_the_same_and_holds_nothing_that_a_terminal_obeys(text: str) -> None:
    line = json.dumps({"label": text}, ensure_ascii=False).encode()
    shown = clean_json(line)
    assert json.loads(shown) == {"label": text}
    assert not any(127 <= ord(one) < 160 or one in "\u202e\u2028\u200f" for one in shown.decode())


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1+cmd|' /C calc'!A0", "@SUM(1)", "\t=1", "\r=1", " =1"])
def test_a_cell_that_a_spreadsheet_would_run_gets_an_apostrophe(text: str) -> None:
    assert csv_cell(text).startswith("'")


@pytest.mark.parametrize("text", ["waving", "door", "2026-11-30T10:00:00", "a=b", "挥手"])
def test_other_cells_stay(text: str) -> None:
    assert csv_cell(text) == text


@pytest.mark.parametrize("text", ["[/]", "[/bold]", "[link=https://evil.example]x[/link]", "[red]", "a\\[b"])
def test_nothing_is_markup_for_rich(text: str) -> None:
    console = Console(width=200, force_terminal=True, color_system=None)
    with console.capture() as shown:
        console.print(rich_text(text))
    assert shown.get().strip() == text
