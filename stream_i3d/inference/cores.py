"""How many processor cores this process may use: what its scheduler and its container allow. Imports no torch."""

from __future__ import annotations

import math
import os
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def allowed_cores(cgroups: Path = _CGROUPS) -> int:
    """Return the cores this process may use, at least 1.

    Args:
        cgroups: Where control groups, of version 2 or 1, are mounted; missing on other systems than Linux.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(cgroups)
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def _quota(cgroups: Path) -> float | None:
    """Return the cores' worth of time that the container gets (docker run --cpus); None where there is no limit."""
    parts = _words(cgroups / "cpu.max") or [
        *_words(cgroups / "cpu" / "cpu.cfs_quota_us"),
        *_words(cgroups / "cpu" / "cpu.cfs_period_us"),
    ]
    try:
        quota, period = (int(part) for part in parts)
    except ValueError:  # "max 100000", or no such files
        return None
    return quota / period if quota > 0 and period > 0 else None


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
