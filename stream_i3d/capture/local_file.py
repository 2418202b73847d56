"""What stands at a local path, and the name under which FFmpeg opens that one file and nothing else.

FFmpeg takes a name for more than a path: `http:clip.mp4` is an address, `img%03d.png` a series, and a playlist makes it
open what the list names, also on other machines. Knows files; decodes nothing.
"""

from __future__ import annotations

import re
import stat
from pathlib import Path
from types import MappingProxyType
from typing import Final

from stream_i3d.errors import SourceNotFound

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
