"""Checks every video of a data set before training: can it be opened and decoded, and what is its duration.

Large data sets usually have damaged files; these are logged once, counted and left out. Only the first picture of each
video is decoded, so that a quarter of a million videos do not take hours.
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

_THREADS: Final = min(16, 2 * (os.cpu_count() or 1))  # opening a file is bound by the disk
_LINES: Final = 10
_CACHE_NAME: Final = "probes.json"
_VERSION: Final = 2
"""Increased whenever the result for the same video may change."""


class Probe(Struct, frozen=True, omit_defaults=True):
    """Result of probing a video.

    Attributes:
        size: Size of the file in bytes; 0 if there is none.
        mtime_ns: Modification time in nanoseconds.
        duration_s: Duration in seconds according to the container; None if unknown.
        reason: Why the video cannot be used; None if it can.
    """

    size: int = 0
    mtime_ns: int = 0
    duration_s: float | None = None
    reason: str | None = None


class _ProbeCache(Struct, frozen=True):
    """The file of probes from earlier runs."""

    version: int
    probes: dict[str, Probe]


def probe(path: str) -> Probe:
    """Open a video and decode its first picture."""
    size, mtime_ns = _identity(path)
    if not mtime_ns:
        return Probe(reason=f"no such file: {path}; mend the list, or give data.root, the folder of its relative paths")
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
    """Probe videos in several threads.

    Args:
        paths: Paths of the videos.
        memory: Folder (that of `FrameCache`) with the probes of earlier runs; None probes every video.

    Returns:
        The probes by path.
    """
    wanted = sorted(set(paths))
    file = None if memory is None else Path(memory).expanduser() / _CACHE_NAME
    cached = {} if file is None else _load_cache(file)
    found = {path: cached[path] for path in wanted if path in cached and _unchanged(path, cached[path])}
    missing = [path for path in wanted if path not in found]
    pool = ThreadPoolExecutor(_THREADS)
    try:
        found |= zip(missing, pool.map(probe, missing), strict=True)
    finally:
        pool.shutdown(cancel_futures=True)  # also on Ctrl-C
    if file is not None and missing:
        _save_cache(file, cached | found)
    return found


def leave_out(
    annotations: Annotations, probes: Mapping[str, Probe], source: str, every_class: bool = True
) -> tuple[Annotations, Skipped]:
    """Separate the videos that can be used from those that cannot, and log the latter (ten at most).

    Args:
        annotations: All videos.
        probes: Their probes by path.
        source: The folder or list they come from, for messages.
        every_class: Whether a class that loses all its videos is an error.

    Returns:
        The usable videos, and the skipped ones.

    Raises:
        ConfigError: No video can be used, or none of a class.
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
    """Log the skipped videos with their reasons; after ten, only the number of the others."""
    for _, reason in skipped[:_LINES]:
        log.warning("video skipped: %s", reason)
    if len(skipped) > _LINES:
        log.warning("and %d more videos skipped", len(skipped) - _LINES)


def _identity(path: str) -> tuple[int, int]:
    """Return a file's size in bytes and modification time in nanoseconds; zeros if there is no file."""
    try:
        info = os.stat(path)  # noqa: PTH116 (a Path for each of 240,000 takes seconds)
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return 0, 0
    return info.st_size, info.st_mtime_ns


def _unchanged(path: str, seen: Probe) -> bool:
    return (seen.size, seen.mtime_ns) == _identity(path)


def _load_cache(file: Path) -> dict[str, Probe]:
    try:
        memory = msgspec.json.decode(file.read_bytes(), type=_ProbeCache)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return memory.probes if memory.version == _VERSION else {}


def _save_cache(file: Path, probes: Mapping[str, Probe]) -> None:
    try:
        replace_file(file, msgspec.json.encode(_ProbeCache(_VERSION, dict(probes))))
    except (OSError, UnicodeEncodeError) as error:
        log.warning("data.cache: the result of checking the videos could not be saved: %s", error)
