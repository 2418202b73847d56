"""The webhook sink: posts each event as JSON to one URL, in order per camera, until it is accepted (docs/sinks.md)."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx
import msgspec

from stream_i3d import __version__
from stream_i3d.backoff import Backoff
from stream_i3d.deadline import call_within
from stream_i3d.messages import ActionEvent
from stream_i3d.publish.outbox import Outbox, Pending
from stream_i3d.publish.sink import Outlet, Server, SinkContext
from stream_i3d.redact import redact
from stream_i3d.sink_settings import WebhookSettings
from stream_i3d.stage import SinkFigures
from stream_i3d.thread_names import name_background_thread
from stream_i3d.transport.wire import Published

log = logging.getLogger(__name__)

_STORE_AGAIN_S = 1.0
_MAX_ANSWER_BYTES = 65536


def make(settings: WebhookSettings, name: str, context: SinkContext) -> Outlet:
    """Start the sink."""
    return WebhookSink(settings, name, context.outbox(name, settings.queue))


def needs(settings: WebhookSettings) -> Server:
    """Return the server of the URL."""
    parts = urlsplit(settings.url)
    return Server(parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))


class WebhookSink(Outlet):
    """Posts events from a thread of its own. Drop policy: the outbox's.

    An event that is not accepted is tried again with growing pauses; events of other cameras are posted meanwhile.
    """

    def __init__(self, settings: WebhookSettings, name: str, outbox: Outbox) -> None:
        """Args: `outbox` is the queue of its events."""
        self.name = name
        self._settings = settings
        self._outbox = outbox
        self._where = _origin(settings.url)
        self._schedule = Schedule(
            random.Random(), settings.backoff_first_s, settings.backoff_limit_s, settings.give_up_s
        )
        self._news = threading.Event()
        self._until = float("inf")
        self._mark: Callable[[], None] | None = None
        self._written = self._refused = 0
        self._failure = ""
        self._client = self._new_client()
        outbox.call_at_news(self._news.set)
        for library in ("httpx", "httpcore"):  # which log every URL whole
            logging.getLogger(library).setLevel(logging.WARNING)
        self._thread = threading.Thread(target=self._run, name=f"sink-{name}", daemon=True)
        self._thread.start()

    def write(self, message: Published) -> None:
        """Take one event; other messages are ignored."""
        if isinstance(message, ActionEvent):
            self._outbox.offer(message)

    def figures(self) -> SinkFigures:
        """Return the counters and the state."""
        return SinkFigures(
            name=self.name,
            queued=self._outbox.waiting,
            written=self._written,
            dropped=self._outbox.dropped,
            refused=self._refused,
            failing=bool(self._failure),
            detail=self._failure,
        )

    def close(self, timeout_s: float = 1.0) -> None:
        """Post what can be posted at once, for at most `timeout_s`."""
        self._until = time.monotonic() + timeout_s
        self._news.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        name_background_thread("webhook")
        while time.monotonic() < self._until:
            self._news.clear()
            try:
                wait_s = self._step()
            except OSError as error:  # of the store, whose own sink reports it
                self._failure, wait_s = str(error), _STORE_AGAIN_S
            if wait_s and self._until < float("inf"):
                break
            if wait_s:
                self._news.wait(wait_s)
        self._client.close()
        with contextlib.suppress(OSError):  # then it is posted once more by the next service
            self._settle()
        self._outbox.close()

    def _step(self) -> float:
        """Post the oldest event whose turn it is; return the seconds until there can be something to do."""
        self._settle()  # first: an event that was accepted must not be posted again
        now = time.monotonic()
        busy = self._schedule.busy(now)
        pending = self._outbox.fetch(1, without=list(busy))
        if not pending:
            return min((at - now for at in busy.values()), default=3600.0)
        self._post(pending[0])
        return 0.0

    def _settle(self) -> None:
        """Record the result of the last post in the outbox. OSError where that fails."""
        if self._mark is not None:
            self._mark()
            self._mark = None

    def _post(self, pending: Pending) -> None:
        camera = pending.event.camera
        try:
            answer = self._ask(self._request(pending.event))
            reason, verdict = f"{answer.status_code} {answer.reason_phrase}".strip(), judge(answer.status_code)
            pause_s = retry_after(answer.headers.get("Retry-After"), time.time())
        except (
            TimeoutError,
            httpx.HTTPError,
            httpx.StreamError,
            httpx.InvalidURL,
            UnicodeError,
        ) as error:  # the last: of a host's name
            reason, verdict, pause_s = redact(f"{type(error).__name__}: {error}"), "again", 0.0
        if verdict == "again":
            self._failed(reason)
            if not self._schedule.failed(camera, time.monotonic(), pause_s):
                return
            reason = f"given up after {self._settings.give_up_s:g} s: {reason}"
        self._schedule.settled(camera)
        if verdict == "done":
            self._mark = partial(self._outbox.done, [pending])
            self._succeeded()
        else:
            self._mark = partial(self._outbox.refused, pending, reason)
            self._rejected(pending.event, reason)

    def _ask(self, request: dict[str, Any]) -> httpx.Response:
        """Post, and return the answer, of which status and headers have come.

        Raises:
            TimeoutError: They have not come within the time for a request.
            httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, UnicodeError: There is none.
        """
        client, until, answers = self._client, time.monotonic() + self._settings.timeout_s, list[httpx.Response]()

        def ask() -> None:
            with client.stream("POST", self._settings.url, **request) as answer:
                answers.append(answer)
                _read_away(answer, until)

        try:
            # httpx limits each wait for data, and knows no limit for all of them.
            call_within(self._settings.timeout_s, ask, client.close, self.name)
        except TimeoutError:
            self._client = self._new_client()
            if not answers:
                raise
        return answers[0]

    def _new_client(self) -> httpx.Client:
        return httpx.Client(timeout=self._settings.timeout_s, follow_redirects=False)

    def _request(self, event: ActionEvent) -> dict[str, Any]:
        body = msgspec.json.encode(event)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"stream-i3d/{__version__}",
            DELIVERY_HEADER: f"{event.id}/{event.event}",
            **self._settings.headers,
        }
        if self._settings.secret is not None:
            headers[SIGNATURE_HEADER] = sign(self._settings.secret, int(time.time()), body)
        return {"content": body, "headers": headers}

    def _succeeded(self) -> None:
        self._written += 1
        if self._failure:
            log.info("%s: %s takes events again", self.name, self._where)
            self._failure = ""

    def _failed(self, reason: str) -> None:
        if not self._failure:
            log.warning(
                "%s: %s does not take events now (%s); they wait, and are tried again", self.name, self._where, reason
            )
        self._failure = reason

    def _rejected(self, event: ActionEvent, reason: str) -> None:
        self._refused += 1
        if self._refused == 1:
            log.error(
                "%s: %s refused the %s of %s for good (%s); further ones are only counted",
                self.name,
                self._where,
                event.event,
                event.id,
                reason,
            )


def _read_away(answer: httpx.Response, until: float) -> None:
    """Read an answer so that its connection can be used again; a long or slow one is left, with the connection.

    One that breaks off is left too: its status had arrived, and decides about the event.
    """
    read = 0
    with contextlib.suppress(httpx.HTTPError):
        for part in answer.iter_raw():
            read += len(part)
            if read > _MAX_ANSWER_BYTES or time.monotonic() > until:
                return


def _origin(url: str) -> str:
    """Return scheme and host of a URL: the path of a webhook may be a secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")


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
    """Return the seconds that a Retry-After header asks for, at most an hour; 0 where it has none.

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
        """Args: `give_up_s` is the time for which one event is tried; None for ever."""
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
