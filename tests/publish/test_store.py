from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from stream_i3d.errors import ConfigError
from stream_i3d.messages import ActionEvent
from stream_i3d.publish.outbox import StoreOutbox
from stream_i3d.publish.store import EventStore
from stream_i3d.publish.store_file import connect_again, open_to_read, open_to_write
from stream_i3d.sink_settings import StoreSettings
from tests.samples import event

NOW = 1_800_000_000.0
DAY = 86400.0


def action(number: int, camera: str = "door", seconds: float = 1.0) -> tuple[ActionEvent, ActionEvent]:
    """The start and the end of an action."""
    start = event(camera=camera, id=f"{camera}-1-{number}", start_time=NOW + number, end_time=None)
    return start, event(
        camera=camera, id=start.id, event="end", start_time=start.start_time, end_time=start.start_time + seconds
    )


def make(folder: Path, sinks: tuple[str, ...] = ("mqtt",), run: str = "a", now: float = NOW, **more: Any) -> EventStore:
    return EventStore(StoreSettings(path=str(folder / "events.db"), **more), sinks, run, now)


def rows(folder: Path, columns: str = "id, event") -> list[Any]:
    connection = open_to_read(folder / "events.db")
    try:
        found = connection.execute(f"SELECT {columns} FROM events ORDER BY position").fetchall()
    finally:
        connection.close()
    return found


def ids(outbox: StoreOutbox, **more: Any) -> list[tuple[str, str]]:
    return [(one.event.id, one.event.event) for one in outbox.fetch(1000, **more)]


def test_an_event_is_in_the_store_once_however_often_it_comes(tmp_path: Path) -> None:
    store = make(tmp_path)
    start, end = action(1)
    assert store.add([start], NOW) == 1
    assert store.add([start, end], NOW) == 1
    assert store.add([start, end, end], NOW) == 0
    store.close()
    assert rows(tmp_path) == [(start.id, "start"), (start.id, "end")]


def test_no_connection_keeps_more_of_a_growing_store_in_memory_than_a_quarter_of_a_megabyte(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    with closing(open_to_write(path)) as first, closing(connect_again(path)) as second:
        kept = [connection.execute("PRAGMA cache_size").fetchone()[0] for connection in (first, second)]
    assert kept == [-256, -256]  # KiB, where negative


def test_what_is_read_back_is_what_was_written(tmp_path: Path) -> None:
    store, outbox = make(tmp_path), StoreOutbox(tmp_path / "events.db", "mqtt")
    told = [*action(1), *action(2, "yard")]
    store.add(told, NOW)
    assert [one.event for one in outbox.fetch(10)] == told
    outbox.close()
    store.close()


def test_only_its_owner_can_read_the_store_and_what_lies_beside_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        store = make(tmp_path)
        store.add(action(1), NOW)
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == dict.fromkeys(["events.db", "events.db-wal", "events.db-shm", "events.db.lock"], 0o600)
    store.close()


# --- files that are something else


def spoil_by_text(path: Path) -> None:
    path.write_text("this is a diary, " * 100)


def spoil_by_other_tables(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE events (x)")
    connection.commit()
    connection.close()


def spoil_by_a_newer_version(path: Path) -> None:
    make(path.parent).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 9")
    connection.close()


def spoil_in_the_middle(path: Path) -> None:
    store = make(path.parent)
    store.add([one for number in range(300) for one in action(number)], NOW)
    store.close()
    data = bytearray(path.read_bytes())
    data[8192:-4096] = b"\xa5" * (len(data) - 8192 - 4096)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoil_by_text, "cannot read .*events.db as an event store: file is not a database; move it away"),
        (spoil_by_other_tables, "events.db is no event store of stream-i3d; give another file, it is left as it is"),
        (spoil_by_a_newer_version, "is an event store of version 9, and this stream-i3d knows version 1"),
        (spoil_in_the_middle, "move it away"),
    ],
)
@pytest.mark.parametrize("open_it", [lambda path: make(path.parent), open_to_read])
def test_a_file_that_is_something_else_is_told_in_one_line_and_left(
    tmp_path: Path, spoil: Callable[[Path], None], said: str, open_it: Callable[[Path], object]
) -> None:
    path = tmp_path / "events.db"
    spoil(path)
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=said) as caught:
        open_it(path)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before


