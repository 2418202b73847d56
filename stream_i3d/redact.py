"""Takes passwords and tokens out of text and settings before a person, a log or another service sees them. Pure.

All are found by their form, in linear time, since texts of strangers come here too. Where it is not sure it hides more
rather than less: a host that is missing from a log is a nuisance, a password in it a break-in. A blank ends what it
takes for a URL, so sources with blanks in them are refused elsewhere (capture.address).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

HIDDEN = "***"

Span = tuple[int, int]

_WORD = re.compile(r"\S+")
_OPENING = "('\"[{<`"

# Distinct enough to be known by their ends, as in accessToken, MQTT_PASSWORD and X-Api-Key.
_LONG = r"password|passwd|passphrase|passcode|token|secret|credentials?|signature|api[_-]?key|access[_-]?key|sessionid"
# Ends of other words too (monkey, keyframe), so alone or after a - or a _. The odd ones are what cameras use.
_SHORT = r"pass|pwd|pw|pin|auth|key|sig|jwt|user|username|usr|login|session|loginuse|loginpas"
_NAME = rf"(?:[\w.-]*(?:{_LONG})|(?:[\w.-]*[_-])?(?:{_SHORT}))"
# In a URL, after ?, & and the like; some cameras have it in the path. A quote belongs to a value that goes on after it.
_QUERY = re.compile(rf"(?<=[?&;#/]){_NAME}=((?:[^&\s'\"]|['\"](?=[^\s'\"),;.:\]}}>&]))*)", re.IGNORECASE)

# Outside of URLs only what is a secret for sure.
_SURE = r"password|passwd|passphrase|token|secret|api[_-]?key|authorization"
# As Python and JSON write it, where a quote may follow a backslash; or as it is, where a backslash means nothing.
_STRING = r"""'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|"[^"\n]*\""""
_ASSIGNED = re.compile(rf"(?<![\w-])[\w-]*(?:{_SURE})=({_STRING}|[^\s&,;'\")\]}}]+)", re.IGNORECASE)
_QUOTED = re.compile(rf"(?:'[\w-]*(?:{_SURE})'|\"[\w-]*(?:{_SURE})\")\s*:\s*({_STRING}|[^\s,}}'\"]+)", re.IGNORECASE)
_HEADER = re.compile(r"authorization['\"]?\s*[:=]\s*['\"]?(?:basic|bearer|digest|token)\s+([^\n'\"]+)", re.IGNORECASE)
_BEARER = re.compile(r"\bbearer\s+([\w.~+/=-]{8,})", re.IGNORECASE)

# Addresses that are passwords: whoever knows them may post there.
_HOOK = re.compile(r"/(?:(?:webhooks?(?:b2)?|services|hooks?|with/key)/|bot(?=\d+:))([^\s?#'\"<>)\]}]+)", re.IGNORECASE)

# Of a URL that is a part of another one, encoded once or more often: rtsp%3A%2F%2Fuser%3Apassword%40camera.
_ENCODED_COLON = re.compile(r"%(?:25)*3A(?:%(?:25)*2F){0,2}", re.IGNORECASE)
_ENCODED_AT = re.compile(r"%(?:25)*40")

_SECRET_FIELD = re.compile(rf"{_LONG}|authorization|cookie|headers", re.IGNORECASE)


def redact(text: str) -> str:
    """Return `text` with `***` in place of user names, passwords and tokens.

    Hidden are what stands before the @ of a URL or of `user:password@host`, secrets in queries, in `password=...` and
    in `Authorization` headers, and the paths of webhooks.

    Example:
        >>> redact("cannot open rtsp://admin:s3cret@10.0.0.9/live")
        'cannot open rtsp://***@10.0.0.9/live'
    """
    shown, at = [], 0
    for start, end in _merged(sorted(_secrets(text))):
        shown += [text[at:start], HIDDEN]
        at = end
    return "".join([*shown, text[at:]])


def names_a_secret(field: str) -> bool:
    """Tell whether what stands under this key of a setting is secret; `token_file` names only where a secret is."""
    return _SECRET_FIELD.search(field) is not None and not field.lower().endswith("_file")


def redact_data(data: Any) -> Any:
    """Return plain data, as of a file, with its secrets hidden, those that are known by their keys as well."""
    if isinstance(data, str):
        return redact(_one_word(data))
    if isinstance(data, list | tuple):
        return [redact_data(item) for item in data]
    if isinstance(data, dict):
        return {key: _hidden(item) if names_a_secret(str(key)) else redact_data(item) for key, item in data.items()}
    return data


def _hidden(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _hidden(item) for key, item in value.items()}
    return value if value is None else HIDDEN


def _one_word(text: str) -> str:
    """Hide user:password@ of a setting that is a URL, whose password may even have blanks in it."""
    start, end = text.find("://"), text.rfind("@")
    return f"{text[:start]}://{HIDDEN}{text[end:]}" if 0 <= start < end else text


def _merged(spans: list[Span]) -> Iterator[Span]:
    """Join those that overlap: a password that looks like a query, or a query with an @ in its password."""
    joined: Span | None = None
    for start, end in spans:
        if joined is not None and start <= joined[1]:
            joined = joined[0], max(joined[1], end)
            continue
        if joined is not None:
            yield joined
        joined = start, end
    if joined is not None:
        yield joined


def _secrets(text: str) -> Iterator[Span]:
    """Yield where secrets stand; they may overlap."""
    for word in _WORD.finditer(text):
        if "@" in word[0]:
            yield from _userinfo(word)
        if "%" in word[0]:
            yield from _encoded_userinfo(word)
        if "://" in word[0]:
            yield from (match.span(1) for match in _HOOK.finditer(text, word.start(), word.end()))
    for pattern in (_QUERY, _HEADER, _BEARER, _ASSIGNED):
        yield from (match.span(1) for match in pattern.finditer(text))
    for match in _QUOTED.finditer(text):
        start, end = match.span(1)
        quoted = text[start] in "'\""
        yield start + quoted, end - quoted


def _userinfo(word: re.Match[str]) -> Iterator[Span]:
    """Yield where user:password of a URL stand, or of what should have been one.

    The password runs to the last @ of the word: cameras accept unescaped '@', '/' and quotes in passwords, and showing
    part of one is worse than hiding part of what follows. By `find`, in linear time.
    """
    text, at = word[0], word.start()
    end = text.rfind("@")
    if 0 <= (start := text.find("://")) < end:
        yield at + start + len("://"), at + end
    elif 0 <= text.find(":") < end:  # no scheme, or a mistaken one
        yield at + len(text) - len(text.lstrip(_OPENING)), at + end


def _encoded_userinfo(word: re.Match[str]) -> Iterator[Span]:
    colon = _ENCODED_COLON.search(word[0])
    ends = [match.start() for match in _ENCODED_AT.finditer(word[0])]
    if colon is not None and ends and colon.end() <= ends[-1]:
        yield word.start() + colon.end(), word.start() + ends[-1]
