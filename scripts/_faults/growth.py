"""What a process's samples say of it: memory that grows, files that stay open. Pure.

A process that is started again is another life: each life is looked at by itself, from when it has warmed up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

MB = 1e6


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at a process: seconds on any clock, bytes resident, open files, threads."""

    at: float
    rss: int
    files: int
    threads: int


def slope_mb_h(samples: Sequence[Sample]) -> float:
    """Return the growth in MB an hour: the median of the slopes between all pairs (Theil and Sen).

    A step (a buffer that grew once) or a few odd samples do not move it, as they would a least-squares line.
    """
    at = np.array([one.at for one in samples])
    rss = np.array([one.rss for one in samples], float)
    first, second = np.triu_indices(len(samples), 1)
    slopes = (rss[second] - rss[first]) / (at[second] - at[first])
    return float(np.median(slopes)) * 3600 / MB


def more_files(samples: Sequence[Sample]) -> float:
    """Return by how many the open files of the last third (median) exceed those of the first third."""
    third = max(1, len(samples) // 3)
    return float(np.median([one.files for one in samples[-third:]]) - np.median([one.files for one in samples[:third]]))


def describe(name: str, lives: Sequence[Sequence[Sample]], warm_up_s: float, least_s: float) -> dict[str, Any]:
    """Return a row about one stage: the longest of its lives, fitted if it is `least_s` long after `warm_up_s`."""
    warm = [[one for one in life if one.at - life[0].at >= warm_up_s] for life in lives]
    longest = max(warm, key=lambda life: life[-1].at - life[0].at if life else -1.0)
    seconds = longest[-1].at - longest[0].at if longest else 0.0
    fits = seconds >= least_s and len(longest) > 2
    return {
        "process": name,
        "lives": len(lives),
        "fitted_s": round(seconds) if fits else 0,
        "rss_mb": round(max(one.rss for life in lives for one in life) / MB, 1),
        "mb_per_hour": round(slope_mb_h(longest), 2) if fits else None,
        "more_files": more_files(longest) if fits else None,
        "files": max(one.files for life in lives for one in life),
        "threads": max(one.threads for life in lives for one in life),
    }
