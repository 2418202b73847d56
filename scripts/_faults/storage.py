"""Faults of the disk that the sinks write to."""

from __future__ import annotations

import errno
import time
from pathlib import Path

from _faults.ledger import Entry, stored
from _faults.rig import Rig, until
from _faults.service import pause
from _faults.table import Fault, NotAllowed, Outcome
from _faults.watch import Unmet
from stream_i3d.messages import ActionEvent

_WRITES_S = 20.0


def full_disk(rig: Rig) -> Outcome:
    """Fill the disk that the main service writes to, and empty it again; no event may be lost."""
    if rig.disk is None:
        raise NotAllowed("no small file system could be mounted")
    lines, filler = rig.jsonl, rig.disk / "filler"
    until(lambda: lines.exists() and lines.stat().st_size > 0, _WRITES_S, "JSON lines are written")
    stages, start = rig.main.stages(), time.monotonic()
    try:
        _fill(filler)
        pause(6.0 if rig.short else 20.0)
        full = time.monotonic()
    finally:
        filler.unlink(missing_ok=True)
    size, emptied = lines.stat().st_size, time.monotonic()
    until(lambda: lines.stat().st_size > size, _WRITES_S, "JSON lines are written again")
    until(lambda: not _missing_events(rig, start, full), _WRITES_S, "events of the full disk's time are in the store")
    back, said = time.monotonic() - emptied, rig.main.said("cannot write")
    gap = max(rig.main.watch.longest_gap(camera, start, full) for camera in rig.main.cameras)
    if gap > 2.0 * rig.slack or stages != rig.main.stages() or not said:
        raise Unmet(f"longest gap {gap:.1f} s; said {said} times; started again: {stages != rig.main.stages()}")
    return Outcome(back, f"said {said} times; longest gap {gap:.2f} s")


def _missing_events(rig: Rig, start: float, end: float) -> set[Entry]:
    """Return the events that were published between two times and are not in the store."""
    said = [one.message for one in rig.main.watch.between(start, end) if isinstance(one.message, ActionEvent)]
    return {Entry(one.camera, one.id, one.event) for one in said} - set(stored(rig.store))


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
        "said; predictions go on; written again; no event lost",
        10.0,
        full_disk,
    )
]
