"""What is answered over HTTP: metrics, health and status, to whom that may be told."""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable

import msgspec

from stream_i3d.service.monitoring.http_server import Request, Response
from stream_i3d.service.monitoring.liveness import whats_dead, whats_degraded, whats_missing
from stream_i3d.service.monitoring.metrics import CONTENT_TYPE, render_metrics
from stream_i3d.service.monitoring.snapshot import Snapshot
from stream_i3d.transport.addresses import is_loopback

_JSON = "application/json"
_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^:\[\]]*)(?::[0-9]{1,5})?")


class MonitorRoutes:
    """Answers requests from snapshots."""

    def __init__(self, snapshot: Callable[[], Snapshot], token: str | None) -> None:
        """Args: without `token`, anyone may ask who calls this machine by a name of loopback."""
        self._snapshot = snapshot
        self._token = token
        self._routes: dict[str, Callable[[Snapshot], Response]] = {
            "/metrics": lambda now: Response(200, render_metrics(now), CONTENT_TYPE),
            "/healthz": lambda now: _verdict(whats_dead(now)),
            "/readyz": lambda now: _verdict(whats_missing(now), whats_degraded(now)),
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
            # A web page may have a browser on this machine ask us, by a name that it has made point here.
            if _names_loopback(request.headers.get("host", "localhost")):
                return None
            return Response(421, b"without a token, ask by localhost, 127.0.0.1 or [::1]\n")
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self._token.encode()):
            return None
        return Response(401, b"a token is needed\n", headers={"WWW-Authenticate": 'Bearer realm="stream-i3d"'})


def _verdict(problems: list[str], degraded: list[str] | None = None) -> Response:
    said = {"ok": not problems, "problems": problems} | ({"degraded": degraded} if degraded else {})
    body = msgspec.json.encode(said) + b"\n"
    return Response(503 if problems else 200, body, _JSON)


def _names_loopback(host: str) -> bool:
    match = _HOST.fullmatch(host)
    return match is not None and is_loopback(match["host"].strip("[]").lower())
