from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from stream_i3d.errors import TransportError
from stream_i3d.service.doctor import probes


def test_a_host_that_answers_is_told_from_one_that_does_not() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert probes.connects("broker", "127.0.0.1", port, 5.0).state == "ok"
    gone = probes.connects("broker", "127.0.0.1", port, 5.0)
    assert (gone.state, gone.found) == ("warn", f"127.0.0.1, port {port}: Connection refused")
    assert probes.connects("broker", "x" * 80 + ".invalid", 1, 5.0).state == "warn"


def test_a_port_is_bound_and_let_go_of() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(TransportError, match="in use"):
            probes.bind_tcp("127.0.0.1", port, "x")
    assert probes.bind_tcp("127.0.0.1", port, "x") == probes.bind_tcp("127.0.0.1", port, "x")
    with pytest.raises(TransportError):
        probes.bind_tcp("192.0.2.1", 0, "x")


def test_a_folder_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    assert probes.writable("clips", tmp_path / "a" / "b", 0.001).state == "ok"
    assert probes.writable("clips", tmp_path / "a", made=False).state == "fail"
    assert list(tmp_path.iterdir()) == []
    assert probes.writable("clips", tmp_path, 1e12).state == "warn"
    assert probes.writable("clips", tmp_path / ("x" * 300)).state == "fail"  # not even looking is possible
    (tmp_path / "file").touch()
    assert probes.writable("clips", tmp_path / "file").state == "fail"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_of_somebody_else_is_a_failure(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert probes.writable("clips", tmp_path).state == "fail"


def test_an_address_in_use_is_right_only_while_the_service_runs() -> None:
    def fail(reason: str) -> str:
        raise TransportError(reason)

    def taken() -> str:
        return fail("address x is in use by another process")

    assert probes.binds("publish", lambda: "x", False).state == "ok"
    assert probes.binds("publish", taken, False).state == "fail"
    assert probes.binds("publish", taken, True).state == "ok"
    assert probes.binds("publish", lambda: fail("cannot bind x: Permission denied"), True).state == "fail"
