from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import stream_i3d
from stream_i3d.api import training
from stream_i3d.errors import ConfigError, TrainingError
from stream_i3d.models.registry import ARCHITECTURES
from stream_i3d.models.spec import read_spec
from tests.threads import one_thread as one_thread

SETTINGS: dict[str, Any] = {
    "data.source": "scenes",
    "data.workers": 0,
    "data.scenes": {"clips": 8, "fresh": 4, "held_out": 8, "size": [64, 48]},
    "clip": {"clip_len": 8, "short_side": 32, "crop_size": 32},
    "model.width": 0.125,
    "run": {"epochs": 1, "batch_size": 4, "device": "cpu", "threads": 1, "tensorboard": False},
}


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("runs") / "mine"
    yield stream_i3d.train(settings={**SETTINGS, "output": str(folder)})


def test_a_network_is_trained(outcome: Any) -> None:
    assert (outcome.step, outcome.stopped) == (2, False)
    spec = read_spec(outcome.checkpoint)
    assert spec is not None
    assert (spec.num_classes, spec.preprocessing.crop_size) == (10, 32)


def test_what_was_trained_is_recognised_with(outcome: Any) -> None:
    recognizer = stream_i3d.Recognizer(outcome.checkpoint, device="cpu", backend="torch")
    assert recognizer("synthetic://?fps=25&duration=1").label in recognizer.labels


def test_a_checkpoint_is_measured_on_its_runs_data(outcome: Any) -> None:
    seen: list[tuple[str, int, int]] = []
    evaluation = stream_i3d.evaluate(
        outcome.checkpoint,
        outcome.checkpoint.parent,
        metrics=["top_k_accuracy"],
        progress=lambda *progress: seen.append(progress),
    )
    assert len(evaluation.videos) == 8
    assert 0 <= evaluation.metrics["acc@1"] <= 1
    assert "mean_class_accuracy" not in evaluation.metrics
    assert seen[-1] == ("evaluating", 8, 8)


def test_a_run_that_is_there_is_not_overwritten_and_can_be_resumed(outcome: Any) -> None:
    folder = outcome.checkpoint.parent
    with pytest.raises(TrainingError, match="holds a run already"):
        stream_i3d.train(settings={**SETTINGS, "output": str(folder)})
    with pytest.raises(ConfigError, match="leave out config"):
        stream_i3d.train("finetune", resume=folder)
    with pytest.raises(TrainingError, match="no run to resume in"):
        stream_i3d.train(resume=folder / "none")
    again = stream_i3d.train(settings={"run.epochs": 2}, resume=folder)
    assert again.step == 4


def test_settings_are_validated(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'run\.epoch' \(did you mean 'epochs'\?\)"):
        stream_i3d.train(settings={"run.epoch": 5, "output": str(tmp_path)})
    with pytest.raises(ConfigError, match=r"no such file.*head-only"):
        stream_i3d.train("missing.yaml")


def test_missing_packages_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "find_spec", lambda name: None if name == "torchmetrics" else object())
    with pytest.raises(ConfigError, match=r"train needs torchmetrics: run pip install 'stream-i3d\[train\]'"):
        stream_i3d.train()


def test_the_architectures_are_listed_by_name() -> None:
    assert stream_i3d.list_models() == list(ARCHITECTURES)
    assert "i3d" in stream_i3d.list_models()
