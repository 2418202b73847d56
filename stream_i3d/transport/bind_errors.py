"""Says why a socket could not be bound: which socket, why, and what to do about it. Pure."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import zmq

MAX_IPC_PATH_BYTES: Final = 107
"""Of a Unix socket's path, on Linux; macOS takes 103."""


@dataclass(frozen=True, slots=True)
class Purpose:
    """What a socket is for.

    Attributes:
        what: In a message's words.
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
    """Return one line for a bind that failed.

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
