"""Asks an RTSP or HTTP server what it says of a stream that gave no video, and what that answer means for its user.

FFmpeg does not always say why a stream failed to open. No message here holds a user name or a password.
"""

from __future__ import annotations

import base64
import hashlib
import re
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from stream_i3d.redact import redact

_PORTS: Final = {"rtsp": 554, "http": 80, "https": 443}
_MOST_BYTES: Final = 8192
_STATUS: Final = re.compile(r"(?:RTSP|HTTP)/\d\.\d (\d{3})[ \t]*([ -~]{0,40})")
_HEADER: Final = re.compile(r"^([A-Za-z-]+):[ \t]*([^\r\n]{0,500})", re.MULTILINE)
_PARAMETER: Final = re.compile(r'(\w+)="?([^",]*)"?')

_PATH = "check the path of the stream (the camera's manual, or its ONVIF address)"
_LATER = "it is tried again; where that goes on, restart the camera"
_REMEDIES: Final[Mapping[int, str]] = {
    400: "check the address: the server does not understand it",
    401: "check user name and password",
    402: "the server wants to be paid; check the account",
    403: "this user may not see the stream; check the user's rights in the camera, or give another user",
    404: _PATH,
    405: f"this address is no stream; {_PATH}",
    406: "the camera cannot send this stream as it is asked for; set it to H.264 or H.265 in the camera",
    407: "a proxy on the way wants a password; connect without it",
    408: _LATER,
    410: _PATH,
    415: "the camera cannot send this stream as it is asked for; set it to H.264 or H.265 in the camera",
    429: "it is asked too often; close other viewers, it is tried again",
    451: "it does not take a parameter of the address; check what stands after the '?'",
    453: "it has no bandwidth left; close other viewers, or take the camera's smaller (sub) stream",
    454: _LATER,
    455: f"this address is no stream that can be played; {_PATH}",
    461: "it does not send over TCP; allow RTP over TCP (interleaved) in the camera, or set "
    "OPENCV_FFMPEG_CAPTURE_OPTIONS='rtsp_transport;udp'",
    500: f"the server has an error of its own; {_LATER}",
    501: f"the server cannot do that; {_PATH}",
    502: "the server does not reach the camera behind it; check that camera, it is tried again",
    503: "it is busy, has too many viewers, or its camera is off; close other viewers, check the camera; tried again",
    504: "the server does not reach the camera behind it; check that camera, it is tried again",
    505: "it speaks another version of the protocol; update the camera, or choose another of its streams",
    551: "it does not take an option that is needed; update the camera, or choose another of its streams",
}
_OF_CLASS: Final[Mapping[int, str]] = {
    3: "the stream has moved; give its new address",
    4: "check the address of the stream",
    5: f"the server has an error of its own; {_LATER}",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server says of a stream.

    Attributes:
        code: The status code.
        text: Its words, as "Not Found".
        location: Where the stream has moved to, as the server says; "" where it has not.
    """

    code: int
    text: str
    location: str = ""

    @property
    def refuses(self) -> bool:
        """Whether this is why there is no video."""
        return self.code >= 300

    def describe(self) -> str:
        """Return what it says and what to do about it, without secrets."""
        remedy = _REMEDIES.get(self.code) or _OF_CLASS[min(5, self.code // 100)]
        if self.code // 100 == 3 and self.location:
            remedy = f"the stream has moved; give its new address, {redact(self.location)}"
        return f"the host answers {f'{self.code} {self.text}'.strip()}, but gives no video; {remedy}"


def explain_silence(url: str, timeout_s: float) -> str:
    """Return why a stream gives no video by what its server answers, and what to do; never shows a secret.

    Args:
        url: Of the stream.
        timeout_s: How long the server may take for each of two answers.
    """
    answer = ask_server(url, timeout_s)
    if answer is not None and answer.refuses:
        return answer.describe()
    if answer is not None:
        return "the host answers, and offers the stream, but FFmpeg finds no video in it; play it elsewhere"
    return "the host answers, but gives no video; check path, user name and password"


def encoding_hint(url: str) -> str:
    """Return what to do where a user name or password may hold characters that end it in a URL; else "".

    Example:
        >>> encoding_hint("rtsp://viewer:a%23b@camera/live")
        ''
    """
    userinfo, at, _ = url.partition("://")[2].rpartition("@")
    if not at or not (re.search(r"[#?/@]", userinfo) or re.search(r"%(?![0-9A-Fa-f]{2})", userinfo)):
        return ""
    return "; in a user name or password write %23 for #, %3F for ?, %2F for /, %40 for @ and %25 for %"


def ask_server(url: str, timeout_s: float) -> Answer | None:
    """Ask an RTSP or HTTP server for a stream, with the URL's user name and password where it wants them.

    Returns:
        Its answer, or None where it gives none that is understood, or the scheme is another one.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    scheme = parts.scheme.lower()
    if scheme not in _PORTS or not parts.hostname:
        return None
    try:
        head = _exchange(parts, port, timeout_s, "")
        if _code(head) == 401 and parts.username is not None:
            authorization = _authorization(head, parts, _target(parts, port))
            if authorization:
                head = _exchange(parts, port, timeout_s, f"Authorization: {authorization}\r\n") or head
    except (OSError, ValueError):
        return None
    return _answer(head)


def _target(parts: SplitResult, port: int | None) -> str:
    """Return what is asked for: RTSP wants the whole address, without user name and password."""
    if parts.scheme.lower() == "rtsp":
        host = f"[{parts.hostname}]" if ":" in str(parts.hostname) else parts.hostname
        return parts._replace(netloc=f"{host}:{port or _PORTS['rtsp']}", fragment="").geturl()
    return parts._replace(scheme="", netloc="", fragment="").geturl() or "/"


def _exchange(parts: SplitResult, port: int | None, timeout_s: float, header: str) -> str:
    scheme, host = parts.scheme.lower(), parts.hostname or ""
    target = _target(parts, port)
    if scheme == "rtsp":
        request = f"DESCRIBE {target} RTSP/1.0\r\nCSeq: 1\r\nAccept: application/sdp\r\n{header}\r\n"
    else:
        request = f"GET {target} HTTP/1.1\r\nHost: {host}\r\nRange: bytes=0-0\r\nConnection: close\r\n{header}\r\n"
    with socket.create_connection((host, port or _PORTS[scheme]), timeout=timeout_s) as connection:
        if scheme != "https":
            return _talk(connection, request)
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # as FFmpeg does
        with context.wrap_socket(connection, server_hostname=host) as encrypted:
            return _talk(encrypted, request)


def _talk(connection: socket.socket, request: str) -> str:
    connection.sendall(request.encode("utf-8", errors="replace"))
    received = b""
    while b"\r\n\r\n" not in received and len(received) < _MOST_BYTES:
        part = connection.recv(2048)
        if not part:
            break
        received += part
    return received.decode("latin-1").partition("\r\n\r\n")[0]


def _code(head: str) -> int:
    match = _STATUS.match(head)
    return int(match[1]) if match else 0


def _answer(head: str) -> Answer | None:
    match = _STATUS.match(head)
    if match is None or not 100 <= int(match[1]) < 600:
        return None
    headers = {name.lower(): value.strip() for name, value in _HEADER.findall(head)}
    location = "".join(letter for letter in headers.get("location", "") if letter.isprintable())
    return Answer(int(match[1]), match[2].strip(), location[:200])


def _authorization(head: str, parts: SplitResult, target: str) -> str:
    """Return the header's value that answers a server's challenge: Basic, or Digest with MD5; "" for other kinds."""
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    challenges = [value for name, value in _HEADER.findall(head) if name.lower() == "www-authenticate"]
    digest = next((one for one in challenges if one.lower().startswith("digest ")), None)
    if digest is not None:
        given = dict(_PARAMETER.findall(digest[len("digest ") :]))
        method = "DESCRIBE" if parts.scheme.lower() == "rtsp" else "GET"
        secret = _md5(f"{user}:{given.get('realm', '')}:{password}")
        asked, nonce = _md5(f"{method}:{target}"), given.get("nonce", "")
        extra, middle = "", nonce
        if "auth" in given.get("qop", ""):
            middle = f"{nonce}:00000001:5ca1ab1e:auth"
            extra = ', qop=auth, nc=00000001, cnonce="5ca1ab1e"'
        return (
            f'Digest username="{user}", realm="{given.get("realm", "")}", nonce="{nonce}", uri="{target}", '
            f'response="{_md5(f"{secret}:{middle}:{asked}")}"{extra}'
        )
    if any(one.lower().startswith("basic") for one in challenges):
        return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"
    return ""


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


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
