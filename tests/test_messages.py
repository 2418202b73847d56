from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_i3d.messages import PUBLISHED, CameraName, VideoRecognition, schema_name
from tests.samples import event, recognition, report, segment, stamp, status
from tests.service.monitoring.snapshots import snapshot

ROOT = Path(__file__).parents[1]
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "make_schemas.py"))

SAMPLES: dict[str, list[msgspec.Struct]] = {
    "prediction": [
        recognition(),
        recognition(state="idle", label=None, confidence=0.0, top_k=[], skipped="no motion"),
        recognition(state="warming", label=None, confidence=0, top_k=[], frames_dropped=7, windows_dropped=3),
        recognition(confidence=1.0),
        VideoRecognition(video="a.mp4", **msgspec.structs.asdict(recognition())),
    ],
    "event": [event(), event(event="end", end_time=9.5, peak_confidence=1.0)],
    "status": [
        status(),
        status(state="connecting", fps=0.0, last_frame_age_s=None, detail=""),
        *(status(state=state) for state in ("stalled", "reconnecting", "stopped")),
    ],
    "segment": [segment(), segment(windows=1, start_time=-0.5)],
    "service": [snapshot(), snapshot(cameras=[], sinks=[], stages=[], model=None, ready=False)],
}


def committed(name: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads((ROOT / "docs" / "schemas" / f"{name}.json").read_text(encoding="utf-8"))
    return schema


def validator(name: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(committed(name))


def as_json(message: msgspec.Struct) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(msgspec.json.encode(message))
    return body


# --- the committed schemas


def test_the_committed_schemas_are_what_the_classes_say():
    assert SCRIPT["differences"](ROOT / "docs" / "schemas") == [], "run scripts/make_schemas.py"


def test_there_is_a_schema_for_every_published_message_and_for_the_status_page_and_a_sample_of_each():
    assert len(SCRIPT["schema_files"]()) == len(PUBLISHED) + 1 == len(SAMPLES)
    assert {path.stem for path in (ROOT / "docs" / "schemas").glob("*.json")} == set(SAMPLES)


def test_a_schema_that_is_missing_outdated_or_of_no_message_is_told(tmp_path):
    for name, text in SCRIPT["schema_files"]().items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert SCRIPT["differences"](tmp_path) == []
    (tmp_path / "event.json").write_text("{}")
    (tmp_path / "status.json").unlink()
    (tmp_path / "stranger.json").write_text("{}")
    told = [line.removeprefix(f"{tmp_path}/") for line in SCRIPT["differences"](tmp_path)]
    assert told == ["event.json: outdated", "status.json: missing", "stranger.json: there is no such message"]


@pytest.mark.parametrize("name", SAMPLES)
def test_every_schema_is_valid_and_stands_alone(name):
    schema = committed(name)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"] == f"stream-i3d/{name}/1"
    assert "$ref" not in json.dumps(schema) and "$defs" not in schema


def test_the_fields_are_described_where_they_stand():
    properties = committed("prediction")["properties"]
    assert "idle" in properties["state"]["description"]
    assert "stale" in properties["windows_dropped"]["description"]
    assert "Attributes" not in json.dumps(committed("prediction"))


# --- messages against them


@pytest.mark.parametrize(("name", "message"), [(name, message) for name in SAMPLES for message in SAMPLES[name]])
def test_every_sort_of_message_validates(name, message):
    validator(name).validate(as_json(message))
    assert schema_name(message) == schema_name(type(message)) == committed(name)["$id"]


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("other", SAMPLES)
def test_a_message_validates_against_its_own_schema_only(name, other):
    assert validator(name).is_valid(as_json(SAMPLES[other][0])) == (name == other)


ADDED_LATER = {
    "skipped",
    "streams",
    "paused",
    "previews_dropped",
    "stride",
    "overloaded",
    "waiting_since",
    "windows_failed",
    "delay_s",
    "problem",
    "retry_in_s",
    "too_slow",
    "view",
    "view_share",
}
"""Fields that messages of older services lack, so readers must not require them."""


@pytest.mark.parametrize(("name", "message"), [(name, SAMPLES[name][0]) for name in SAMPLES if name != "service"])
def test_a_message_without_a_field_that_the_design_has_does_not_validate(name, message):
    body = as_json(message)
    for field in body.keys() - ADDED_LATER:
        assert not validator(name).is_valid({key: value for key, value in body.items() if key != field}), field


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("prediction", {"schema": "stream-i3d/prediction/2"}),
        ("prediction", {"camera": "front door"}),
        ("prediction", {"camera": "door\n"}),
        ("prediction", {"epoch": -1}),
        ("prediction", {"seq": 1.5}),
        ("prediction", {"window": {"first_frame": 0, "last_frame": 15, "start_time": 0.0}}),
        ("prediction", {"state": "sleeping"}),
        ("prediction", {"label": 3}),
        ("prediction", {"confidence": 1.01}),
        ("prediction", {"confidence": None}),
        ("prediction", {"top_k": [{"index": 0, "label": "x", "probability": 2, "raw_probability": 0}]}),
        ("prediction", {"top_k": {}}),
        ("prediction", {"latency_ms": {"queue": -1, "inference": 0, "total": 0}}),
        ("prediction", {"model": "i3d"}),
        ("event", {"event": "middle"}),
        ("event", {"end_time": "now"}),
        ("event", {"peak_confidence": -0.1}),
        ("status", {"state": "fine"}),
        ("status", {"fps": -1}),
        ("status", {"last_frame_age_s": -0.1}),
        ("segment", {"windows": 0}),
        ("segment", {"video": None}),
    ],
)
def test_a_broken_message_validates_neither_by_schema_nor_by_class(name, change):
    broken = {**as_json(SAMPLES[name][0]), **change}
    assert not validator(name).is_valid(broken)
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(json.dumps(broken), type=type(SAMPLES[name][0]))


def test_messages_cannot_be_changed_once_made():
    for message in (recognition(), event(), status(), segment(), report(), stamp()):
        with pytest.raises(AttributeError):
            message.camera = "other"  # type: ignore[attr-defined]


# --- camera names


@pytest.mark.parametrize("name", ["a", "0", "door", "A.b_c-9", "x" * 64, ".", "-"])
def test_a_camera_name_is_a_piece_of_a_topic(name):
    assert msgspec.convert(name, CameraName) == name


@pytest.mark.parametrize("name", ["", " ", "a b", "a/b", "a\n", "\na", "a\nb", "Tür", "x" * 65, "a:b", "*", "٣", "a\0"])
def test_anything_else_is_not(name):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(name, CameraName)


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=70) | st.from_regex(r"[a-z.\n/]{0,66}", fullmatch=True))
def test_the_schema_and_the_class_agree_on_camera_names(name):
    allowed = re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name) is not None
    assert validator("event").is_valid({**as_json(event()), "camera": name}) == allowed
    try:
        msgspec.convert(name, CameraName)
    except msgspec.ValidationError:
        assert not allowed
    else:
        assert allowed


# --- the clocks of a stamp


def test_a_stamps_time_is_the_mediums_where_it_has_one():
    live, filmed = stamp(5, time=100.5), stamp(5, time=100.5, media_time=0.0)
    assert (live.time, filmed.time) == (1e9 + 100.5, 0.0)
    assert (live.elapsed, filmed.elapsed) == (pytest.approx(100.5), 0.0)
