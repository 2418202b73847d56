"""A first look at every video of a data set: can it be opened, is there a picture in it, how long does it say it is.

Damaged files are the rule in large data sets: they are said once, counted and left out, and stop nothing. Only the
first picture of each is decoded, so that a quarter of a million videos do not take hours.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from stream_i3d.capture.video import open_file
from stream_i3d.errors import ConfigError, SourceError
from stream_i3d.files import replace_file
from stream_i3d.training.annotations import Annotations

log = logging.getLogger(__name__)

Skipped = tuple[tuple[str, str], ...]
"""(path, reason) of videos that are left out."""

_THREADS: Final = min(16, 2 * (os.cpu_count() or 1))  # opening waits for the disk more than it computes
_LINES: Final = 10
_MEMORY_NAME: Final = "probes.json"
_VERSION: Final = 2
"""Raised whenever the same video may be judged otherwise."""


class Probe(Struct, frozen=True, omit_defaults=True):
    """What the first look at a video showed.

    Attributes:
        size: Of the file, in bytes; 0 where there is none.
        mtime_ns: When it was changed.
        duration_s: What its container says; None where it says nothing.
        reason: Why it cannot be used; None where it can.
    """

    size: int = 0
    mtime_ns: int = 0
    duration_s: float | None = None
    reason: str | None = None


class _Memory(Struct, frozen=True):
    """What is noted for the next time."""

    version: int
    probes: dict[str, Probe]


def probe(path: str) -> Probe:
    """Open a video and decode its first picture."""
    size, mtime_ns = _identity(path)
    if not mtime_ns:
        return Probe(reason=f"no such file: {path}; mend the list, or give data.root, which its paths are relative to")
    try:
        source = open_file(path)
        try:
            source.grab()
            source.retrieve()
            return Probe(size, mtime_ns, source.duration_s)
        finally:
            source.close()
    except SourceError as error:
        return Probe(size, mtime_ns, reason=str(error))


def probe_all(paths: Iterable[str], memory: str | Path | None = None) -> dict[str, Probe]:
    """Look at each video, in a few threads.

    Args:
        paths: Of the videos.
        memory: A folder (that of `FrameCache`) in which it is noted what was seen, for the next time; None: nowhere.
    """
    wanted = sorted(set(paths))
    file = None if memory is None else Path(memory).expanduser() / _MEMORY_NAME
    remembered = {} if file is None else _recall(file)
    found = {path: remembered[path] for path in wanted if path in remembered and _unchanged(path, remembered[path])}
    missing = [path for path in wanted if path not in found]
    pool = ThreadPoolExecutor(_THREADS)
    try:
        found |= zip(missing, pool.map(probe, missing), strict=True)
    finally:
        pool.shutdown(cancel_futures=True)  # at Ctrl-C too
    if file is not None and missing:
        _remember(file, remembered | found)
    return found


def leave_out(
    annotations: Annotations, probes: Mapping[str, Probe], source: str, every_class: bool = True
) -> tuple[Annotations, Skipped]:
    """Return the videos that can be used, and those that cannot, each of them logged (ten at most).

    Args:
        annotations: All videos.
        probes: What was seen of each.
        source: Where they are listed, for messages.
        every_class: A class that loses all its videos is an error.

    Raises:
        ConfigError: None can be used, or none of a class that had some.
    """
    good = tuple(item for item in annotations.items if probes[item.path].reason is None)
    bad = {item.path: str(probes[item.path].reason) for item in annotations.items if probes[item.path].reason}
    if not good:
        raise ConfigError(
            f"none of the {len(bad)} videos of {source} can be read; the first: {next(iter(bad.values()))}"
        )
    log_skipped(tuple(bad.items()))
    lost = {item.label for item in annotations.items} - {item.label for item in good}
    if lost and every_class:
        label, reason = next(
            (annotations.labels[item.label], bad[item.path]) for item in annotations.items if item.label in lost
        )
        raise ConfigError(f"{source}: no video of class {label!r} can be read; the first: {reason}")
    return Annotations(good, annotations.labels), tuple(bad.items())


def log_skipped(skipped: Sequence[tuple[str, str]]) -> None:
    """Log each video that is left out, with its reason, and after ten how many more there are."""
    for _, reason in skipped[:_LINES]:
        log.warning("video skipped: %s", reason)
    if len(skipped) > _LINES:
        log.warning("and %d more videos skipped", len(skipped) - _LINES)


def _identity(path: str) -> tuple[int, int]:
    """Return a file's size in bytes and its time of change in nanoseconds; zeros where there is none."""
    try:
        info = os.stat(path)  # noqa: PTH116 (a Path for each of 240,000 takes seconds)
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return 0, 0
    return info.st_size, info.st_mtime_ns


def _unchanged(path: str, seen: Probe) -> bool:
    return (seen.size, seen.mtime_ns) == _identity(path)


def _recall(file: Path) -> dict[str, Probe]:
    try:
        memory = msgspec.json.decode(file.read_bytes(), type=_Memory)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return memory.probes if memory.version == _VERSION else {}


def _remember(file: Path, probes: Mapping[str, Probe]) -> None:
    try:
        replace_file(file, msgspec.json.encode(_Memory(_VERSION, dict(probes))))
    except (OSError, UnicodeEncodeError) as error:
        log.warning("data.cache: it could not be noted which videos can be read: %s", error)
