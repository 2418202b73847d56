"""The table of sinks, and from a configuration to its sinks at work.

A new sink is a file in this folder and a row in `SINKS`; its settings are a class in `stream_i3d.sink_settings`. The
file has two functions, `make_sink` and `needs` (see `SinkModule`). What a sink needs that is installed by an extra is
imported only where such a sink is asked for.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from stream_i3d.config import Config, name_sink
from stream_i3d.errors import ConfigError
from stream_i3d.publish.outbox import MemoryOutbox
from stream_i3d.publish.sink import Need, Outlet, SinkContext
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


class SinkType(NamedTuple):
    """A row of the table.

    Attributes:
        module: The file in this folder.
        package: What it imports that may not be installed; "" for nothing.
        extra: The extra of stream-i3d that installs the package.
        delivers: Whether it delivers events from the store, where there is one, until they are acknowledged.
    """

    module: str
    package: str = ""
    extra: str = ""
    delivers: bool = False


class SinkModule(Protocol):
    """What the file of a sink has."""

    def make_sink(self, settings: Any, context: SinkContext) -> Outlet:
        """Return the sink at work; ConfigError where that is not possible."""

    def needs(self, settings: Any) -> Need:
        """Return what it needs of the machine or the network, for `doctor`."""


SINKS: Mapping[type[SinkSettings], SinkType] = MappingProxyType(
    {
        JsonLinesSettings: SinkType("jsonl"),
        StoreSettings: SinkType("store_sink"),
        MqttSettings: SinkType("mqtt", package="paho", extra="mqtt", delivers=True),
        WebhookSettings: SinkType("webhook", package="httpx", extra="webhook", delivers=True),
        RecorderSettings: SinkType("recorder", package="av", extra="recorder"),
    }
)
"""By the class of their settings."""


def sink_module(settings: SinkSettings) -> SinkModule:
    """Return the file of a sink; its package must be installed."""
    module: Any = importlib.import_module(f"stream_i3d.publish.{SINKS[type(settings)].module}")
    return module  # type: ignore[no-any-return]


class MissingPackage(NamedTuple):
    """What a sink imports that is not installed, and the command that installs it."""

    package: str
    remedy: str


def missing_package(settings: SinkSettings) -> MissingPackage | None:
    """Return what such a sink imports where it is not installed."""
    row = SINKS[type(settings)]
    if not row.package or importlib.util.find_spec(row.package) is not None:
        return None
    return MissingPackage(row.package, f"pip install 'stream-i3d[{row.extra}]'")


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
        keys = load_server_keys(config.security)
        delivering = tuple(name for name, settings in named.items() if SINKS[type(settings)].delivers)
        store: StoreSink | None = None
        # The store first, which others deliver from; it is closed last, for it notes the recorder's clips.
        for name, settings in sorted(named.items(), key=lambda one: not isinstance(one[1], StoreSettings)):
            outbox = None if store is None else store.outboxes.get(name)
            context = SinkContext(
                name=name,
                run=run,
                keys=None if keys is None else keys.own_client(),
                delivering=delivering,
                outbox=outbox or MemoryOutbox(settings.queue),
                store=store,
            )
            outlet = sink_module(settings).make_sink(settings, context)
            store = outlet if isinstance(outlet, StoreSink) else store
            made.insert(0, outlet)
    except BaseException:
        for outlet in made:
            outlet.close(0.0)
        raise
    return made
