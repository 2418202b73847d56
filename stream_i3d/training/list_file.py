"""Files with a line per video: `path label` or `path frames label`, separated by commas, tabs or blanks.

Blanks separate what MMAction2 writes; CSV may quote, so a path may hold blanks or commas. A first line with the names
`path` and `label` tells the order of the columns. Empty lines and those that begin with # say nothing. Does not know
whether a path leads anywhere or a label means something.
"""

from __future__ import annotations

import csv
from pathlib import Path

from msgspec import Struct

from stream_i3d.errors import ConfigError

_PATH_NAMES = ("path", "video", "file", "filename", "video_path")
_LABEL_NAMES = ("label", "class", "label_name")
_FRAMES_NAMES = ("frames", "num_frames", "total_frames")

_MAX_BYTES = 256 * 2**20  # Kinetics-400 has 240,000 videos, a line of some 60 bytes each
_MAX_DIGITS = 9


class ListLine(Struct, frozen=True):
    """A line that names a video.

    Attributes:
        number: Of the line, from 1.
        path: As written.
        label: A class's name or index, as written.
        frames: How many pictures the line says that it has.
    """

    number: int
    path: str
    label: str
    frames: int | None


class _Columns(Struct, frozen=True):
    """Where a line's words stand."""

    path: int
    label: int
    frames: int | None


def read_list_file(path: Path) -> list[ListLine]:
    """Read the videos of a list.

    Raises:
        ConfigError: It cannot be read, has no video, or a line is laid out otherwise; with the line's number.
    """
    lines = [
        (number, line)
        for number, line in enumerate(_read_text(path).splitlines(), start=1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not lines:
        raise ConfigError(f"{path} names no video; give a line `path label` for each")
    separator = next((each for each in "\t," if all(each in line for _, line in lines)), " ")
    rows = [(number, _words(path, number, line, separator)) for number, line in lines]
    columns = _header(rows[0][1])
    if columns is not None:
        del rows[0]
        if not rows:
            raise ConfigError(f"{path} has a header and no line after it; give a line `path label` for each video")
    return [_read_line(path, number, words, columns, separator) for number, words in rows]


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ConfigError(f"{path} is larger than 256 MiB, and no list, which has a line `path label` per video")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not UTF-8 text (byte {error.start}); give a list with a line `path label` per video"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from None


def _words(path: Path, number: int, line: str, separator: str) -> list[str]:
    if separator == " ":
        line = line.replace("\t", " ").strip()
    try:
        words = next(csv.reader([line], delimiter=separator, skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise ConfigError(f"{path}, line {number}: {error}; mend the quotes") from None
    return [word.strip() for word in words]


def _header(words: list[str]) -> _Columns | None:
    """Return what the first line says of the columns; None where it is no header."""
    names = [word.lower() for word in words]
    path = next((names.index(name) for name in _PATH_NAMES if name in names), None)
    label = next((names.index(name) for name in _LABEL_NAMES if name in names), None)
    if path is None or label is None:
        return None
    frames = next((names.index(name) for name in _FRAMES_NAMES if name in names), None)
    return _Columns(path, label, frames)


def _read_line(path: Path, number: int, words: list[str], columns: _Columns | None, separator: str) -> ListLine:
    if columns is None:
        if len(words) not in (2, 3):
            named = {" ": "blanks", ",": "commas", "\t": "tabs"}[separator]
            hint = "; where a path or label holds blanks, separate by commas" if separator == " " else ""
            raise ConfigError(
                f"{path}, line {number}: {len(words)} words separated by {named}; a line is `path label` or "
                f"`path frames label`{hint}"
            )
        columns = _Columns(0, len(words) - 1, 1 if len(words) == 3 else None)
    wanted = [column for column in (columns.path, columns.label, columns.frames) if column is not None]
    if max(wanted) >= len(words) or not words[columns.path] or not words[columns.label]:
        raise ConfigError(f"{path}, line {number}: the path or the label is missing")
    return ListLine(number, words[columns.path], words[columns.label], _frames(path, number, words, columns))


def _frames(path: Path, number: int, words: list[str], columns: _Columns) -> int | None:
    if columns.frames is None or not words[columns.frames]:
        return None
    text = words[columns.frames]
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
        raise ConfigError(
            f"{path}, line {number}: {text!r} stands where the number of frames does; a line is `path label` or "
            "`path frames label`"
        )
    return int(text)
