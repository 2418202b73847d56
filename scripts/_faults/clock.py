"""The wall clock set back while the service runs, by libfaketime: CLOCK_REALTIME alone, for all its processes."""

from __future__ import annotations

import time
from pathlib import Path

from _faults.ledger import Entry, stored
from _faults.rig import Rig, until
from _faults.service import START_S, Service, pause
from _faults.table import Fault, Outcome
from _faults.watch import Unmet
from stream_i3d.messages import ActionEvent, CameraStatus, Recognition

_HOUR_S = 3600.0


def library() -> Path | None:
    """Return libfaketime for programs with threads, or None."""
    return next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)


def missing() -> str | None:
    """Say why the clock cannot be set here."""
    return None if library() is not None else "no libfaketime; run scripts/system-deps test"


def set_back(rig: Rig) -> Outcome:
    """Set the clock back by an hour, kill a capture process in that past, and set the clock right again."""
    offset, seconds = rig.folder / "offset", 8.0 if rig.short else 30.0
    offset.write_text("+0s\n")
    env = {
        "LD_PRELOAD": str(library()),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    sources = {"clocked": rig.servers["b"].login_url}
    lines, store = rig.public / "clock.jsonl", rig.public / "clock.sqlite"
    settings = {
        "publish": {"status_interval_s": 2.0},
        "sinks": [
            {"type": "jsonl", "path": str(lines), "max_bytes": 10_000, "keep": 3},
            {"type": "store", "path": str(store)},
        ],
    }
    with rig.service("clock", sources, settings, env=env) as service:
        service.steady()
        pause(2.0)
        offset.write_text("-3600s\n")
        back = time.monotonic()
        pause(seconds)
        _all_well(service, back, back_by_s=_HOUR_S)
        epoch = service.watch.epoch("clocked")
        service.stage("capture clocked").kill()
        killed = time.monotonic()
        again = service.watch.frames("clocked", killed, START_S, not_epoch=epoch).at - killed
        offset.write_text("+0s\n")
        right = time.monotonic()
        pause(seconds)
        _all_well(service, right, back_by_s=0.0)
        said = {Entry(one.camera, one.id, one.event) for one in service.watch.events()}
        until(lambda: said <= set(stored(store)), 10.0, "every event is in the store")
        until((rig.public / "clock.jsonl.3").exists, 10.0, "JSON lines are rotated")
        if service.said("starting it again") != 1:
            raise Unmet("a process was started again that nobody had killed")
    return Outcome(again, "an hour back, and forward again; a capture process killed in between")


def _all_well(service: Service, start: float, back_by_s: float) -> None:
    """Raise Unmet where anything since `start` shows that the clock was set."""
    now = time.monotonic()
    seen = [one.message for one in service.watch.between(start + 0.5, now)]
    statuses = [one.at for one in service.watch.between(start, now) if isinstance(one.message, CameraStatus)]
    latencies = [one.latency_ms.total for one in seen if isinstance(one, Recognition)]
    silent = max(later - one for one, later in zip([start, *statuses], [*statuses, now], strict=True))
    events = [one for one in seen if isinstance(one, ActionEvent)]
    lengths = [one.end_time - one.start_time for one in events if one.end_time is not None]
    newest = max((one.window.end_time for one in seen if isinstance(one, Recognition)), default=0.0)
    off = abs(time.time() - back_by_s - newest)
    problems = {
        f"{service.watch.longest_gap('clocked', start, now):.1f} s without a prediction": (
            service.watch.longest_gap("clocked", start, now) > 2.0
        ),
        f"latencies of up to {max(latencies, default=0):.0f} ms": not latencies or max(latencies) > 2000.0,
        f"{silent:.1f} s without a status": silent > 4.0,
        "no event ended": not lengths,
        f"actions that took {min(lengths, default=0):.0f} to {max(lengths, default=0):.0f} s": (
            min(lengths, default=0) < 0 or max(lengths, default=0) > 60
        ),
        f"windows {off:.0f} s off the clock": off > 10.0,
    }
    if any(problems.values()):
        raise Unmet("; ".join(problem for problem, holds in problems.items() if holds))


FAULTS = [
    Fault(
        "clock",
        "the clock set back an hour, and forward again",
        "latencies, events, heartbeats, restarts, rotation as ever",
        5.0,
        set_back,
        short=False,
        missing=missing,
    )
]
