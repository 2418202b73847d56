from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch

from stream_i3d.models.checkpoint import load_checkpoint, save_checkpoint
from stream_i3d.models.spec import read_spec
from stream_i3d.training.config import TrainConfig
from stream_i3d.training.console import live_command
from stream_i3d.training.datasets import Datasets, make_datasets
from stream_i3d.training.ending import Ending, finish, write_outlook
from stream_i3d.training.head_only import HeadTraining
from stream_i3d.training.outlook import JudgedWindow
from tests.training.toy import toy_config

SPEC_SIZE = {"clip_len": None, "short_side": None, "crop_size": None}


def scenes(held_out: int = 10, **run: object) -> TrainConfig:
    return toy_config(
        data={"source": "scenes", "scenes": {"held_out": held_out, "clips": 10, "fresh": 10, "size": [64, 48]}},
        clip=SPEC_SIZE,
        run={"precision": "fp32", **run},
    )


def datasets(config: TrainConfig, checkpoint: Path) -> Datasets:
    spec = read_spec(checkpoint)
    assert spec is not None
    return make_datasets(config, spec.preprocessing, ("rgb",), spec.labels)


@pytest.fixture
def checkpoint(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A checkpoint as a training leaves it that could not calibrate."""
    model, spec = load_checkpoint(tiny_checkpoint)
    path = tmp_path / "best.safetensors"
    save_checkpoint(path, model, msgspec.structs.replace(spec, calibration="none"))
    return path


class Silent:
    """Takes reports of progress."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, what: str, done: int, total: int) -> None:
        self.seen.append(what)


def test_a_checkpoint_without_calibration_says_so_and_recommends_a_threshold(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unsure = [JudgedWindow(0.2 + 0.001 * place, True, True) for place in range(50)]
    monkeypatch.setattr("stream_i3d.training.ending.play_validation", lambda *_: (10, unsure))
    ending = finish(checkpoint, scenes(10), datasets(scenes(10), checkpoint), None, Silent())
    spec = read_spec(checkpoint)
    assert spec is not None
    assert (spec.calibration, spec.calibrated, spec.temperature, spec.min_confidence) == ("none", False, 1.0, 0.2)
    assert spec.provenance["calibration"] == "none: 10 videos"
    assert ending.live is not None
    assert (ending.live.min_confidence, ending.live.recommended) == (0.2, True)
    assert ending.live.confident >= 45  # at 0.3 it was idle in all of them
    first, *rest = ending.lines()
    assert first.startswith("not calibrated (10 validation videos, 20 are needed): ")
    assert "recommended by this checkpoint" in rest[0]


def test_a_calibrated_checkpoint_keeps_its_temperature_and_the_usual_threshold(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, spec = load_checkpoint(checkpoint)
    save_checkpoint(checkpoint, model, msgspec.structs.replace(spec, calibration="validation", temperature=0.8))
    monkeypatch.setattr("stream_i3d.training.ending.play_validation", lambda *_: (20, [JudgedWindow(0.2, True, True)]))
    ending = finish(checkpoint, scenes(20), datasets(scenes(20), checkpoint), None, Silent())
    spec = read_spec(checkpoint)  # type: ignore[assignment]
    assert spec is not None
    assert (spec.calibration, spec.temperature, spec.min_confidence) == ("validation", 0.8, None)
    assert ending.lines()[0] == "calibrated by validation on 20 videos"
    assert ending.live is not None and ending.live.min_confidence == 0.3


def test_validation_videos_are_played_through_the_live_path(checkpoint: Path) -> None:
    progress = Silent()
    ending = finish(checkpoint, scenes(10), datasets(scenes(10), checkpoint), None, progress)
    assert ending.live is not None
    assert ending.live.videos == 10
    assert ending.live.windows == 10 * 21  # a window, and 20 strides of 8 frames after it
    assert progress.seen[-1] == "live check"


def test_without_videos_or_without_the_check_nothing_is_claimed_of_live_use(checkpoint: Path) -> None:
    data = datasets(scenes(10), checkpoint)
    ending = finish(checkpoint, scenes(10, live_check=False), data, None, Silent())
    assert ending.live is None
    ending = finish(checkpoint, scenes(10), Datasets(data.train, None, ()), None, Silent())
    assert ending.live is None
    assert ending.lines() == [ending.lines()[0]]
    assert "no validation videos" in ending.lines()[0]


def test_a_head_alone_is_calibrated_by_cross_validation(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Head(HeadTraining):
        def __init__(self) -> None:
            pass

        def cross_validate(self, progress: object = None) -> tuple[torch.Tensor, torch.Tensor]:
            labels = torch.arange(40) % 10
            logits = torch.nn.functional.one_hot(labels, 10).float() * 2
            return logits, labels

    monkeypatch.setattr("stream_i3d.training.ending.play_validation", lambda *_: (10, []))
    ending = finish(checkpoint, scenes(10), datasets(scenes(10), checkpoint), Head(), Silent())
    spec = read_spec(checkpoint)
    assert spec is not None
    assert (spec.calibration, spec.min_confidence) == ("cross-validation", None)
    assert spec.temperature < 0.5  # all are right: it may be surer
    assert ending.lines()[0] == "calibrated by cross-validation on 40 videos"


def test_the_ending_is_kept_as_json(tmp_path: Path) -> None:
    ending = Ending(architecture="i3d", streams=("rgb",), calibration="none", samples=3, needed=20, live=None)
    write_outlook(tmp_path / "outlook.json", ending)
    content = msgspec.json.decode((tmp_path / "outlook.json").read_bytes())
    assert (content["schema"], content["calibration"], content["live"]) == ("stream-i3d/outlook/1", "none", None)


@pytest.mark.parametrize(
    ("architecture", "streams", "command"),
    [
        ("i3d", ("rgb",), "stream-i3d run --source 0 --checkpoint 'my run/best.safetensors'"),
        ("i3d-r50", ("rgb",), "stream-i3d run --source 0 --model i3d-r50 --checkpoint 'my run/best.safetensors'"),
        ("i3d-flow", ("flow",), "--checkpoint RGB.safetensors --flow-checkpoint 'my run/best.safetensors'"),
    ],
)
def test_the_command_to_try_it_live_is_whole(architecture: str, streams: tuple[str, ...], command: str) -> None:
    ending = Ending(architecture=architecture, streams=streams, calibration="none", samples=3, needed=20, live=None)
    assert command in live_command(Path("my run/best.safetensors"), ending)
