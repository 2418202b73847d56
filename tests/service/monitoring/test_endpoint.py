from __future__ import annotations

import json
import os
from pathlib import Path

import msgspec
import pytest

from stream_i3d.config import MonitoringConfig, convert
from stream_i3d.errors import ConfigError
from stream_i3d.overload import Overload
from stream_i3d.service.monitoring.endpoint import MonitorRoutes, monitor_address, monitor_token
from stream_i3d.service.monitoring.http_server import Request
from stream_i3d.service.monitoring.metrics import render_metrics
from stream_i3d.service.monitoring.snapshot import Snapshot
from tests.service.monitoring.snapshots import snapshot, stage

TOKEN = "0123456789abcdef"


def refusal(**given: str) -> str:
    with pytest.raises(ConfigError) as caught:
        monitor_token(MonitoringConfig(**given))
    return str(caught.value)


@pytest.mark.parametrize(
    ("address", "meant"),
    [
        (None, None),
        ("off", None),
        ("auto", ("127.0.0.1", 8556)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:9000", ("::1", 9000)),
        ("*:9000", ("0.0.0.0", 9000)),
    ],
)
def test_what_an_address_means(address: str | None, meant: tuple[str, int] | None) -> None:
    assert monitor_address(MonitoringConfig(address=address, token=TOKEN)) == meant


@pytest.mark.parametrize(
    "address", ["", "8556", "127.0.0.1", "host:70000", "http://127.0.0.1:1", "a b:1", "::1:80", "h:1\n"]
)
def test_what_is_no_address_is_refused_with_what_is_allowed(address: str) -> None:
    with pytest.raises(ConfigError, match=r"allowed is HOST:PORT, such as 127\.0\.0\.1:8556, auto"):
        monitor_address(MonitoringConfig(address=address))


@pytest.mark.parametrize("address", ["auto", "off", None, "localhost:1", "127.0.0.1:1", "[::1]:1"])
def test_on_this_machine_no_token_is_needed_and_one_may_be_wanted(address: str | None) -> None:
    assert monitor_token(MonitoringConfig(address=address)) is None
    assert monitor_token(MonitoringConfig(address=address, token=TOKEN)) == TOKEN


@pytest.mark.parametrize("address", ["0.0.0.0:1", "*:1", "[::]:1", "192.168.1.7:1", "camera-host:1"])
def test_elsewhere_a_token_is_needed(address: str) -> None:
    said = refusal(address=address)
    assert said.startswith(f"refusing to serve HTTP on {address} without a token") and "\n" not in said
    assert monitor_token(MonitoringConfig(address=address, token=TOKEN)) == TOKEN


def test_a_token_comes_from_a_file_that_only_its_owner_can_read(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o600)
    assert monitor_token(MonitoringConfig(address="*:1", token_file=str(file))) == TOKEN
    if os.name == "posix":
        file.chmod(0o640)
        assert (
            refusal(token_file=str(file)) == f"the token in {file} can be read by others (mode 640): chmod 600 {file}"
        )


def test_a_token_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    assert refusal(token_file=str(tmp_path / "none")).startswith(
        f"cannot read the token in {tmp_path / 'none'}: No such"
    )
    odd = tmp_path / "odd"
    odd.write_bytes(b"\xff" * 32)
    odd.chmod(0o600)
    assert "it is not ASCII text" in refusal(token_file=str(odd))


@pytest.mark.parametrize("token", ["", "short", "with a blank in it", "x" * 15, "ü" * 20])
def test_a_token_that_can_be_guessed_is_refused_without_showing_it(token: str) -> None:
    said = refusal(token=token)
    assert said.startswith("the token for HTTP: expected at least 16 characters without blanks")
    assert not token or token not in said


def test_both_ways_at_once_are_refused() -> None:
    with pytest.raises(ConfigError, match="token and token_file are two ways"):
        convert({"monitoring": {"token": TOKEN, "token_file": "x"}})


BEARER = "t0ken-t0ken-t0ken"


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


@pytest.mark.parametrize("given", [f"Bearer {BEARER}", f"bearer  {BEARER} "])
def test_with_the_token_everything_is_answered_by_any_name(given: str) -> None:
    assert ask("/metrics", token=BEARER, authorization=given, host="camera-host")[0] == 200


@pytest.mark.parametrize(
    "given", [None, "", BEARER, f"Basic {BEARER}", "Bearer", "Bearer x", f"Bearer {BEARER}x", "Bearer ü"]
)
@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz", "/status", "/none"])
def test_without_the_right_token_nothing_is(path: str, given: str | None) -> None:
    headers = {} if given is None else {"authorization": given}
    routes = MonitorRoutes(snapshot, BEARER)
    response = routes(Request(path, headers))
    assert (response.status, response.body) == (401, b"a token is needed\n")
    assert response.headers["WWW-Authenticate"].startswith("Bearer")
