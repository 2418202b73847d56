"""What cameras and their processes are called. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from stream_i3d.capture.address import SourceAddress, parse_source
from stream_i3d.config import Config
from stream_i3d.errors import ConfigError

_CAPTURE = "capture "


def name_cameras(config: Config) -> Sequence[tuple[str, SourceAddress, str]]:
    """Return each camera's name, parsed source and source text; names are made where none is given.

    Raises:
        ConfigError: There is no camera and none may come, two have the same name, or a source means nothing.
    """
    if not config.cameras and ends_without_camera(config):
        raise ConfigError(
            "no camera: give --source (a webcam index, URL, file or synthetic://) or --config with cameras"
        )
    taken = [camera.name for camera in config.cameras if camera.name is not None]
    twice = next((name for name in taken if taken.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"cameras: the name {twice!r} is given twice; each camera needs its own")
    named = []
    for camera in config.cameras:
        address = parse_source(camera.source)
        name = camera.name or free_name(address.default_name, taken)
        taken.append(name)
        named.append((name, address, camera.source))
    return named


def ends_without_camera(config: Config) -> bool:
    """Tell whether a camera that cannot be had ends the run: unless there is somebody to see it and to mend it."""
    return not config.control.stay and config.control.state is None


def free_name(wanted: str, taken: Sequence[str]) -> str:
    """Return a name that is not taken: `wanted`, or that and a number."""
    if wanted not in taken:
        return wanted
    number = next(number for number in range(2, len(taken) + 3) if f"{wanted[:60]}-{number}" not in taken)
    return f"{wanted[:60]}-{number}"


def capture_stage(camera: str) -> str:
    """Return the name of a camera's capture process."""
    return _CAPTURE + camera


def camera_of(stage_name: str) -> str | None:
    """Return the camera of a capture process by its name; None where it is another process's."""
    camera = stage_name.removeprefix(_CAPTURE)
    return None if camera == stage_name else camera
