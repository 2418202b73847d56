"""The publisher in a thread, with real channels; killed workers are real processes in tests/test_end_to_end.py."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stream_i3d.config import Config, PublishConfig
from stream_i3d.errors import ConfigError, TransportError
from stream_i3d.messages import ActionEvent, CameraStatus
from stream_i3d.publish import process
from stream_i3d.publish.process import PublisherJob, run_publisher
from stream_i3d.sink_settings import SinkSettings, StoreSettings
from stream_i3d.stage import CameraNews, PublisherSummary, Ready
from stream_i3d.transport.relay import RelaySender
from stream_i3d.transport.sockets import Publisher, Subscriber
from stream_i3d.transport.wire import decode_published
from tests.samples import event, recognition, status
from tests.stages import WAIT_S, FakeStage
from tests.waiting import wait_until


class Rig:
    """A publisher in a thread, and workers' ends of its channel."""

    def __init__(self, folder: Path, *sinks: SinkSettings) -> None:
        self.output = folder / "out.jsonl"
        publish = PublishConfig(address=f"ipc://{folder}/pub", jsonl=str(self.output), status_interval_s=0.05)
        config = Config(publish=publish, sinks=list(sinks))
        self.job = PublisherJob(channel=f"ipc://{folder}/relay", config=config, run="run")
        self.stage = FakeStage("publisher")
        self._thread = threading.Thread(target=run_publisher, args=(self.stage, self.job))
        self.workers: list[RelaySender] = []

    def start(self) -> Rig:
        self._thread.start()
        self.stage.wait_until(lambda: any(isinstance(said, Ready) for said in self.stage.said))
        return self

    def worker(self, name: str = "worker") -> RelaySender:
        self.workers.append(RelaySender(self.job.channel, name, ["door"]))
        assert self.workers[-1].arrive(WAIT_S)
        return self.workers[-1]

    def end(self) -> list[dict[str, Any]]:
        """Stop it, and return what it has written."""
        self.stage.stopping.set()
        if self._thread.ident is not None:
            self._thread.join(WAIT_S)
            assert not self._thread.is_alive()
        for worker in self.workers:
            worker.close()
        self.workers.clear()
        return [json.loads(line) for line in self.output.read_text().splitlines()] if self.output.exists() else []

    def news(self) -> list[CameraStatus]:
        return [said.status for said in self.stage.said if isinstance(said, CameraNews)]

    @property
    def summary(self) -> PublisherSummary:
        return [PublisherSummary(), *(said for said in self.stage.said if isinstance(said, PublisherSummary))][-1]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.end()


def test_what_a_worker_says_is_published_written_and_told(rig: Rig) -> None:
    worker = rig.start().worker()
    ready = rig.stage.said[0]
    assert isinstance(ready, Ready) and ready.address == rig.job.config.publish.address
    with Subscriber(ready.address) as subscriber:
        seen = None
        while seen is None:  # until the subscription stands
            worker.write(status())
            seen = subscriber.receive(0.05)
        worker.write(event())
        while not isinstance(message := decode_published(subscriber.receive(WAIT_S) or []), ActionEvent):
            assert message == status()
    assert message == event()
    worker.write(recognition())
    assert worker.leave(WAIT_S)
    lines = rig.end()
    assert [line["schema"].split("/")[1] for line in lines][-2:] == ["event", "prediction"]
    assert rig.news()[-1] == status()
    assert (rig.summary.published, rig.summary.sinks[0].written) == (len(lines), len(lines))


def test_the_last_words_of_workers_are_published_before_it_ends(rig: Rig) -> None:
    worker = rig.start().worker()
    rig.stage.wait_until(lambda: rig.stage.beats > 3)
    for number in range(300):
        worker.write(event(id=str(number)))
    rig.stage.stopping.set()
    assert [line["id"] for line in rig.end()] == [str(number) for number in range(300)]


