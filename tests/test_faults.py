"""The short form of the fault suite (scripts/faults.py): real processes, cameras and clients, and faults in earnest."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.rtsp import requires_rtsp

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "scripts" / "faults.py"


def names(short: bool) -> list[str]:
    """Name the faults of the suite, or of its short form."""
    return [fault.name for fault in runpy.run_path(str(SCRIPT))["FAULTS"] if fault.short or not short]


@pytest.fixture(scope="module")
def rows() -> Iterator[dict[str, dict[str, Any]]]:
    """Run the suite once; its rows by the names of the faults."""
    command = [sys.executable, str(SCRIPT), "--short", "--slack", "5"]  # seconds are for a quiet machine
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as suite:
        try:
            said, errors = suite.communicate(timeout=400)
        finally:
            suite.terminate()  # not killed: it ends what it has started, and unmounts its disk
    last = said.strip().splitlines()[-1:]
    assert last and last[0].startswith("{"), errors
    yield {row["fault"]: row for row in json.loads(last[0])["rows"]}


@requires_rtsp
@pytest.mark.system
@pytest.mark.slow
@pytest.mark.timeout(420)
@pytest.mark.parametrize("name", names(short=True))
def test_the_service_gets_over(name: str, rows: dict[str, dict[str, Any]]) -> None:
    result, note = rows[name]["result"], rows[name]["note"]
    if result == "not allowed here":  # a program that is missing is none of this in CI, where none may be
        assert os.environ.get("CI") != "true" or "run scripts/system-deps" not in note, note
        pytest.skip(note)
    assert result == "pass", note


def test_every_fault_stands_in_the_documentation() -> None:
    page = (ROOT / "docs" / "faults.md").read_text()
    assert [name for name in names(short=False) if f"| {name}: " not in page] == []
