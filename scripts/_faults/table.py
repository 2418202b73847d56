"""What a fault is, how the table of them is run, and how its rows are printed. Knows no fault."""

from __future__ import annotations

import sqlite3
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psutil

from _faults.rig import Rig
from _faults.watch import Unmet
from stream_i3d.errors import StreamI3DError

NOT_ALLOWED = "not allowed here"
UNMET = (Unmet, OSError, psutil.Error, sqlite3.Error, subprocess.SubprocessError, StreamI3DError)
"""What shows that something is not as it must be: what was said so, and what breaks where it is looked for."""


class NotAllowed(Exception):
    """This user, or this machine, does not let the fault be made; one line that says why."""


def _always() -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a fault that the service got over: the seconds that took (None: nothing to wait for), and a note."""

    seconds: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Fault:
    """One row of the table.

    Attributes:
        name: One word with hyphens, for --only.
        done: What is done to the service, for people.
        expected: What must hold then.
        bound_s: Seconds that it may take; None where `inject` says all there is to say.
        inject: Does it; raises Unmet where something that is expected does not hold.
        short: Whether it is part of the short form.
        missing: Says why it cannot be done here, None where it can.
    """

    name: str
    done: str
    expected: str
    bound_s: float | None
    inject: Callable[[Rig], Outcome]
    short: bool = True
    missing: Callable[[], str | None] = _always


def run_fault(fault: Fault, rig: Rig) -> dict[str, Any]:
    """Do what a fault does; return its row."""
    row: dict[str, Any] = {"fault": fault.name, "done": fault.done, "expected": fault.expected}
    row |= {"bound_s": fault.bound_s, "seconds": None, "result": "pass", "note": ""}
    started = time.monotonic()
    if (why_not := fault.missing()) is not None:
        row |= {"result": NOT_ALLOWED, "note": why_not}
        return row
    try:
        rig.main.steady()
        outcome = fault.inject(rig)
        row["seconds"] = None if outcome.seconds is None else round(outcome.seconds, 2)
        row["note"] = outcome.note
        if outcome.seconds is not None and fault.bound_s is not None and outcome.seconds > rig.slack * fault.bound_s:
            raise Unmet(f"took {outcome.seconds:.1f} s, allowed are {rig.slack * fault.bound_s:g}")
    except NotAllowed as why:
        row |= {"result": NOT_ALLOWED, "note": str(why)}
    except UNMET as unmet:
        row |= {"result": "FAIL", "note": f"{unmet}; {row['note']}".rstrip("; ")}
    row["took_s"] = round(time.monotonic() - started, 1)
    return row


def failed(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return the names of the faults that the service did not get over."""
    return [row["fault"] for row in rows if row["result"] == "FAIL"]
