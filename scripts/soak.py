"""Soak test: four cameras and a fault every minute; checks memory, open files, processes and events.

    python scripts/soak.py                                  30 minutes
    python scripts/soak.py --minutes 5 --fault-every 30

Four real RTSP cameras (640 x 480, H.264), the carried model, an event store and a real MQTT broker. Faults take turns.
The worker and the publisher are killed in the first quarter only, so that their memory can be fitted by a line
afterwards; the publisher's varies by some megabytes with its clips. Prints the faults with the seconds to recover, a
row per process, and the number of events at each receiver; then one JSON line. The exit code is 1 if memory
grew by more than 1 MB/h after warm-up, files stayed open, a process stayed a zombie, an event was lost, or the service
did not recover.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import click
import msgspec
from _bench import report
from _faults.census import Census
from _faults.growth import describe
from _faults.ledger import compare_events
from _faults.rig import Rig
from _faults.service import pause
from _faults.table import UNMET

from tests.broker import why_not

CAMERAS = ("c1", "c2", "c3", "c4")
SIZE = (640, 480)
MAX_MB_PER_HOUR, JUDGED_S = 1.0, 450.0
"""In a few minutes a buffer that fills once looks like growth; less than this is shown, and not judged."""
RECOVER_S = 60.0

Action = Callable[[Rig], None]


def kill(stage: str) -> Action:
    """Return what kills a process."""
    return lambda rig: rig.main.stage(stage).kill()


def hang(stage: str) -> Action:
    """Return what stops a process for good; the supervisor has to replace it."""
    return lambda rig: rig.main.stage(stage).suspend()


def _server_away(rig: Rig) -> None:
    old = rig.servers["c2"]
    old.stop()
    pause(10.0)
    rig.replace("c2", port=old.port).start()


def _server_silent(rig: Rig) -> None:
    process = rig.servers["c4"].process
    process.send_signal(signal.SIGSTOP)
    pause(10.0)
    process.send_signal(signal.SIGCONT)


def _broker_away(rig: Rig) -> None:
    assert rig.broker is not None
    rig.broker.stop()
    pause(10.0)
    rig.broker.start()


EARLY: dict[str, Action] = {"worker killed": kill("worker"), "publisher killed": kill("publisher")}
ALWAYS: dict[str, Action] = {
    "capture killed": kill("capture c1"),
    "camera away for 10 s": _server_away,
    "capture hung": hang("capture c1"),
    "camera silent for 10 s": _server_silent,
    "broker away for 10 s": _broker_away,
}


def make_fault(rig: Rig, name: str, action: Action) -> dict[str, Any]:
    """Do something to the service; return a row with the seconds until every camera is recognised on again."""
    start = time.monotonic()
    row = {"minute": round((start - rig.main.started) / 60, 1), "fault": name, "recovered_s": None, "result": "pass"}
    try:
        action(rig)
        done = time.monotonic()
        # What was under way when a process was killed or stopped is no recovery.
        pause(1.0)
        row["recovered_s"] = round(rig.main.steady(within_s=RECOVER_S) - done, 1)
    except UNMET as unmet:
        row["result"] = f"FAIL: {unmet}"
    return row


def run_faults(rig: Rig, minutes: float, every_s: float) -> list[dict[str, Any]]:
    """Make a fault every so often, in turn, until the time is over; the last stretch is calm."""
    start = time.monotonic()
    rows: list[dict[str, Any]] = []
    end = start + 60 * minutes
    early, later = cycle([*EARLY.items(), *ALWAYS.items()]), cycle(ALWAYS.items())
    while (due := start + every_s * (len(rows) + 1)) <= end - every_s / 2:
        pause(max(0.0, due - time.monotonic()))
        first_quarter = time.monotonic() - start < 15 * minutes
        rows.append(make_fault(rig, *next(early if first_quarter else later)))
        click.echo(f"{rows[-1]}", err=True)
    pause(max(0.0, end - time.monotonic()))
    return rows


def problems(rows: list[dict[str, Any]], processes: list[dict[str, Any]], zombies: list[str], events: Any) -> list[str]:
    """Return what must not be, each in a line."""
    found = [f"{row['fault']}: {row['result']}" for row in rows if row["result"] != "pass"]
    for row in processes:
        if row["fitted_s"] >= JUDGED_S and row["mb_per_hour"] > MAX_MB_PER_HOUR:
            found.append(f"{row['process']} grows by {row['mb_per_hour']} MB/h")
        if (row["more_files"] or 0.0) > 0:
            found.append(f"{row['process']} has {row['more_files']:g} more files open")
    return [*found, *(f"zombie: {name}" for name in zombies), *events["problems"]]


@click.command()
@click.option("--minutes", default=30.0)
@click.option("--fault-every", default=60.0, help="Seconds.")
@click.option("--keep", type=click.Path(path_type=Path), help="Copy logs, messages and all samples into this folder.")
def main(minutes: float, fault_every: float, keep: Path | None) -> None:
    """Run it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that all is ended and unmounted
    if (reason := why_not()) is not None:
        raise click.ClickException(reason)
    warm_up_s, least_s = min(240.0, 8 * minutes), min(480.0, 15 * minutes)
    with Rig(short=False, names=CAMERAS, size=SIZE, keep=keep) as rig:
        with Census(rig.main) as census:
            faults = run_faults(rig, minutes, fault_every)
        rig.main.close()
        events = compare_events(rig)
    if keep is not None:
        (keep / "samples.json").write_bytes(msgspec.json.encode(census.lives()))
    processes = [describe(name, lives, warm_up_s, least_s) for name, lives in census.lives().items()]
    wrong = problems(faults, processes, census.zombies, events)
    for line in wrong:
        click.echo(f"FAIL: {line}", err=True)
    report("soak: faults", faults)
    report("soak: events", [events])
    report("soak", processes)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
