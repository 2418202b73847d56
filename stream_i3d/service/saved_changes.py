"""What was changed at run time, kept in a file for the next start: how it differs from the configuration, and no more.

The file holds cameras' sources as they are, passwords too: only its owner can read it (mode 0600).
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct, structs

from stream_i3d.config import CameraConfig, Config, change_settings, live_settings
from stream_i3d.errors import ConfigError
from stream_i3d.files import PRIVATE, replace_file
from stream_i3d.messages import CameraName, ViewName

log = logging.getLogger(__name__)

_MAX_BYTES = 1024 * 1024


class SavedCamera(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One camera that was added or changed; `source` is None where it is still the configured one's."""

    name: CameraName
    source: str | None = None
    paused: bool = False
    view: ViewName | None = None


class SavedChanges(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that was changed: cameras added or changed, names of configured ones removed, settings."""

    schema: Literal["stream-i3d/kept/1"] = "stream-i3d/kept/1"
    cameras: list[SavedCamera] = []
    removed: list[CameraName] = []
    settings: dict[str, bool | int | float | str] = {}


def changes(base: Config, now: Config) -> SavedChanges:
    """Return how `now` differs from `base` in cameras and live settings; all cameras in both are named."""
    configured = {camera.name: camera for camera in base.cameras}
    current = {camera.name: camera for camera in now.cameras}
    before, after = live_settings(base), live_settings(now)
    return SavedChanges(
        cameras=[
            SavedCamera(
                name=name,
                source=_own_source(camera, configured.get(name)),
                paused=camera.paused,
                view=camera.view,
            )
            for name, camera in current.items()
            if name is not None and camera != configured.get(name)
        ],
        removed=[name for name in configured if name is not None and name not in current],
        settings={key: value for key, value in after.items() if value != before[key]},
    )


def _own_source(camera: CameraConfig, configured: CameraConfig | None) -> str | None:
    return None if configured is not None and configured.source == camera.source else camera.source


def apply(base: Config, kept: SavedChanges) -> Config:
    """Return `base` with what was changed of it; a change of a camera that is no longer configured is forgotten.

    Raises:
        ConfigError: A setting is not allowed.
    """
    cameras = {str(camera.name): camera for camera in base.cameras if camera.name not in kept.removed}
    for camera in kept.cameras:
        configured = cameras.get(camera.name)
        source = camera.source or (configured.source if configured is not None else None)
        if source is not None:
            cameras[camera.name] = CameraConfig(name=camera.name, source=source, paused=camera.paused, view=camera.view)
    return structs.replace(change_settings(base, kept.settings), cameras=list(cameras.values()))


class StateFile:
    """The file of `control.state`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> SavedChanges:
        """Return what the file holds; nothing where there is none yet.

        Raises:
            ConfigError: It cannot be read, or is no such file; or there is no folder to write it into.
        """
        if not self.path.parent.is_dir():
            raise ConfigError(f"control.state: there is no folder {self.path.parent}; make it first")
        remedy = "mend it, or remove it to start with the configuration alone"
        try:
            with self.path.open("rb") as file:
                content = file.read(_MAX_BYTES + 1)
            if len(content) > _MAX_BYTES:
                raise ConfigError(f"control.state: {self.path} is larger than {_MAX_BYTES} bytes; {remedy}")
            return msgspec.json.decode(content, type=SavedChanges)
        except FileNotFoundError:
            return SavedChanges()
        except OSError as error:
            raise ConfigError(f"control.state: cannot read {self.path}: {error.strerror}; {remedy}") from None
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            # Not what it holds: that may be a password.
            raise ConfigError(
                f"control.state: {self.path} is no state file of stream-i3d, or damaged; {remedy}"
            ) from None

    def save(self, kept: SavedChanges) -> None:
        """Write the file whole or not at all; raises OSError where it cannot be written."""
        replace_file(self.path, msgspec.json.format(msgspec.json.encode(kept)) + b"\n", PRIVATE)


class ChangeSaver:
    """Keeps what is wanted in a file, for the next start."""

    def __init__(self, base: Config, file: StateFile) -> None:
        """Args: `base` is the configuration without what was kept, its cameras named."""
        self._base = base
        self._file = file
        self._failing = False

    def keep(self, wanted: Config) -> None:
        """Write how `wanted` differs from the configuration; a file that cannot be written is said once."""
        try:
            self._file.save(changes(self._base, wanted))
            self._failing = False
        except OSError as error:
            if not self._failing:
                log.error("changes are made, but not kept: cannot write %s: %s", self._file.path, error.strerror)
            self._failing = True
