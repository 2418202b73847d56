from __future__ import annotations

import importlib.util
import threading
from pathlib import Path
from typing import Any

import pytest

from stream_i3d.config import Config, convert
from stream_i3d.errors import ConfigError
from stream_i3d.publish.factory import check_sinks, make_outlets, name_sinks
from stream_i3d.publish.sink import QueuedSink
from stream_i3d.publish.store_sink import StoreSink
from tests.waiting import WAIT_S


def config_of(*entries: dict[str, Any], **publish: Any) -> Config:
    return convert({"sinks": list(entries), "publish": publish})


def test_the_short_form_of_json_lines_stands_beside_others(tmp_path: Path) -> None:
    assert list(name_sinks(config_of(jsonl="a"))) == ["jsonl"]
    named = name_sinks(config_of({"type": "jsonl", "path": "b"}, jsonl="a"))
    assert {name: sink.path for name, sink in named.items()} == {"publish-jsonl": "a", "jsonl": "b"}  # type: ignore[union-attr]


def test_all_types_of_sinks_are_made_and_those_that_deliver_do_so_from_the_store(tmp_path: Path) -> None:
    threads = threading.active_count()
    config = config_of(
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
            config_of(
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
            check_sinks(config_of(entry))
    check_sinks(config_of({"type": "store", "path": "x"}, {"type": "jsonl", "path": "x"}))
