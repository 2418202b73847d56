from __future__ import annotations

import os
from pathlib import Path

import pytest

from stream_i3d.config import MonitoringConfig, convert
from stream_i3d.errors import ConfigError
from stream_i3d.service.monitoring.access import monitor_address, monitor_token

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
