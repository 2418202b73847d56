"""The HTTP endpoint: where it is bound, the token that clients need, and the answers for metrics, health and status."""

from __future__ import annotations

import hmac
import os
import re
import shlex
import stat
from collections.abc import Callable
from pathlib import Path

import msgspec

from stream_i3d.config import MonitoringConfig
from stream_i3d.errors import ConfigError
from stream_i3d.service.monitoring.http_server import Request, Response
from stream_i3d.service.monitoring.metrics import CONTENT_TYPE, render_metrics
from stream_i3d.service.monitoring.snapshot import Snapshot, degradations, liveness_problems, readiness_problems
from stream_i3d.transport.addresses import is_loopback

DEFAULT_ADDRESS = "127.0.0.1:8556"
"""What `auto` means."""

_ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:]+\]|[^:/\s\[\]]+):(?P<port>[0-9]{1,5})")
_LEAST = 16
_TOKEN = re.compile(r"[!-~]+")


def monitor_address(config: MonitoringConfig) -> tuple[str, int] | None:
    """Return host and port, or None where the endpoint is off.

    Raises:
        ConfigError: It is no address.
    """
    if config.address is None or config.address == "off":
        return None
    text = DEFAULT_ADDRESS if config.address == "auto" else config.address
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match["port"]) > 65535:
        raise ConfigError(
            f"monitoring.address {config.address!r}: allowed is HOST:PORT, such as {DEFAULT_ADDRESS}, auto (which is "
            "that) or off"
        )
    host = "0.0.0.0" if match["host"] == "*" else match["host"].strip("[]")
    return host, int(match["port"])


def monitor_token(config: MonitoringConfig) -> str | None:
    """Return the token that clients must give, or None where anyone on this machine may ask.

    Raises:
        ConfigError: Others could connect and there is no token, or it cannot be read or is too easily guessed.
    """
    token = config.token if config.token_file is None else _read(Path(config.token_file))
    address = monitor_address(config)
    if token is None:
        if address is not None and not is_loopback(address[0]):
            raise ConfigError(
                f"refusing to serve HTTP on {config.address} without a token: anyone on the network could ask; give "
                "monitoring.token_file (mode 0600) or monitoring.token (docs/monitoring.md), or use 127.0.0.1:PORT"
            )
        return None
    if len(token) < _LEAST or not _TOKEN.fullmatch(token):
        raise ConfigError(
            f"the token for HTTP: expected at least {_LEAST} characters without blanks, got {len(token)}; "
            "`openssl rand -hex 32` makes one"
        )
    return token


def _read(path: Path) -> str:
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not ASCII text"
        raise ConfigError(
            f"cannot read the token in {path}: {reason}; `(umask 077; openssl rand -hex 32 > FILE)` makes one"
        ) from None
    if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
        raise ConfigError(
            f"the token in {path} can be read by others (mode {stat.S_IMODE(mode):03o}): chmod 600 "
            f"{shlex.quote(str(path))}"
        )
    return text


_JSON = "application/json"
_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^:\[\]]*)(?::[0-9]{1,5})?")


class MonitorRoutes:
    """Answers requests from snapshots."""

    def __init__(self, snapshot: Callable[[], Snapshot], token: str | None) -> None:
        """Args: without `token`, every client that uses a loopback name of this machine is answered."""
        self._snapshot = snapshot
        self._token = token
        self._routes: dict[str, Callable[[Snapshot], Response]] = {
            "/metrics": lambda now: Response(200, render_metrics(now), CONTENT_TYPE),
            "/healthz": lambda now: _verdict(liveness_problems(now)),
            "/readyz": lambda now: _verdict(readiness_problems(now), degradations(now)),
            "/status": lambda now: Response(200, msgspec.json.encode(now) + b"\n", _JSON),
        }

    def __call__(self, request: Request) -> Response:
        """Answer one request."""
        if refusal := self._refusal(request):
            return refusal
        route = self._routes.get(request.path)
        if route is None:
            return Response(404, f"there are: {', '.join(self._routes)}\n".encode())
        return route(self._snapshot())

    def _refusal(self, request: Request) -> Response | None:
        if self._token is None:
            # Against DNS rebinding: a web page may point a name of its own at this machine.
            if _names_loopback(request.headers.get("host", "localhost")):
                return None
            return Response(421, b"without a token, ask by localhost, 127.0.0.1 or [::1]\n")
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self._token.encode()):
            return None
        return Response(401, b"a token is needed\n", headers={"WWW-Authenticate": 'Bearer realm="stream-i3d"'})


def _verdict(problems: list[str], degraded: list[str] | None = None) -> Response:
    answer = {"ok": not problems, "problems": problems} | ({"degraded": degraded} if degraded else {})
    body = msgspec.json.encode(answer) + b"\n"
    return Response(503 if problems else 200, body, _JSON)


def _names_loopback(host: str) -> bool:
    match = _HOST.fullmatch(host)
    return match is not None and is_loopback(match["host"].strip("[]").lower())
