from __future__ import annotations

import os
from pathlib import Path

import pytest

from stream_i3d.inference.cores import allowed_cores


@pytest.fixture
def sixteen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)


@pytest.mark.usefixtures("sixteen")
@pytest.mark.parametrize(
    ("limit", "cores"),
    [
        ("200000 100000", 2),
        ("250000 100000", 3),
        ("10000 100000", 1),
        ("6400000 100000", 16),
        ("max 100000", 16),
        ("", 16),
    ],
)
def test_a_containers_share_of_time_limits_the_cores(tmp_path: Path, limit: str, cores: int) -> None:
    (tmp_path / "cpu.max").write_text(limit)
    assert allowed_cores(tmp_path) == cores


@pytest.mark.usefixtures("sixteen")
@pytest.mark.parametrize(("quota", "cores"), [("400000", 4), ("-1", 16)])
def test_so_does_one_of_the_older_kind(tmp_path: Path, quota: str, cores: int) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert allowed_cores(tmp_path) == cores


@pytest.mark.usefixtures("sixteen")
def test_without_control_groups_the_schedulers_cores_count(tmp_path: Path) -> None:
    assert allowed_cores(tmp_path / "none") == 16


def test_a_system_without_affinity_counts_its_cores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert allowed_cores(tmp_path) == 1
