"""Class names of a network's head: the packaged lists, and text files of the user.

A list has one name per line, in the order of the head's outputs. Does not import torch.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from stream_i3d.errors import LabelsError, did_you_mean

CARRIED_LABELS: tuple[str, ...] = ("kinetics400", "kinetics600", "ucf101", "hmdb51")
"""Kinetics-400 is in the order of kinetics-i3d's label_map.txt, which the published weights follow."""

_NUMBERED = re.compile(r"(\d{1,6})[ \t,;]+(\S.*)", re.ASCII)
_FOLDER = Path(__file__).parent
_MAX_BYTES = 16 * 2**20  # larger than any list; stops a video or device given by mistake


def load_labels(name_or_path: str | Path) -> tuple[str, ...]:
    """Return the class names of a packaged list or a text file.

    Args:
        name_or_path: One of `CARRIED_LABELS`, or the path of a UTF-8 text file with one name per line. Blank lines at
            the end are ignored, and numbers before the names, where they count from 0 or 1 (`1 ApplyEyeMakeup`, as in
            UCF101's classInd.txt). A packaged list takes precedence over a file of the same name; write ./NAME for
            the file.

    Returns:
        The names, in the order of the head's outputs; unique, none empty.

    Raises:
        LabelsError: There is no such list or file, or the file is not a list of unique names.
    """
    name = str(name_or_path)
    if name in CARRIED_LABELS:
        return _parse((_FOLDER / f"{name}.txt").read_bytes(), name)
    path = Path(name).expanduser()
    try:
        if not path.exists():
            raise LabelsError(
                f"no label list or file {name!r}{did_you_mean(name, CARRIED_LABELS)}: "
                f"give one of {', '.join(CARRIED_LABELS)}, or the path of a text file with one label per line"
            )
        if not path.is_file() or path.stat().st_size > _MAX_BYTES:
            raise LabelsError(f"{name!r} is not a label list: give a text file with one label per line")
        return _parse(path.read_bytes(), name)
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the path
        raise LabelsError(f"labels {name!r} cannot be read ({error}): give a readable text file") from error


def check_labels(labels: Sequence[str], num_classes: int) -> None:
    """Check that there is one label per output of the head.

    Raises:
        LabelsError: The lengths differ.
    """
    if len(labels) != num_classes:
        raise LabelsError(
            f"{len(labels)} labels do not fit a network of {num_classes} classes: "
            f"give a list of exactly {num_classes} labels, in the order of the network's outputs"
        )


def _parse(content: bytes, name: str) -> tuple[str, ...]:
    try:
        text = content.decode("utf-8-sig")  # editors on Windows begin a file with a byte-order mark
    except UnicodeDecodeError as error:
        raise LabelsError(f"labels {name!r} are not UTF-8 (byte {error.start}): save the file as UTF-8 text") from error
    labels = [line.strip() for line in text.rstrip().split("\n")]
    if labels == [""]:
        raise LabelsError(f"labels {name!r} are empty: give one label per line")
    labels = _without_numbers(labels)
    first_line: dict[str, int] = {}
    for number, label in enumerate(labels, start=1):
        if not label or not label.isprintable():
            # Skipping a blank line would assign the names after it to wrong outputs.
            raise LabelsError(f"labels {name!r}, line {number} is blank or not printable: give one label per line")
        if label in first_line:
            raise LabelsError(
                f"labels {name!r}: {label!r} is on lines {first_line[label]} and {number}: every label must be unique"
            )
        first_line[label] = number
    return tuple(labels)


def _without_numbers(lines: list[str]) -> list[str]:
    """Return the names without numbers if all lines are numbered in order from 0 or 1; else the lines."""
    found = [_NUMBERED.fullmatch(line) for line in lines]
    numbered = [(int(match[1]), match[2]) for match in found if match is not None]
    first = numbered[0][0] if len(numbered) == len(lines) and len(lines) > 1 else None
    if first not in (0, 1) or [number for number, _ in numbered] != list(range(first, first + len(lines))):
        return lines
    return [name for _, name in numbered]
