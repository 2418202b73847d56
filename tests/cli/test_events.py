from __future__ import annotations

import csv
import io
import json
import subprocess
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest

from stream_i3d.errors import ConfigError
from stream_i3d.publish.store import EventStore
from stream_i3d.publish.store_query import Wanted, iso, parse_moment, read_actions
from stream_i3d.sink_settings import StoreSettings
from tests.samples import event

NOW = 1_800_000_000.0
Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Three actions, an hour apart; the last one goes on."""
    path = tmp_path / "events.db"
    with closing(EventStore(StoreSettings(path=str(path)), (), "run", NOW)) as opened:
        for number, (camera, label) in enumerate([("door", "waving"), ("yard", "left"), ("door", "arm, wrestling")]):
            start = event(camera=camera, id=f"{camera}-1-{number}", label=label, start_time=NOW + 3600 * number)
            opened.add([start], NOW)
            if number < 2:
                ended = event(
                    camera=camera,
                    id=start.id,
                    event="end",
                    label=label,
                    start_time=start.start_time,
                    end_time=start.start_time + 2.5,
                    peak_confidence=0.9,
                )
                opened.add([ended], NOW)
        opened.note_clip("door-1-0", "a.mp4")
    return path


def ids(path: Path, **wanted: object) -> list[str]:
    return [action.id for action in read_actions(path, Wanted(**wanted))]  # type: ignore[arg-type]


def test_an_action_is_one_whether_it_has_ended_or_not(store: Path) -> None:
    first, _, last = read_actions(store, Wanted())
    assert (first.seconds, first.peak_confidence, first.clip) == (2.5, 0.9, "a.mp4")
    assert (last.end_time, last.seconds, last.clip) == (None, None, None)


def test_actions_are_chosen_by_camera_label_time_and_number(store: Path) -> None:
    assert ids(store, cameras=["door"]) == ["door-1-0", "door-1-2"]
    assert ids(store, cameras=["door", "yard"], labels=["left", "waving"]) == ["door-1-0", "yard-1-1"]
    assert ids(store, since=NOW + 3600) == ["yard-1-1", "door-1-2"]
    assert ids(store, since=NOW + 1, until=NOW + 3600) == ["yard-1-1"]
    assert ids(store, limit=2) == ["yard-1-1", "door-1-2"]
    assert ids(store, cameras=["' OR 1 --"]) == []


def test_times_are_durations_before_now_or_iso_dates() -> None:
    assert parse_moment("90s", NOW) == NOW - 90
    assert parse_moment("1.5h", NOW) == NOW - 5400
    assert parse_moment(" 2w ", NOW) == NOW - 14 * 86400
    assert parse_moment("2027-01-15T08:00:00Z", NOW) == NOW
    assert parse_moment("2027-01-15T09:00+01:00", NOW) == NOW
    assert parse_moment("2027-01-15", NOW) == datetime(2027, 1, 15).timestamp()
    for text in ("", "yesterday", "2h30m", "-2h", "2027-13-01", "1e9", "h", "9" * 400 + "h"):
        if text.startswith("999"):
            assert parse_moment(text, NOW) == float("-inf")
            continue
        with pytest.raises(ConfigError, match="is no time: give a duration"):
            parse_moment(text, NOW)


def test_times_are_written_in_utc_and_those_of_files_as_seconds() -> None:
    assert [iso(time) for time in (NOW, 12.345, None, 1e300)][:3] == ["2027-01-15T08:00:00.000Z", "12.35", ""]


def test_list_shows_a_table_or_json(cli: Cli, store: Path) -> None:
    shown = cli("events", "list", "--store", store)
    assert (shown.returncode, shown.stderr) == (0, "")
    head, first, _, last = shown.stdout.splitlines()
    assert head.split() == ["started", "camera", "action", "lasted", "peak", "clip"]
    assert first.endswith("door    waving          2.5 s     0.90  a.mp4")
    assert "arm, wrestling  going on" in last
    lines = cli("events", "list", "--store", store, "--json", "--limit", "1").stdout.splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["door-1-2"]


def test_export_writes_csv_and_json_lines(cli: Cli, store: Path, tmp_path: Path) -> None:
    shown = cli("events", "export", "--store", store)
    rows = list(csv.DictReader(io.StringIO(shown.stdout)))
    assert [row["label"] for row in rows] == ["waving", "left", "arm, wrestling"]
    assert (rows[0]["start"], rows[0]["seconds"], rows[2]["end"]) == ("2027-01-15T08:00:00.000Z", "2.5", "")
    target = tmp_path / "out.jsonl"
    assert cli("events", "export", "--store", store, "--format", "jsonl", "--output", target).stdout == ""
    assert [json.loads(line)["camera"] for line in target.read_text().splitlines()] == ["door", "yard", "door"]


def test_an_export_that_cannot_be_had_leaves_the_one_before(cli: Cli, tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    target.write_text("before")
    assert cli("events", "export", "--store", tmp_path / "missing.db", "--output", target).returncode == 2
    assert target.read_text() == "before"


def test_the_store_is_not_exported_over_itself(cli: Cli, store: Path) -> None:
    before = store.read_bytes()
    done = cli("events", "export", "--store", store, "--output", store)
    assert (done.returncode, "is the event store itself" in done.stderr) == (2, True)
    assert store.read_bytes() == before


def test_the_store_can_be_named_by_the_services_configuration(cli: Cli, store: Path, tmp_path: Path) -> None:
    config = tmp_path / "service.yaml"
    config.write_text(f"sinks: [{{type: store, path: {store}}}]")
    assert len(cli("events", "list", "--config", config).stdout.splitlines()) == 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("list",), "give --store FILE, or --config FILE"),
        (("list", "--store", "missing.db"), "no event store at missing.db"),
        (("list", "--store", "x" * 300), "no event store at xxx"),
        (("list", "--store", "{store}", "--since", "soon"), "'soon' is no time"),
        (("list", "--store", "{store}", "--since", "1h", "--until", "2h"), "is after --until"),
        (("list", "--store", "{store}", "--limit", "0"), "--limit"),
        (("export", "--store", "{store}", "--format", "xml"), "xml"),
        (("export", "--store", "{store}", "--output", "/nowhere/x"), "cannot write /nowhere/x"),
        (("export", "--store", "{store}", "--output", "/dev/full"), "cannot write /dev/full"),
        (("list", "--store", "{store}", "--limit", "99999999999999999999"), "--limit"),
        (("list", "--store", "{store}", "--camera", b"\xff".decode(errors="surrogateescape")), "cannot read"),
        (("list", "--store", __file__), "move it away"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(cli: Cli, store: Path, arguments: tuple[str, ...], said: str) -> None:
    shown = cli("events", *(argument.format(store=store) for argument in arguments))
    assert shown.returncode == 2
    assert said in shown.stderr and "Traceback" not in shown.stderr
    assert shown.stdout == ""
