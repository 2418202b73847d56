from __future__ import annotations

import logging
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from stream_i3d.errors import ConfigError
from stream_i3d.publish import store_sink
from stream_i3d.publish.store import EventStore
from stream_i3d.publish.store_sink import StoreSink
from stream_i3d.sink_settings import StoreSettings
from tests.publish.test_store import action, rows
from tests.samples import recognition, status
from tests.waiting import WAIT_S, wait_until


def make(folder: Path, sinks: tuple[str, ...] = ("mqtt",), queue: int = 1000) -> StoreSink:
    settings = StoreSettings(path=str(folder / "events.db"), queue=queue)
    return StoreSink(settings, "store", sinks, "run", lambda: 1e9)


def test_events_are_written_in_order_then_told_to_those_who_deliver(tmp_path: Path) -> None:
    sink, news = make(tmp_path), threading.Event()
    sink.outboxes["mqtt"].call_at_news(news.set)
    told = [one for number in range(50) for one in action(number)]
    for one in told:
        sink.write(one)
        sink.write(recognition())
        sink.write(status())
    wait_until(lambda: sink.handled == 100)
    assert news.is_set() and sink.outboxes["mqtt"].waiting == 100
    assert [one.event for one in sink.outboxes["mqtt"].fetch(1000)] == told
    assert (sink.accepted, sink.dropped, sink.figures().written) == (100, 0, 100)
    sink.outboxes["mqtt"].close()
    sink.close(WAIT_S)
    assert len(rows(tmp_path)) == 100


def test_what_is_queued_at_the_end_is_written(tmp_path: Path) -> None:
    sink = make(tmp_path)
    for one in action(1):
        sink.write(one)
    sink.note_clip("door-1-1", "a.mp4")
    sink.close(WAIT_S)
    assert rows(tmp_path, "event, clip") == [("start", "a.mp4"), ("end", "a.mp4")]


def test_events_wait_while_the_disk_is_full_and_none_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(store_sink, "_AGAIN_S", 0.01)
    full, tries, add = threading.Event(), [0], EventStore.add

    def add_if_there_is_room(store: EventStore, *given: object) -> int:
        if full.is_set():
            tries[0] += 1
            raise OSError(28, "database or disk is full")
        return add(store, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(EventStore, "add", add_if_there_is_room)
    full.set()
    sink = make(tmp_path, queue=4)
    with caplog.at_level(logging.INFO):
        for number in range(3):
            for one in action(number):
                sink.write(one)
        wait_until(lambda: tries[0] >= 3)
        assert (sink.accepted, sink.handled, sink.dropped) == (4, 0, 2)
        assert "disk is full" in sink.figures().detail
        full.clear()
        wait_until(lambda: sink.handled == 4)
    sink.close(WAIT_S)
    assert [message.split(" (")[0].split(" /")[0] for message in caplog.messages] == [
        "store: cannot write",
        "store: works again; events dropped meanwhile: 2",
    ]
    assert len(rows(tmp_path)) == 4


def test_names_of_clips_wait_while_the_disk_is_full_and_of_too_many_the_oldest_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_sink, "_AGAIN_S", 0.01)
    full, note_clip = threading.Event(), EventStore.note_clip

    def note_if_there_is_room(store: EventStore, *given: object) -> None:
        if full.is_set():
            raise OSError(28, "database or disk is full")
        note_clip(store, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(EventStore, "note_clip", note_if_there_is_room)
    sink = make(tmp_path, queue=6)
    for number in range(3):
        for one in action(number):
            sink.write(one)
    wait_until(lambda: sink.handled == 6)
    full.set()
    for clip in range(9):
        sink.note_clip(action(clip % 3)[0].id, f"{clip}.mp4")
        wait_until(lambda: "disk is full" in sink.figures().detail)
    assert sink.dropped == 3
    full.clear()
    wait_until(lambda: not sink._clips)
    sink.close(WAIT_S)
    assert [clip for (clip,) in rows(tmp_path, "clip")] == [name for name in ("6.mp4", "7.mp4", "8.mp4") for _ in "se"]


def test_a_real_full_store_takes_up_again_when_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_sink, "_AGAIN_S", 0.01)
    sink = make(tmp_path)
    store = sink._store
    assert store is not None
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count = {pages}")  # from here on SQLite says that the disk is full
    for one in (one for number in range(200) for one in action(number)):
        sink.write(one)
    wait_until(lambda: "full" in sink.figures().detail)
    assert sink.handled < 400
    store._db.execute("PRAGMA max_page_count = 100000")
    wait_until(lambda: sink.handled == 400)
    sink.close(WAIT_S)
    assert len(rows(tmp_path)) == 400


def test_a_store_that_cannot_be_opened_for_want_of_room_is_opened_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_sink, "_AGAIN_S", 0.01)
    full = threading.Event()
    full.set()

    class Store(EventStore):
        def __init__(self, *given: object) -> None:
            if full.is_set():
                raise OSError(28, "database or disk is full")
            super().__init__(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(store_sink, "EventStore", Store)
    sink = make(tmp_path)
    sink.write(action(1)[0])
    assert not (tmp_path / "events.db").exists()
    full.clear()
    wait_until(lambda: sink.handled == 1)
    sink.close(WAIT_S)
    assert rows(tmp_path) == [(action(1)[0].id, "start")]


def test_what_is_no_store_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "events.db").write_text("no database")
    with pytest.raises(ConfigError, match="move it away"):
        make(tmp_path)


WRITER = """
import sys, time
from pathlib import Path
from stream_i3d.publish.store_sink import StoreSink
from stream_i3d.sink_settings import StoreSettings
from tests.publish.test_store import action

sink = StoreSink(StoreSettings(path=sys.argv[1]), "store", ("mqtt",), sys.argv[2])
number = int(sys.argv[3])
while True:
    for event in action(number):
        while sink.accepted - sink.handled > 20:
            time.sleep(0.001)
        sink.write(event)
    number += 1
    print(sink.handled, flush=True)
"""


def test_what_was_said_to_be_safe_outlives_kill_9(tmp_path: Path) -> None:
    path, safe = tmp_path / "events.db", 0
    for run in range(4):
        command = [sys.executable, "-c", WRITER, str(path), f"run-{run}", str(run * 100_000)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as writer:
            assert writer.stdout is not None
            handled = next(number for number in map(int, writer.stdout) if number >= 60)
            os.kill(writer.pid, signal.SIGKILL)
            safe += [handled, *map(int, writer.stdout)][-1]
            assert writer.wait(WAIT_S) == -signal.SIGKILL
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        count, distinct = connection.execute("SELECT COUNT(*), COUNT(DISTINCT id || event) FROM events").fetchone()
        assert count == distinct >= safe >= 4 * 60
        for run in range(4):  # without a hole, and each action that was ended by a restart ended once
            ids = connection.execute(
                "SELECT id FROM events WHERE event = 'start' AND CAST(substr(id, 8) AS INTEGER) / 100000 = ? "
                "ORDER BY position",
                (run,),
            ).fetchall()
            assert [one for (one,) in ids] == [f"door-1-{run * 100_000 + number}" for number in range(len(ids))]
        assert connection.execute("SELECT COUNT(*) FROM running").fetchone()[0] <= 1
