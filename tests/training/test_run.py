"""Whole runs through the command line: on folders of videos, killed and resumed, on two processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file

from stream_i3d.models.spec import read_spec
from stream_i3d.scenes import render_clip
from stream_i3d.training.run import BEST, LAST
from stream_i3d.training.run_files import STATE_NAME, read_rows

Cli = Callable[..., subprocess.CompletedProcess[str]]

CLASSES = {"swipe": "left", "beckon": "nearer", "nothing": "still", "wave": "waving"}
"""Class names that the packaged model does not have, and the motions that they show."""

SCENES = {
    "data": {"source": "scenes", "workers": 0, "scenes": {"clips": 16, "fresh": 4, "held_out": 8, "size": [64, 48]}},
    "clip": {"clip_len": 8, "short_side": 32, "crop_size": 32},
    "model": {"width": 0.125},
    "schedule": {"name": "cosine", "warmup": 1.0},
    "run": {"epochs": 6, "batch_size": 4, "device": "cpu", "threads": 1, "tensorboard": False, "ema": 0.9},
}


def write_video(path: Path, label: str, seed: int, seconds: float, fps: float) -> None:
    frames = render_clip((11, seed), label, round(seconds * fps), fps, (160, 120))
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, (160, 120))
    for frame in frames:
        writer.write(np.ascontiguousarray(frame))
    writer.release()


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of four classes of real video files, of several rates and lengths, and one broken file."""
    root = tmp_path_factory.mktemp("clips")
    for number, (name, label) in enumerate(CLASSES.items()):
        (root / name).mkdir()
        for index in range(10):
            seconds, fps = (0.9, 1.6, 2.2)[index % 3], (19.62, 25, 30)[index % 3]
            write_video(root / name / f"{index}.mp4", label, 100 * number + index, seconds, fps)
    (root / "wave" / "broken.mp4").write_bytes(b"no video")
    return root


def config_file(path: Path, settings: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(settings))
    return path


def weights(path: Path) -> dict[str, np.ndarray]:
    return dict(load_file(path))


def same(one: Path, other: Path) -> bool:
    ours, theirs = weights(one), weights(other)
    return ours.keys() == theirs.keys() and all(np.array_equal(ours[key], theirs[key]) for key in ours)


def most_common_label(jsonl: str) -> str:
    """The class that is most often the most likely of a window."""
    messages = [json.loads(line) for line in jsonl.splitlines()]
    firsts = Counter(message["top_k"][0]["label"] for message in messages if message.get("top_k"))
    assert firsts.keys() <= set(CLASSES)
    return firsts.most_common(1)[0][0]


