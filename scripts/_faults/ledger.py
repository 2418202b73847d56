"""Which events are where: in the store, at the MQTT broker's subscriber, and in what a ZeroMQ subscriber has heard."""

from __future__ import annotations

import sqlite3
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from _faults.rig import Rig
from _faults.service import pause

_DELIVERY_S = 20.0


class Entry(NamedTuple):
    """What tells one event from all others."""

    camera: str
    id: str
    event: str


def stored(path: Path) -> list[Entry]:
    """Return the events of a store, in the order in which they were written."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return [Entry(*row) for row in connection.execute("SELECT camera, id, event FROM events ORDER BY position")]
    finally:
        connection.close()


def mqtt_events(rig: Rig) -> list[Entry]:
    """Return the events that mosquitto_sub has printed, in order, repetitions included."""
    assert rig.broker is not None
    bodies = (one.json for one in rig.broker.messages() if one.topic.endswith("/event"))
    return [Entry(body["camera"], body["id"], body["event"]) for body in bodies]


def once(entries: Iterable[Entry]) -> list[Entry]:
    """Return entries without repetitions, each at its first place."""
    return list(dict.fromkeys(entries))


def out_of_order(entries: Sequence[Entry], right: Sequence[Entry]) -> list[str]:
    """Return the cameras whose entries do not come in the order of `right`."""
    ranks = {entry: rank for rank, entry in enumerate(right)}
    by_camera: dict[str, list[int]] = defaultdict(list)
    for entry in once(entries):
        by_camera[entry.camera].append(ranks.get(entry, -1))
    return [camera for camera, places in by_camera.items() if places != sorted(places)]


def wait_for_delivery(rig: Rig, wanted: Sequence[Entry], within_s: float = _DELIVERY_S) -> list[Entry]:
    """Wait until mosquitto_sub has heard of all `wanted` events; return those that it has heard."""
    until = time.monotonic() + within_s
    while set(wanted) - set(heard := mqtt_events(rig)) and time.monotonic() < until:
        pause(0.2)
    return heard


def compare_events(rig: Rig) -> dict[str, Any]:
    """Return where how many events are, and what is wrong with that, once the service has ended."""
    assert rig.store is not None
    rows = stored(rig.store)
    heard = wait_for_delivery(rig, rows)
    said = [Entry(one.camera, one.id, one.event) for one in rig.main.watch.events()]
    open_ones = {row.id for row in rows if row.event == "start"} ^ {row.id for row in rows if row.event == "end"}
    wrong = {
        "events that were published are not in the store": set(said) - set(rows),
        "events of the store did not come by MQTT": set(rows) - set(heard),
        "events came by MQTT that are not in the store": set(heard) - set(rows),
        "events are in the store twice": rows[len(once(rows)) :],
        "cameras' events came by MQTT in another order": out_of_order(heard, rows),
        "actions have a start or an end only": open_ones,
    }
    return {
        "store": len(rows),
        "mqtt": len(set(heard)),
        "mqtt_repeated": len(heard) - len(set(heard)),
        "published": len(said),
        "problems": [f"{len(found)} {what}" for what, found in wrong.items() if found],
    }