def test_messages_are_safe_only_once_they_are_written(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    free = threading.Event()
    monkeypatch.setattr(process.Sinks, "settled", lambda sinks, mark: free.is_set())
    worker = rig.start().worker()
    worker.write(event())
    rig.stage.wait_until(lambda: rig.summary.published == 1)
    worker.process_answers()
    assert worker.waiting == 1
    free.set()
    assert worker.leave(WAIT_S)


def test_for_a_worker_that_is_gone_it_speaks_itself(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = threading.Event()
    monkeypatch.setattr(process.psutil, "pid_exists", lambda pid: not gone.is_set())
    worker = rig.start().worker()
    worker.write(status())
    worker.write(event())
    rig.stage.wait_until(lambda: bool(rig.news()))
    gone.set()
    rig.stage.wait_until(lambda: [one.state for one in rig.news()].count("stalled") >= 2)
    rig.stage.wait_until(lambda: rig.summary.workers_away == 1)
    lines = rig.end()
    ends = [line for line in lines if line.get("event") == "end"]
    assert [line["id"] for line in ends] == [event().id]
    assert lines[-1]["detail"] == "the worker is starting again"


def test_what_is_not_a_workers_is_counted(rig: Rig) -> None:
    worker = rig.start().worker()
    worker._socket.send_multipart([b"junk"])
    worker.write(event())
    rig.stage.wait_until(lambda: rig.summary.rejected_messages == 1)
    assert worker.leave(WAIT_S)
    assert len(rig.end()) == 1


def test_it_shows_that_it_lives_while_nothing_comes(rig: Rig) -> None:
    rig.start()
    before = rig.stage.beats
    rig.stage.wait_until(lambda: rig.stage.beats > before + 3)
    assert rig.stage.beats > before + 3 and rig.end() == []


def test_an_address_in_use_is_told(rig: Rig) -> None:
    with Publisher(rig.job.config.publish.address), pytest.raises(TransportError, match="is in use by another process"):
        run_publisher(rig.stage, rig.job)
    assert rig.stage.said == []


def test_a_file_that_cannot_be_written_is_told_and_the_address_is_free_again(tmp_path: Path) -> None:
    publish = PublishConfig(address=f"ipc://{tmp_path}/pub", jsonl=str(tmp_path / "missing" / "out.jsonl"))
    job = PublisherJob(channel=f"ipc://{tmp_path}/relay", config=Config(publish=publish), run="run")
    with pytest.raises(ConfigError, match="cannot write JSON lines to"):
        run_publisher(FakeStage(), job)
    Publisher(publish.address).close()


def test_an_action_that_ran_when_publisher_and_worker_were_killed_together_is_ended_for_all(tmp_path: Path) -> None:
    store = StoreSettings(path=str(tmp_path / "events.db"))
    killed = Rig(tmp_path, store).start()
    worker = killed.worker()
    worker.write(event())
    wait_until(lambda: (worker.process_answers(), not worker.waiting)[1])
    killed.end()
    again = Rig(tmp_path, store).start()
    again.worker()
    again.stage.wait_until(lambda: again.summary.published >= 1)
    said = [(line["id"], line["event"]) for line in again.end()]
    assert said == [(event().id, "start"), (event().id, "end")]


GROWTH = """
import psutil, sys
from stream_i3d.publish.process import give_back_freed_memory
if sys.argv[1] == "given back":
    give_back_freed_memory()
process = psutil.Process()
before = process.memory_info().rss
pieces = [bytes([number % 256]) * 100_000 for number in range(300)]
last = pieces[-1]  # behind all others: what is before it in the heap cannot be given back from its end
del pieces
print((process.memory_info().rss - before) // 1_000_000)
"""


def growth_mb(how: str) -> int:
    """Return by how much a process has grown that had 30 MB and freed nearly all of it."""
    done = subprocess.run([sys.executable, "-c", GROWTH, how], capture_output=True, text=True, timeout=60, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another malloc")
def test_freed_memory_goes_back_to_the_system_whatever_lies_behind_it() -> None:
    assert growth_mb("as it is") >= 20
    assert growth_mb("given back") <= 3
