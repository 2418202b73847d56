"""From a configuration to its sinks at work: each with threads, queue and outbox of its own.

What a sink needs that is installed by an extra is imported only where such a sink is asked for.
"""

from __future__ import annotations

import importlib.util
from typing import NamedTuple

from stream_i3d.config import Config, SecurityConfig, name_sink
from stream_i3d.errors import ConfigError
from stream_i3d.publish.jsonl import JsonLinesSink
from stream_i3d.publish.outbox import MemoryOutbox, Outbox
from stream_i3d.publish.sink import Outlet, QueuedSink
from stream_i3d.publish.store_sink import StoreSink
from stream_i3d.sink_settings import (
    JsonLinesSettings,
    MqttSettings,
    RecorderSettings,
    SinkSettings,
    StoreSettings,
    WebhookSettings,
)
from stream_i3d.transport.curve import load_server_keys

_EXTRAS: dict[type[SinkSettings], tuple[str, str]] = {
    MqttSettings: ("paho", "mqtt"),
    WebhookSettings: ("httpx", "webhook"),
    RecorderSettings: ("av", "recorder"),
}
"""What a sink imports, and the extra that installs it."""


class MissingPackage(NamedTuple):
    """What a sink imports that is not installed, and the command that installs it."""

    package: str
    remedy: str


def missing_package(settings: SinkSettings) -> MissingPackage | None:
    """Return what such a sink imports where it is not installed."""
    package, extra = _EXTRAS.get(type(settings), ("", ""))
    if not package or importlib.util.find_spec(package) is not None:
        return None
    return MissingPackage(package, f"pip install 'stream-i3d[{extra}]'")


def name_sinks(config: Config) -> dict[str, SinkSettings]:
    """Return all sinks but the PUB socket by their names; `publish.jsonl` is short for one of JSON lines."""
    named = {name_sink(config.sinks, index): sink for index, sink in enumerate(config.sinks)}
    if config.publish.jsonl is not None:
        name = next(name for name in ("jsonl", "publish-jsonl", "publish.jsonl") if name not in named)
        named = {name: JsonLinesSettings(path=config.publish.jsonl), **named}
    return named


def check_sinks(config: Config) -> None:
    """Check that what the sinks import is installed.

    Raises:
        ConfigError: Something is not; names it and what installs it.
    """
    for name, settings in name_sinks(config).items():
        missing = missing_package(settings)
        if missing is not None:
            raise ConfigError(f"the sink {name} needs {missing.package}: run {missing.remedy}")


def make_outlets(config: Config, run: str) -> list[Outlet]:
    """Return the sinks of a configuration at work, in the order in which they are to be closed.

    Args:
        config: Which there are.
        run: Identity of this run of the service; the same when only this process was started again.

    Raises:
        ConfigError: One cannot be had; the others are closed again.
    """
    check_sinks(config)
    made: list[Outlet] = []
    try:
        named = name_sinks(config)
        store = _make_store(named, run)
        if store is not None:
            made.append(store)
        for name, settings in named.items():
            if not isinstance(settings, StoreSettings):
                # The recorder first: what it has to say of clips is the store's.
                made.insert(0, _make(name, settings, config.security, store))
    except BaseException:
        for outlet in made:
            outlet.close(0.0)
        raise
    return made


def _make_store(named: dict[str, SinkSettings], run: str) -> StoreSink | None:
    delivering = [name for name, settings in named.items() if isinstance(settings, MqttSettings | WebhookSettings)]
    stores = [(name, settings) for name, settings in named.items() if isinstance(settings, StoreSettings)]
    return StoreSink(stores[0][1], stores[0][0], delivering, run) if stores else None


def _make(name: str, settings: SinkSettings, security: SecurityConfig, store: StoreSink | None) -> Outlet:
    if isinstance(settings, JsonLinesSettings):
        lines = JsonLinesSink(settings.path, settings.max_bytes, settings.keep)
        return QueuedSink(lines, name, settings.queue, settings.what, durable=True)
    outbox: Outbox = store.outboxes[name] if store and name in store.outboxes else MemoryOutbox(settings.queue)
    if isinstance(settings, MqttSettings):
        from stream_i3d.publish.mqtt import MqttSink

        return MqttSink(settings, name, outbox, store.running if store else ())
    if isinstance(settings, WebhookSettings):
        from stream_i3d.publish.webhook import WebhookSink

        return WebhookSink(settings, name, outbox)
    assert isinstance(settings, RecorderSettings)
    from stream_i3d.publish.recorder import RecorderSink

    keys = load_server_keys(security)
    note = {} if store is None else {"note": store.note_clip}
    return RecorderSink(settings, name, None if keys is None else keys.own_client(), **note)
