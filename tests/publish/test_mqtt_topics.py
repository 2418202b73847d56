from __future__ import annotations

import re

import msgspec
import pytest

from stream_i3d.publish.mqtt_topics import MqttStates, Topics
from tests.samples import event, recognition, status


def told(states: MqttStates) -> list[dict[str, object]]:
    found = []
    while (state := states.next_due()) is not None:
        found.append(msgspec.to_builtins(state))
    return found


def test_a_camera_is_told_at_each_change_and_with_each_status() -> None:
    states = MqttStates()
    states.take(status(state="live", fps=25.0, detail="fine"))
    states.take(event(label="waving", start_time=7.0, peak_confidence=0.7))
    (first,) = told(states)  # of two changes only the newest counts
    assert (first["state"], first["fps"], first["detail"]) == ("live", 25.0, "fine")
    assert (first["action"], first["since"], first["confidence"]) == ("waving", 7.0, 0.7)
    states.take(recognition(confidence=0.91234))
    assert told(states) == []
    states.take(event(event="end", end_time=9.0))
    (second,) = told(states)
    assert (second["action"], second["since"], second["confidence"]) == (None, None, 0.912)
    states.tell_all()
    assert told(states) == [second]


@pytest.mark.parametrize("state", ["connecting", "stalled", "reconnecting", "stopped"])
def test_a_camera_that_is_lost_has_no_action_and_no_confidence_until_it_is_live_again(state: str) -> None:
    states = MqttStates()
    states.take(status(state="live"))
    states.take(event(label="waving", start_time=7.0))
    states.take(recognition(confidence=1.0))
    states.take(status(state=state))
    (lost,) = told(states)
    assert (lost["state"], lost["action"], lost["since"], lost["confidence"]) == (state, None, None, 0.0)
    states.take(recognition(confidence=0.9))  # was under way
    states.tell_all()
    assert [(one["action"], one["confidence"]) for one in told(states)] == [(None, 0.0)]
    states.take(status(state="live"))
    (back,) = told(states)
    assert (back["action"], back["since"], back["confidence"]) == ("waving", 7.0, 0.9)


def test_home_assistant_shows_what_is_recognised_of_live_cameras_only() -> None:
    found = {payload["name"]: payload for _, payload in Topics("base", "ha").discovery("door")}
    for name in ("Action", "Confidence"):
        assert found[name]["value_template"].endswith(" if value_json.state == 'live' else None }}")
        assert found[name]["value_template"].startswith("{{ (")


@pytest.mark.parametrize(
    "topic",
    ["base/door/more/state", "base//state", "base/d oor/state", "base/\x1b[31m/state", "other", "base/door/event"],
)
def test_what_others_have_left_on_the_broker_is_no_camera_of_ours(topic: str) -> None:
    assert Topics("base", "ha").camera_of(topic) is None


def test_a_camera_that_is_gone_is_told_no_more() -> None:
    states = MqttStates()
    states.take(status())
    states.forget("door")
    states.tell_all()
    assert told(states) == []


def test_home_assistant_is_told_of_four_things_of_a_camera_in_topics_that_it_allows() -> None:
    topics = Topics("home/stream-i3d", "homeassistant")
    found = dict(topics.discovery("yard.2"))
    assert len(found) == 4
    for topic, payload in found.items():
        assert re.fullmatch(r"homeassistant/(sensor|binary_sensor)/[A-Za-z0-9_-]+/[A-Za-z0-9_-]+/config", topic)
        assert payload["state_topic"] == "home/stream-i3d/yard.2/state"
        assert payload["availability_topic"] == "home/stream-i3d/availability"
        assert payload["device"]["name"] == "yard.2"
    assert len({payload["unique_id"] for payload in found.values()}) == 4
    assert len({str(payload["device"]) for payload in found.values()}) == 1
    by_name = {payload["name"]: payload for payload in found.values()}
    assert by_name["Connected"]["device_class"] == "connectivity"
    assert by_name["Confidence"]["unit_of_measurement"] == "%"
    assert "reconnecting" in by_name["State"]["options"]


def test_cameras_whose_names_differ_have_topics_that_differ() -> None:
    topics = Topics("base", "ha")
    names = ["a.b", "a_b", "a-b", "a..b", "a__b"]
    found = [topic for name in names for topic, _ in topics.discovery(name)]
    assert len(set(found)) == 4 * len(names)


def test_all_that_is_retained_of_a_camera_can_be_taken_back() -> None:
    topics = Topics("base", "ha")
    assert topics.of_removed("door") == [*dict(topics.discovery("door")), "base/door/state"]
    assert Topics("base", None).of_removed("door") == ["base/door/state"]
    assert topics.camera_of(topics.of("door", "state")) == "door"
