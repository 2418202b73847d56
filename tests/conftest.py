"""What many tests need: a tiny network, generated videos, the command line as a user starts it."""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import settings

from stream_i3d import logs
from stream_i3d.models.checkpoint import save_checkpoint
from stream_i3d.models.i3d import I3D
from stream_i3d.models.spec import ModelSpec
from stream_i3d.preprocess import Preprocessing
from stream_i3d.scenes import LABELS, SceneRenderer

# The same examples each time where a failure must be a change's fault; HYPOTHESIS_PROFILE=default looks for new ones.
settings.register_profile("fixed", derandomize=True, deadline=None, database=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))

# The fault suite's broker and service serve tests too.
sys.path.append(str(Path(__file__).resolve().parents[1] / "scripts"))

# For the processes that tests start: two threads of two processes on two busy cores wait for each other at every
# operation (seen: a tiny network took seconds a window beside a training run).
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Not the user's cache: downloads, and networks that are converted for other libraries.
os.environ["STREAM_I3D_HOME"] = tempfile.mkdtemp(prefix="stream-i3d-home-")
atexit.register(shutil.rmtree, os.environ["STREAM_I3D_HOME"], ignore_errors=True)

# Where processes share the tests (make test), each has its part of the cores.
torch.set_num_threads(max(1, torch.get_num_threads() // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))))

TINY = ModelSpec(
    num_classes=10, width=0.125, labels=tuple(LABELS), preprocessing=Preprocessing(short_side=40, crop_size=32)
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files of slow tests, so that no process is left alone with one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow") or item.get_closest_marker("system")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True)
def logging_as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A command that is run in this process sets up logging for the process; the next test must not find that."""
    root, ours = logging.getLogger(), logging.getLogger(logs.OURS)
    before = root.level, root.handlers[:], ours.level, ours.handlers[:]
    for module, hook in ((sys, "excepthook"), (threading, "excepthook"), (sys, "unraisablehook"), (logs, "_current")):
        monkeypatch.setattr(module, hook, getattr(module, hook))
    yield
    root.setLevel(before[0])
    root.handlers[:] = before[1]
    ours.setLevel(before[2])
    ours.handlers[:] = before[3]
    logging.captureWarnings(False)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network small enough for any machine, with seeded random weights: for the pipeline, not for accuracy."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    save_checkpoint(path, I3D(10, width=TINY.width).eval(), TINY)
    return path


@pytest.fixture(scope="session")
def make_video(tmp_path_factory: pytest.TempPathFactory) -> Callable[[float, float], Path]:
    """Return a function (fps, seconds) -> MP4 file of synthetic scenes, made once per rate and length."""
    folder, made = tmp_path_factory.mktemp("videos"), {}

    def make(fps: float, seconds: float) -> Path:
        if (fps, seconds) not in made:
            path = folder / f"scene-{fps:g}-{seconds:g}.mp4"
            renderer = SceneRenderer(3, (160, 120))
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, (160, 120))
            assert writer.isOpened()
            for index in range(round(fps * seconds)):
                writer.write(np.asarray(renderer.render(index / fps)))
            writer.release()
            made[fps, seconds] = path
        return made[fps, seconds]

    return make


@pytest.fixture
def cli() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs `stream-i3d ARGS` to its end."""

    def run(
        *arguments: object, timeout: float = 90, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "stream_i3d", *map(str, arguments)]
        environment = {**os.environ, **(env or {})}
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment, check=False)

    return run
