from __future__ import annotations

import csv
import importlib.util
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec import structs

from stream_i3d.cli import main
from stream_i3d.cli.evaluate import _sorted_out
from stream_i3d.models.checkpoint import save_checkpoint
from stream_i3d.models.registry import build_model
from stream_i3d.models.spec import ModelSpec, read_spec
from stream_i3d.scenes import LABELS
from stream_i3d.training.metrics import EVALUATIONS
from stream_i3d.training.results import read_results, video_results, write_results

Run = Callable[..., tuple[int, str, str]]

CONFIG = """
data: {source: scenes, workers: 0, scenes: {held_out: 20, size: [64, 48]}}
run: {device: cpu, precision: fp32, threads: 1}
"""


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put back what a command sets for its whole process."""
    threads = torch.get_num_threads()
    for name in ("OPENCV_FFMPEG_LOGLEVEL", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, os.environ.get(name, "-8" if "LOGLEVEL" in name else "PASSIVE"))
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs `stream-i3d evaluate ARGS`: its exit code, standard output and standard error."""
    monkeypatch.setenv("COLUMNS", "160")

    def call(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["evaluate", *map(str, arguments)])
        out, err = capfd.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, out, err

    return call


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "scenes.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def checkpoint(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(tiny_checkpoint, tmp_path / "own.safetensors"))


def refused(result: tuple[int, str, str]) -> str:
    """Return the one line of a command that must fail."""
    code, out, err = result
    assert code == 2, result
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1, err
    return err


