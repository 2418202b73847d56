"""The sinks of a service: the table of their kinds, and all sinks of a configuration at work beside the PUB socket.

A new sink is one module in this folder with `make` and `needs`, its settings (sink_settings.py), and a row of `SINKS`.
"""

from __future__ import annotations

import importlib
import importlib.util
import time
from collections.abc import Mapping
from typing import NamedTuple

from stream_i3d.config import Config, name_sink
from stream_i3d.errors import ConfigError
from stream_i3d.messages import ActionEvent
from stream_i3d.publish.sink import Folder, Outlet, Server, SinkContext, SinkModule
from stream_i3d.publish.store_sink import StoreSink
from stream_i3d.sink_settings import (
    JsonLinesSettings,
    MqttSettings,
    RecorderSettings,
    SinkSettings,
    StoreSettings,
    WebhookSettings,
)
from stream_i3d.stage import SinkFigures
from stream_i3d.transport.keys import load_server_keys
from stream_i3d.transport.sockets import Publisher
from stream_i3d.transport.wire import Published, encode_published

_CLOSE_S = 0.9


class SinkKind(NamedTuple):
    """A kind of sink.

    Attributes:
        module: Of this folder; imported only where such a sink is configured.
        delivers: Whether it delivers events from the event store, where there is one.
        package: What the module imports that an extra installs; "" for none.
        extra: Name of that extra.
    """

    module: str
    delivers: bool = False
    package: str = ""
    extra: str = ""


SINKS: dict[type[SinkSettings], SinkKind] = {
    JsonLinesSettings: SinkKind("jsonl"),
    StoreSettings: SinkKind("store_sink"),
    MqttSettings: SinkKind("mqtt", delivers=True, package="paho", extra="mqtt"),
    WebhookSettings: SinkKind("webhook", delivers=True, package="httpx", extra="webhook"),
    RecorderSettings: SinkKind("recorder", package="av", extra="recorder"),
}
"""Every kind of sink, by the class of its settings."""


class MissingPackage(NamedTuple):
    """A package that a sink imports and that is not installed, and the command that installs it."""

    package: str
    remedy: str


def missing_package(settings: SinkSettings) -> MissingPackage | None:
    """Return the package that such a sink imports, where it is not installed."""
    kind = SINKS[type(settings)]
    if not kind.package or importlib.util.find_spec(kind.package) is not None:
        return None
    return MissingPackage(kind.package, f"pip install 'stream-i3d[{kind.extra}]'")


def sink_needs(settings: SinkSettings) -> Folder | Server | None:
    """Return what a sink needs to be there; its package must be installed."""
    return _module(settings).needs(settings)


def name_sinks(config: Config) -> dict[str, SinkSettings]:
    """Return all sinks but the PUB socket by their names; `publish.jsonl` is short for one of JSON lines."""
    named = {name_sink(config.sinks, index): sink for index, sink in enumerate(config.sinks)}
    if config.publish.jsonl is not None:
        name = next(name for name in ("jsonl", "publish-jsonl", "publish.jsonl") if name not in named)
        named = {name: JsonLinesSettings(path=config.publish.jsonl), **named}
    return named


def check_sinks(config: Config) -> None:
    """Check that the packages of all configured sinks are installed.

    Raises:
        ConfigError: One is not; the message names it and the command that installs it.
    """
    for name, settings in name_sinks(config).items():
        missing = missing_package(settings)
        if missing is not None:
            raise ConfigError(f"the sink {name} needs {missing.package}: run {missing.remedy}")


def make_outlets(config: Config, run: str) -> list[Outlet]:
    """Start the sinks of a configuration.

    Args:
        config: The configuration.
        run: Identity of this run of the service; the same when only this process was restarted.

    Returns:
        The sinks, in the order in which they are to be closed.

    Raises:
        ConfigError: One cannot be started; the others are closed again.
    """
    check_sinks(config)
    named = name_sinks(config)
    context = SinkContext(
        security=config.security,
        run=run,
        delivering=tuple(name for name, settings in named.items() if SINKS[type(settings)].delivers),
    )
    made: list[Outlet] = []
    try:
        # The store first, as others deliver from it; it is closed last, as the recorder notes its clips there.
        for name, settings in sorted(named.items(), key=lambda one: not isinstance(one[1], StoreSettings)):
            made.insert(0, outlet := _module(settings).make(settings, name, context))
            if isinstance(outlet, StoreSink):
                context.store = outlet
    except BaseException:
        for outlet in made:
            outlet.close(0.0)
        raise
    return made


def _module(settings: SinkSettings) -> SinkModule:
    module: SinkModule = importlib.import_module(f"stream_i3d.publish.{SINKS[type(settings)].module}")
    return module


class Sinks:
    """The PUB socket and all other sinks. A slow sink stalls none of the others."""

    def __init__(self, config: Config, run: str) -> None:
        """Start all sinks.

        Args:
            config: The configuration.
            run: Identity of this run of the service.

        Raises:
            TransportError: The address of the PUB socket cannot be bound.
            ConfigError: Another sink cannot be started, or a key cannot be read; the others are closed again.
        """
        self._publisher = Publisher(config.publish.address, load_server_keys(config.security))
        self.address = self._publisher.address
        self.published = 0
        self._outlets: list[Outlet] = []
        try:
            self._outlets = make_outlets(config, run)
        except BaseException:
            self.close()
            raise

    def write(self, message: Published, parts: tuple[bytes, bytes] | None = None) -> tuple[int, ...]:
        """Give one message to every sink; never blocks.

        Args:
            message: The message.
            parts: Its topic and JSON where they are known; they are published as they are.

        Returns:
            A mark for `settled`.
        """
        self._publisher.send(parts or encode_published(message))
        self.published += 1
        for outlet in self._outlets:
            outlet.write(message)
        return tuple(outlet.accepted for outlet in self._outlets if outlet.durable)

    def settled(self, mark: tuple[int, ...]) -> bool:
        """Return whether every durable sink has handled the message for which `write` returned `mark`."""
        durable = (outlet for outlet in self._outlets if outlet.durable)
        return all(outlet.handled >= number for outlet, number in zip(durable, mark, strict=True))

    @property
    def running(self) -> list[ActionEvent]:
        """Actions that were running when the publisher process before this one ended, as far as there is a store."""
        return [event for outlet in self._outlets if isinstance(outlet, StoreSink) for event in outlet.running]

    def follow(self, cameras: Mapping[str, str]) -> None:
        """Tell all sinks the current cameras and the addresses of their previews ("" where there are none)."""
        for outlet in self._outlets:
            outlet.follow(cameras)

    @property
    def subscriptions_refused(self) -> int:
        """Subscriptions and connections that the PUB socket has refused."""
        return self._publisher.refused

    def figures(self) -> list[SinkFigures]:
        """Return the counters and the state of every sink."""
        return [outlet.figures() for outlet in self._outlets]

    def close(self) -> None:
        """Finish and close all sinks, within one second together."""
        self._publisher.close()
        until = time.monotonic() + _CLOSE_S
        for outlet in self._outlets:
            outlet.close(max(0.1, until - time.monotonic()))
