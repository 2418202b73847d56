"""Classes that a list gives as numbers: whether they count from 0 or, as UCF101's do, from 1, and what they are called.

Pure.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import PurePosixPath

from stream_i3d.training.list_file import ListLine

log = logging.getLogger(__name__)

_DIGITS = 9


def is_number(label: str) -> bool:
    """Tell whether a label is a class's number."""
    return label.isascii() and label.isdigit() and len(label) <= _DIGITS


def names_of_numbers(lines: Sequence[ListLine]) -> tuple[str, ...] | None:
    """Return the names of classes that are numbered from 1 without a gap; None where they are numbered otherwise.

    They are called as their videos' folders where each class has a folder of its own, else "1", "2", and so on.
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
    """Return the number of the first of `labels` in a list: 0, or 1 where the list shows that it counts from 1.

    It does where the largest number is that of the classes and there is no 0, or where folders are called as the
    classes. Where numbers begin with 1 and nothing shows either, 0 is taken, and a warning says so.
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
