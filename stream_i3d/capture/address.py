"""What a `--source` text means: webcam, URL, file or synthetic scene. Opens nothing.

Pure but for asking what stands at a path under /dev.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple
from urllib.parse import parse_qsl, unquote

from stream_i3d.errors import ConfigError, brief, did_you_mean
from stream_i3d.files import kind_of
from stream_i3d.redact import redact

SourceKind = Literal["webcam", "url", "file", "synthetic"]
URL_SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "http", "https")


class SourceType(NamedTuple):
    """A row of `SOURCES`.

    Attributes:
        kind: Its name.
        opener: "module:function" that opens it, of the address's target and a `CaptureConfig`; see `source.Source`.
        live: Whether time is the clock's (a camera) and not the medium's own.
        schemes: The URL schemes that mean it.
        target: Returns the target of such a URL; ConfigError where it is not allowed.
    """

    kind: SourceKind
    opener: str
    live: bool
    schemes: tuple[str, ...] = ()
    target: Callable[[str], str] = str


VIDEO_SUFFIXES = (
    ".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".mts", ".m2ts", ".ts", ".3gp",
    ".ogv", ".gif", ".vob", ".mxf", ".divx", ".asf", ".3g2", ".m2v", ".mjpeg", ".f4v",
)  # fmt: skip
"""Suffixes that only videos have, in lower case. Videos with another, or none, are videos too."""


@dataclass(frozen=True, slots=True)
class SourceAddress:
    """A parsed source.

    Attributes:
        kind: Which sort of source opens it.
        target: The index or device path, the URL, or the file's path; the query of synthetic://.
    """

    kind: SourceKind
    target: str

    @property
    def live(self) -> bool:
        """Whether time is the clock's (a camera) and not the medium's own; see `may_be_file`."""
        return SOURCES[self.kind].live

    @property
    def may_be_file(self) -> bool:
        """Whether it may turn out to be a video file, once opened: `Source.live` says so."""
        return self.kind == "url" and self.target.lower().startswith(("http://", "https://"))

    @property
    def default_name(self) -> str:
        """A camera name fit for a topic; never holds a part of a URL's user name or password."""
        if self.kind == "webcam":
            return f"webcam{self.target}" if self.target.isdigit() else _slug(self.target.rsplit("/", 1)[-1])
        if self.kind == "url":
            # The host is looked for after the last '@': a password may hold any character, also '/'.
            authority = re.split(r"://|@", redact(self.target))[-1]
            bracketed = re.match(r"\[([0-9A-Fa-f:.]+)\]", authority)
            return _slug(bracketed[1] if bracketed else re.split(r"[:/?#]", authority)[0].lower())
        return "synthetic" if self.kind == "synthetic" else _slug(Path(redact(self.target)).stem)


@dataclass(frozen=True, slots=True)
class SyntheticOptions:
    """Options of synthetic://?seed=1&fps=30&size=320x240&duration=60 ; duration 0 is endless."""

    seed: int = 0
    fps: float = 30.0
    width: int = 320
    height: int = 240
    duration_s: float = 0.0


