"""The folder of recorded clips: their names, and the quota of their size. Touches only files that it made.

A clip is written as NAME.mp4.part and renamed when it is complete; half-written clips are removed at the start.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path

from stream_i3d.errors import ConfigError
from stream_i3d.messages import ActionEvent

_OURS = re.compile(r"[A-Za-z0-9_.-]{1,64}_\d{8}T\d{6}Z_[a-z0-9-]{1,40}_[0-9a-f]{8}\.mp4")
_PART = ".part"


def clip_name(event: ActionEvent, wall_time: float) -> str:
    """Return `CAMERA_TIME_LABEL_ID.mp4`: the time in UTC, the label in plain letters, 8 hex digits made of the id."""
    moment = datetime.fromtimestamp(min(max(0.0, wall_time), 2.5e11), UTC)
    label = re.sub(r"[^a-z0-9]+", "-", event.label.lower()).strip("-")[:40] or "action"
    return f"{event.camera}_{moment:%Y%m%dT%H%M%SZ}_{label}_{hashlib.sha256(event.id.encode()).hexdigest()[:8]}.mp4"


class ClipFolder:
    """Makes room before anything is written. Drop policy: the oldest clips go."""

    def __init__(self, path: Path, quota_bytes: int, min_free_bytes: int) -> None:
        """Make the folder, readable by its owner only, where there is none, and remove half-written clips in it.

        Raises:
            ConfigError: It cannot be made or read.
        """
        self.path = path
        self._quota = quota_bytes
        self._min_free = min_free_bytes
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            for part in path.iterdir():
                if part.name.endswith(_PART) and _OURS.fullmatch(part.name.removesuffix(_PART)):
                    part.unlink()
        except OSError as error:
            raise ConfigError(f"cannot record clips into {path}: {error.strerror}; give a folder of yours") from None

    def part(self, name: str) -> Path:
        """Return where a clip is written until it is whole."""
        return self.path / f"{name}{_PART}"

    def has(self, name: str) -> bool:
        """Return whether there is a clip of that name."""
        return (self.path / name).exists()

    def keep(self, name: str) -> None:
        """Give a complete clip its name. OSError where that fails."""
        self.part(name).replace(self.path / name)

    def drop(self, name: str) -> None:
        """Remove what was written of a clip."""
        with contextlib.suppress(OSError):
            self.part(name).unlink()

    def make_room(self, part_bytes: int) -> list[str]:
        """Remove the oldest clips until those that are whole and `part_bytes` of others fit into the quota.

        Returns:
            The names of what was removed.

        Raises:
            OSError: All of the quota is not enough for these.
        """
        clips = self._clips()
        total = sum(size for _, size, _ in clips) + part_bytes
        removed = []
        for _, size, path in clips:
            if total <= self._quota:
                break
            path.unlink(missing_ok=True)
            total -= size
            removed.append(path.name)
        if total > self._quota:
            raise OSError(f"the quota of {self._quota / 1e6:.0f} MB is too small for what is being recorded")
        return removed

    def check_disk(self) -> None:
        """Check that the disk has more room than is to stay free. OSError where it has not."""
        free = shutil.disk_usage(self.path).free
        if free < self._min_free:
            raise OSError(f"{free / 1e6:.0f} MB are free on the disk; min_free_mb is {self._min_free / 1e6:.0f}")

    def _clips(self) -> list[tuple[float, int, Path]]:
        """Return time, size and path of the clips, the oldest first."""
        found = []
        for path in self.path.iterdir():
            if _OURS.fullmatch(path.name):
                with contextlib.suppress(FileNotFoundError):  # removed by another program
                    stat = path.stat()
                    found.append((stat.st_mtime, stat.st_size, path))
        return sorted(found)