@contextmanager
def started(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A run in the background; it is ended with the block."""
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as child:
        try:
            yield child
        finally:
            child.kill()


def losses(folder: Path) -> list[float]:
    return [float(row["loss"]) for row in read_rows(folder / "steps.csv")]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_fine_tuned_network_has_new_classes_and_runs_without_another_flag(
    clips: Path, tmp_path: Path, cli: Cli
) -> None:
    out = tmp_path / "run"
    config = Path(__file__).parents[2] / "configs" / "train" / "finetune.yaml"
    settings = ["run.epochs=10", "run.threads=2", "data.val_fraction=0.3", "augment.flip=0", "data.workers=1"]
    done = cli(
        "train",
        "--config",
        config,
        f"data.train={clips}",
        f"output={out}",
        f"data.cache={tmp_path / 'cache'}",
        *settings,
        timeout=380,
    )
    assert done.returncode == 0, done.stderr
    assert "broken.mp4" in done.stderr
    assert "1 videos skipped" in done.stderr
    rows = read_rows(out / "validations.csv")
    assert max(float(row["acc@1"]) for row in rows) >= 0.95
    spec = read_spec(out / BEST)
    assert spec is not None
    assert spec.labels == tuple(sorted(CLASSES))
    assert spec.preprocessing.crop_size == 80
    assert json.loads(spec.provenance["metrics"])["acc@1"] >= 0.95
    assert yaml.safe_load(spec.provenance["config"])["run"]["epochs"] == 10
    assert list((out / "tensorboard").iterdir())

    video = tmp_path / "unseen.mp4"
    write_video(video, "waving", 999, 3.0, 30)
    recognized = cli("recognize", video, "--checkpoint", out / BEST)
    assert recognized.returncode == 0, recognized.stderr
    assert most_common_label(recognized.stdout) == "wave"
    live = cli(
        "run", "--source", video, "--checkpoint", out / BEST, "--jsonl", "-", "--publish", f"ipc://{tmp_path}/pub"
    )
    assert live.returncode == 0, live.stderr
    assert most_common_label(live.stdout) == "wave"


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_run_that_was_killed_and_resumed_ends_with_the_weights_of_an_unbroken_one(tmp_path: Path, cli: Cli) -> None:
    config = config_file(tmp_path / "scenes.yaml", SCENES | {"run": SCENES["run"] | {"save_every": 5}})
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    arguments = ["--config", config, "--deterministic", "--seed", "3"]
    assert cli("train", *arguments, f"output={whole}").returncode == 0
    command = [sys.executable, "-m", "stream_i3d", "train", *map(str, arguments), f"output={broken}"]
    with started(command) as child:
        while child.poll() is None:
            # Mid-epoch, mid-interval: after the state of step 5, before that of step 10.
            if (broken / STATE_NAME).exists() and len(losses(broken)) >= 7:
                child.send_signal(signal.SIGKILL)
                child.wait()
            time.sleep(0.01)
    assert child.returncode == -signal.SIGKILL, "it ended before it could be killed"
    resumed = cli("train", "--resume", broken)
    assert resumed.returncode == 0, resumed.stderr
    assert "going on after step" in resumed.stderr
    assert same(whole / LAST, broken / LAST)
    assert losses(whole) == losses(broken)
    assert len(losses(whole)) == 24
    again = tmp_path / "again"
    assert cli("train", *arguments, f"output={again}").returncode == 0
    assert same(whole / LAST, again / LAST)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_two_processes_give_the_loss_curve_of_one_with_the_same_batch(tmp_path: Path, cli: Cli) -> None:
    # Without dropout, which each process draws for its own share; from weights, in small steps, and with BatchNorm's
    # statistics kept: otherwise a difference in the last digit becomes one of 0.01 within a few steps, also between
    # two runs of one process (docs/decisions.md). BatchNorm over both processes has its own test.
    settings = SCENES | {
        "clip": {"clip_len": 16, "short_side": 48, "crop_size": 48},
        "model": {"weights": "motion", "options": {"dropout_keep_prob": 1.0}, "batch_norm": "frozen"},
        "optimizer": {"name": "sgd", "lr": 0.0001, "momentum": 0.9},
        "run": SCENES["run"] | {"batch_size": 8, "epochs": 5},
    }
    config = config_file(tmp_path / "scenes.yaml", settings)
    assert cli("train", "--config", config, f"output={tmp_path / 'one'}").returncode == 0
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, "-m", "stream_i3d", "train", "--config", str(config), f"output={tmp_path / 'two'}"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=200, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False
    )
    assert done.returncode == 0, done.stderr
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(one) == len(two) == 10
    assert np.abs(np.subtract(one, two)).max() < 1e-4
    validations = [read_rows(tmp_path / name / "validations.csv")[-1] for name in ("one", "two")]
    assert float(validations[0]["loss"]) == pytest.approx(float(validations[1]["loss"]), abs=1e-3)


@pytest.mark.slow
def test_a_stopped_run_is_saved_and_prints_how_to_resume(tmp_path: Path) -> None:
    config = config_file(tmp_path / "scenes.yaml", SCENES | {"run": SCENES["run"] | {"epochs": 10000}})
    out = tmp_path / "run"
    command = [sys.executable, "-m", "stream_i3d", "train", "--config", str(config), f"output={out}"]
    with started(command) as child:
        while child.poll() is None and len(losses(out)) < 2:
            time.sleep(0.01)
        child.send_signal(signal.SIGINT)
        _, output = child.communicate(timeout=60)
    assert child.returncode == 0, output
    assert f"go on with: stream-i3d train --resume {out}" in output
    assert (out / STATE_NAME).is_file()
    assert read_spec(out / LAST) is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data.train=nowhere"], "nowhere"),
        (["run.epoch=3"], "unknown key 'run.epoch' (did you mean 'epochs'?)"),
        (["run.epochs"], "write key=value"),
        (["--resume", "nowhere"], "no run to resume in nowhere"),
        (["model.weights=nothing.pt", "data.source=scenes"], "nothing.pt"),
        (["--config", "missing.yaml"], "cannot read the configuration missing.yaml"),
    ],
)
def test_mistakes_are_one_line_with_exit_code_2(
    arguments: list[str], message: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = cli("train", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr


def test_a_folder_with_a_run_is_not_overwritten(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "config.yaml").write_text("{}")
    done = cli("train", "data.source=scenes", f"output={tmp_path}")
    assert done.returncode == 2
    assert f"holds a run already: go on with it by --resume {tmp_path}" in done.stderr