_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_LOOKS_LIKE_A_SOURCE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|/dev/|[0-9]+$|\$\{")


def split_name(text: str, exists: Callable[[str], bool] = lambda path: False) -> tuple[str | None, str]:
    """Split NAME=SOURCE, as `--source` takes it, into the camera's name (None where none is given) and its source.

    A '=' that belongs to the source is left alone: one after "://", after a '/' or a blank in a file's name, or of a
    file that there is.

    Args:
        text: What was given.
        exists: Tells whether there is a file of a name.

    Raises:
        ConfigError: What stands before the '=' is meant as a name, and cannot be one; or nothing follows it.
    """
    name, equals, source = text.strip().partition("=")
    if not equals or exists(text) or "://" in name:
        return None, text
    if _NAME.fullmatch(name):
        if source.strip():
            return name, source
        raise ConfigError(f"source {name}=: nothing follows the '='; give NAME=SOURCE, or the source alone")
    if not _LOOKS_LIKE_A_SOURCE.match(source.strip()) and not exists(source.strip()):
        return None, text  # a path with a '=' in it
    raise ConfigError(
        f"source {redact(name)[:64]!r}=...: a camera's name has 1 to 64 letters, digits, '_', '.' or '-'; "
        "give another one, or the source alone"
    )


def parse_source(text: str) -> SourceAddress:
    """Tell what a source text means.

    Raises:
        ConfigError: It is empty, or a URL of a kind that cannot be read.
    """
    given, text = text, text.strip()
    if not text:
        raise ConfigError("source '': give a webcam index, a device path, a URL, a video file or synthetic://")
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ConfigError("the source is no text (UTF-8), so no message could name it: rename the file, or give a link")
    if re.fullmatch(r"[0-9]+", text):
        return SourceAddress("webcam", text)
    if text.startswith(_OWN_DESCRIPTORS):
        raise ConfigError(
            f"source {brief(text)}: the standard input and other open files of one process cannot be read by "
            "another; give the path of a video file"
        )
    if text.startswith("/dev/"):
        return SourceAddress("file" if text.startswith("/dev/shm/") or kind_of(text) == "file" else "webcam", text)
    match = re.match(r"^([A-Za-z][A-Za-z0-9+.-]+)://", text)  # one letter is a drive of Windows
    if match is None:
        # As it was given: blanks at its ends belong to a file's name.
        return SourceAddress("file", _in_home(given))
    scheme = match[1].lower()
    for source in SOURCES.values():
        if scheme in source.schemes:
            return SourceAddress(source.kind, source.target(text))
    schemes = [one for source in SOURCES.values() for one in source.schemes]
    hint = did_you_mean(scheme, schemes)
    raise ConfigError(f"source {scheme}://...: unknown kind{hint}; allowed are {', '.join(schemes)}")


def _checked_url(text: str) -> str:
    """Return a URL as it is; ConfigError where there is a blank in it."""
    if any(character.isspace() for character in text):
        scheme = text.partition("://")[0].lower()
        raise ConfigError(f"source {scheme}://...: there is a blank in it; write %20 in its place")
    return text


def _checked_scene(text: str) -> str:
    """Return what follows synthetic://; ConfigError where an option is not allowed."""
    query = text.split("://", 1)[1]
    parse_synthetic(query)
    return query


def _in_home(path: str) -> str:
    """Return a path with a leading ~/ as this user's home, as a shell would; quotes and YAML keep it from that."""
    if not path.startswith("~/"):
        return path
    try:
        return str(Path(path).expanduser())
    except RuntimeError:  # there is no home
        return path


def _path_of_file_url(text: str) -> str:
    """Return the path that a file URL names, percent-decoded (RFC 8089).

    Without a slash after it, as many write it, it is a path from the working folder.

    Raises:
        ConfigError: It names no file.
    """
    rest = text.split("://", 1)[1]
    path = unquote(rest[len("localhost") :] if rest.startswith("localhost/") else rest, errors="surrogateescape")
    if not path.strip("/"):
        raise ConfigError("source file://: it names no file; write file:///folder/clip.mp4, or the path itself")
    if any("\ud800" <= letter <= "\udfff" for letter in path):
        raise ConfigError("source file://...: decoded, it is no text (UTF-8); rename the file, or give a link")
    return path.removeprefix("/") if re.match(r"/[A-Za-z]:[/\\]", path) else path


def parse_synthetic(query: str) -> SyntheticOptions:
    """Read the options after synthetic://; ConfigError names the one that is not allowed."""
    before, _, options_text = query.partition("?")
    if before.strip("/"):
        raise ConfigError(f"synthetic://{brief(query)}: options stand after a '?'; {_SYNTHETIC_ALLOWED}")
    values = dict(parse_qsl(options_text, keep_blank_values=True))
    allowed = ("seed", "fps", "size", "duration")
    for key in values:
        if key not in allowed:
            raise ConfigError(f"synthetic://: unknown option {key!r}{did_you_mean(key, allowed)}; {_SYNTHETIC_ALLOWED}")
    try:
        width, height = (int(side) for side in values.get("size", "320x240").split("x"))
        options = SyntheticOptions(
            seed=int(values.get("seed", "0")),
            fps=float(values.get("fps", "30")),
            width=width,
            height=height,
            duration_s=float(values.get("duration", "0")),
        )
    except ValueError:
        raise ConfigError(f"synthetic://{brief(query)}: a value that is no number; {_SYNTHETIC_ALLOWED}") from None
    if not (0.1 <= options.fps <= 240 and min(width, height) >= 64 and max(width, height) <= 4096):
        raise ConfigError(f"synthetic://{brief(query)}: out of range; {_SYNTHETIC_ALLOWED}")
    if not (options.seed >= 0 and 0 <= options.duration_s < 1e9):
        raise ConfigError(f"synthetic://{brief(query)}: out of range; {_SYNTHETIC_ALLOWED}")
    return options


_OWN_DESCRIPTORS = ("/dev/stdin", "/dev/stdout", "/dev/stderr", "/dev/fd/", "/proc/self/fd/", "/proc/thread-self/fd/")
"""Paths that lead elsewhere in each process."""

_SYNTHETIC_ALLOWED = "allowed are ?seed=0..&fps=0.1..240&size=WxH (64 to 4096)&duration=SECONDS (0: endless)"


SOURCES: Mapping[SourceKind, SourceType] = MappingProxyType(
    {
        source.kind: source
        for source in (
            SourceType("webcam", "stream_i3d.capture.source:open_webcam", live=True),
            SourceType("url", "stream_i3d.capture.source:open_url", True, URL_SCHEMES, _checked_url),
            SourceType("synthetic", "stream_i3d.capture.source:open_scene", False, ("synthetic",), _checked_scene),
            SourceType("file", "stream_i3d.capture.source:open_file", False, ("file",), _path_of_file_url),
        )
    }
)
"""The table of sources. A new one is a file with a function that opens it, and its row and kind here."""


def _slug(text: str) -> str:
    return (re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-.") or "camera")[:64]
