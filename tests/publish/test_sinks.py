from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from stream_i3d.config import Config, PublishConfig
from stream_i3d.errors import ConfigError
from stream_i3d.publish import jsonl
from stream_i3d.publish.sink import QueuedSink
from stream_i3d.publish.sinks import Sinks
from stream_i3d.stage import SinkFigures
from stream_i3d.transport.sockets import Publisher
from stream_i3d.transport.wire import Published
from tests.samples import event
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
