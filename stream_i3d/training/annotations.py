"""Reads annotations: which videos a data set has and the class of each, from a folder per class or a list file.

Only names are read; `probing` checks whether the files can be decoded. Does not import torch.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from stream_i3d.capture.address import VIDEO_SUFFIXES
from stream_i3d.capture.video_folder import find_videos, log_left_out
from stream_i3d.errors import ConfigError, did_you_mean
from stream_i3d.training.list_file import ListLine, first_number, is_number, names_of_numbers, read_list_file

_SHOWN = 8
_SEARCHED_SUFFIXES = (".mp4", ".mkv", ".webm", ".avi")


class VideoItem(Struct, frozen=True):
    """One video and its class.

    Attributes:
        path: The file, absolute or relative to the working folder.
        label: Index of its class.
        frames: Number of frames according to the list. Not used for decoding, because lists are often wrong.
    """

    path: str
    label: int
    frames: int | None = None


class Annotations(Struct, frozen=True):
    """Videos, and all classes in the order of the network's outputs."""

    items: tuple[VideoItem, ...]
    labels: tuple[str, ...]


def read_annotations(source: str, root: str | None = None, labels: Sequence[str] | None = None) -> Annotations:
    """Read a folder with a folder per class, or a list file.

    Args:
        source: The folder or the file; `list_file` describes the format of lists.
        root: What a list's paths are relative to; None: the list's folder.
        labels: The classes in order. None: the classes found, in alphabetical order; a list of class numbers then has
            the classes "0", "1", and so on.

    Raises:
        ConfigError: There is no such file or folder, its layout is another, or a label is not in `labels`.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return _read_folder(path, labels)
    if path.is_file():
        return _read_list(path, root, labels)
    raise ConfigError(
        f"no such file or folder: {source}{_near(path)}; give a folder with a folder of videos per class, or a list "
        "with a line `path label` per video"
    )


def check_classes(annotations: Annotations, source: str) -> None:
    """Check that the videos are of at least two classes.

    Raises:
        ConfigError: All videos are of one class.
    """
    found = {item.label for item in annotations.items}
    if len(found) < 2:
        only = annotations.labels[found.pop()]
        raise ConfigError(
            f"{source} has videos of one class only ({only!r}); add another, such as 'nothing' with videos of the "
            "empty scene"
        )


def split(annotations: Annotations, fraction: float, seed: int) -> tuple[Annotations, Annotations]:
    """Split each class into training and validation videos.

    A class with two or more videos has at least one in each part; a single video goes to training. The choice depends
    on the file names, the class names and the seed, so it does not change when the data set is moved, and changes
    little when it grows. A path that is listed twice is in one part only.

    Args:
        annotations: All videos.
        fraction: Share of each class for validation, in [0, 1).
        seed: Selects the validation videos.

    Returns:
        The training and the validation videos.
    """
    paths: dict[int, set[str]] = defaultdict(set)
    for item in annotations.items:
        paths[item.label].add(item.path)
    aside: set[str] = set()
    for label, own in paths.items():
        count = min(len(own) - 1, max(1, round(fraction * len(own)))) if fraction > 0 else 0
        name = annotations.labels[label]
        aside |= set(sorted(own, key=lambda path: (_draw(seed, name, path), path))[:count])
    train = tuple(item for item in annotations.items if item.path not in aside)
    val = tuple(item for item in annotations.items if item.path in aside)
    return Annotations(train, annotations.labels), Annotations(val, annotations.labels)


def relabelled(annotations: Annotations, labels: Sequence[str]) -> Annotations:
    """Return the same videos with the classes in the order of `labels`, which must contain all of them."""
    place = {label: index for index, label in enumerate(labels)}
    items = tuple(
        VideoItem(item.path, place[annotations.labels[item.label]], item.frames) for item in annotations.items
    )
    return Annotations(items, tuple(labels))


def _draw(seed: int, label: str, path: str) -> bytes:
    """Return a pseudo-random sort key of a video, the same on every machine."""
    name = os.path.basename(path)  # noqa: PTH119 (a Path for each of 240,000 takes seconds)
    return hashlib.blake2b(f"{seed}/{label}/{name}".encode(errors="surrogateescape"), digest_size=8).digest()


def _read_folder(folder: Path, labels: Sequence[str] | None) -> Annotations:
    entries = sorted(folder.iterdir())
    classes = [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    if not classes:
        raise ConfigError(f"{folder} has no folder per class in it; it holds {_contents(folder)}")
    if labels is None:
        labels = classes
    place = {label: index for index, label in enumerate(labels)}
    items: list[VideoItem] = []
    left_out = [str(entry) for entry in entries if not entry.is_dir()]
    for name in classes:
        if name not in place:
            raise ConfigError(f"{folder / name}: {_unknown(name, labels)}; rename the folder or correct data.labels")
        found = find_videos(folder / name)
        if not found.videos:
            raise ConfigError(
                f"{folder / name} has no video in it; it holds {_contents(folder / name)}; add some, or remove the "
                "folder"
            )
        items += [VideoItem(path, place[name]) for path in found.videos]
        left_out += found.left_out
    log_left_out(folder, left_out)
    return Annotations(tuple(items), tuple(labels))


def _read_list(path: Path, root: str | None, labels: Sequence[str] | None) -> Annotations:
    if path.suffix.lower() in VIDEO_SUFFIXES:
        raise ConfigError(
            f"{path} is a video; give a folder with a folder of videos per class, or a list with a line `path label` "
            "per video"
        )
    folder = path.parent if root is None else Path(root).expanduser()
    if not folder.is_dir():
        raise ConfigError(f"data.root: no such folder: {root}{_near(folder)}; paths in {path.name} are relative to it")
    lines = read_list_file(path)
    names = _settle_labels(lines, labels, path)
    place = _places(lines, names, path)
    items: list[VideoItem] = []
    seen: dict[str, ListLine] = {}
    for line in lines:
        before = seen.setdefault(line.path, line)
        if before.label != line.label:
            raise ConfigError(
                f"{path}, line {line.number}: {line.path} is {line.label!r} here and {before.label!r} on line "
                f"{before.number}; a video has one label"
            )
        items.append(VideoItem(_located(folder, line), place[line.label], line.frames))
    return Annotations(tuple(items), names)


def _settle_labels(lines: list[ListLine], labels: Sequence[str] | None, path: Path) -> tuple[str, ...]:
    """Return the classes in order: `labels`, or else those found in the list."""
    if labels is not None:
        return tuple(labels)
    if not all(is_number(line.label) for line in lines):
        return tuple(sorted({line.label for line in lines}))
    used = {int(line.label) for line in lines}
    if (names := names_of_numbers(lines)) is not None:
        return names
    missing = next((index for index in range(max(used)) if index not in used), None)
    if missing is not None:
        raise ConfigError(
            f"{path}: classes are given as numbers up to {max(used)}, but there is no video of class {missing}; "
            "give data.labels, a file with a class name per line, if this is meant"
        )
    return tuple(map(str, range(max(used) + 1)))


def _places(lines: list[ListLine], labels: Sequence[str], path: Path) -> dict[str, int]:
    """Map the labels of a list to class indices; the labels must be all names or all numbers.

    Raises:
        ConfigError: A label is neither.
    """
    by_name = {label: index for index, label in enumerate(labels)}
    if all(line.label in by_name for line in lines):
        return by_name
    if all(is_number(line.label) for line in lines):
        first = first_number(lines, labels, str(path))
        for line in lines:
            if int(line.label) - first >= len(labels):
                raise ConfigError(
                    f"{path}, line {line.number}: class {line.label} is out of range; there are {len(labels)} classes, "
                    f"numbered from {first}; give a data.labels of all classes, or remove the line"
                )
        return {line.label: int(line.label) - first for line in lines}
    wrong = next(line for line in lines if line.label not in by_name)
    raise ConfigError(f"{path}, line {wrong.number}: {_unknown(wrong.label, labels)}")


def _located(folder: Path, line: ListLine) -> str:
    """Return a line's path; for Kinetics lists, the first of the usual places where the file exists."""
    path = folder / line.path
    if not line.searched or path.exists():
        return str(path)
    places = [folder, folder / line.label, folder / line.label.replace(" ", "_")]
    tried = (place / path.with_suffix(suffix).name for place in places for suffix in _SEARCHED_SUFFIXES)
    return str(next((each for each in tried if each.exists()), path))


def _unknown(name: str, labels: Sequence[str]) -> str:
    shown = ", ".join(labels[:_SHOWN]) + (f" and {len(labels) - _SHOWN} more" if len(labels) > _SHOWN else "")
    return f"no class {name!r}{did_you_mean(name, labels)}; the classes are {shown}"


def _contents(folder: Path) -> str:
    names = sorted(entry.name for entry in folder.iterdir())
    if not names:
        return "nothing"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _near(path: Path) -> str:
    """Return "did you mean ..." if the folder of `path` has a similar name, else an empty string."""
    if not path.parent.is_dir():
        return ""
    return did_you_mean(path.name, (entry.name for entry in path.parent.iterdir()))
