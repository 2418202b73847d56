"""Checks that sinks have what they need: packages, servers that answer, folders with room.

Nothing is sent to a server, and of its address only host and port are shown.
"""

from __future__ import annotations

from collections.abc import Iterator

from stream_i3d.config import Config, name_sink
from stream_i3d.publish.sink import Folder
from stream_i3d.publish.sinks import missing_package, sink_needs
from stream_i3d.service.doctor import probes
from stream_i3d.service.doctor.finding import Finding
from stream_i3d.sink_settings import SinkSettings

_CONNECT_S = 5.0


def examine_sinks(config: Config) -> Iterator[Finding]:
    """Check each sink of a configuration."""
    for index, sink in enumerate(config.sinks):
        what = f"sink {name_sink(config.sinks, index)}"
        missing = missing_package(sink)
        if missing is None:
            yield _examine(what, sink)
        else:
            found = f"{missing.package} is not installed"
            yield Finding(what=what, state="fail", found=found, remedy=missing.remedy)


def _examine(what: str, sink: SinkSettings) -> Finding:
    needed = sink_needs(sink)
    if needed is None:
        return Finding(what=what, state="ok", found="standard output")
    if isinstance(needed, Folder):
        return probes.writable(what, needed.path, needed.free_mb, made=needed.made)
    return probes.connects(what, needed.host, needed.port, _CONNECT_S)
