"""The ZeroMQ sink, with keys; without them it is the Publisher of tests/transport/test_sockets.py."""

from __future__ import annotations

import importlib
import importlib.util
import json
import threading
from pathlib import Path
from typing import Any, get_args

import pytest

from stream_i3d.config import Config, PublishConfig, convert
from stream_i3d.errors import ConfigError, TransportError
from stream_i3d.publish import jsonl
from stream_i3d.publish.sink import Folder, QueuedSink, Server
from stream_i3d.publish.sinks import SINKS, Sinks, check_sinks, make_outlets, name_sinks, sink_needs
from stream_i3d.publish.store_sink import StoreSink
from stream_i3d.sink_settings import SinkSettings
from stream_i3d.stage import SinkFigures
from stream_i3d.transport.sockets import Publisher, Subscriber
from stream_i3d.transport.wire import Published, encode_published
from tests.keys import Ring
from tests.samples import event, status
from tests.waiting import WAIT_S, wait_until


def config_of(folder: Path, **more: str) -> Config:
    return Config(publish=PublishConfig(address=f"ipc://{folder}/pub", **more))


def test_without_durable_sinks_a_message_is_safe_at_once(tmp_path: Path) -> None:
    sinks = Sinks(config_of(tmp_path), "run")
    assert sinks.settled(sinks.write(event()))
    assert (sinks.published, sinks.figures()) == (1, [])
    sinks.close()


def test_a_message_is_safe_once_the_file_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = threading.Event()

    class Held:
        def write(self, message: Published) -> None:
            assert free.wait(WAIT_S)

        def close(self) -> None: ...

    monkeypatch.setattr(jsonl, "JsonLinesSink", lambda *given: Held())
    sinks = Sinks(config_of(tmp_path, jsonl="out.jsonl"), "run")
    marks = [sinks.write(event(id=str(number))) for number in range(3)]
    assert not sinks.settled(marks[0])
    assert sinks.figures()[0].queued == 3
    free.set()
    sinks.close()
    assert sinks.settled(marks[2])
    [figures] = sinks.figures()
    assert figures == SinkFigures(name="jsonl", queued=0, written=3, dropped=0, failing=False)