def test_results_tables_and_a_picture_are_written(run: Run, config: Path, checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "result.json"
    code, shown, err = run(config, checkpoint, "--out", out)
    assert (code, err) == (0, "")
    assert sorted(path.name for path in out.parent.iterdir()) == [
        "result.classes.csv",
        "result.confusion.csv",
        "result.confusion.png",
        "result.json",
    ]
    found = read_results(out)
    assert len(found.videos) == 20
    assert found.protocol.engine.endswith("cpu, fp32, BatchNorm folded")
    assert "top-1 accuracy" in shown and "20 videos" in shown and "classes, worst first" in shown
    with (out.parent / "result.confusion.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["label", *LABELS]
    assert sum(int(cell) for row in rows[1:] for cell in row[1:]) == 20


def test_metrics_are_named_after_one_flag(run: Run, config: Path, checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    arguments = ("--eval", "top_k_accuracy", "mean_class_accuracy", config, checkpoint, "--out", out)
    assert run(*arguments, "data.scenes.held_out=10")[0] == 0
    assert set(read_results(out).metrics) == {"acc@1", "acc@5", "mean_class_accuracy"}
    assert len(read_results(out).videos) == 10


def test_a_file_with_an_equals_sign_in_its_name_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lr=0.1.yaml").write_text("")
    given = ["lr=0.1.yaml", "calibration", "motion", "run.seed=1"]
    assert _sorted_out(given, EVALUATIONS) == (["lr=0.1.yaml", "motion"], ["calibration"], ["run.seed=1"])


def test_the_carried_model_is_measured_and_a_runs_folder_is_a_configuration(
    run: Run, config: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    config.rename(folder / "config.yaml")
    code, shown, _ = run(folder, "motion", "data.scenes.held_out=10", "--eval", "top_k_accuracy")
    assert code == 0
    assert "motion.safetensors on held-out scenes" in shown
    assert "negative log likelihood" not in shown


def test_a_temperature_is_fitted_stored_and_used(run: Run, config: Path, checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    code, _, err = run(config, checkpoint, "--calibrate", "--out", out)
    assert code == 0
    assert err.startswith("calibrated own.safetensors: temperature ")
    spec, found = read_spec(checkpoint), read_results(out)
    assert spec is not None and found.calibration is not None
    assert spec.temperature == found.temperature == found.calibration.temperature != 1.0
    # The same scenes: what was promised at the new temperature is what is then measured.
    assert found.metrics["ece"] == pytest.approx(found.calibration.ece, abs=1e-4)
    assert found.metrics["nll"] == pytest.approx(found.calibration.nll, abs=1e-4)


@pytest.mark.parametrize("given", ["motion", "foreign"])
def test_what_cannot_be_calibrated_is_told_before_the_work(
    run: Run, config: Path, checkpoint: Path, tmp_path: Path, given: str
) -> None:
    if given == "foreign":
        given = str(tmp_path / "foreign.pt")
        torch.save({"a": torch.zeros(1)}, given)
    assert "--calibrate: " in refused(run(config, given, "--calibrate"))
    line = refused(run(config, checkpoint, "--calibrate", "data.scenes.held_out=10"))
    assert "fewer than 20 say too little" in line


def test_live_is_measured_beside_offline(
    run: Run, checkpoint: Path, tmp_path: Path, make_video: Callable[[float, float], Path]
) -> None:
    listed = "".join(f"{make_video(fps, 2.0)},{LABELS[place]}\n" for place, fps in enumerate((25.0, 29.97)))
    (tmp_path / "val.csv").write_text(listed)
    (tmp_path / "empty.yaml").write_text("data: {workers: 0}\nrun: {device: cpu, precision: fp32, threads: 1}\n")
    out = tmp_path / "result.json"
    arguments = (
        "--data",
        tmp_path / "val.csv",
        "--clips",
        3,
        "--crops",
        1,
        "--streaming",
        "--seconds-per-video",
        "1.5",
    )
    code, shown, err = run(tmp_path / "empty.yaml", checkpoint, *arguments, "--out", out)
    assert (code, err) == (0, "")
    found = read_results(out)
    assert (found.protocol.clips, found.protocol.crops) == (3, 1)
    assert found.streaming is not None
    assert found.streaming.videos == 2
    assert 2.5 < found.streaming.seconds < 3.1
    assert found.streaming.largest_difference < 1e-5
    assert "ema 0.5 s (default)" in shown and "offline" in shown
    assert json.loads(out.read_text())["streaming"]["smoothings"][0]["smoothing"] == "none"


def test_streaming_mode_is_measured_on_longer_scenes(run: Run, config: Path, checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    arguments = ("data.scenes.held_out=2", "--streaming", "--mode", "streaming", "--out", out)
    code, shown, err = run(config, checkpoint, *arguments)
    assert (code, err) == (0, "")
    found = read_results(out).streaming
    assert found is not None
    assert (found.mode, found.videos) == ("streaming", 2)
    assert found.seconds == pytest.approx(24, abs=0.1)
    assert "streaming mode, a prediction every 8 frames" in shown


@pytest.mark.parametrize("mode", ["window", "streaming"])
def test_another_backend_runs_the_live_path(
    run: Run, config: Path, checkpoint: Path, tmp_path: Path, mode: str
) -> None:
    pytest.importorskip("openvino", reason="the extra openvino is not installed")
    out = tmp_path / "result.json"
    live = ("--streaming", "--mode", mode, "--backend", "openvino", "--seconds-per-video", 5)
    code, _, err = run(config, checkpoint, "data.scenes.held_out=1", *live, "--out", out)
    assert (code, err) == (0, "")
    found = read_results(out).streaming
    assert found is not None
    assert 0 < found.largest_difference < 1e-5  # not the same sums, and the same function


def test_streaming_mode_is_refused_to_what_cannot_be_carried(run: Run, config: Path, tmp_path: Path) -> None:
    path = tmp_path / "r50.safetensors"
    spec = ModelSpec(num_classes=10, architecture="i3d-r50", width=1 / 64, labels=tuple(LABELS))
    save_checkpoint(path, build_model("i3d-r50", num_classes=10, width=1 / 64), spec)
    line = refused(run(config, path, "--streaming", "--mode", "streaming"))
    assert "streaming mode is for Inception I3D on RGB, and r50.safetensors is i3d-r50" in line


def test_two_result_files_are_fused(run: Run, config: Path, checkpoint: Path, tmp_path: Path) -> None:
    first, second, both = (tmp_path / f"{name}.json" for name in ("first", "second", "both"))
    assert run(config, checkpoint, "--out", first, "data.scenes.held_out=10")[0] == 0
    one = read_results(first)
    rows = video_results([row.video for row in one.videos], torch.eye(10), one.targets, one.labels)
    write_results(second, structs.replace(one, checkpoint="other.safetensors", videos=rows))
    arguments = ("--fuse", first, second, "--fuse-weights", 1, 3, "--out", both, "--eval", "top_k_accuracy")
    code, shown, _ = run(*arguments)
    assert code == 0
    assert "own.safetensors + other.safetensors on held-out scenes" in shown
    torch.testing.assert_close(read_results(both).scores, (one.scores + 3 * torch.eye(10)) / 4)
    assert read_results(both).metrics == {"acc@1": 1.0, "acc@5": 1.0}
    line = refused(run("--fuse", first, second, "--average-clips", "score"))
    assert "hold probabilities, and scores are to be fused" in line


MISTAKES: list[tuple[tuple[Any, ...], str]] = [
    ((), "evaluate takes a configuration and a checkpoint, got nothing"),
    (("CONFIG",), "got CONFIG: evaluate CONFIG CHECKPOINT"),
    (("CONFIG", "motion", "extra"), "got CONFIG, motion, extra"),
    (("CONFIG", "motion", "--eval", "accuracy"), "no metric 'accuracy'"),
    (("CONFIG", "motion", "--out", "result.csv"), "--out result.csv: give a name ending in .json"),
    (("CONFIG", "motion", "run.devise=cpu"), "unknown key 'run.devise' (did you mean 'device'?)"),
    (("CONFIG", "motoin"), "did you mean 'motion'?"),
    (("none.yaml", "motion"), "cannot read the configuration none.yaml"),
    (("x" * 300, "motion"), "cannot read the configuration xxx"),
    (("CONFIG", "motion", "run.devise=" + "x" * 300), "unknown key 'run.devise'"),
    (("--fuse", "a.json", "b.json"), "cannot read the results a.json"),
    (("--fuse", "a.json", "b.json", "CONFIG"), "--fuse takes two result files only: leave out CONFIG"),
    (("CONFIG", "motion", "--average-clips", "mean"), "'mean' is not one of 'prob', 'score'"),
    (("CONFIG", "motion", "data.source=videos"), "data"),
]


@pytest.mark.parametrize(("arguments", "said"), MISTAKES)
def test_mistakes_are_one_line(
    run: Run, config: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: tuple[Any, ...], said: str
) -> None:
    config.rename(tmp_path / "CONFIG")
    monkeypatch.chdir(tmp_path)
    assert said in refused(run(*arguments))


def test_what_only_training_needs_is_told_where_it_is_missing(
    run: Run, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torchmetrics" else found(name))
    line = refused(run(config, "motion"))
    assert line == "error: evaluate needs torchmetrics: run pip install 'stream-i3d[train]'\n"


def test_a_place_that_cannot_be_written_to_is_told_before_the_work(run: Run, config: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot write" in refused(run(config, "none.safetensors", "--out", tmp_path / "file" / "result.json"))
