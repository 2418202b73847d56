"""Whether what stands behind an http(s) URL is a file, which ends, or a live stream."""

from __future__ import annotations

import base64
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from urllib.parse import unquote, urlsplit

_PLAYLISTS = ("mpegurl", "dash+xml")
_HEADERS = {"User-Agent": "stream-i3d", "Accept": "*/*"}


def comes_in_segments(url: str) -> bool:
    """Tell by its path whether a URL is a playlist of segments (HLS, DASH), whose pictures come in bursts."""
    return urlsplit(url).path.lower().endswith((".m3u8", ".m3u", ".mpd"))


def broke_off(position_s: float, duration_s: float | None) -> bool:
    """Tell whether a medium that gave its last picture at `position_s` has ended before its end."""
    return duration_s is not None and duration_s - position_s > max(1.0, 0.05 * duration_s)


def names_a_length(headers: Mapping[str, str]) -> bool:
    """Tell by an HTTP answer's headers (names in lower case) whether its body is a file of a known length."""
    kind = headers.get("content-type", "").lower()
    if kind.startswith("multipart/") or any(playlist in kind for playlist in _PLAYLISTS):
        return False
    return headers.get("content-length", "").strip().isdecimal()


def server_names_a_length(url: str, timeout_s: float) -> bool:
    """Ask the server for `url`, without reading its body; False where it does not answer."""
    parts = urlsplit(url)
    headers = dict(_HEADERS)
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = "Basic " + base64.b64encode(login.encode()).decode()
    bare = parts._replace(netloc=parts.netloc.rsplit("@", 1)[-1]).geturl()
    try:
        with urllib.request.urlopen(urllib.request.Request(bare, headers=headers), timeout=timeout_s) as answer:
            return names_a_length({name.lower(): value for name, value in answer.headers.items()})
    except (OSError, ValueError, HTTPException, urllib.error.URLError):
        return False
