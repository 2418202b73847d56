"""Faults of the disk that the sinks write to."""

from __future__ import annotations

import errno
import time
from pathlib import Path

from _faults.rig import Rig, until
from _faults.service import pause
from _faults.table import Fault, Outcome
from _faults.watch import Unmet

_WRITES_S = 20.0


def full_disk(rig: Rig) -> Outcome:
    """Fill the disk that the main service writes to, and empty it again."""
    if rig.disk is None:
        raise Unmet("no small disk")
    lines, filler = rig.jsonl, rig.disk / "filler"
    until(lambda: lines.exists() and lines.stat().st_size > 0, _WRITES_S, "JSON lines are written")
    stages, start = rig.main.stages(), time.monotonic()
    try:
        _fill(filler)
        pause(5.0 if rig.short else 15.0)
        gap = max(rig.main.watch.longest_gap(camera, start, time.monotonic()) for camera in rig.main.cameras)
    finally:
        filler.unlink(missing_ok=True)
    size, emptied = lines.stat().st_size, time.monotonic()
    until(lambda: lines.stat().st_size > size, _WRITES_S, "JSON lines are written again")
    back = time.monotonic() - emptied
    said = rig.main.said("cannot write")
    if gap > 2.0 or stages != rig.main.stages() or not said:
        raise Unmet(f"longest gap {gap:.1f} s; said {said} times; started again: {stages != rig.main.stages()}")
    return Outcome(back, f"said {said} times; longest gap {gap:.2f} s")


def _fill(filler: Path) -> None:
    """Write until nothing more goes in."""
    with filler.open("wb", buffering=0) as file:
        for piece in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(piece))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise


FAULTS = [
    Fault(
        "full-disk",
        "the disk that the sinks write to is full, and emptied again",
        "said; predictions go on; written again",
        10.0,
        full_disk,
    )
]