def test_a_store_that_somebody_else_holds_is_not_to_be_moved_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream_i3d.publish.store_file._BUSY_MS", 1)
    with closing(sqlite3.connect(tmp_path / "events.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ConfigError, match=r"cannot open the event store .*locked; let nobody else write to it"):
            make(tmp_path)


def test_a_store_is_of_one_service_and_what_runs_in_it_is_not_ended_by_a_second(tmp_path: Path) -> None:
    start, _ = action(1)
    first = make(tmp_path, run="a")
    first.add([start], NOW)
    with pytest.raises(ConfigError, match=r"another service writes to the event store .*events.db: end it, or give"):
        make(tmp_path, run="b", now=NOW + DAY)
    assert rows(tmp_path) == [(start.id, "start")]
    first.close()
    make(tmp_path, run="b", now=NOW + DAY).close()
    assert rows(tmp_path) == [(start.id, "start"), (start.id, "end")]


HOLD = """
import sys, time
from pathlib import Path
from stream_i3d.publish.store_file import claim
held = claim(Path(sys.argv[1]))
print("mine", flush=True)
time.sleep(60)
"""


def test_the_store_of_a_killed_service_is_free_again(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path / "events.db")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None and other.stdout.readline() == "mine\n"
            with pytest.raises(ConfigError, match="another service writes to the event store"):
                make(tmp_path)
        finally:
            other.kill()
    make(tmp_path).close()


def test_a_place_for_no_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot open the event store .*: .*; give a file in a folder"):
        make(tmp_path / "missing")
    with pytest.raises(ConfigError, match="no event store at"):
        open_to_read(tmp_path / "events.db")


# --- what a crash leaves


def test_what_ran_when_the_service_was_killed_is_ended_at_the_next_start(tmp_path: Path) -> None:
    store = make(tmp_path, run="first")
    (running, _), (_, _) = action(1), action(2)
    store.add([running, *action(2, "yard")], NOW + 100)
    store.touch(NOW + 107)
    store.close()
    after = make(tmp_path, run="second", now=NOW + 5000)
    (ended,) = after.ended
    assert (ended.id, ended.event) == (running.id, "end")
    assert ended.end_time == running.start_time + 7
    assert rows(tmp_path)[-1] == (running.id, "end")
    after.close()
    with closing(make(tmp_path, run="third")) as third:
        assert third.ended == []


def test_an_action_goes_on_when_only_the_publisher_was_started_again(tmp_path: Path) -> None:
    with closing(make(tmp_path, run="same")) as killed:
        killed.add([action(1)[0]], NOW)
        killed.touch(NOW + 7)
    store = make(tmp_path, run="same")
    assert store.ended == []
    (running,) = store.running()
    assert (running.id, running.event, running.end_time) == (action(1)[0].id, "start", action(1)[0].start_time + 7)
    assert store.add([action(1)[1]], NOW) == 1
    store.close()


def test_the_end_that_comes_after_all_is_not_a_second_one(tmp_path: Path) -> None:
    with closing(make(tmp_path, run="first")) as killed:
        killed.add([action(1)[0]], NOW)
    store = make(tmp_path, run="second")
    assert store.add([action(1)[1]], NOW) == 0
    store.close()
    assert len(rows(tmp_path)) == 2


def test_a_new_action_of_a_camera_ends_the_one_whose_end_was_lost(tmp_path: Path) -> None:
    store = make(tmp_path)
    first, second, other = action(1)[0], action(9)[0], action(1, "yard")[0]
    assert store.add([first, other, second], NOW) == 4
    assert store.add([first], NOW) == 0  # a worker says it again: nothing changes
    store.close()
    assert rows(tmp_path, "id, event, end_time") == [
        (first.id, "start", None),
        (other.id, "start", None),
        (first.id, "end", second.start_time),
        (second.id, "start", None),
    ]


# --- the outbox


def test_each_sink_is_given_what_it_has_not_delivered_in_order(tmp_path: Path) -> None:
    store = make(tmp_path, ("mqtt", "webhook"))
    told = [*action(1), *action(2, "yard"), *action(3)]
    store.add(told, NOW)
    mqtt, webhook = (StoreOutbox(tmp_path / "events.db", name) for name in ("mqtt", "webhook"))
    all_of_them = [(one.id, one.event) for one in told]
    assert ids(mqtt) == all_of_them
    mqtt.done(mqtt.fetch(2))
    assert (ids(mqtt), ids(webhook)) == (all_of_them[2:], all_of_them)
    assert ids(mqtt, without=["yard"]) == all_of_them[4:]
    assert ids(webhook, after=webhook.fetch(3)[-1].position) == all_of_them[3:]
    mqtt.close()
    again = StoreOutbox(tmp_path / "events.db", "mqtt")
    assert ids(again) == all_of_them[2:]
    for one in (again, webhook, store):
        one.close()


def test_what_is_refused_is_passed_over_and_noted(tmp_path: Path) -> None:
    store, outbox = make(tmp_path), StoreOutbox(tmp_path / "events.db", "mqtt")
    store.add([*action(1), *action(2, "yard")], NOW)
    outbox.refused(outbox.fetch(1)[0], "404 Not Found")
    assert len(ids(outbox)) == 3
    connection = open_to_read(tmp_path / "events.db")
    assert connection.execute("SELECT sink, position, reason FROM refused").fetchall() == [("mqtt", 1, "404 Not Found")]
    for one in (connection, outbox, store):
        one.close()


def test_what_is_marked_while_events_are_counted_anew_is_not_taken_off_twice(tmp_path: Path) -> None:
    with closing(make(tmp_path)) as store, closing(StoreOutbox(tmp_path / "events.db", "mqtt")) as outbox:
        store.add(action(1), NOW)

        def count() -> int:
            assert outbox._lock.locked()  # marking waits for it
            return store.undelivered("mqtt")

        outbox.recount(count)
        assert outbox.waiting == 2
        outbox.done(outbox.fetch(1))
        assert outbox.waiting == 1


def test_a_new_sink_begins_with_the_next_event(tmp_path: Path) -> None:
    before = make(tmp_path, ("mqtt",))
    before.add(action(1), NOW)
    before.close()
    store, outbox = make(tmp_path, ("mqtt", "webhook")), StoreOutbox(tmp_path / "events.db", "webhook")
    assert (store.undelivered("mqtt"), store.undelivered("webhook")) == (2, 0)
    store.add([action(2)[0]], NOW)
    assert ids(outbox) == [("door-1-2", "start")]
    outbox.close()
    store.close()


# --- how long it is kept


def test_old_events_go_but_not_before_they_are_delivered(tmp_path: Path) -> None:
    store, outbox = make(tmp_path, max_age_days=10), StoreOutbox(tmp_path / "events.db", "mqtt")
    store.add(action(1), NOW)
    store.add(action(2), NOW + 9 * DAY)
    assert store.tidy(NOW + 11 * DAY) == {}
    assert len(rows(tmp_path)) == 4
    outbox.done(outbox.fetch(3))
    store.tidy(NOW + 11 * DAY)
    assert rows(tmp_path) == [("door-1-2", "start"), ("door-1-2", "end")]
    assert store.add(action(3), NOW) == 2
    assert len(ids(outbox)) == 3
    outbox.close()
    store.close()


def test_the_oldest_of_too_many_events_go_and_what_runs_stays(tmp_path: Path) -> None:
    store = make(tmp_path, (), max_rows=3)
    store.add([action(0, "yard")[0], *action(1), *action(2), *action(3)], NOW)
    store.tidy(NOW)
    assert rows(tmp_path) == [("yard-1-0", "start"), ("door-1-2", "end"), ("door-1-3", "start"), ("door-1-3", "end")]
    store.close()


def test_too_many_undelivered_events_are_given_up_the_oldest_first_and_counted(tmp_path: Path) -> None:
    store = make(tmp_path, ("mqtt", "webhook"), max_undelivered=3)
    mqtt, webhook = (StoreOutbox(tmp_path / "events.db", name) for name in ("mqtt", "webhook"))
    store.add([*action(1), *action(2), *action(3)], NOW)
    webhook.done(webhook.fetch(6))
    assert store.tidy(NOW) == {"mqtt": 3}
    assert ids(mqtt) == [("door-1-2", "end"), ("door-1-3", "start"), ("door-1-3", "end")]
    assert store.tidy(NOW) == {}
    for one in (mqtt, webhook, store):
        one.close()


def test_a_clip_is_noted_with_both_events_of_its_action(tmp_path: Path) -> None:
    store = make(tmp_path)
    store.add([*action(1), *action(2)], NOW)
    store.note_clip("door-1-1", "a.mp4")
    store.note_clip("door-1-2", "b.mp4")
    store.note_clip(None, "b.mp4")
    store.close()
    assert rows(tmp_path, "clip") == [("a.mp4",), ("a.mp4",), (None,), (None,)]
