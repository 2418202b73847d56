"""More cameras than the machine can carry a network along, in streaming mode."""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from _faults.rig import Rig, until
from _faults.service import START_S, Service, pause
from _faults.table import Fault, Outcome
from _faults.watch import Unmet
from stream_i3d.messages import Recognition
from tests.ports import free_port

CAMERAS = ("w", "x", "y", "z")
SAMPLE_FPS = 50
"""Twice the usual rate: turns, which are counted in steps, are half as long."""
SHARE = 0.3
"""Of what the engine can do, predictions at least: a quarter of a turn is warm-up, and places are whole cameras."""
_WATCHED_S = 15.0
_SAID = "this machine cannot keep up"


def slow_checkpoint(folder: Path) -> str:
    """Write Inception I3D at full width for pictures of 112 x 112; on one core a step takes some 0.1 s."""
    from stream_i3d.models.checkpoint import save_checkpoint
    from stream_i3d.models.i3d import I3D
    from stream_i3d.models.spec import ModelSpec
    from stream_i3d.preprocess import Preprocessing

    path = folder / "slow.safetensors"
    if not path.exists():
        small = Preprocessing(short_side=112, crop_size=112)
        save_checkpoint(path, I3D(10).eval(), ModelSpec(num_classes=10, preprocessing=small))
    return str(path)


def overload_streaming(rig: Rig) -> Outcome:
    """Run a slow network on four cameras: each is recognised in its turn, and it is said once."""
    address = f"127.0.0.1:{free_port()}"
    settings: dict[str, Any] = {
        "model": {
            "checkpoint": slow_checkpoint(rig.private), "backend": "torch", "precision": "fp32", "device": "cpu",
            "threads": 1,
        },
        "window": {"mode": "streaming", "sample_fps": SAMPLE_FPS},
        "monitoring": {"address": address},
    }  # fmt: skip
    sources = {name: f"synthetic://?seed={number}&fps={SAMPLE_FPS}&size=128x128" for number, name in enumerate(CAMERAS)}
    with rig.service("overload", sources, settings) as service:
        first = service.watch.first(_is_prediction, service.started, START_S * rig.slack, "a first prediction").at
        until(lambda: service.said(_SAID) > 0, 15.0 * rig.slack, "the overload in the log")
        overload = _ask(address, "status")["overloads"]["worker"]
        turns = 0.0 if overload["turn_s"] is None else overload["turn_s"] * (len(CAMERAS) / overload["served"])
        served = service.steady(within_s=1.5 * turns + 10.0 * rig.slack)
        pause(max(0.0, first + _WATCHED_S - time.monotonic()))
        ready = _ask(address, "readyz")
        note = _judge(service, first, time.monotonic())
        if not ready["ok"] or not any(_SAID in line for line in ready.get("degraded", [])):
            raise Unmet(f"/readyz says {ready}; {note}")
        if service.said(_SAID) != 1:
            raise Unmet(f"the log says it {service.said(_SAID)} times")
        return Outcome(served - first, note)


def _judge(service: Service, start: float, end: float) -> str:
    """Return how many predictions there were, in words; Unmet where they are too few for the engine."""
    predictions = [
        one.message
        for one in service.watch.between(start, end)
        if isinstance(one.message, Recognition) and one.message.state != "warming"
    ]
    step_s = statistics.median(one.latency_ms.inference for one in predictions) * 1e-3
    share = len(predictions) / (end - start) * step_s
    latency_s = max(one.latency_ms.total for one in predictions) * 1e-3
    note = f"{len(predictions)} predictions in {end - start:.0f} s, {share:.0%} of the engine's time"
    note += f"; oldest {latency_s:.1f} s"
    if share < SHARE:
        raise Unmet(f"{note}; at least {SHARE:.0%} are expected")
    return note


def _is_prediction(message: object) -> bool:
    return isinstance(message, Recognition) and message.state != "warming"


def _ask(address: str, route: str) -> dict[str, Any]:
    with urlopen(f"http://{address}/{route}", timeout=10) as answer:
        said: dict[str, Any] = json.load(answer)
    return said


FAULTS = [
    Fault("overload-streaming", "streaming mode on four cameras, with a network that one core cannot carry along them",
          "each is recognised in its turn; said once in the log and in /readyz; predictions for 30 % of the engine's "
          "time",
          60.0, overload_streaming, short=False),
]  # fmt: skip
