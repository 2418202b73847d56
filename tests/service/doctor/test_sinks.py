from __future__ import annotations

import importlib.util
import socket
from pathlib import Path

import pytest

from stream_i3d.config import convert
from stream_i3d.service.doctor.finding import Finding
from stream_i3d.service.doctor.sinks import examine_sinks


def looked_at(*sinks: dict[str, object]) -> dict[str, Finding]:
    findings = list(examine_sinks(convert({"sinks": list(sinks)})))
    assert not any("geheim" in finding.found + finding.remedy for finding in findings)
    return {finding.what: finding for finding in findings}


def test_hosts_that_answer_are_told_from_those_that_do_not_and_no_path_is_shown() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        sinks: list[dict[str, object]] = [
            {"type": "mqtt", "host": "127.0.0.1", "port": port, "username": "me", "password": "geheim"},
            {"type": "webhook", "url": f"http://127.0.0.1:{port}/hooks/geheim", "secret": "geheim"},
        ]
        assert {what: found.state for what, found in looked_at(*sinks).items()} == {
            "sink mqtt": "ok",
            "sink webhook": "ok",
        }
    assert {found.state for found in looked_at(*sinks).values()} == {"warn"}


def test_folders_and_their_room_are_looked_at(tmp_path: Path) -> None:
    found = looked_at(
        {"type": "jsonl", "path": "-"},
        {"type": "jsonl", "path": str(tmp_path / "lines"), "name": "lines"},
        {"type": "jsonl", "path": str(tmp_path / "none" / "lines"), "name": "lost"},
        {"type": "store", "path": str(tmp_path / "none" / "events.sqlite")},
        {"type": "recorder", "folder": str(tmp_path / "clips"), "quota_mb": 1, "min_free_mb": 1},
        {"type": "recorder", "folder": str(tmp_path / "clips"), "quota_mb": 1e9, "name": "greedy"},
    )
    assert {what: finding.state for what, finding in found.items()} == {
        "sink jsonl": "ok", "sink lines": "ok", "sink lost": "fail", "sink store": "fail", "sink recorder": "ok",
        "sink greedy": "warn",
    }  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_a_package_that_is_missing_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    found = looked_at({"type": "mqtt", "host": "broker"})["sink mqtt"]
    assert (found.state, found.remedy) == ("fail", "pip install 'stream-i3d[mqtt]'")
