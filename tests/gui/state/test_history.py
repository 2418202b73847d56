from __future__ import annotations

import csv
import io
import json

from stream_i3d_gui.state.history import COLUMNS, Filter, History, to_csv, to_json

from tests.samples import event


def filled() -> History:
    history = History()
    history.take(event(id="1", label="waving", camera="door", start_time=10.0))
    history.take(event(id="2", label="=SUM(A1)", camera="yard", start_time=11.0))
    history.take(
        event(id="1", label="waving", camera="door", event="end", start_time=10.0, end_time=12.5, peak_confidence=0.9)
    )
    return history


def test_start_and_end_are_one_event_and_the_newest_stands_first():
    second, first = filled().shown()
    assert (first.label, first.start_time, first.end_time, first.peak) == ("waving", 10.0, 12.5, 0.9)
    assert second.end_time is None


def test_an_end_whose_start_was_missed_is_an_event_too():
    history = History()
    seen = history.take(event(id="x", event="end", start_time=1.0, end_time=2.0))
    assert history.shown() == [seen]


def test_the_filter_looks_at_label_and_camera_whatever_their_case():
    history = filled()
    assert [one.id for one in history.shown(Filter("WAV"))] == ["1"]
    assert [one.id for one in history.shown(Filter("yard"))] == ["2"]
    assert [one.id for one in history.shown(Filter("", "door"))] == ["1"]
    assert history.shown(Filter("waving", "yard")) == []


def test_the_oldest_go_when_there_are_too_many_and_are_counted():
    history = History(limit=2)
    for number in range(5):
        history.take(event(id=str(number)))
    assert [one.id for one in history.shown()] == ["4", "3"]
    assert history.dropped == 3


def test_an_action_whose_end_was_missed_is_cut_when_the_next_one_starts():
    history = History()
    for camera, number in (("door", "1"), ("yard", "2"), ("door", "3")):
        history.take(event(id=number, camera=camera))
    assert [(one.id, one.cut) for one in history.shown()] == [("3", False), ("2", False), ("1", True)]
    history.take(event(id="1", event="end", end_time=1002.0))  # late, but still true
    assert not history.shown()[-1].cut


def test_what_runs_when_the_service_is_lost_is_marked_as_cut():
    history = filled()
    history.lost()
    running, ended = history.shown()
    assert running.cut and not ended.cut
    assert "end not seen" in running.line


def test_only_the_lost_cameras_events_are_cut():
    history = filled()
    history.take(event(id="3", camera="door"))
    history.lost("door")
    assert [(one.id, one.cut) for one in history.shown()] == [("3", True), ("2", False), ("1", False)]


def test_a_renamed_camera_takes_its_events_along():
    history = filled()
    history.renamed("door", "gate")
    assert [one.camera for one in history.shown()] == ["yard", "gate"]
    history.take(event(id="1", camera="gate", event="end", start_time=10.0, end_time=13.0))
    assert len(history) == 2


def test_csv_has_a_header_and_never_a_formula():
    rows = list(csv.DictReader(io.StringIO(to_csv(filled().shown()))))
    assert list(rows[0]) == list(COLUMNS)
    assert rows[0]["label"] == "'=SUM(A1)" and rows[0]["end_time"] == ""
    assert rows[1]["duration_s"] == "2.5"


def test_json_says_the_same_and_keeps_the_label_as_it_is():
    first, second = json.loads(to_json(filled().shown()))
    assert first["label"] == "=SUM(A1)" and first["end_time"] is None
    assert second["duration_s"] == 2.5 and list(second) == list(COLUMNS)


def test_a_copied_line_has_all_that_is_seen():
    line = filled().shown()[1].line
    assert line == "door\t0:10.0\twaving\tfor 2.5 s\tup to 90 %"
