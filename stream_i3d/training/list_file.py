"""Reads list files: one video per line, as `path label` or `path frames label`.

Fields are separated by commas, semicolons, tabs or blanks. Blanks are MMAction2's format. CSV fields may be quoted, so
a path may contain blanks or commas. A header line with the columns `path` and `label` sets the column order; a header
with `youtube_id`, `time_start` and `time_end` is that of the Kinetics data sets. If every line is a path alone, as in
UCF101's test lists, the class is the name of the video's folder. Empty lines and lines that start with # are skipped.

Labels may be class numbers, counted from 0 or, as in UCF101, from 1; `first_number` and `names_of_numbers` decide
which. Paths are not checked here.
"""

from __future__ import annotations

import codecs
import csv
import logging
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from msgspec import Struct

from stream_i3d.errors import ConfigError

_PATH_NAMES = (
    "path", "video", "file", "filename", "video_path", "file_name", "filepath", "file_path", "video_file", "video_name",
    "name", "clip", "clip_path",
)  # fmt: skip
_LABEL_NAMES = (
    "label", "class", "label_name", "class_name", "classname", "action", "category", "label_id", "class_id", "target",
)  # fmt: skip
_FRAMES_NAMES = ("frames", "num_frames", "total_frames")
_YOUTUBE_NAMES = ("youtube_id", "time_start", "time_end")
_SEPARATORS = {"\t": "tabs", ",": "commas", ";": "semicolons", " ": "blanks"}

_MAX_BYTES = 256 * 2**20  # Kinetics-400 has 240,000 videos, a line of some 60 bytes each
_MAX_DIGITS = 9


class ListLine(Struct, frozen=True):
    """One line of a list file.

    Attributes:
        number: Line number, from 1.
        path: The path as written; for Kinetics, the file name that the usual downloaders give.
        label: The class's name or number, as written.
        frames: Number of frames according to the line.
        searched: Whether the file may also be in a folder of its class, or have another suffix.
    """

    number: int
    path: str
    label: str
    frames: int | None
    searched: bool = False


class _Columns(Struct, frozen=True):
    """Indices of the columns."""

    path: int
    label: int
    frames: int | None
    times: tuple[int, int] | None = None


