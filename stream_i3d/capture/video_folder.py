"""The videos in a folder and its subfolders, and what is left out.

What is a video is not told by a list of suffixes: everything counts that FFmpeg may be able to read, and whoever opens
the files finds out. Only what is plainly something else, by its name or as text, is left out, and named.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from stream_i3d.capture.address import VIDEO_SUFFIXES

log = logging.getLogger(__name__)

NO_VIDEO_SUFFIXES: Final = frozenset(
    (
        # Text
        ".txt", ".md", ".rst", ".csv", ".tsv", ".json", ".jsonl", ".yaml", ".yml", ".toml", ".xml", ".html", ".htm",
        ".css", ".js", ".py", ".ipynb", ".sh", ".log", ".ini", ".cfg", ".conf", ".lock", ".srt", ".vtt", ".ass", ".ssa",
        ".sub", ".lrc", ".pdf", ".doc", ".docx", ".odt", ".xls", ".xlsx", ".ppt", ".pptx", ".rtf", ".tex", ".xmp",
        ".url", ".lnk", ".desktop",
        # Pictures
        ".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".heic", ".heif", ".avif", ".svg", ".ico", ".psd",
        ".raw", ".dng", ".ppm", ".pgm", ".pbm", ".thm",
        # Sound
        ".wav", ".mp3", ".flac", ".aac", ".m4a", ".oga", ".opus", ".wma", ".aiff", ".mid",
        # Archives
        ".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar", ".iso",
        # Arrays and weights
        ".npy", ".npz", ".pt", ".pth", ".safetensors", ".onnx", ".h5", ".hdf5", ".pkl", ".pickle", ".parquet", ".arrow",
        ".lmdb", ".tfrecord", ".mat", ".db", ".sqlite",
        # Downloads under way, and the rest
        ".part", ".tmp", ".crdownload", ".bak", ".exe", ".dll", ".so", ".md5", ".sha1", ".sha256",
    )
)  # fmt: skip
"""What is not worth opening, in lower case."""

_SHOWN: Final = 8


class FolderVideos(Struct, frozen=True):
    """What was found.

    Attributes:
        videos: Paths of files that may be videos, in the order of their names.
        left_out: Paths of everything else, likewise.
    """

    videos: tuple[str, ...]
    left_out: tuple[str, ...]


def find_videos(folder: str | Path) -> FolderVideos:
    """Look through a folder and its subfolders, links included; no folder is looked through twice."""
    videos: list[str] = []
    left_out: list[str] = []
    for path in _files(str(folder), set()):
        (videos if _may_be_video(path) else left_out).append(path)
    return FolderVideos(tuple(videos), tuple(left_out))


def log_left_out(folder: str | Path, left_out: Sequence[str]) -> None:
    """Log in one line how many files of a folder are left out as no videos, and the first of them."""
    if not left_out:
        return
    names = ", ".join(os.path.relpath(path, folder) for path in left_out[:_SHOWN])
    more = f" and {len(left_out) - _SHOWN} more" if len(left_out) > _SHOWN else ""
    count = f"{len(left_out)} file{'' if len(left_out) == 1 else 's'}"
    log.warning("%s: %s left out as no videos by name or kind: %s%s", folder, count, names, more)


def _files(folder: str, seen: set[tuple[int, int]]) -> Iterator[str]:
    """Yield the paths of everything that is no folder, in the order of their names."""
    try:
        info = os.stat(folder)  # noqa: PTH116 (a Path for each of 240,000 files takes seconds)
        names = sorted(os.listdir(folder))  # noqa: PTH208
    except OSError:
        yield folder  # closed to this user, or gone
        return
    identity = (info.st_dev, info.st_ino)
    if identity in seen:  # a link to a folder above, or beside
        return
    seen.add(identity)
    for name in names:
        path = os.path.join(folder, name)  # noqa: PTH118
        if not os.path.isdir(path):  # noqa: PTH112
            yield path
        elif not name.startswith("."):
            yield from _files(path, seen)


def _may_be_video(path: str) -> bool:
    name = os.path.basename(path)  # noqa: PTH119
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122
    if name.startswith(".") or suffix in NO_VIDEO_SUFFIXES:
        return False
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116
            return False
        return suffix in VIDEO_SUFFIXES or not _is_text(path)
    except OSError:  # a link to nowhere, or closed to this user
        return suffix in VIDEO_SUFFIXES


def _is_text(path: str) -> bool:
    """Tell by its first bytes whether a file is text, or empty."""
    with Path(path).open("rb") as file:
        head = file.read(256)
    return all(byte >= 32 or byte in b"\t\n\r\f" for byte in head)
