from __future__ import annotations

import json

import msgspec
import pytest

from stream_i3d.overload import Overload
from stream_i3d.service.monitoring.http_server import Request
from stream_i3d.service.monitoring.metrics import render_metrics
from stream_i3d.service.monitoring.routes import MonitorRoutes
from stream_i3d.service.monitoring.snapshot import Snapshot
from tests.service.monitoring.snapshots import snapshot, stage

TOKEN = "t0ken-t0ken-t0ken"


def ask(path: str, known: Snapshot | None = None, token: str | None = None, **headers: str) -> tuple[int, bytes]:
    routes = MonitorRoutes(lambda: known or snapshot(), token)
    response = routes(Request(path, {"host": "localhost:8556", **headers}))
    return response.status, response.body


def test_metrics_and_status_are_those_of_the_snapshot() -> None:
    assert ask("/metrics") == (200, render_metrics(snapshot()))
    status, body = ask("/status")
    assert status == 200 and msgspec.json.decode(body, type=Snapshot) == snapshot()


def test_health_says_which_loop_does_not_turn() -> None:
    assert ask("/healthz") == (200, b'{"ok":true,"problems":[]}\n')
    status, body = ask("/healthz", snapshot(stages=[stage(heartbeat_age_s=99.0)]))
    assert status == 503
    assert json.loads(body) == {
        "ok": False,
        "problems": ["worker: its loop has not turned for 99 s, which is over 60 s"],
    }


def test_readiness_says_what_is_awaited() -> None:
    assert ask("/readyz")[0] == 200
    assert ask("/readyz", snapshot(stages=[stage(state="starting")])) == (
        503,
        b'{"ok":false,"problems":["worker: starting"]}\n',
    )


def test_readiness_says_what_is_done_less_well_than_asked_for() -> None:
    overload = Overload(since=1.0, cameras=2, served=2, asked_stride=8, stride=32)
    assert ask("/readyz", snapshot(overloads={"worker": overload})) == (
        200,
        b'{"ok":true,"problems":[],"degraded":["worker: this machine cannot keep up with 2 cameras: stride 32 instead '
        b'of 8 for all cameras"]}\n',
    )


@pytest.mark.parametrize("path", ["/", "/metrics/", "/Metrics", "//metrics", "/../metrics", "/status/x"])
def test_another_path_is_not_found_and_told_what_there_is(path: str) -> None:
    assert ask(path) == (404, b"there are: /metrics, /healthz, /readyz, /status\n")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8556", "127.1.2.3", "[::1]:8556", "[::1]"])
def test_without_a_token_names_of_loopback_are_answered(host: str) -> None:
    assert ask("/healthz", host=host)[0] == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example:8556", "10.0.0.1", "[fe80::1]", "", "127.0.0.1@evil", "[::1", "0"]
)
def test_a_page_that_has_its_own_name_point_here_gets_nothing(host: str) -> None:
    for path in ("/metrics", "/healthz", "/none"):
        assert ask(path, host=host)[0] == 421


@pytest.mark.parametrize("given", [f"Bearer {TOKEN}", f"bearer  {TOKEN} "])
def test_with_the_token_everything_is_answered_by_any_name(given: str) -> None:
    assert ask("/metrics", token=TOKEN, authorization=given, host="camera-host")[0] == 200


@pytest.mark.parametrize(
    "given", [None, "", TOKEN, f"Basic {TOKEN}", "Bearer", "Bearer x", f"Bearer {TOKEN}x", "Bearer ü"]
)
@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz", "/status", "/none"])
def test_without_the_right_token_nothing_is(path: str, given: str | None) -> None:
    headers = {} if given is None else {"authorization": given}
    routes = MonitorRoutes(snapshot, TOKEN)
    response = routes(Request(path, headers))
    assert (response.status, response.body) == (401, b"a token is needed\n")
    assert response.headers["WWW-Authenticate"].startswith("Bearer")