def test_a_message_that_could_not_be_written_is_given_up_and_counted(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    sinks = Sinks(config_of(tmp_path, jsonl="/dev/full"), "run")
    mark = sinks.write(event())
    sinks.close()
    assert sinks.settled(mark)
    assert [(one.dropped, one.failing) for one in sinks.figures()] == [(1, True)]


def test_a_sink_that_cannot_be_had_leaves_the_address_free(tmp_path: Path) -> None:
    config = config_of(tmp_path, jsonl=str(tmp_path / "missing" / "out.jsonl"))
    with pytest.raises(ConfigError, match="cannot write JSON lines to"):
        Sinks(config, "run")
    Publisher(config.publish.address).close()


def test_only_durable_sinks_are_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = threading.Event()

    class Held:
        def write(self, message: Published) -> None:
            assert free.wait(WAIT_S)

        def close(self) -> None: ...

    class Nowhere(Held):
        def write(self, message: Published) -> None: ...

    queued = [QueuedSink(Held(), "a"), QueuedSink(Nowhere(), "b", durable=True)]
    assert [one.durable for one in queued] == [False, True]
    monkeypatch.setattr("stream_i3d.publish.sinks.make_outlets", lambda *given: queued)
    sinks = Sinks(config_of(tmp_path), "run")
    mark = sinks.write(event())
    wait_until(lambda: sinks.settled(mark))
    assert [one.handled for one in queued] == [0, 1]
    free.set()
    sinks.close()


def test_every_sink_is_given_every_message(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    sinks = Sinks(config_of(tmp_path, jsonl=str(path)), "run")
    for number in range(10):
        sinks.write(event(id=str(number)))
    sinks.close()
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == [str(number) for number in range(10)]


def converted(*entries: dict[str, Any], **publish: Any) -> Config:
    return convert({"sinks": list(entries), "publish": publish})


def test_the_short_form_of_json_lines_stands_beside_others(tmp_path: Path) -> None:
    assert list(name_sinks(converted(jsonl="a"))) == ["jsonl"]
    named = name_sinks(converted({"type": "jsonl", "path": "b"}, jsonl="a"))
    assert {name: sink.path for name, sink in named.items()} == {"publish-jsonl": "a", "jsonl": "b"}  # type: ignore[union-attr]


def test_all_types_of_sinks_are_made_and_those_that_deliver_do_so_from_the_store(tmp_path: Path) -> None:
    threads = threading.active_count()
    config = converted(
        {"type": "jsonl", "path": str(tmp_path / "out.jsonl"), "what": ["events"]},
        {"type": "store", "path": str(tmp_path / "events.db")},
        {"type": "mqtt", "host": "127.0.0.1", "port": 1},
        {"type": "webhook", "url": "http://127.0.0.1:1/"},
        {"type": "recorder", "folder": str(tmp_path / "clips")},
    )
    outlets = make_outlets(config, "run")
    by_name = {outlet.name: outlet for outlet in outlets}
    assert set(by_name) == {"jsonl", "store", "mqtt", "webhook", "recorder"}
    assert [name for name, outlet in by_name.items() if outlet.durable] == ["jsonl", "store"]
    store = by_name["store"]
    assert isinstance(store, StoreSink) and set(store.outboxes) == {"mqtt", "webhook"}
    assert isinstance(by_name["jsonl"], QueuedSink)
    order = [outlet.name for outlet in outlets]
    assert order.index("recorder") < order.index("store")  # its clips are noted there
    for outlet in outlets:
        outlet.follow({"door": ""})
        outlet.close(WAIT_S)
    assert threading.active_count() == threads


def test_where_one_cannot_be_had_the_others_are_closed(tmp_path: Path) -> None:
    threads = threading.active_count()
    with pytest.raises(ConfigError, match="cannot write JSON lines to"):
        make_outlets(
            converted(
                {"type": "store", "path": str(tmp_path / "events.db")},
                {"type": "jsonl", "path": str(tmp_path / "missing" / "out.jsonl")},
            ),
            "run",
        )
    for thread in threading.enumerate():
        if thread.name.startswith("sink-"):
            thread.join(WAIT_S)
    assert threading.active_count() == threads


def test_what_an_extra_installs_is_asked_for_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for entry, extra in (
        ({"type": "mqtt", "host": "h"}, "mqtt"),
        ({"type": "webhook", "url": "http://h"}, "webhook"),
        ({"type": "recorder", "folder": "f"}, "recorder"),
    ):
        with pytest.raises(ConfigError, match=rf"the sink {extra} needs \w+: run pip install 'stream-i3d\[{extra}\]'"):
            check_sinks(converted(entry))
    check_sinks(converted({"type": "store", "path": "x"}, {"type": "jsonl", "path": "x"}))


def test_a_sink_with_keys_is_heard_by_its_clients_only(tmp_path: Path) -> None:
    ring = Ring.make(tmp_path)
    sink = Sinks(Config(publish=PublishConfig(address="tcp://127.0.0.1:*"), security=ring.security), "run")
    try:
        with Subscriber(sink.address, keys=ring.client()) as known, Subscriber(sink.address) as stranger:
            with pytest.raises(TransportError, match="lets in clients with keys only"):
                stranger.receive(10.0)
            for _ in range(500):
                sink.write(status())
                if known.receive(0.02) is not None:
                    break
            else:
                raise AssertionError("nothing was heard")
            assert stranger._socket.poll(0) == 0
    finally:
        sink.close()


def test_every_sink_that_can_be_configured_has_a_row_and_a_module_that_makes_it() -> None:
    assert set(SINKS) == set(get_args(SinkSettings))
    for kind in SINKS.values():
        module = importlib.import_module(f"stream_i3d.publish.{kind.module}")
        assert callable(module.make) and callable(module.needs)


@pytest.mark.parametrize(
    ("entry", "needed"),
    [
        ({"type": "jsonl", "path": "-"}, None),
        ({"type": "jsonl", "path": "/a/out.jsonl"}, Folder(Path("/a"))),
        ({"type": "store", "path": "/a/events.db"}, Folder(Path("/a"), 500.0)),
        ({"type": "mqtt", "host": "broker", "tls": {}}, Server("broker", 8883)),
        ({"type": "webhook", "url": "https://host/path"}, Server("host", 443)),
        (
            {"type": "recorder", "folder": "/missing", "quota_mb": 100, "min_free_mb": 50},
            Folder(Path("/missing"), 150.0, made=True),
        ),
    ],
)
def test_a_sink_says_what_it_needs(entry: dict[str, Any], needed: object) -> None:
    assert sink_needs(converted(entry).sinks[0]) == needed


def test_a_message_whose_bytes_are_known_is_published_as_it_is(tmp_path: Path) -> None:
    sinks = Sinks(config_of(tmp_path), "run")
    topic, body = encode_published(event())
    parts = (topic, b" " + body)  # what encoding it again would not give
    try:
        with Subscriber(sinks.address) as subscriber:
            for _ in range(500):
                sinks.write(event(), parts)
                if (received := subscriber.receive(0.02)) is not None:
                    break
            assert received is not None and tuple(received) == parts
    finally:
        sinks.close()
