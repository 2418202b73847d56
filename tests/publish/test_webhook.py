from __future__ import annotations

import hashlib
import hmac
import json
import logging
import random
import threading
from collections import defaultdict
from collections.abc import Iterator
from email.utils import formatdate
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest

from stream_i3d.publish.outbox import MemoryOutbox, Outbox
from stream_i3d.publish.store_sink import StoreSink
from stream_i3d.publish.webhook import Schedule, WebhookSink, _read_away, judge, retry_after, sign
from stream_i3d.sink_settings import StoreSettings, WebhookSettings
from tests.ports import free_port
from tests.publish.hostile import HostileServer, drip, pour, silence
from tests.publish.test_store import action
from tests.samples import event, recognition, status
from tests.waiting import WAIT_S, wait_until
from tests.web_server import Answer, Request, WebServer


def make(url: str, outbox: Outbox | None = None, **more: Any) -> WebhookSink:
    quick = {"backoff_first_s": 0.01, "backoff_limit_s": 0.02, **more}
    return WebhookSink(WebhookSettings(url=url, **quick), "webhook", outbox or MemoryOutbox(1000))


def posted(requests: list[Request]) -> list[tuple[str, str]]:
    return [(one["id"], one["event"]) for one in (json.loads(request.body) for request in requests)]


def test_events_and_nothing_else_are_posted_in_order_as_they_are_published() -> None:
    with WebServer() as server:
        sink = make(server.url, headers={"Authorization": "Bearer abc"})
        told = [one for number in range(10) for one in action(number)]
        for one in told:
            sink.write(recognition())
            sink.write(status())
            sink.write(one)
        requests = server.wait_for(20)
        sink.close(WAIT_S)
        assert posted(server.requests) == [(one.id, one.event) for one in told]
    first = requests[0]
    assert json.loads(first.body)["schema"] == "stream-i3d/event/1"
    assert first.headers["Content-Type"] == "application/json"
    assert first.headers["Authorization"] == "Bearer abc"
    assert first.headers["X-Stream-I3D-Delivery"] == f"{told[0].id}/start"
    assert "X-Stream-I3D-Signature" not in first.headers
    assert (sink.figures().written, sink.figures().queued) == (20, 0)


def test_the_receiver_can_check_the_signature() -> None:
    with WebServer() as server:
        sink = make(server.url, secret="hush")
        sink.write(event())
        (request,) = server.wait_for(1)
        sink.close(WAIT_S)
    time_part, signature = request.headers["X-Stream-I3D-Signature"].split(",")
    expected = hmac.new(b"hush", f"{time_part[2:]}.".encode() + request.body, sha256).hexdigest()
    assert hmac.compare_digest(signature, f"v1={expected}")


def test_an_event_that_is_not_taken_now_is_tried_again_and_those_behind_it_wait() -> None:
    tries: dict[str, int] = defaultdict(int)

    def answer(request: Request) -> Answer:
        key = request.headers["X-Stream-I3D-Delivery"]
        tries[key] += 1
        return Answer(503 if tries[key] < 3 and key.startswith("door") else 204)

    with WebServer(answer) as server:
        sink = make(server.url)
        told = [*action(1), *action(2, "yard"), *action(3)]
        for one in told:
            sink.write(one)
        wait_until(lambda: sink.figures().written == 6)
        sink.close(WAIT_S)
        came = posted(server.requests)
    doors = [one for one in came if one[0].startswith("door")]
    assert doors == [(one.id, one.event) for one in told if one.camera == "door" for _ in range(3)]
    assert [one for one in came if one[0].startswith("yard")] == [("yard-1-2", "start"), ("yard-1-2", "end")]
    assert came.index(("yard-1-2", "end")) < came.index(("door-1-3", "end"))  # one camera does not hold up the other


def test_an_event_that_is_refused_is_passed_over_counted_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with WebServer(lambda request: Answer(404 if b'"start"' in request.body else 200)) as server:
        sink = make(f"{server.url}?token=hush")
        for number in range(3):
            for one in action(number):
                sink.write(one)
        server.wait_for(6)
        sink.close(WAIT_S)
        assert len(server.requests) == 6
    assert (sink.figures().refused, sink.figures().written) == (3, 3)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "refused the start of door-1-0 for good (404 Not Found)" in caplog.text
    assert "hush" not in caplog.text


def test_a_redirection_is_not_followed() -> None:
    with WebServer() as elsewhere, WebServer(lambda _: Answer(307, {"Location": elsewhere.url})) as server:
        sink = make(server.url)
        sink.write(event())
        wait_until(lambda: sink.figures().refused == 1)
        sink.close(WAIT_S)
        assert (len(server.requests), len(elsewhere.requests)) == (1, 0)


