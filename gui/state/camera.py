"""What one camera's picture has painted over it, from the messages about it. Pure.

Knows no pixel: `shown` says the words and numbers, the widget where they stand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stream_i3d.messages import CameraStatus, Recognition

from .formats import age, percent, rate
from .translation import translate

Kind = Literal["action", "idle", "warming", "waiting"]

_STALE_S = 3.0


def _state_words(state: str) -> str:
    return {
        "connecting": translate("Camera", "connecting"),
        "live": translate("Camera", "live"),
        "stalled": translate("Camera", "stalled"),
        "reconnecting": translate("Camera", "lost, reconnecting"),
        "stopped": translate("Camera", "stopped"),
    }[state]


@dataclass(frozen=True, slots=True)
class Shown:
    """The words over one picture.

    Attributes:
        kind: "action": a label is shown; "idle": nothing is recognised, which is not a guess; "warming": the first
            window is not full yet; "waiting": nothing recent is known.
        headline: The label, or what stands in its place.
        confidence: Of the label, 0 to 1; None unless kind is "action".
        note: A smaller line under the headline.
        bars: Likeliest labels and their smoothed probabilities, best first.
        window_age: How old the newest recognised frame is, with its unit; empty when nothing is known.
        state: The camera's state in words, with its rate when live.
        dimmed: The picture is not what the camera sees now.
        reason: Why, in a line; empty when all is well.
        next_try_s: Whole seconds to the next attempt to connect, or None.
    """

    camera: str
    kind: Kind
    headline: str
    confidence: float | None
    note: str
    bars: tuple[tuple[str, float], ...]
    window_age: str
    state: str
    dimmed: bool
    reason: str
    next_try_s: int | None

    @property
    def spoken(self) -> str:
        """Everything as one sentence, for screen readers."""
        state, headline = self.state, self.headline
        if self.reason:
            state = f"{state}: {self.reason}"
        if self.next_try_s is not None:
            state = translate("Camera", "{state}, next try in {n} s").format(state=state, n=self.next_try_s)
        if self.confidence is not None:
            sure = percent(self.confidence)
            headline = translate("Camera", "{label}, {percent} sure").format(label=headline, percent=sure)
        words = translate("Camera", "Camera {name}, {state}. {headline}")
        return words.format(name=self.camera, state=state, headline=headline)


class CameraTrack:
    """The newest that is known of one camera."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.status: CameraStatus | None = None
        self.recognition: Recognition | None = None
        self.paused = False
        self._status_at = 0.0
        self._recognition_at = 0.0
        self._service_lost: str | None = None

    def take_recognition(self, message: Recognition, now: float) -> None:
        """Take in a prediction that arrived at `now`."""
        self.recognition, self._recognition_at = message, now
        self._service_lost = None

    def take_status(self, message: CameraStatus, now: float) -> None:
        """Take in a status that arrived at `now`."""
        self.status, self._status_at = message, now
        self._service_lost = None

    @property
    def without_service(self) -> bool:
        """Whether what is known is only what was."""
        return self._service_lost is not None

    def service_lost(self, reason: str) -> None:
        """The service is gone; what is known is what was."""
        self._service_lost = reason

    def window_age_s(self, now: float) -> float | None:
        """Return seconds since the newest recognised frame was captured: its latency, and the time since then."""
        if self.recognition is None:
            return None
        return self.recognition.latency_ms.total / 1000 + max(0.0, now - self._recognition_at)

    def shown(self, now: float, top_k: int = 5, hidden: frozenset[str] = frozenset()) -> Shown:
        """Return what stands over the picture at `now`.

        Args:
            now: Seconds, monotonic.
            top_k: Bars at most.
            hidden: Labels that are not to be shown; an action of such a label reads as no action.
        """
        dimmed, reason, next_try = self._trouble(now)
        kind, headline, confidence, note = self._words(now, dimmed, hidden)
        seen = self.recognition
        bars: tuple[tuple[str, float], ...] = ()
        if seen is not None and kind in ("action", "idle"):
            bars = tuple((s.label, s.probability) for s in seen.top_k if s.label not in hidden)[:top_k]
        known = self.window_age_s(now)
        return Shown(
            camera=self.name,
            kind=kind,
            headline=headline,
            confidence=confidence,
            note=note,
            bars=bars,
            window_age="" if known is None else age(known),
            state=self._state(),
            dimmed=dimmed,
            reason=reason,
            next_try_s=next_try,
        )

    def _state(self) -> str:
        if self._service_lost is not None:
            return translate("Camera", "no service")
        if self.paused:
            return translate("Camera", "paused")
        if self.status is None:
            return _state_words("connecting")
        words = _state_words(self.status.state)
        return f"{words} · {rate(self.status.fps)}" if self.status.state == "live" and self.status.fps else words

    def _trouble(self, now: float) -> tuple[bool, str, int | None]:
        """Return whether the picture is dimmed, why, and the seconds to the next try."""
        if self._service_lost is not None:
            return True, self._service_lost, None
        if self.paused:
            return True, translate("Camera", "paused; resume to go on"), None
        status = self.status
        if status is None:
            return False, "", None
        if status.state == "live":
            return status.too_slow, status.problem, None
        retry = status.retry_in_s
        wait = None if retry is None else max(0, round(retry - (now - self._status_at)))
        return True, status.problem or status.detail, wait

    def _words(self, now: float, dimmed: bool, hidden: frozenset[str]) -> tuple[Kind, str, float | None, str]:
        seen = self.recognition
        waits = not dimmed and self.status is not None and self.status.waiting_since is not None
        if seen is None and not waits:
            return "waiting", translate("Camera", "Waiting for the first window"), None, ""
        if dimmed or waits or seen is None or now - self._recognition_at > _STALE_S:
            known = seen is not None and seen.label
            last = translate("Camera", "last seen: {label}").format(label=known) if known else ""
            turn = translate("Camera", "Waiting for its turn: the machine cannot keep up")
            return "waiting", turn if waits else translate("Camera", "No current recognition"), None, last
        if seen.state == "warming":
            return "warming", translate("Camera", "Filling the first window"), None, ""
        idle = translate("Camera", "Idle")
        if seen.label is None:
            return "idle", idle, None, _idle_note(seen)
        if seen.label in hidden:
            return "idle", idle, None, translate("Camera", "an action that you chose not to show")
        return "action", seen.label, seen.confidence, ""


def _idle_note(seen: Recognition) -> str:
    """Return why nothing was looked for, or what would have been likeliest."""
    if seen.skipped:
        return translate("Camera", "skipped: {why}").format(why=seen.skipped)
    if not seen.top_k:
        return ""
    best = seen.top_k[0]
    words = translate("Camera", "likeliest: {label}, {percent}")
    return words.format(label=best.label, percent=percent(best.probability))
