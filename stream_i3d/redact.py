"""Takes passwords out of text before a person, a log or another service sees it. Pure."""

from __future__ import annotations

import re

# user:password@ in a URL. The password runs to the last @ before the next space: cameras accept unescaped '@', '/' and
# quotes in passwords, and showing part of one is worse than hiding part of what follows.
_USERINFO = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)\S*@")
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
    return _QUERY_SECRET.sub(r"\g<key>***", _USERINFO.sub(r"\g<scheme>***@", text))
