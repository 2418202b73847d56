"""Checks a source before it is opened: the file, the webcam's device, the URL's host. Imports no OpenCV."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from stream_i3d.capture.address import SourceAddress
from stream_i3d.capture.stream_answers import encoding_hint
from stream_i3d.errors import SourceNotFound
from stream_i3d.files import kind_of
from stream_i3d.redact import redact

_VIDEO4LINUX: Final = 81  # the major number of its devices


def list_webcams() -> list[str]:
    """Return the device paths of the cameras the system knows (Linux; empty elsewhere)."""
    return sorted(str(path) for path in Path("/dev").glob("video*"))


def check_webcam(target: str, cameras: Callable[[], Sequence[str]] = list_webcams) -> str:
    """Return the device path of a webcam; whether it gives pictures is only known once it is opened.

    Args:
        target: An index ("0"), or a device path.
        cameras: Lists those that there are.

    Raises:
        SourceNotFound: There is no such device, or it is no camera (both on Linux only).
    """
    device = f"/dev/video{target}" if target.isdigit() else target
    if not sys.platform.startswith("linux"):
        return device
    if kind_of(device) is None:
        found = ", ".join(cameras()) or "none"
        raise SourceNotFound(
            f"webcam {shown(target)}: {shown(device)} does not exist; cameras found: {found}; plug one in or give "
            "another"
        )
    info = Path(device).stat()
    if stat.S_ISCHR(info.st_mode) and os.major(info.st_rdev) != _VIDEO4LINUX:
        found = ", ".join(cameras()) or "none"
        raise SourceNotFound(f"webcam {shown(target)}: {shown(device)} is no camera; cameras found: {found}")
    if not stat.S_ISCHR(info.st_mode) and (refusal := kind_refusal(info.st_mode)) is not None:
        raise SourceNotFound(f"webcam {shown(target)}: {shown(device)} is {refusal}")
    return device


FILE_OPTIONS: Final = MappingProxyType({"protocol_whitelist": "file", "pattern_type": "none"})
"""FFmpeg's options for a local file: no other protocol, and no number pattern in the name."""

_HEAD_BYTES: Final = 65536
_KINDS: Final = (
    (stat.S_ISDIR, "a folder; give a video file in it"),
    (stat.S_ISFIFO, "a pipe (FIFO), which cannot be read as a video file; write it to a file first"),
    (stat.S_ISSOCK, "a socket, not a video file; give a video file, or the stream's URL"),
    (stat.S_ISBLK, "a block device, not a video file; mount it, and give a file on it"),
    (stat.S_ISCHR, "a character device, not a video file; give a camera by its number, or as /dev/videoN"),
)
_PLAYLIST: Final = re.compile(
    rb"\A\s*#EXTM3U"  # HLS, M3U
    rb"|\Affconcat version"
    rb"|\A\s*\[playlist\]"  # PLS
    rb"|\A\s*\[Reference\]"  # ASX, old form
    rb"|\A\s*RTSPtext"
    rb"|(?:\A|\n)c=IN IP"  # SDP
    rb"|<(?:\w+:)?(?:MPD|SmoothStreamingMedia|CompositionPlaylist|smil|asx)[\s>]",
    re.IGNORECASE,
)


def shown(path: str) -> str:
    """Return a path for one line of a message: quoted and escaped where it holds what a reader would not see.

    Example:
        >>> shown("clip.mp4"), shown("two\\nlines.mp4")
        ('clip.mp4', "'two\\\\nlines.mp4'")
    """
    return path if path.isprintable() and path == path.strip() else repr(path)


def kind_refusal(mode: int) -> str | None:
    """Return what a path is, and what to do, where it is no regular file; None where it is one.

    Args:
        mode: `st_mode` of its `stat`.
    """
    if stat.S_ISREG(mode):
        return None
    return next((text for is_kind, text in _KINDS if is_kind(mode)), "no regular file; give a video file")


def is_playlist(head: bytes) -> bool:
    """Tell from its first bytes whether a file is a list of other files or addresses: HLS, concat, SDP, DASH and such.

    An ID3 tag before the list is passed over, as FFmpeg does.
    """
    if head[:3] == b"ID3" and len(head) >= 10:
        size = sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
        head = head[10 + size :]
    return _PLAYLIST.search(head) is not None


def find_file(path: str) -> str:
    """Return the absolute name under which FFmpeg opens the file at `path`, and no other.

    Raises:
        SourceNotFound: There is no such file, it cannot be read, it is another kind of thing, or it is a playlist.
    """
    name = shown(path)
    try:
        mode = Path(path).stat().st_mode
    except PermissionError:
        raise SourceNotFound(f"{name}: a folder on the way is closed to this user; grant access, or move it") from None
    except (OSError, ValueError):  # also too long a name, or one with a NUL in it
        raise SourceNotFound(f"no such file: {name}; give a video file, a webcam index or a URL") from None
    if (refusal := kind_refusal(mode)) is not None:
        raise SourceNotFound(f"{name} is {refusal}")
    try:
        with Path(path).open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise SourceNotFound(f"{name} cannot be read: {reason}; check its permissions and its disk") from None
    if is_playlist(head):
        raise SourceNotFound(f"{name} is a playlist, which names other files or addresses; give one of these itself")
    return str(Path(path).absolute())


def check_present(address: SourceAddress) -> None:
    """Check what can be known of a source at once: that a file or device is there, and that a URL has a host.

    Raises:
        SourceNotFound: It can never be read; trying again is pointless.
    """
    if address.kind == "file":
        find_file(address.target)
    elif address.kind == "webcam":
        check_webcam(address.target)
    elif address.kind == "url":
        _check_url(address.target)


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise SourceNotFound(
            f"{redact(url)}: not a URL, or the port is no number from 0 to 65535{encoding_hint(url)}"
        ) from None
    if not host:
        raise SourceNotFound(f"{redact(url)}: there is no host in it; write {parts.scheme}://HOST/PATH")
