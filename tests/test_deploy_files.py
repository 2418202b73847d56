"""The files of scripts/deploy hold together: what systemd says of them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "scripts/deploy"
UNIT = DEPLOY / "stream-i3d.service"

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")


# --- systemd


@needs_systemd
def test_systemd_finds_no_fault_with_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/stream-i3d/bin/stream-i3d", sys.executable))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@needs_systemd
def test_the_unit_leaves_little_exposed() -> None:
    command = ["systemd-analyze", "security", "--offline=yes", "--threshold=20", str(UNIT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd cannot look at files")
    assert done.returncode == 0, done.stdout[-300:]


def test_the_unit_says_what_the_service_keeps_to() -> None:
    text = UNIT.read_text()
    for line in ("Type=notify", "RestartPreventExitStatus=2", "KillMode=mixed", "OOMPolicy=continue", "UMask=0077"):
        assert f"\n{line}\n" in text
