"""Which ZeroMQ addresses are allowed, and where the channels live. Pure but for asking the system for a free port."""

from __future__ import annotations

import errno
import ipaddress
import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import zmq

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


def is_loopback(host: str) -> bool:
    """Return whether a host's name or number is one of this machine's own; an IPv6 number is without its brackets."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def leaves_host(address: str) -> bool:
    """Return whether other machines can connect to a socket bound at `address`."""
    match = _TCP.fullmatch(address)
    return match is not None and not is_loopback(match["host"].strip("[]"))


def tcp_place(address: str) -> tuple[str, int] | None:
    """Return host (an IPv6 number without its brackets) and port of a TCP address; None for any other.

    The port is 0 where the system is to choose it.
    """
    match = _TCP.fullmatch(address)
    return None if match is None else (match["host"].strip("[]"), _port(match))


def check_bind(address: str, keyed: bool = False) -> str:
    """Return `address` if it may be bound: loopback TCP or ipc, and with keys anything.

    Args:
        address: What is to be bound.
        keyed: Whether clients need keys there (`security` in the configuration).

    Raises:
        ConfigError: It is no address, or strangers could connect to it.
    """
    if keyed or not leaves_host(check_address(address)):
        return check_address(address)
    raise ConfigError(
        f"refusing to bind {address} without keys: anyone on the network could listen; make keys with `stream-i3d keys "
        "new NAME` and give --key and --clients (docs/security.md), or use tcp://127.0.0.1:PORT or ipc://PATH"
    )


def control_address(control: str | None, publish: str, keyed: bool = False) -> str | None:
    """Return where the control channel is to be bound, or None where it is off.

    Args:
        control: The setting; "auto" is beside `publish`: one port above it, or its path with "-control".
        publish: The address of the PUB socket.
        keyed: Whether clients need keys there.

    Raises:
        ConfigError: It is no address, or strangers could connect to it.
    """
    if control is None or control == "off":
        return None
    if control != "auto":
        return check_bind(control, keyed)
    match = _TCP.fullmatch(check_bind(publish, keyed))
    if match is None:
        return f"{publish}-control"
    port = _port(match)
    return _tcp(match["host"], port + 1 if port else 0)


def preview_channel(folder: Path, camera_index: int) -> str:
    """Return where one camera's previews are to be bound: ipc on POSIX, any free port of loopback on Windows."""
    if os.name == "posix":
        return f"ipc://{folder / f'preview-{camera_index}'}"
    return "tcp://127.0.0.1:*"


def preview_address(publish: str, control: str | None, number: int) -> str | None:
    """Return where the previews of number `number` (from 0) stand beside `publish`; None where that is no TCP.

    They are on the host of `publish`, at the ports after those of `publish` and `control`: after 5556 and 5557 come
    5558, 5559 and so on. Where the system chooses the ports, it chooses these too.
    """
    match, beside = _TCP.fullmatch(publish), _TCP.fullmatch(control or "")
    if match is None:
        return None
    port = _port(match)
    if port:
        port = max(port + 1, _port(beside) if beside else 0) + 1 + number
    return _tcp(match["host"], port)


def reachable(told: str, asked: str) -> str:
    """Return an address that a service published, as a client that reached it at `asked` can connect to it.

    A service bound to all interfaces cannot know by which of them its clients come, and says 0.0.0.0 or [::]; that is
    the host at which it was asked, or this one where that was no TCP.
    """
    match, here = _TCP.fullmatch(told), _TCP.fullmatch(asked)
    if match is None or not _is_wildcard(match["host"].strip("[]")):
        return told
    return f"tcp://{here['host'] if here else '127.0.0.1'}:{match['port']}"


def frame_channel(folder: Path, camera_index: int) -> str:
    """Return the private address of one camera's frame channel: ipc on POSIX, loopback TCP on Windows."""
    if os.name == "posix":
        return f"ipc://{folder / f'frames-{camera_index}'}"
    return f"tcp://127.0.0.1:{_free_port()}"


def relay_channel(folder: Path) -> str:
    """Return the private address at which the publisher receives from workers: ipc on POSIX, else loopback TCP."""
    if os.name == "posix":
        return f"ipc://{folder / 'relay'}"
    return f"tcp://127.0.0.1:{_free_port()}"


def _port(match: re.Match[str]) -> int:
    """Return the port of an address, 0 where the system is to choose it."""
    return 0 if match["port"] == "*" else int(match["port"])


def _tcp(host: str, port: int) -> str:
    """Return a TCP address; a port that is none means any free one."""
    return f"tcp://{host}:{port if 0 < port <= 65535 else '*'}"


def _is_wildcard(host: str) -> bool:
    if host == "*":
        return True
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


MAX_IPC_PATH_BYTES: Final = 107
"""Of a Unix socket's path, on Linux; macOS takes 103."""


@dataclass(frozen=True, slots=True)
class Purpose:
    """What a socket is for.

    Attributes:
        what: Its name in messages.
        setting: The flag that chooses its address; None where it is made up in a private temporary folder.
    """

    what: str
    setting: str | None = None


PREDICTIONS: Final = Purpose("predictions", "--publish")
CONTROL: Final = Purpose("control channel", "--control")
PREVIEWS: Final = Purpose("a camera's previews")
FRAMES: Final = Purpose("a camera's frames, private")
RELAY: Final = Purpose("results of the workers, private")


def bind_refusal(purpose: Purpose, address: str, code: int) -> str:
    """Return a one-line message for a bind that failed.

    Args:
        purpose: Of the socket.
        address: Where it was to be bound.
        code: ZeroMQ's error number.
    """
    path = address.removeprefix("ipc://") if address.startswith("ipc://") else None
    where = f"{address} ({purpose.what})"
    if code == errno.EADDRINUSE:
        return f"address {where} is in use by another process; stop it or {_another(purpose, path)}"
    return f"cannot bind {where}: {_reason(address, path, code)}; {_remedy(purpose, path, code)}"


def _another(purpose: Purpose, path: str | None) -> str:
    if purpose.setting is not None:
        return f"choose another {'port' if path is None else 'path'} with {purpose.setting}"
    if path is None:  # with keys, previews have the ports after those of predictions and control
        return "choose other ports with --publish, which previews follow"
    return "set TMPDIR to another folder"


def _reason(address: str, path: str | None, code: int) -> str:
    if code == errno.ENAMETOOLONG and path is not None:
        return f"its path has {len(os.fsencode(path))} bytes, and a socket's may have {MAX_IPC_PATH_BYTES}"
    if code in (errno.ENODEV, errno.EADDRNOTAVAIL) and path is None:
        return "this machine has no network interface of this address"
    return zmq.strerror(code) if code else f"{address} is no address that can be bound"


def _remedy(purpose: Purpose, path: str | None, code: int) -> str:
    if code in (errno.EMFILE, errno.ENFILE):
        return "raise the limit of open files (`ulimit -n`)"
    if path is not None and purpose.setting is None:
        return "set TMPDIR to a folder that exists, has a short path and can be written to"
    setting = purpose.setting or "--publish"
    if path is not None:
        folder = str(Path(path).parent)
        if code == errno.ENAMETOOLONG:
            return f"choose a shorter path with {setting}, or set TMPDIR to a folder with a shorter path"
        if code in (errno.ENOENT, errno.ENOTDIR):
            return f"make the folder {folder}, or choose another path with {setting}"
        return f"choose a path in a folder that can be written to with {setting}"
    if code in (errno.EACCES, errno.EPERM):
        return f"choose a port from 1024 on with {setting}"
    return f"choose an address of this machine with {setting}"
