"""Words for people, in the window's language. Pure: who knows the language is installed from outside.

Every call is `translate("Context", "the words")` with both of them literal, as pylupdate6 finds it; numbers and names
are put in afterwards with `format`. What stands in a table is asked for when it is shown, not when a module is loaded.
"""

from __future__ import annotations

from collections.abc import Callable

Translator = Callable[[str, str], str]
"""From a context and English words to the same in another language; `QCoreApplication.translate` is one."""

_installed: Translator | None = None


def install(translator: Translator | None) -> None:
    """Ask this one from now on; None: the words stay English."""
    global _installed
    _installed = translator


def translate(context: str, text: str) -> str:
    """Return `text` in the window's language; `context` is where it is shown, for those who translate it."""
    return text if _installed is None else _installed(context, text)
