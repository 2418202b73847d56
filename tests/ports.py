"""Ports for those who must know theirs before they bind it; whoever can, binds port 0 and asks."""

from __future__ import annotations

import socket


def free_port() -> int:
    """Return a TCP port of loopback that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
