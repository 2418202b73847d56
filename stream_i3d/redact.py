"""Takes passwords out of text before a person, a log or another service sees it. Pure."""

from __future__ import annotations

import re

_WORD = re.compile(r"\S+")
_QUERY_SECRET = re.compile(
    r"(?P<key>[?&;](?:[\w-]*[_-])?"
    r"(?:password|passwd|pwd|pass|token|auth|secret|key|apikey|user|username|session|sessionid|sig|signature)=)"
    r"[^&\s'\"]*",
    re.IGNORECASE,
)


def redact(text: str) -> str:
    """Return `text` with the user names and passwords of all URLs in it replaced by `***`.

    Example:
        >>> redact("cannot open rtsp://admin:s3cret@10.0.0.9/live")
        'cannot open rtsp://***@10.0.0.9/live'
    """
    return _QUERY_SECRET.sub(r"\g<key>***", _WORD.sub(_without_userinfo, text))


def _without_userinfo(word: re.Match[str]) -> str:
    """Hide user:password@ of a URL.

    The password runs to the last @ of the word: cameras accept unescaped '@', '/' and quotes in passwords, and showing
    part of one is worse than hiding part of what follows. By `find`, in linear time: texts of strangers come here too.
    """
    text = word[0]
    start, end = text.find("://"), text.rfind("@")
    return text if start < 0 or end < start else f"{text[:start]}://***@{text[end + 1 :]}"