def read_list_file(path: Path) -> list[ListLine]:
    """Read the videos of a list file.

    Raises:
        ConfigError: The file cannot be read or has no video, or a line has another format; with the line's number.
    """
    lines = [
        (number, line)
        for number, line in enumerate(_lines(_read_text(path)), start=1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not lines:
        raise ConfigError(f"{path} names no video; give a line `path label` for each")
    separator = next((each for each in "\t,;" if all(each in line for _, line in lines)), " ")
    rows = [(number, _words(path, number, line, separator)) for number, line in lines]
    columns = _header(rows[0][1])
    if columns is not None:
        del rows[0]
        if not rows:
            raise ConfigError(f"{path} has a header and no line after it; give a line `path label` for each video")
    elif _is_unknown_header([words for _, words in rows]):
        raise ConfigError(
            f"{path}, line {rows[0][0]}: {lines[0][1].strip()!r} looks like a header, but names no column `path` and "
            "no column `label`; call the columns so, or remove it"
        )
    elif all(len(words) == 1 and PurePosixPath(words[0]).parent.name for _, words in rows):
        return [ListLine(number, words[0], PurePosixPath(words[0]).parent.name, None) for number, words in rows]
    return [_read_line(path, number, words, columns, separator) for number, words in rows]


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ConfigError(f"{path} is larger than 256 MiB, and no list, which has a line `path label` per video")
        content = path.read_bytes()
        wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # "Unicode text" of spreadsheets
        return content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8, with a line `path label` per video"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from None


def _lines(text: str) -> list[str]:
    """Split at line ends only; a path may contain other characters at which str.splitlines() splits."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _words(path: Path, number: int, line: str, separator: str) -> list[str]:
    if separator == " ":
        line = line.replace("\t", " ").strip()
    try:
        words = next(csv.reader([line], delimiter=separator, skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise ConfigError(f"{path}, line {number}: {error}; mend the quotes") from None
    return [word.strip() for word in words]


def _header(words: list[str]) -> _Columns | None:
    """Return the columns of a header line; None if the line is not a header."""
    names = [word.lower() for word in words]
    label = next((names.index(name) for name in _LABEL_NAMES if name in names), None)
    if label is not None and set(_YOUTUBE_NAMES) <= set(names):
        video, start, end = (names.index(name) for name in _YOUTUBE_NAMES)
        return _Columns(video, label, None, (start, end))
    path = next((names.index(name) for name in _PATH_NAMES if name in names), None)
    if path is None or label is None:
        return None
    frames = next((names.index(name) for name in _FRAMES_NAMES if name in names), None)
    return _Columns(path, label, frames)


def _is_unknown_header(rows: Sequence[Sequence[str]]) -> bool:
    """Return whether some column has a path in every line but the first."""
    first, rest = rows[0], rows[1:]
    return any(
        not _looks_like_path(word) and all(column < len(words) and _looks_like_path(words[column]) for words in rest)
        for column, word in enumerate(first)
        if rest and len(first) > 1
    )


def _looks_like_path(word: str) -> bool:
    return "/" in word or "\\" in word or bool(PurePosixPath(word).suffix)


def _read_line(path: Path, number: int, words: list[str], columns: _Columns | None, separator: str) -> ListLine:
    if columns is None:
        if len(words) not in (2, 3):
            hint = "; where a path or label holds blanks, separate by commas" if separator == " " else ""
            raise ConfigError(
                f"{path}, line {number}: {len(words)} words separated by {_SEPARATORS[separator]}; a line is `path "
                f"label` or `path frames label`{hint}"
            )
        columns = _Columns(0, len(words) - 1, 1 if len(words) == 3 else None)
    wanted = [column for column in (columns.path, columns.label, columns.frames) if column is not None]
    wanted += columns.times or ()
    if max(wanted) >= len(words) or not words[columns.path] or not words[columns.label]:
        raise ConfigError(f"{path}, line {number}: the path or the label is missing")
    if columns.times is not None:
        return _kinetics_line(path, number, words, columns, columns.times)
    return ListLine(number, words[columns.path], words[columns.label], _frames(path, number, words, columns))


def _kinetics_line(path: Path, number: int, words: list[str], columns: _Columns, times: tuple[int, int]) -> ListLine:
    """Return a YouTube clip under the file name that the usual downloaders give it: ID_000010_000020.mp4."""
    try:
        start, end = (round(float(words[column])) for column in times)
    except (ValueError, OverflowError):
        raise ConfigError(f"{path}, line {number}: time_start and time_end are seconds, such as 10 and 20") from None
    return ListLine(number, f"{words[columns.path]}_{start:06d}_{end:06d}.mp4", words[columns.label], None, True)


def _frames(path: Path, number: int, words: list[str], columns: _Columns) -> int | None:
    if columns.frames is None or not words[columns.frames]:
        return None
    text = words[columns.frames]
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
        raise ConfigError(
            f"{path}, line {number}: {text!r} stands where the number of frames does; a line is `path label` or "
            "`path frames label`; where a path or label holds blanks, separate by commas"
        )
    return int(text)


log = logging.getLogger(__name__)

_DIGITS = 9


def is_number(label: str) -> bool:
    """Return whether a label is a class number."""
    return label.isascii() and label.isdigit() and len(label) <= _DIGITS


def names_of_numbers(lines: Sequence[ListLine]) -> tuple[str, ...] | None:
    """Return names for classes that are numbered from 1 without a gap; None for any other numbering.

    The names are those of the videos' folders if each class has its own folder, else "1", "2", and so on.
    """
    used = {int(line.label) for line in lines}
    if used != set(range(1, len(used) + 1)):
        return None
    folders: dict[int, str] = {}
    for line in lines:
        if folders.setdefault(int(line.label), _folder(line)) != _folder(line):
            return tuple(map(str, sorted(used)))
    names = tuple(folders[number] for number in sorted(used))
    return names if all(names) and len(set(names)) == len(names) else tuple(map(str, sorted(used)))


def first_number(lines: Sequence[ListLine], labels: Sequence[str], source: str) -> int:
    """Return the number that a list gives the first of `labels`: 0, or 1 if the list counts from 1.

    A list counts from 1 if it has no 0 and its largest number is the number of classes, or if the folders with the
    classes' names show it. If the numbers start at 1 and neither holds, 0 is used, with a warning.
    """
    used = {int(line.label) for line in lines}
    if min(used) == 0 or max(used) > len(labels):
        return 0
    if max(used) == len(labels):
        return 1
    named = [line for line in lines if _folder(line) in labels]
    if named and all(labels[int(line.label) - 1] == _folder(line) for line in named):
        return 1
    if min(used) == 1 and not (named and all(labels[int(line.label)] == _folder(line) for line in named)):
        log.warning(
            "%s: no class 0 and no class %d of %d; classes are taken as numbered from 0",
            source,
            len(labels),
            len(labels),
        )
    return 0


def _folder(line: ListLine) -> str:
    return PurePosixPath(line.path).parent.name
