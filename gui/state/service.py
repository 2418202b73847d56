"""Whether the service behind the window lives. Pure: it is given every message's time, and asked with the time.

A service says something every second at least (its answers to our questions), so three seconds of silence, or a
connection that broke, mean that it is gone.
"""

from __future__ import annotations

from typing import Literal

from .formats import age
from .translation import translate

ServiceState = Literal["searching", "up", "lost"]

SILENCE_S = 2.5


class ServiceWatch:
    """Turns words, and their absence, into a state."""

    def __init__(self, address: str, silence_s: float = SILENCE_S) -> None:
        self.address = address
        self._silence_s = silence_s
        self._heard_at: float | None = None
        self._lost_at: float | None = None

    def heard(self, now: float) -> None:
        """A message or an answer arrived at `now`."""
        self._heard_at, self._lost_at = now, None

    def broken(self, now: float) -> None:
        """The connection ended at `now`."""
        if self._heard_at is not None and self._lost_at is None:
            self._lost_at = now

    def state(self, now: float) -> ServiceState:
        """Return the state as of `now`."""
        if self._heard_at is None:
            return "searching"
        if self._lost_at is None and now - self._heard_at > self._silence_s:
            self._lost_at = self._heard_at
        return "up" if self._lost_at is None else "lost"

    def describe(self, now: float) -> str:
        """Return one line for people."""
        state = self.state(now)
        if state == "searching":
            return translate("Service", "No service at {address} yet; trying on").format(address=self.address)
        if state == "up":
            return translate("Service", "Connected to {address}").format(address=self.address)
        gone = 0.0 if self._lost_at is None else now - self._lost_at
        words = translate("Service", "The service at {address} does not answer for {age}; history is kept, trying on")
        return words.format(address=self.address, age=age(gone))
