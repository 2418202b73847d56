"""The cameras of this machine, found without opening them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from .state.translation import translate


@dataclass(frozen=True, slots=True)
class FoundCamera:
    """A camera that can be chosen: the `source` that `run` takes, and a name for people."""

    source: str
    name: str


def found_cameras(devices: Path = Path("/dev"), system: Path = Path("/sys/class/video4linux")) -> list[FoundCamera]:
    """Return the video devices of this machine, by number.

    A camera with several nodes (metadata beside pictures) is listed once: only a node of index 0 carries pictures.
    """
    found = []
    numbers = sorted(
        int(match[1]) for path in devices.glob("video*") if (match := re.fullmatch(r"video(\d+)", path.name))
    )
    for number in numbers:
        node = system / f"video{number}"
        if _text(node / "index") not in ("", "0"):
            continue
        name = _text(node / "name") or translate("Sources", "Camera {number}").format(number=number)
        found.append(FoundCamera(str(number), name))
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()[:80]
    except OSError:
        return ""
