"""Text from elsewhere, made fit to be shown: labels, camera names, metadata, messages of other programs. Pure.

Such text may hold escape codes that a terminal obeys, characters that turn or hide what stands beside them, and half
characters that cannot be encoded. Each of these is shown as an escape (`\\x1b`); all other Unicode stays as it is.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text

LIMIT = 4000
"""Characters of one piece of text that are shown."""

_JOINERS = "\u200c\u200d"  # of Persian, Indic scripts and emoji
_VISIBLE_FORMATS = frozenset("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd")
_HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp", "Cn")
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_UNSAFE_IN_JSON = re.compile(
    "[\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def clean_text(text: str, limit: int = LIMIT, keep: str = "") -> str:
    """Return `text` as one line that can be shown anywhere.

    Args:
        text: Any text, also with lone surrogates.
        limit: Characters after which it is cut off.
        keep: Control characters that stay.

    Example:
        >>> clean_text("\\x1b[31mred")
        '\\\\x1b[31mred'
    """
    if len(text) > limit:
        text = text[: max(0, limit - 3)] + "..."
    if text.isprintable():
        return text
    return "".join(
        one if one in keep or not _is_hidden(one, text[at - 1] if at else "") else _escaped(one)
        for at, one in enumerate(text)
    )


def clean_lines(text: str, limit: int = 100 * LIMIT) -> str:
    """Return text of several lines with each of them as `clean_text` returns it; tabs stay."""
    return "\n".join(clean_text(line, limit, keep="\t") for line in text[:limit].split("\n"))


def clean_json(line: bytes) -> bytes:
    """Return JSON that means the same, with characters that a terminal may obey escaped."""
    if line.isascii() and b"\x7f" not in line:
        return line
    return _UNSAFE_IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", line.decode()).encode()


def rich_text(text: str) -> Text:
    """Return text for rich as it is: nothing in it is markup."""
    from rich.text import Text

    return Text(clean_text(text))


def csv_cell(text: str) -> str:
    """Return a cell of text that no spreadsheet takes for a formula: then an apostrophe stands before it."""
    text = clean_text(text)
    return f"'{text}" if text.lstrip(" '").startswith(_FORMULA) or text[:2] in ("\\t", "\\r", "\\n") else text


def _is_hidden(one: str, before: str) -> bool:
    """Tell whether a character does something instead of being seen; `before` is the one to its left."""
    if one.isprintable() or one in _VISIBLE_FORMATS:
        return False
    if one in _JOINERS:
        return before.isascii()
    return unicodedata.category(one) in _HIDDEN


def _escaped(one: str) -> str:
    code = ord(one)
    if one in _NAMED:
        return _NAMED[one]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
