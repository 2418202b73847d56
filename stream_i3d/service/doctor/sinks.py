"""Looks whether sinks have what they need: packages, hosts that answer, folders with room.

Nothing is sent to anybody; no address but a host's name and port is told.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from stream_i3d.config import Config, name_sink
from stream_i3d.publish.factory import missing_package
from stream_i3d.service.doctor import reach
from stream_i3d.service.doctor.finding import Finding
from stream_i3d.sink_settings import (
    JsonLinesSettings,
    MqttSettings,
    RecorderSettings,
    SinkSettings,
    StoreSettings,
    WebhookSettings,
)

_CONNECT_S = 5.0
_STORE_MB = 500.0


def examine_sinks(config: Config) -> Iterator[Finding]:
    """Look at each sink."""
    for index, sink in enumerate(config.sinks):
        what = f"sink {name_sink(config.sinks, index)}"
        missing = missing_package(sink)
        if missing is None:
            yield _examine(what, sink)
        else:
            found = f"{missing.package} is not installed"
            yield Finding(what=what, state="fail", found=found, remedy=missing.remedy)


def _examine(what: str, sink: SinkSettings) -> Finding:
    match sink:
        case JsonLinesSettings(path="-"):
            return Finding(what=what, state="ok", found="standard output")
        case JsonLinesSettings():
            return reach.writable(what, _folder_of(sink.path), made=False)
        case StoreSettings():
            return reach.writable(what, _folder_of(sink.path), _STORE_MB, made=False)
        case MqttSettings():
            return reach.connects(what, *sink.address, _CONNECT_S)
        case WebhookSettings():
            parts = urlsplit(sink.url)
            port = parts.port or (443 if parts.scheme == "https" else 80)
            return reach.connects(what, parts.hostname or "", port, _CONNECT_S)
        case RecorderSettings():
            folder = Path(sink.folder).expanduser().absolute()
            wanted = sink.min_free_mb + max(0.0, sink.quota_mb - _clips_mb(folder))
            return reach.writable(what, folder, wanted)


def _folder_of(path: str) -> Path:
    return Path(path).expanduser().absolute().parent


def _clips_mb(folder: Path) -> float:
    """Return what the clips that are there take, which counts towards the quota."""
    try:
        return sum(clip.stat().st_size for clip in folder.glob("*.mp4")) / 2**20
    except OSError:
        return 0.0
