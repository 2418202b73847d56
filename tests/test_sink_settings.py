from __future__ import annotations

from typing import Any

import pytest

from stream_i3d.config import Config, convert, name_sink
from stream_i3d.errors import ConfigError
from stream_i3d.settings import to_yaml
from stream_i3d.sink_settings import MqttSettings, StoreSettings, TlsSettings

MQTT = {"type": "mqtt", "host": "broker"}
STORE = {"type": "store", "path": "events.db"}
HOOK = {"type": "webhook", "url": "https://example.org/x"}
RECORDER = {"type": "recorder", "folder": "clips"}
JSONL = {"type": "jsonl", "path": "out.jsonl"}


def sinks(*entries: Any, **more: Any) -> Config:
    return convert({"sinks": list(entries), **more})


def test_several_sinks_of_all_types_have_names_that_differ() -> None:
    config = sinks(STORE, MQTT, MQTT, {**HOOK, "name": "alarm"}, HOOK, RECORDER, JSONL, JSONL)
    names = [name_sink(config.sinks, index) for index in range(8)]
    assert names == ["store", "mqtt", "mqtt-2", "alarm", "webhook-2", "recorder", "jsonl", "jsonl-2"]
    assert isinstance(config.sinks[0], StoreSettings)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"type": "mqt"}, "sinks[0]: unknown type 'mqt' (did you mean 'mqtt'?); allowed: jsonl, store, mqtt"),
        ({"type": [1]}, "sinks[0]: unknown type [1]; allowed: jsonl"),
        ({"host": "x"}, "sinks[0]: no type; allowed: jsonl, store, mqtt, webhook, recorder"),
        ({**MQTT, "hots": 1}, "unknown key 'sinks[0].hots' (did you mean 'host'?)"),
        ({**MQTT, "path": "x"}, "unknown key 'sinks[0].path'"),
        ({**MQTT, "tls": {"caa": 1}}, "unknown key 'sinks[0].tls.caa' (did you mean 'ca'?)"),
        ({"type": "mqtt"}, "sinks[0]: object missing required field host"),
        ("mqtt", "sinks[0]: expected object, got str"),
        ({**MQTT, "port": 0}, "sinks[0].port: expected int >= 1, got 0"),
        ({**MQTT, "name": "a b"}, "sinks[0].name: expected 1 to 64 letters"),
        ({**MQTT, "base_topic": "a/#"}, "base_topic 'a/#': give a topic without"),
        ({**MQTT, "discovery": "/ha"}, "discovery '/ha': give a topic without"),
        ({**MQTT, "password": "hush"}, "a password without a username"),
        ({**MQTT, "tls": {"cert": "a"}}, "cert and key belong together"),
        ({**HOOK, "url": "ftp://hush"}, "url: give an address such as https://host/path"),
        ({**HOOK, "url": "http://[hush"}, "url: give an address such as https://host/path"),
        ({**HOOK, "url": "https://h/a b"}, "url: give an address such as https://host/path"),
        ({**HOOK, "secret": ""}, "secret is empty"),
        ({**HOOK, "headers": {"A b": "hush"}}, "headers: 'A b' is no name of a header"),
        ({**HOOK, "headers": {"A": "hush "}}, "or its value has odd characters, or blanks at its ends"),
        ({**HOOK, "headers": {"A": "hush\r\nB: c"}}, "headers: 'A' is no name of a header, or its value"),
        ({**JSONL, "path": "-", "max_bytes": 10}, "standard output ('-') cannot be rotated"),
        ({**JSONL, "what": []}, "what is empty"),
        ({**JSONL, "what": ["evnts"]}, "sinks[0].what[0]: expected one of predictions, events, status, got 'evnts'"),
        ({**RECORDER, "mode": "0999"}, "sinks[0].mode: expected three octal digits, such as 0600, got '0999'"),
        ({**STORE, "max_rows": 0}, "sinks[0].max_rows: expected int >= 1, got 0"),
    ],
)
def test_a_mistake_is_told_with_what_is_allowed_and_without_secrets(entry: Any, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        sinks(entry)
    assert said in str(caught.value)
    assert "hush" not in str(caught.value)


def test_what_sinks_demand_of_each_other_is_told() -> None:
    with pytest.raises(ConfigError, match="there can be one store only"):
        sinks(STORE, {**STORE, "name": "other"})
    with pytest.raises(ConfigError, match="their names must differ, got a, a"):
        sinks({**MQTT, "name": "a"}, {**HOOK, "name": "a"})
    with pytest.raises(ConfigError, match="a recorder is made of previews"):
        sinks(RECORDER, preview={"enabled": False})


def test_secrets_are_hidden_where_settings_are_shown() -> None:
    mqtt = {**MQTT, "username": "me", "password": "hush-1"}
    hook = {**HOOK, "url": "https://me:hush-2@h/x", "secret": "hush-3", "headers": {"X-Key": "hush-4"}}
    shown = to_yaml(sinks(mqtt, hook))
    assert "hush" not in shown
    assert "X-Key" in shown and "broker" in shown


def test_the_port_follows_tls_unless_it_is_given() -> None:
    assert MqttSettings(host="h").address == ("h", 1883)
    assert MqttSettings(host="h", tls=TlsSettings()).address == ("h", 8883)
    assert MqttSettings(host="h", tls=TlsSettings(), port=1).address == ("h", 1)
