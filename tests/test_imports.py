"""Who may import whom (the contracts in pyproject.toml), and what importing a module costs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINT = "from importlinter.cli import lint_imports_command; lint_imports_command()"
FOLDERS = {"stream_i3d": "stream_i3d", "gui": "stream_i3d_gui"}
HEAVY = {"torch", "cv2", "numpy", "safetensors", "zmq", "click", "rich", "yaml", "PyQt6"}


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Check the contracts of pyproject.toml on the packages in `folder`."""
    return subprocess.run(
        [sys.executable, "-c", LINT, "--config", str(ROOT / "pyproject.toml"), "--no-cache", "--no-logo"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """A copy of the packages' sources under their import names."""
    only_python = shutil.ignore_patterns("__pycache__", "*.safetensors", "*.txt")
    for folder, name in FOLDERS.items():
        shutil.copytree(ROOT / folder, tmp_path / name, ignore=only_python)
    return tmp_path


def test_whatever_is_a_package_here_is_one_where_it_is_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    here = {
        ".".join((name, *file.parent.relative_to(ROOT / folder).parts))
        for folder, name in FOLDERS.items()
        for file in (ROOT / folder).rglob("*.py")
    }
    assert set(project["tool"]["setuptools"]["packages"]) >= here
    assert len(here) > 15


def test_the_packages_keep_the_contracts(packages):
    result = lint(packages)
    assert result.returncode == 0, result.stdout
    assert "0 broken" in result.stdout


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("stream_i3d/config/service.py", "import stream_i3d.inference.feed", "Imports go one way"),
        ("stream_i3d/transport/wire.py", "import stream_i3d.recognition.postprocess", "Imports go one way"),
        ("stream_i3d/motion.py", "import stream_i3d.recognition.smoothing", "Imports go one way"),
        ("stream_i3d/utils.py", "", "Imports go one way"),
        (
            "stream_i3d/service/plan.py",
            "def lazy():\n    import torch",
            "Only the networks and the engine import torch",
        ),
        (
            "stream_i3d/inference/feed.py",
            "import torch",
            "Capture, transport and the pure core do not reach torch by any way",
        ),
        (
            "stream_i3d/recognition/head.py",
            "import torch",
            "Capture, transport and the pure core do not reach torch by any way",
        ),
        (
            "stream_i3d/inference/engine.py",
            "def lazy():\n    import torch",
            "Only the networks and the engine import torch",
        ),
        ("stream_i3d/sampling.py", "import time", "The pure core touches no socket, process, thread or terminal"),
        ("stream_i3d_gui/__init__.py", "import cv2", "The GUI reaches neither OpenCV"),
        ("stream_i3d_gui/__init__.py", "import stream_i3d.inference.torch_engine", "The GUI reaches neither OpenCV"),
        ("stream_i3d_gui/state/translation.py", "import stream_i3d_gui.picture", "What the window shows is worked out"),
    ],
)
def test_an_import_that_goes_the_wrong_way_is_noticed(packages, module, line, contract):
    with (packages / module).open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")
    result = lint(packages)
    assert result.returncode == 1
    broken = [told for told in result.stdout.splitlines() if " BROKEN" in told]
    assert any(told.startswith(contract) for told in broken), result.stdout


def loaded_by(statement: str) -> set[str]:
    """Return which heavy packages a fresh interpreter has loaded after `statement`."""
    code = f"import sys\n{statement}\nprint(*(sys.modules.keys() & {HEAVY!r}))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(result.stdout.split())


@pytest.mark.parametrize("module", ["stream_i3d", "stream_i3d.cli"])
def test_importing_the_package_or_its_command_line_loads_nothing_heavy(module):
    assert loaded_by(f"import {module}") == set()


@pytest.mark.parametrize(
    "module",
    [
        "stream_i3d.capture.process",
        "stream_i3d.capture.source",
        "stream_i3d.inference.worker.process",
        "stream_i3d.publish.process",
        "stream_i3d.inference.offline",
        "stream_i3d.service.run",
        "stream_i3d.service.doctor.machine",
        "stream_i3d.models.spec",
    ],
)
def test_what_the_processes_import_at_their_start_loads_no_torch(module):
    assert not loaded_by(f"import {module}") & {"torch", "safetensors", "rich", "PyQt6"}


def test_the_worker_imports_no_opencv():
    assert "cv2" not in loaded_by("import stream_i3d.inference.worker.process")


def test_every_command_can_be_listed_without_torch():
    assert "torch" not in loaded_by(
        "from click.testing import CliRunner\n"
        "from stream_i3d.cli.app import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0"
    )


def test_what_a_subscriber_needs_loads_neither_opencv_nor_torch():
    loaded = loaded_by("import stream_i3d.transport.sockets, stream_i3d.transport.wire, stream_i3d.messages")
    assert not loaded & {"cv2", "torch"}


def test_every_package_of_the_tree_is_installed():
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = [path.parent.relative_to(ROOT).parts for name in FOLDERS for path in (ROOT / name).rglob("__init__.py")]
    data = {"stream_i3d.configs"}  # YAML alone
    assert listed == {".".join((FOLDERS[top], *below)) for top, *below in found} | data
