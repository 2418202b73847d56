from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from stream_i3d.service.doctor import host

resource = pytest.importorskip("resource")


@pytest.mark.parametrize(
    ("soft", "cameras", "state"),
    [(65536, 64, "ok"), (-1, 64, "ok"), (1024, 4, "ok"), (512, 4, "warn"), (1024, 64, "fail"), (64, 0, "fail")],
)
def test_the_limit_of_open_files_is_seen_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, soft: int, cameras: int, state: str
) -> None:
    monkeypatch.setattr(resource, "RLIM_INFINITY", -1)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (soft, 524288))
    found = host.open_files(cameras)
    assert found.state == state
    assert ("ulimit -n 65536" in found.remedy) == (state != "ok")


def test_a_clock_of_the_past_is_a_failure_and_one_that_nobody_sets_a_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert host.clock(0.0).state == "fail"
    monkeypatch.setattr(host, "_SYNCHRONIZED", tmp_path / "none")
    monkeypatch.setattr("shutil.which", lambda name: name)
    for said, state in (("no\n", "warn"), ("yes\n", "ok"), ("", "ok")):
        done = subprocess.CompletedProcess([], 0, stdout=said)
        monkeypatch.setattr(subprocess, "run", lambda *_, done=done, **__: done)
        assert host.clock(2e9).state == state
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert "cannot be told" in host.clock(2e9).found
