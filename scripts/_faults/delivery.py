"""The broker gone while events come: they must all arrive afterwards, in order, and be in the store once."""

from __future__ import annotations

import time

from _faults.ledger import Entry, compare_events, mqtt_events, once, out_of_order, stored, wait_for_delivery
from _faults.messages import listening
from _faults.rig import Rig, until
from _faults.service import pause
from _faults.table import Fault, Outcome
from _faults.watch import Unmet
from stream_i3d.messages import ActionEvent
from stream_i3d.transport.relay import RelaySender
from tests.broker import why_not

_ACTIONS = 100  # with a start and an end each
_CAMERA = "injected"


def broker_away(rig: Rig) -> Outcome:
    """End the broker, inject 200 events as a worker of our own, start the broker, and look who has what."""
    assert rig.broker is not None
    seconds = 10.0 if rig.short else 60.0
    online = until(lambda: _available(rig), 30.0, "the broker's clients are told that the service is online")
    rig.broker.stop()
    start = time.monotonic()
    sent = _inject(rig, seconds)
    pause(max(0.0, start + seconds - time.monotonic()))
    early = [entry for entry in mqtt_events(rig) if entry in sent]
    rig.broker.start()
    back = time.monotonic()
    wait_for_delivery(rig, sent, within_s=30.0)
    took = time.monotonic() - back
    heard = [entry for entry in mqtt_events(rig) if entry.camera == _CAMERA]
    rows = [entry for entry in stored(rig.store) if entry.camera == _CAMERA]
    wrong = {
        "events came while there was no broker": early,
        "events were never delivered": set(sent) - set(heard),
        "cameras' events came in another order": out_of_order(heard, sent),
        "events are not in the store": set(sent) - set(rows),
        "events are in the store twice": rows[len(once(rows)) :],
    }
    problems = [f"{len(found)} {what}" for what, found in wrong.items() if found]
    if problems:
        raise Unmet("; ".join(problems))
    repeated = len(heard) - len(once(heard))
    return Outcome(took, f"{len(sent)} events delivered, {repeated} of them twice; online after {online:.1f} s")


def all_events(rig: Rig) -> Outcome:
    """End the service, see that every event it has published is stored and delivered, and start it again."""
    rig.main.supervisor.terminate()
    rig.main.reap()
    found = compare_events(rig)
    rig.main.start()
    rig.main.steady()
    if found["problems"]:
        raise Unmet("; ".join(found["problems"]))
    return Outcome(None, f"{found['store']} in the store, {found['mqtt']} by MQTT ({found['mqtt_repeated']} repeated)")


def _inject(rig: Rig, seconds: float) -> list[Entry]:
    """Send events as a worker does, spread over some seconds; return them once the publisher has them safe."""
    sent, every_s = [], seconds / (2 * _ACTIONS)
    with RelaySender(_relay(rig), "fault-suite", [_CAMERA]) as sender:
        if not sender.arrive(5.0):
            raise Unmet("the publisher does not take what a worker says")
        for number in range(_ACTIONS):
            for event in _action(number):
                sender.write(event)
                sent.append(Entry(event.camera, event.id, event.event))
                sender.process_answers()
                pause(every_s)
        if not sender.leave(10.0):
            raise Unmet("the publisher did not say that the events are safe")
    return sent


def _action(number: int) -> tuple[ActionEvent, ActionEvent]:
    start = ActionEvent(
        camera=_CAMERA,
        id=f"injected-{number}",
        event="start",
        label="waving",
        start_time=1e9 + number,
        end_time=None,
        peak_confidence=0.5,
    )
    end = ActionEvent(
        camera=_CAMERA,
        id=start.id,
        event="end",
        label="waving",
        start_time=start.start_time,
        end_time=start.start_time + 0.5,
        peak_confidence=0.75,
    )
    return start, end


def _relay(rig: Rig) -> str:
    """Return where the publisher listens to workers."""
    publisher = rig.main.stage("publisher")
    files = [place for place in listening(rig.main, [publisher]) if isinstance(place, str)]
    if len(files) != 1:
        raise Unmet(f"the publisher listens on {files}, not on one private socket")
    return f"ipc://{files[0]}"


def _available(rig: Rig) -> bool:
    assert rig.broker is not None
    said = [one.payload for one in rig.broker.messages() if one.topic.endswith("/availability")]
    return said[-1:] == ["online"]


FAULTS = [
    Fault(
        "broker",
        "the MQTT broker away for 60 s (10 s), and 200 events meanwhile",
        "all 200 delivered afterwards, in order; each in the store once",
        15.0,
        broker_away,
        missing=why_not,
    ),
    Fault(
        "events",
        "all the faults before this one",
        "every event published is in the store once, and was delivered in order",
        None,
        all_events,
        missing=why_not,
    ),
]
