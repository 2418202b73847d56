from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from stream_i3d.config import Config, IdleConfig, SmoothingConfig
from stream_i3d.messages import FrameStamp, Prediction, Window
from stream_i3d.models.checkpoint import load_checkpoint, save_checkpoint
from stream_i3d.models.spec import read_spec
from stream_i3d.training.config import TrainConfig
from stream_i3d.training.console import live_command
from stream_i3d.training.datasets import Datasets, make_datasets
from stream_i3d.training.head_only import HeadTraining
from stream_i3d.training.live_check import (
    Summary,
    WindowOutcome,
    finish,
    make_outlook,
    recommend_threshold,
    window_outcomes,
    write_outlook,
)
from stream_i3d.training.streaming import WindowPrediction
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
    """A checkpoint of a training without calibration."""
    model, spec = load_checkpoint(tiny_checkpoint)
    path = tmp_path / "best.safetensors"
    save_checkpoint(path, model, msgspec.structs.replace(spec, calibration="none"))
    return path


class Silent:
    """Ignores progress."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, what: str, done: int, total: int) -> None:
        self.seen.append(what)


def test_an_uncalibrated_checkpoint_recommends_a_threshold(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unsure = [WindowOutcome(0.2 + 0.001 * place, True, True) for place in range(50)]
    monkeypatch.setattr("stream_i3d.training.live_check.play_validation", lambda *_: (10, unsure))
    summary = finish(checkpoint, scenes(10), datasets(scenes(10), checkpoint), None, Silent())
    spec = read_spec(checkpoint)
    assert spec is not None
    assert (spec.calibration, spec.calibrated, spec.temperature, spec.min_confidence) == ("none", False, 1.0, 0.2)
    assert spec.provenance["calibration"] == "none: 10 videos"
    assert summary.live is not None
    assert (summary.live.min_confidence, summary.live.recommended) == (0.2, True)
    assert summary.live.confident >= 45  # at 0.3 it was idle in all of them
    first, *rest = summary.lines()
    assert first.startswith("not calibrated (10 validation videos, 20 are needed): ")
    assert "recommended by this checkpoint" in rest[0]


def test_a_calibrated_checkpoint_keeps_its_temperature_and_the_usual_threshold(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, spec = load_checkpoint(checkpoint)
    save_checkpoint(checkpoint, model, msgspec.structs.replace(spec, calibration="validation", temperature=0.8))
    monkeypatch.setattr(
        "stream_i3d.training.live_check.play_validation", lambda *_: (20, [WindowOutcome(0.2, True, True)])
    )
    summary = finish(checkpoint, scenes(20), datasets(scenes(20), checkpoint), None, Silent())
    spec = read_spec(checkpoint)  # type: ignore[assignment]
    assert spec is not None
    assert (spec.calibration, spec.temperature, spec.min_confidence) == ("validation", 0.8, None)
    assert summary.lines()[0] == "calibrated by validation on 20 videos"
    assert summary.live is not None and summary.live.min_confidence == 0.3


def test_validation_videos_are_played_through_the_live_path(checkpoint: Path) -> None:
    progress = Silent()
    summary = finish(checkpoint, scenes(10), datasets(scenes(10), checkpoint), None, progress)
    assert summary.live is not None
    assert summary.live.videos == 10
    assert summary.live.windows == 10 * 21  # a window, and 20 strides of 8 frames after it
    assert progress.seen[-1] == "live check"


def test_without_videos_or_without_the_check_nothing_is_claimed_of_live_use(checkpoint: Path) -> None:
    data = datasets(scenes(10), checkpoint)
    summary = finish(checkpoint, scenes(10, live_check=False), data, None, Silent())
    assert summary.live is None
    summary = finish(checkpoint, scenes(10), Datasets(data.train, None, ()), None, Silent())
    assert summary.live is None
    assert summary.lines() == [summary.lines()[0]]
    assert "no validation videos" in summary.lines()[0]


def test_a_head_alone_is_calibrated_by_cross_validation(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Head(HeadTraining):
        def __init__(self) -> None:
            pass

        def cross_validate(self, progress: object = None) -> tuple[torch.Tensor, torch.Tensor]:
            labels = torch.arange(40) % 10
            logits = torch.nn.functional.one_hot(labels, 10).float() * 2
            return logits, labels

    monkeypatch.setattr("stream_i3d.training.live_check.play_validation", lambda *_: (10, []))
    summary = finish(checkpoint, scenes(10), datasets(scenes(10), checkpoint), Head(), Silent())
    spec = read_spec(checkpoint)
    assert spec is not None
    assert (spec.calibration, spec.min_confidence) == ("cross-validation", None)
    assert spec.temperature < 0.5  # all are right: it may be surer
    assert summary.lines()[0] == "calibrated by cross-validation on 40 videos"


def test_the_ending_is_kept_as_json(tmp_path: Path) -> None:
    summary = Summary(architecture="i3d", streams=("rgb",), calibration="none", samples=3, needed=20, live=None)
    write_outlook(tmp_path / "outlook.json", summary)
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
    summary = Summary(architecture=architecture, streams=streams, calibration="none", samples=3, needed=20, live=None)
    assert command in live_command(Path("my run/best.safetensors"), summary)


LABELS = ("bend", "wave")


def predicted(place: int, bend: float | None, motion: float = 9.0) -> WindowPrediction:
    last = 15 + 8 * place
    stamp = FrameStamp(camera="c", epoch=0, seq=last, capture_ns=0, wall_time=0.0, media_time=last / 25)
    window = Window(first_frame=last - 15, last_frame=last, start_time=(last - 15) / 25, end_time=last / 25)
    prediction = None if bend is None else Prediction(np.array([bend, 1 - bend], np.float32), 1.0)
    return WindowPrediction(window, stamp, prediction, motion)


def test_windows_are_outcomes_as_live_smoothed_and_by_motion() -> None:
    config = Config(smoothing=SmoothingConfig(method="mean", last=2), idle=IdleConfig(min_motion=2.0))
    outcomes = window_outcomes(
        [predicted(0, None), predicted(1, 0.9), predicted(2, 0.3), predicted(3, 0.1, 1.0)], "bend", LABELS, config
    )
    assert [round(one.confidence, 3) for one in outcomes] == [0.9, 0.6, 0.8]
    assert [one.right for one in outcomes] == [True, True, False]
    assert [one.moving for one in outcomes] == [True, True, False]


def windows(*confidences: float, right: bool = True, moving: bool = True) -> list[WindowOutcome]:
    return [WindowOutcome(confidence, right, moving) for confidence in confidences]


def test_the_outlook_counts_what_passes_and_what_is_right() -> None:
    outcomes = [*windows(0.9, 0.8, 0.2), *windows(0.7, right=False), *windows(0.6, moving=False)]
    outlook = make_outlook(2, outcomes, 0.3, recommended=False)
    assert (outlook.windows, outlook.confident, outlook.recognised, outlook.right) == (5, 4, 3, 2)
    assert outlook.lines()[0] == (
        "live: of 5 windows of 2 validation videos, 4 pass min_confidence 0.3, 2 are recognised and right, 2 are idle"
    )


def test_a_network_that_is_idle_live_is_reported_with_a_remedy() -> None:
    outlook = make_outlook(10, windows(*[0.2] * 9, 0.4), 0.3, recommended=False)
    assert outlook.few
    assert "few windows pass" in outlook.lines()[1] and "--min-confidence 0.15" in outlook.lines()[1]
    still = make_outlook(10, windows(*[0.9] * 10, moving=False), 0.3, recommended=False)
    assert "--min-motion" in still.lines()[1]
    assert len(make_outlook(10, windows(*[0.9] * 10), 0.3, recommended=False).lines()) == 1


def test_no_video_as_long_as_a_window_is_reported() -> None:
    assert make_outlook(3, [], 0.3, recommended=False).lines() == [
        "live: no validation video is as long as a window, so what live use will be like is not known"
    ]


@pytest.mark.parametrize(
    ("right", "wrong", "classes", "threshold"),
    [
        ([0.2] * 20, [0.1] * 5, 10, 0.2),  # unsure, but right: all pass
        ([0.9] * 20, [0.2] * 5, 10, None),  # the usual threshold serves
        ([0.05] * 20, [], 10, 0.15),  # not down to chance
        ([], [0.2] * 5, 10, None),  # never right: nothing to keep
        ([0.6] * 20, [], 2, None),
    ],
)
def test_a_threshold_lets_nine_in_ten_right_windows_pass(
    right: list[float], wrong: list[float], classes: int, threshold: float | None
) -> None:
    outcomes = [*windows(*right), *windows(*wrong, right=False)]
    assert recommend_threshold(outcomes, classes) == threshold
