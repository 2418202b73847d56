"""MQTT topics, the state of each camera, and the discovery messages of Home Assistant. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Any, get_args

from msgspec import Struct, structs

from stream_i3d import __version__
from stream_i3d.messages import CameraName, CameraState, CameraStatus, Recognition
from stream_i3d.transport.wire import Published

ONLINE, OFFLINE = b"online", b"offline"

_WHILE_LIVE = "{{{{ ({}) if value_json.state == 'live' else None }}}}"
"""Home Assistant shows None as "unknown": what happens in front of a lost camera is not known."""

_ACTION = _WHILE_LIVE.format("value_json.action or 'none'")

MAX_CAMERAS = 10_000
"""Of which a broker's retained states are taken note of."""
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")

_ENTITIES: dict[str, tuple[str, dict[str, Any]]] = {
    "action": (
        "sensor",
        {"name": "Action", "value_template": _ACTION, "icon": "mdi:run"},
    ),
    "confidence": (
        "sensor",
        {
            "name": "Confidence",
            "value_template": _WHILE_LIVE.format("(value_json.confidence * 100) | round(0)"),
            "unit_of_measurement": "%",
            "state_class": "measurement",
        },
    ),
    "connected": (
        "binary_sensor",
        {
            "name": "Connected",
            "device_class": "connectivity",
            "value_template": "{{ 'ON' if value_json.state == 'live' else 'OFF' }}",
            "entity_category": "diagnostic",
        },
    ),
    "state": (
        "sensor",
        {
            "name": "State",
            "device_class": "enum",
            "options": list(get_args(CameraState)),
            "value_template": "{{ value_json.state }}",
            "entity_category": "diagnostic",
        },
    ),
}
"""Entities of a camera in Home Assistant: the component and its own fields."""


class MqttState(Struct, frozen=True, kw_only=True):
    """The current state of a camera: the payload of its state topic.

    Attributes:
        state: As in its status; "connecting" before the first.
        action: What is being done, null while nothing is: between an event's start and its end. Null while the camera
            is not live.
        confidence: Smoothed probability of the likeliest label when this was published; 0 while the camera is not live.
        since: When the action started; null while there is none.
    """

    schema: str = "stream-i3d/mqtt-state/1"
    camera: CameraName
    state: str = "connecting"
    action: str | None = None
    confidence: float = 0.0
    since: float | None = None
    fps: float = 0.0
    detail: str = ""


class Topics:
    """The topics under one base."""

    def __init__(self, base: str, discovery: str | None) -> None:
        self._base = base
        self._discovery = discovery
        self.availability = f"{base}/availability"
        self.all_states = f"{base}/+/state"

    def of(self, camera: str, what: str) -> str:
        """Return a camera's topic: `what` is state, event or prediction."""
        return f"{self._base}/{camera}/{what}"

    def camera_of(self, state_topic: str) -> str | None:
        """Return the camera whose state a topic is; None where it is no topic of this service."""
        camera = state_topic.removeprefix(f"{self._base}/").removesuffix("/state")
        return camera if _NAME.fullmatch(camera) and state_topic == self.of(camera, "state") else None

    def discovery(self, camera: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the topics and payloads by which Home Assistant learns of a camera; nothing where it should not."""
        if self._discovery is None:
            return
        node = _plain(self._base)
        device = {
            "identifiers": [f"{node}_{_plain(camera)}"],
            "name": camera,
            "manufacturer": "stream-i3d",
            "model": "action recognition",
            "sw_version": __version__,
        }
        for entity, (component, special) in _ENTITIES.items():
            payload = {
                "unique_id": f"{node}_{_plain(camera)}_{entity}",
                "state_topic": self.of(camera, "state"),
                "availability_topic": self.availability,
                **special,
                "device": device,
                "origin": {"name": "stream-i3d", "sw_version": __version__},
            }
            yield f"{self._discovery}/{component}/{node}/{_plain(camera)}_{entity}/config", payload

    def of_removed(self, camera: str) -> list[str]:
        """Return the topics whose retained messages must go when a camera is gone."""
        return [*(topic for topic, _ in self.discovery(camera)), self.of(camera, "state")]


class MqttStates:
    """The newest state of each camera, and which of them are to be published."""

    def __init__(self) -> None:
        self._now: dict[str, MqttState] = {}
        self._due: dict[str, None] = {}
        self._lost: set[str] = set()  # cameras that are not live by their newest status

    @property
    def cameras(self) -> list[str]:
        """The cameras that have been seen."""
        return list(self._now)

    def take(self, message: Published) -> None:
        """Update from a published message. A prediction alone makes no state due; it goes with the next one."""
        now = self._now.get(message.camera) or MqttState(camera=message.camera)
        if isinstance(message, Recognition):
            self._now[message.camera] = structs.replace(now, confidence=round(message.confidence, 3))
            return
        if isinstance(message, CameraStatus):
            (self._lost.discard if message.state == "live" else self._lost.add)(message.camera)
            now = structs.replace(now, state=message.state, fps=message.fps, detail=message.detail)
        elif message.event == "start":
            confidence = round(message.peak_confidence, 3)
            now = structs.replace(now, action=message.label, confidence=confidence, since=message.start_time)
        else:
            now = structs.replace(now, action=None, since=None)
        self._now[message.camera] = now
        self._due[message.camera] = None

    def forget(self, camera: str) -> None:
        """Forget a camera that is gone."""
        self._now.pop(camera, None)
        self._lost.discard(camera)
        self._due.pop(camera, None)

    def tell_all(self) -> None:
        """Mark all states as due again: the broker may have lost them."""
        self._due = dict.fromkeys(self._now)

    def next_due(self) -> MqttState | None:
        """Return a camera whose state is due; None where there is none.

        What was recognised before a camera was lost is not shown as its present state. An action that goes on when
        the camera is live again is shown again.
        """
        if not self._due:
            return None
        camera = next(iter(self._due))
        del self._due[camera]
        now = self._now[camera]
        return structs.replace(now, action=None, confidence=0.0, since=None) if camera in self._lost else now


def _plain(text: str) -> str:
    """Return a name in the characters that discovery allows; names that differ stay different."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", text)
    return plain if plain == text else f"{plain}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"
