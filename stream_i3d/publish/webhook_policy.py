"""What the answers of a webhook mean, when to try again, and how what is posted is signed. Pure."""

from __future__ import annotations

import hashlib
import hmac
import random
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Literal

from stream_i3d.backoff import Backoff

SIGNATURE_HEADER = "X-Stream-I3D-Signature"
DELIVERY_HEADER = "X-Stream-I3D-Delivery"

_AGAIN = (408, 425, 429)
_MAX_RETRY_AFTER_S = 3600.0

Verdict = Literal["done", "again", "refused"]


def sign(secret: str, timestamp: int, body: bytes) -> str:
    """Return the signature header of `body` sent at `timestamp` (seconds since 1970): `t=...,v1=...`.

    v1 is HMAC-SHA256 over the digits of the timestamp, a dot and the body, in hexadecimal.
    """
    digest = hmac.new(secret.encode(), b"%d.%b" % (timestamp, body), hashlib.sha256).hexdigest()
    return f"t={timestamp},v1={digest}"


def judge(status: int) -> Verdict:
    """Return what an HTTP status means for an event.

    2xx: it is delivered. 408, 425, 429 and 5xx pass: it is tried again. Everything else will be said again the next
    time too, redirections among them, which are not followed: an event must not go elsewhere than it was meant to.
    """
    if 200 <= status < 300:
        return "done"
    return "again" if status in _AGAIN or status >= 500 else "refused"


def retry_after(value: str | None, now: float) -> float:
    """Return the seconds that a Retry-After header asks for, at most an hour; 0 where it says nothing.

    Args:
        value: The header: seconds, or a date.
        now: Wall clock in seconds.
    """
    if value is None:
        return 0.0
    try:
        seconds = float(value) if value.strip().isdigit() else _date(value) - now
    except (ValueError, OverflowError):
        return 0.0
    return min(max(0.0, seconds), _MAX_RETRY_AFTER_S)


def _date(value: str) -> float:
    moment: datetime = parsedate_to_datetime(value)
    return moment.timestamp()


class Schedule:
    """When each camera's oldest event may be tried; `now` is the monotonic clock in seconds."""

    def __init__(self, rng: random.Random, first_s: float, limit_s: float, give_up_s: float | None) -> None:
        """Args: `give_up_s` is how long one event is tried; None for ever."""
        self._rng = rng
        self._first_s = first_s
        self._limit_s = limit_s
        self._give_up_s = give_up_s
        self._waiting: dict[str, _Wait] = {}

    def busy(self, now: float) -> Mapping[str, float]:
        """Return the cameras whose turn has not come, and when it comes."""
        return {camera: wait.until for camera, wait in self._waiting.items() if wait.until > now}

    def failed(self, camera: str, now: float, at_least_s: float = 0.0) -> bool:
        """Note that a camera's oldest event was not taken; return whether it is to be given up."""
        wait = self._waiting.setdefault(camera, _Wait(Backoff(self._rng, self._first_s, self._limit_s), now))
        wait.until = now + max(wait.backoff.failed(), at_least_s)
        return self._give_up_s is not None and now - wait.since >= self._give_up_s

    def settled(self, camera: str) -> None:
        """Note that a camera's oldest event was taken, or refused: the next one may be tried at once."""
        self._waiting.pop(camera, None)


class _Wait:
    def __init__(self, backoff: Backoff, since: float) -> None:
        self.backoff = backoff
        self.since = since
        self.until = since
