"""The cameras of this machine: found, and told from other devices, without being opened. Imports no OpenCV."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from stream_i3d.capture.local_file import kind_refusal, shown
from stream_i3d.errors import SourceNotFound
from stream_i3d.files import kind_of

_VIDEO4LINUX: Final = 81  # the major number of its devices


def list_webcams() -> list[str]:
    """Return the device paths of the cameras the system knows (Linux; empty elsewhere)."""
    return sorted(str(path) for path in Path("/dev").glob("video*"))


def check_webcam(target: str, cameras: Callable[[], Sequence[str]] = list_webcams) -> str:
    """Return the device path of a webcam; whether it gives pictures is only known once it is opened.

    Args:
        target: An index ("0"), or a device path.
        cameras: Lists those that there are.

    Raises:
        SourceNotFound: There is no such device, or it is no camera (both on Linux only).
    """
    device = f"/dev/video{target}" if target.isdigit() else target
    if not sys.platform.startswith("linux"):
        return device
    if kind_of(device) is None:
        found = ", ".join(cameras()) or "none"
        raise SourceNotFound(
            f"webcam {shown(target)}: {shown(device)} does not exist; cameras found: {found}; plug one in or give "
            "another"
        )
    info = Path(device).stat()
    if stat.S_ISCHR(info.st_mode) and os.major(info.st_rdev) != _VIDEO4LINUX:
        found = ", ".join(cameras()) or "none"
        raise SourceNotFound(f"webcam {shown(target)}: {shown(device)} is no camera; cameras found: {found}")
    if not stat.S_ISCHR(info.st_mode) and (refusal := kind_refusal(info.st_mode)) is not None:
        raise SourceNotFound(f"webcam {shown(target)}: {shown(device)} is {refusal}")
    return device
