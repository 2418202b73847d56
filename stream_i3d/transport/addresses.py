"""Which ZeroMQ addresses are allowed, and where the frame channels live. Pure but for a temporary folder's name."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from pathlib import Path

from stream_i3d.errors import ConfigError

_TCP = re.compile(r"tcp://(?P<host>\[[0-9A-Fa-f:]+\]|[^:/\s]+):(?P<port>[0-9]{1,5}|\*)\Z")


def check_address(address: str) -> str:
    """Return `address` if it is `tcp://HOST:PORT` or `ipc://PATH`.

    Raises:
        ConfigError: It is neither.
    """
    match = _TCP.fullmatch(address)
    if match is not None and (match["port"] == "*" or int(match["port"]) <= 65535):
        return address
    if address.startswith("ipc://") and len(address) > len("ipc://") and address.isprintable():
        return address
    raise ConfigError(f"address {address!r}: allowed is tcp://HOST:PORT (port 0 to 65535) or ipc://PATH")


def check_bind(address: str) -> str:
    """Return `address` if it may be bound: loopback TCP or ipc.

    Raises:
        ConfigError: It is no address, or others than this machine could connect to it.
    """
    check_address(address)
    match = _TCP.fullmatch(address)
    if match is None or _is_loopback(match["host"].strip("[]")):
        return address
    raise ConfigError(
        f"refusing to bind {address}: anyone on the network could listen, and keys are not supported yet; "
        "allowed are tcp://127.0.0.1:PORT and ipc://PATH (use an SSH tunnel to reach it from another host)"
    )


def control_address(control: str | None, publish: str) -> str | None:
    """Return where the control channel is to be bound, or None where it is off.

    Args:
        control: The setting; "auto" is beside `publish`: one port above it, or its path with "-control".
        publish: The address of the PUB socket.

    Raises:
        ConfigError: It is no address, or others than this machine could connect to it.
    """
    if control is None or control == "off":
        return None
    if control != "auto":
        return check_bind(control)
    match = _TCP.fullmatch(check_bind(publish))
    if match is None:
        return f"{publish}-control"
    port = match["port"] if match["port"] in ("*", "0", "65535") else str(int(match["port"]) + 1)
    return f"tcp://{match['host']}:{'*' if port in ('0', '65535') else port}"


def preview_channel(folder: Path, camera_index: int) -> str:
    """Return where one camera's previews are to be bound: ipc on POSIX, any free port of loopback on Windows."""
    if os.name == "posix":
        return f"ipc://{folder / f'preview-{camera_index}'}"
    return "tcp://127.0.0.1:*"


def frame_channel(folder: Path, camera_index: int) -> str:
    """Return the private address of one camera's frame channel: ipc on POSIX, loopback TCP on Windows."""
    if os.name == "posix":
        return f"ipc://{folder / f'frames-{camera_index}'}"
    return f"tcp://127.0.0.1:{_free_port()}"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
