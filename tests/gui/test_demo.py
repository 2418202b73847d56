"""The real window with the real demo under Xvfb."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream_i3d.scenes import LABELS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def display() -> Iterator[str]:
    """An X screen of 1280 x 720 without a window manager."""
    if shutil.which("Xvfb") is None:
        pytest.skip("needs Xvfb")
    reading, writing = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(writing), "-screen", "0", "1280x720x24", "-nolisten", "tcp"],
        pass_fds=[writing],
        stderr=subprocess.DEVNULL,
    )
    os.close(writing)
    with os.fdopen(reading) as told:
        number = told.readline().strip()
    yield f":{number}"
    server.terminate()
    server.wait()


@pytest.mark.slow
@pytest.mark.system
@pytest.mark.timeout(1200)
def test_the_real_demo_is_shown_driven_killed_and_started_again(display, tmp_path):
    environment = {**os.environ, "DISPLAY": display, "QT_QPA_PLATFORM": "xcb", "PYTHONPATH": _path()}
    environment.pop("QT_QPA_PLATFORM_PLUGIN_PATH", None)
    ran = subprocess.run(
        [sys.executable, "-m", "tests.gui.drive_demo", str(tmp_path)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1150,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    seen = json.loads(ran.stdout.splitlines()[-1])
    assert {"Nothing to watch yet", "Play the demo", "Open a video…", "Choose a camera…"} <= set(
        seen["first_run_words"]
    )
    assert seen["first_run_colours"] > 5
    assert seen["headline"] in LABELS and set(seen["labels"]) == set(LABELS)
    assert seen["picture_colours"] > 500
    assert len(seen["strip_labels"]) >= 1 and seen["strip_labels_painted"]
    assert set(seen["strip_labels"]) <= set(LABELS)
    assert seen["model"] == "i3d · motion.safetensors" and seen["latency"].endswith("s")
    assert seen["stride"] == 4 and seen["idle_note"].startswith("likeliest: ")
    assert len(seen["grid_colours"]) == 2 and min(seen["grid_colours"]) > 300
    assert seen["enlarged"] == ["second"] and sorted(seen["after_escape"]) == ["demo", "second"]
    assert seen["paused"] == "paused" and len(seen["snapshots"]) == 1
    assert seen["noticed_s"] < 3.0 and seen["banner"] == "The service has ended: it was killed (signal 9)"
    assert seen["history_kept"] and seen["events_after"]
    assert seen["heavy"] == []


def _path() -> str:
    """The child's import path: as here, with the repository first."""
    return os.pathsep.join([*filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)), str(ROOT)])