def test_a_pause_that_the_receiver_asks_for_is_kept() -> None:
    with WebServer(lambda _: Answer(429, {"Retry-After": "1000"})) as server:
        sink = make(server.url)
        sink.write(action(1)[0])
        sink.write(action(1, "yard")[0])
        server.wait_for(2)  # each camera asks once, though the sink's own pauses are of 10 ms
        wait_until(lambda: len(sink._schedule.busy(0)) == 2)
        assert min(sink._schedule.busy(0).values()) > 900
        sink.close(WAIT_S)
        assert (len(server.requests), sink.figures().queued) == (2, 2)
        assert sink.figures().detail == "429 Too Many Requests"


def test_an_event_that_is_never_taken_can_be_given_up() -> None:
    with WebServer(lambda _: Answer(500)) as server:
        sink = make(server.url, give_up_s=0.05)
        sink.write(event())
        wait_until(lambda: sink.figures().refused == 1)
        sink.close(WAIT_S)
    assert (sink.figures().written, sink.figures().queued) == (0, 0)


def test_an_answer_that_drips_for_ever_holds_nobody_up() -> None:
    read = []

    class Dripping(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            for number in range(1000):
                read.append(number)
                yield b"."

    _read_away(httpx.Response(200, stream=Dripping()), until=0.0)
    assert read == [0]


def test_an_address_that_turns_out_to_be_none_does_not_end_the_sink() -> None:
    sink = make("http://a..b/")
    sink.write(event())
    wait_until(lambda: sink.figures().failing)
    assert sink._thread.is_alive() and sink.figures().queued == 1
    sink.close(WAIT_S)


def test_200_events_while_nobody_answers_are_all_posted_afterwards_in_order(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    store = StoreSink(StoreSettings(path=str(tmp_path / "events.db")), "store", ["webhook"], "run")
    sink = make(f"http://user:hush@127.0.0.1:{port}/", store.outboxes["webhook"])
    told = [one for number in range(50) for camera in ("door", "yard") for one in action(number, camera)]
    with caplog.at_level(logging.INFO):
        for one in told:
            store.write(one)
        wait_until(lambda: store.handled == 200 and "Connect" in sink.figures().detail)
        assert sink.figures().queued == 200
        with WebServer(port=port) as server:
            server.wait_for(200)
            wait_until(lambda: sink.figures().queued == 0)
            sink.close(WAIT_S)
            store.close(WAIT_S)
            came = posted(server.requests)
    for camera in ("door", "yard"):
        mine = [one for one in came if one[0].startswith(camera)]
        assert mine == [(one.id, one.event) for one in told if one.camera == camera]
    assert sum("does not take events now" in message for message in caplog.messages) == 1
    assert sum("takes events again" in message for message in caplog.messages) == 1
    assert "hush" not in caplog.text + sink.figures().detail


def test_what_was_taken_is_not_posted_again_where_the_mark_could_not_be_written(tmp_path: Path) -> None:
    class Outbox(MemoryOutbox):
        fails = 2

        def done(self, pending: Any) -> None:
            if self.fails:
                self.fails -= 1
                raise OSError(28, "database or disk is full")
            super().done(pending)

    with WebServer() as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr("stream_i3d.publish.webhook._STORE_AGAIN_S", 0.01)
        sink = make(server.url, Outbox(10))
        for one in action(1):
            sink.write(one)
        wait_until(lambda: sink.figures().queued == 0)
        sink.close(WAIT_S)
        assert posted(server.requests) == [("door-1-1", "start"), ("door-1-1", "end")]


@pytest.mark.parametrize("ending", ["close", "keep-alive"])
def test_an_event_is_taken_where_the_status_says_so_and_the_answer_breaks_off(ending: str) -> None:
    cut_off = Answer(200, {"Content-Length": "99", "Connection": ending}, b"short")
    with WebServer(lambda _: cut_off) as server:
        sink = make(server.url, timeout_s=0.2)
        for one in action(1):
            sink.write(one)
        wait_until(lambda: sink.figures().queued == 0)
        sink.close(WAIT_S)
        assert posted(server.requests) == [("door-1-1", "start"), ("door-1-1", "end")]
    assert (sink.figures().written, sink.figures().failing) == (2, False)


def test_what_is_taken_after_the_time_for_the_end_is_marked_all_the_same() -> None:
    answers = threading.Event()

    def answer(request: Request) -> Answer:
        assert answers.wait(WAIT_S)
        return Answer()

    outbox = MemoryOutbox(10)
    with WebServer(answer) as server:
        sink = make(server.url, outbox)
        sink.write(event())
        server.wait_for(1)
        sink.close(0.0)
        answers.set()
        sink._thread.join(WAIT_S)
    assert (len(server.requests), outbox.waiting) == (1, 0)


CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("scheme", "talk"),
    [
        ("http", drip(CONTINUE)),
        ("http", pour(b"", CONTINUE * 100)),
        ("http", drip(HEAD + b"X-Header: y\r\n" * 1000)),
        ("http", pour(HEAD, b"X-Header: y\r\n" * 100)),
        ("http", silence),
        ("https", silence),
    ],
    ids=["continue-slowly", "continue-fast", "head-slowly", "endless-headers", "silence", "no-tls-handshake"],
)
def test_a_receiver_that_never_comes_to_an_answer_is_said_and_tried_again(
    scheme: str, talk: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with HostileServer(talk) as server:
        sink = make(f"{scheme}://127.0.0.1:{server.port}/", timeout_s=0.2)
        sink.write(event())
        wait_until(lambda: server.connections >= 2 and sink.figures().failing)
        sink.close(WAIT_S)
        assert (sink.figures().written, sink.figures().queued) == (0, 1)
    assert caplog.text.count("does not take events now") == 1


@pytest.mark.parametrize(
    "talk",
    [
        pour(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", bytes(65536)),
        pour(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + bytes(65536) + b"\r\n"),
        pour(HEAD + b"Content-Encoding: gzip\r\nContent-Length: 9999999\r\n\r\n", b"\x1f\x8b\x08" + bytes(65536)),
    ],
    ids=["huge", "endless", "gzip"],
)
def test_an_answer_without_end_is_left_once_its_status_is_there(talk: Any) -> None:
    with HostileServer(talk) as server:
        sink = make(f"http://127.0.0.1:{server.port}/", timeout_s=5.0)
        for one in action(1):
            sink.write(one)
        wait_until(lambda: sink.figures().written == 2)
        sink.close(WAIT_S)
        assert (sink.figures().queued, sink.figures().failing) == (0, False)


def test_a_name_that_is_looked_up_for_ever_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    end = threading.Event()
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: end.wait(WAIT_S) and [])
    sink = make("http://hook.example/", timeout_s=0.1)
    sink.write(event())
    wait_until(lambda: "no answer" in sink.figures().detail)
    assert sink.figures().written == 0
    end.set()
    sink.close(WAIT_S)


NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("statuses", "verdict"),
    [
        ((200, 201, 204), "done"),
        ((408, 425, 429, 500, 502, 503, 504, 599), "again"),
        ((301, 302, 307, 308, 400, 401, 403, 404, 410, 413, 422), "refused"),
    ],
)
def test_each_status_is_taken_tried_again_or_refused(statuses: tuple[int, ...], verdict: str) -> None:
    assert {judge(status) for status in statuses} == {verdict}


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, 0),
        ("120", 120),
        (" 7 ", 7),
        (formatdate(NOW + 90, usegmt=True), 90),
        (formatdate(NOW - 90, usegmt=True), 0),
        ("999999", 3600),
        ("9" * 400, 3600),
        ("soon", 0),
        ("-5", 0),
        ("", 0),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_bounded(value: str | None, seconds: float) -> None:
    assert retry_after(value, NOW) == seconds


