"""All settings of `run`: the default, limits, description and flag of each, in one place.

YAML lies over the defaults, flags over YAML; unknown keys are refused. Flags, their help and completion
(cli/options.py), error messages (validation.py) and docs/configuration.md come from here. Knows nothing of models or
cameras beyond their settings: what a checkpoint demands is merged in by service.plan.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import to_builtins

from stream_i3d.config.recognition import (
    DEFAULT_CHECKPOINT,
    DEFAULT_MIN_CONFIDENCE,
    TWO_STREAM,
    BackendName,
    CameraConfig,
    EventsConfig,
    FlowName,
    Fraction,
    FusionName,
    IdleConfig,
    Megabytes,
    ModelConfig,
    ModeName,
    Precision,
    Seconds,
    SmoothingConfig,
    SmoothingName,
    WindowConfig,
)
from stream_i3d.config.service import (
    CaptureConfig,
    ControlConfig,
    LogFormat,
    LoggingConfig,
    MonitoringConfig,
    PreviewConfig,
    PublishConfig,
    SecurityConfig,
)
from stream_i3d.errors import ConfigError, did_you_mean
from stream_i3d.settings import Section, convert_settings, load_settings, look_up_variables, settings_of
from stream_i3d.sink_settings import RecorderSettings, SinkSettings, StoreSettings

__all__ = [
    "DEFAULT_CHECKPOINT",
    "DEFAULT_MIN_CONFIDENCE",
    "LIVE_SETTINGS",
    "TWO_STREAM",
    "BackendName",
    "CameraConfig",
    "CaptureConfig",
    "Config",
    "ControlConfig",
    "EventsConfig",
    "FlowName",
    "Fraction",
    "FusionName",
    "IdleConfig",
    "LogFormat",
    "LoggingConfig",
    "Megabytes",
    "ModeName",
    "ModelConfig",
    "MonitoringConfig",
    "Precision",
    "PreviewConfig",
    "PublishConfig",
    "Seconds",
    "SecurityConfig",
    "SmoothingConfig",
    "SmoothingName",
    "WindowConfig",
    "change_settings",
    "convert",
    "live_settings",
    "load_config",
    "name_sink",
]


class Config(Section, frozen=True, kw_only=True):
    """Everything `run` can be told."""

    cameras: list[CameraConfig] = []
    model: ModelConfig = ModelConfig()
    window: WindowConfig = WindowConfig()
    smoothing: SmoothingConfig = SmoothingConfig()
    idle: IdleConfig = IdleConfig()
    events: EventsConfig = EventsConfig()
    publish: PublishConfig = PublishConfig()
    sinks: list[SinkSettings] = []
    capture: CaptureConfig = CaptureConfig()
    preview: PreviewConfig = PreviewConfig()
    control: ControlConfig = ControlConfig()
    security: SecurityConfig = SecurityConfig()
    logging: LoggingConfig = LoggingConfig()
    monitoring: MonitoringConfig = MonitoringConfig()

    def __post_init__(self) -> None:
        """Check that the sinks can be told apart, and have what they need."""
        names = [name_sink(self.sinks, index) for index in range(len(self.sinks))]
        if len(set(names)) < len(names):
            raise ValueError(f"sinks: their names must differ, got {', '.join(names)}; give each a name of its own")
        if sum(isinstance(sink, StoreSettings) for sink in self.sinks) > 1:
            raise ValueError("sinks: there can be one store only; take the others out")
        if not self.preview.enabled and any(isinstance(sink, RecorderSettings) for sink in self.sinks):
            raise ValueError("sinks: a recorder is made of previews: leave preview.enabled true, or take it out")


def name_sink(sinks: Sequence[SinkSettings], index: int) -> str:
    """Return the name of a sink: the given one, else its type, numbered from the second on."""
    sink = sinks[index]
    kind = str(sink.__struct_config__.tag)
    before = sum(type(one) is type(sink) for one in sinks[:index])
    return sink.name or (f"{kind}-{before + 1}" if before else kind)


LIVE_SETTINGS = tuple(one.key for one in settings_of(Config) if one.live)
"""What may be changed while the service runs, for all cameras: dotted keys."""


def live_settings(config: Config) -> dict[str, Any]:
    """Return the values of `LIVE_SETTINGS`, the threshold in force included."""
    sections = (key.split(".") for key in LIVE_SETTINGS)
    values = {f"{section}.{key}": getattr(getattr(config, section), key) for section, key in sections}
    return {**values, "idle.min_confidence": config.idle.threshold}


def change_settings(config: Config, changes: Mapping[str, Any]) -> Config:
    """Return `config` with some of its `LIVE_SETTINGS` changed: all of `changes`, or none.

    Raises:
        ConfigError: A key is not one of them, or its value is not allowed.
    """
    data = to_builtins(config)
    for key, value in changes.items():
        if key not in LIVE_SETTINGS:
            hint = did_you_mean(key, LIVE_SETTINGS)
            raise ConfigError(f"{key[:64]!r} cannot be changed at run time{hint}; allowed: {', '.join(LIVE_SETTINGS)}")
        section, name = key.split(".")
        if value is None:  # "as configured" has no meaning for a change
            raise ConfigError(f"{key}: expected {type(live_settings(config)[key]).__name__}, got None; give a value")
        data[section][name] = value
    return convert(data)


def load_config(path: Path | None, overrides: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> Config:
    """Read `path` (None: defaults only), put `overrides` over it, and validate the whole.

    Args and errors are those of `settings.load_settings`. In the cameras of `overrides` too, `${NAME}` is looked up:
    their passwords need not stand in the list of processes.
    """
    if "cameras" in overrides:
        overrides = {**overrides, "cameras": look_up_variables(overrides["cameras"], environ, "cameras")}
    return load_settings(Config, path, overrides, environ, _as_meant)


def convert(data: Any) -> Config:
    """Return plain `data` as a validated Config; a ConfigError names the key, what was given and what is allowed."""
    return convert_settings(Config, data, _as_meant)


def _as_meant(data: dict[str, Any]) -> dict[str, Any]:
    """Read a webcam's index without quotes as everyone means it."""
    if isinstance(cameras := data.get("cameras"), list):
        data["cameras"] = [
            {**camera, "source": str(camera["source"])}
            if isinstance(camera, dict) and type(camera.get("source")) is int
            else camera
            for camera in cameras
        ]
    return data
