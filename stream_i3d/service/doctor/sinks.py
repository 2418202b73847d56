"""Looks whether sinks have what they need: packages, hosts that answer, folders with room.

Nothing is sent to anybody; no address but a host's name and port is told.
"""

from __future__ import annotations

from collections.abc import Iterator

from stream_i3d.config import Config, name_sink
from stream_i3d.publish.factory import missing_package, sink_module
from stream_i3d.publish.sink import Need, Reachable, Writable
from stream_i3d.service.doctor import probes
from stream_i3d.service.doctor.finding import Finding

_CONNECT_S = 5.0


def examine_sinks(config: Config) -> Iterator[Finding]:
    """Look at each sink."""
    for index, sink in enumerate(config.sinks):
        what = f"sink {name_sink(config.sinks, index)}"
        missing = missing_package(sink)
        if missing is None:
            yield _examine(what, sink_module(sink).needs(sink))
        else:
            found = f"{missing.package} is not installed"
            yield Finding(what=what, state="fail", found=found, remedy=missing.remedy)


def _examine(what: str, need: Need) -> Finding:
    match need:
        case Reachable():
            return probes.connects(what, need.host, need.port, _CONNECT_S)
        case Writable():
            return probes.writable(what, need.folder, need.room_mb, need.made)
        case None:
            return Finding(what=what, state="ok", found="standard output")
