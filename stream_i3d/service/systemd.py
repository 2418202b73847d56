"""Tells systemd that the service is ready, lives, and stops (sd_notify(3)); silent where systemd did not start it.

The protocol is one datagram of text to a socket that the environment names; no library is needed for it. Time is an
argument. Does not know what the service does.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping

log = logging.getLogger(__name__)


class SystemdNotifier:
    """What the service tells systemd."""

    def __init__(self, environ: Mapping[str, str] = os.environ, pid: int | None = None) -> None:
        """Args: `pid` is this process's; for tests."""
        self._address = environ.get("NOTIFY_SOCKET", "")
        self._watchdog_s = _watchdog_s(environ, os.getpid() if pid is None else pid) if self._address else None
        self._alive_at = float("-inf")

    def ready(self, detail: str) -> None:
        """Say that the service does its work now: what `Type=notify` waits for."""
        self._send(f"READY=1\nSTATUS={_line(detail)}")

    def alive(self, now: float) -> None:
        """Say that the main loop turns, as often as `WatchdogSec=` needs; to be called at every turn."""
        if self._watchdog_s is not None and now - self._alive_at >= self._watchdog_s / 3:
            self._alive_at = now
            self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """Say that the service ends because it was told to."""
        self._send("STOPPING=1")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        # A name that begins with @ is one of Linux's abstract sockets.
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.settimeout(1.0)
                sender.sendto(text.encode(), address)
        except OSError as error:
            log.warning("cannot tell systemd %s: %s; it is not told any more", text.split("\n")[0], error)
            self._address, self._watchdog_s = "", None


def _watchdog_s(environ: Mapping[str, str], pid: int) -> float | None:
    """Return after how many seconds of silence systemd ends the service; None where it does not."""
    usec = environ.get("WATCHDOG_USEC", "")
    if not usec.isdecimal() or int(usec) == 0 or environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    return int(usec) / 1e6


def _line(text: str) -> str:
    return " ".join(text.split())
