"""The webhook sink: each event posted as JSON to one URL, in order per camera, until it is taken (docs/sinks.md)."""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec

from stream_i3d import __version__
from stream_i3d.deadline import call_within
from stream_i3d.messages import ActionEvent
from stream_i3d.publish.outbox import Outbox, Pending
from stream_i3d.publish.sink import Outlet, Reachable, SinkContext
from stream_i3d.publish.webhook_policy import DELIVERY_HEADER, SIGNATURE_HEADER, Schedule, judge, retry_after, sign
from stream_i3d.redact import redact
from stream_i3d.sink_settings import WebhookSettings
from stream_i3d.stage import SinkFigures
from stream_i3d.thread_names import name_background_thread
from stream_i3d.transport.wire import Published

log = logging.getLogger(__name__)

_STORE_AGAIN_S = 1.0
_MAX_ANSWER_BYTES = 65536


class WebhookSink(Outlet):
    """Posts events from a thread of its own. Drop policy: the outbox's.

    A camera whose event is not taken waits, with pauses that grow; the events of other cameras go on meanwhile.
    """

    def __init__(self, settings: WebhookSettings, name: str, outbox: Outbox) -> None:
        """Args: `outbox` is this sink's from now on."""
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
        """Take one event; all else is left."""
        if isinstance(message, ActionEvent):
            self._outbox.offer(message)

    def figures(self) -> SinkFigures:
        """Return how it fares."""
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
            except OSError as error:  # of the store, whose own sink says it
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
        self._settle()  # before anything else: what was taken must not be posted again
        now = time.monotonic()
        busy = self._schedule.busy(now)
        pending = self._outbox.fetch(1, without=list(busy))
        if not pending:
            return min((at - now for at in busy.values()), default=3600.0)
        self._post(pending[0])
        return 0.0

    def _settle(self) -> None:
        """Have the outbox note what became of the event that was posted last. OSError where it cannot."""
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
            self._fails(reason)
            if not self._schedule.failed(camera, time.monotonic(), pause_s):
                return
            reason = f"given up after {self._settings.give_up_s:g} s: {reason}"
        self._schedule.settled(camera)
        if verdict == "done":
            self._mark = partial(self._outbox.done, [pending])
            self._works()
        else:
            self._mark = partial(self._outbox.refused, pending, reason)
            self._refuses(pending.event, reason)

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

    def _works(self) -> None:
        self._written += 1
        if self._failure:
            log.info("%s: %s takes events again", self.name, self._where)
            self._failure = ""

    def _fails(self, reason: str) -> None:
        if not self._failure:
            log.warning(
                "%s: %s does not take events now (%s); they wait, and are tried again", self.name, self._where, reason
            )
        self._failure = reason

    def _refuses(self, event: ActionEvent, reason: str) -> None:
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

    One that breaks off is left too: its status was there, and has said what became of the event.
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


def make_sink(settings: WebhookSettings, context: SinkContext) -> WebhookSink:
    """Return the sink at work."""
    return WebhookSink(settings, context.name, context.outbox)


def needs(settings: WebhookSettings) -> Reachable:
    """Return the host that events are posted to."""
    parts = urlsplit(settings.url)
    return Reachable(parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