def test_the_signature_is_an_hmac_of_time_and_body() -> None:
    expected = hmac.new(b"secret", b'1800000000.{"a":1}', hashlib.sha256).hexdigest()
    assert sign("secret", 1_800_000_000, b'{"a":1}') == f"t=1800000000,v1={expected}"


def test_each_camera_waits_by_itself_and_longer_each_time() -> None:
    schedule = Schedule(random.Random(1), 1.0, 8.0, None)
    waits = []
    now = 100.0
    for _ in range(6):
        assert not schedule.failed("door", now)
        (until,) = schedule.busy(now).values()
        waits.append(until - now)
        now = until
    assert schedule.busy(now) == {}
    assert all(0.8 * nominal <= wait <= 1.2 * nominal for wait, nominal in zip(waits, (1, 2, 4, 8, 8, 8), strict=True))
    assert len(set(waits[:5])) == 5
    schedule.failed("yard", now)
    assert list(schedule.busy(now)) == ["yard"]


def test_what_the_other_side_asks_for_is_waited_for_and_an_event_taken_forgets_all() -> None:
    schedule = Schedule(random.Random(1), 1.0, 8.0, None)
    schedule.failed("door", 0.0, at_least_s=60)
    assert schedule.busy(59.9) == {"door": 60.0}
    schedule.settled("door")
    assert schedule.busy(1.0) == {}


def test_an_event_is_given_up_after_its_time() -> None:
    schedule = Schedule(random.Random(1), 1.0, 8.0, give_up_s=10)
    assert [schedule.failed("door", now) for now in (0.0, 5.0, 9.9, 10.0)] == [False, False, False, True]
