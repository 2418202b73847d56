"""Tries what a deployment needs: addresses to bind, hosts to reach, places to write. Leaves no trace."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

from stream_i3d.deadline import call_within
from stream_i3d.errors import StreamI3DError, TransportError
from stream_i3d.service.doctor.finding import Finding

_IN_USE = "in use"


def binds(what: str, bind: Callable[[], str], running: bool) -> Finding:
    """Tell whether an address can be bound.

    Args:
        what: The address's role.
        bind: Binds it, lets go of it, returns it; raises StreamI3DError where it cannot.
        running: Whether the service runs now, so that its addresses are in use as they should be.
    """
    try:
        return Finding(what=what, state="ok", found=f"{bind()} can be bound")
    except StreamI3DError as error:
        if running and _IN_USE in str(error):
            return Finding(what=what, state="ok", found="in use, as it should be while the service runs")
        remedy = "mend the address; if this service runs now, give --running"
        return Finding(what=what, state="fail", found=str(error), remedy=remedy)


def bind_tcp(host: str, port: int, note: str) -> str:
    """Bind a TCP address and let go of it; return it, and the note, for people.

    Raises:
        TransportError: It cannot be bound.
    """
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            return f"{host}, port {port} ({note})"
    except OSError as error:
        reason = _IN_USE if error.errno == errno.EADDRINUSE else (error.strerror or "no such host")
        raise TransportError(f"{host}, port {port}: {reason}") from None


def connects(what: str, host: str, port: int, timeout_s: float) -> Finding:
    """Tell whether a host takes connections; nothing is said to it."""
    try:
        # The lookup of a name has no limit of its own.
        call_within(2 * timeout_s, lambda: _connect(host, port, timeout_s), name="doctor")
        return Finding(what=what, state="ok", found=f"{host}, port {port}: it answers")
    except (OSError, UnicodeError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "no answer"
        remedy = "it is tried again while the service runs; look at host, port and firewall"
        return Finding(what=what, state="warn", found=f"{host}, port {port}: {reason}", remedy=remedy)


def _connect(host: str, port: int, timeout_s: float) -> None:
    with socket.create_connection((host, port), timeout=timeout_s):
        pass


def writable(what: str, folder: Path, least_mb: float = 0, made: bool = True) -> Finding:
    """Tell whether files can be written into a folder, and whether it has room.

    Args:
        what: The folder's role.
        folder: What is to be written to.
        least_mb: The room that is wanted.
        made: Whether it is made where it is not there.
    """
    existing = folder
    try:
        existing = next((parent for parent in (folder, *folder.parents) if parent.exists() or not made), folder)
        if not existing.is_dir():
            raise NotADirectoryError(20, "not a folder")
        descriptor, name = tempfile.mkstemp(dir=existing, prefix=".stream-i3d-doctor-")
        os.close(descriptor)
        Path(name).unlink()
        free_mb = shutil.disk_usage(existing).free / 2**20
    except OSError as error:
        remedy = "give a folder that the service's user may write to"
        return Finding(what=what, state="fail", found=f"{existing}: {error.strerror}", remedy=remedy)
    if free_mb < least_mb:
        remedy = "free some space, or give a folder on another disk, or a smaller quota"
        found = f"{existing} has {free_mb:.0f} MB free, {least_mb:.0f} are wanted"
        return Finding(what=what, state="warn", found=found, remedy=remedy)
    return Finding(what=what, state="ok", found=f"{existing} can be written, {free_mb:.0f} MB free")
