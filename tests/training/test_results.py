from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec import structs

from stream_i3d.errors import ConfigError
from stream_i3d.training.results import (
    Evaluation,
    Protocol,
    SkippedVideo,
    fuse,
    probabilities_of,
    read_results,
    video_results,
    write_results,
)

LABELS = ("wave", "clap", "jump")
TARGETS = torch.tensor([0, 1, 2])
RGB = torch.tensor([[0.6, 0.3, 0.1], [0.5, 0.4, 0.1], [0.2, 0.2, 0.6]])
FLOW = torch.tensor([[0.2, 0.5, 0.3], [0.1, 0.8, 0.1], [0.6, 0.1, 0.3]])


def evaluation(scores: torch.Tensor, names: str = "abc", average: Any = "prob", **more: Any) -> Evaluation:
    rows = video_results([f"{name}.mp4" for name in names], scores, TARGETS, LABELS)
    given: dict[str, Any] = {
        "checkpoint": "rgb.safetensors",
        "architecture": "i3d",
        "data": "val.csv",
        "protocol": Protocol(clips=10, crops=3, average=average),
        "labels": LABELS,
        "metrics": {"acc@1": 2 / 3},
        "videos": rows,
    }
    return Evaluation(**{**given, **more})


def test_a_row_has_the_prediction_and_the_true_class() -> None:
    rows = video_results(["a.mp4", "b.mp4", "c.mp4"], RGB, TARGETS, LABELS)
    assert [(row.video, row.label, row.predicted, row.correct) for row in rows] == [
        ("a.mp4", "wave", "wave", True), ("b.mp4", "clap", "wave", False), ("c.mp4", "jump", "jump", True),
    ]  # fmt: skip
    assert rows[0].top5 == ["wave", "clap", "jump"]
    assert rows[1].scores == pytest.approx([0.5, 0.4, 0.1])


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "result.json"
    written = evaluation(RGB, skipped=[SkippedVideo(video="d.mp4", reason="no video")], temperature=1.5)
    write_results(path, written)
    assert read_results(path) == written
    lines = path.read_text().splitlines()
    assert json.loads("".join(lines))["schema"] == "stream-i3d/evaluation/1"
    assert sum(line.startswith('{"video":"') for line in lines) == len(lines) - 1 == 4
    assert list(path.parent.iterdir()) == [path]
    torch.testing.assert_close(read_results(path).scores, RGB)
    assert read_results(path).targets.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("not json", "holds no results of an evaluation"),
        ('{"schema": "stream-i3d/event/1"}', "holds no results of an evaluation"),
        ("[]", "holds no results of an evaluation"),
        ("\udcff", "holds no results of an evaluation"),
        (None, "cannot read the results"),
    ],
)
def test_another_kind_of_file_is_an_error(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "result.json"
    if content is not None:
        path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ConfigError, match=message) as caught:
        read_results(path)
    assert "stream-i3d evaluate --out" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_scores_that_do_not_fit_the_classes_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    good = evaluation(RGB)
    for wrong in (
        structs.replace(good, labels=("wave", "clap")),
        structs.replace(good, videos=[]),
        structs.replace(good, labels=("wave", "clap", "run")),
    ):
        write_results(path, wrong)
        with pytest.raises(ConfigError, match="is damaged"):
            read_results(path)


def test_an_unwritable_place_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot write .*result\.json: "):
        write_results(tmp_path / "file" / "result.json", evaluation(RGB))


def test_probabilities_are_averaged_whatever_the_order_of_the_videos() -> None:
    flow = evaluation(FLOW, checkpoint="flow.safetensors", architecture="i3d-flow")
    turned = structs.replace(flow, videos=list(reversed(flow.videos)))
    fused = fuse(evaluation(RGB), turned)
    torch.testing.assert_close(fused.scores, (RGB + FLOW) / 2)
    assert [video.video for video in fused.videos] == ["a.mp4", "b.mp4", "c.mp4"]
    # Alone each has two of three.
    assert [video.predicted for video in fused.videos] == ["wave", "clap", "jump"]
    assert fused.metrics["acc@1"] == 1.0
    assert fused.checkpoint == "rgb.safetensors + flow.safetensors"


def test_weights_scale_each_networks_share() -> None:
    rgb, flow = evaluation(RGB), evaluation(FLOW)
    torch.testing.assert_close(fuse(rgb, flow, (3, 1)).scores, (3 * RGB + FLOW) / 4)
    torch.testing.assert_close(fuse(rgb, flow, (0, 1)).scores, FLOW)
    for weights in ((0, 0), (-1, 2), (float("nan"), 1)):
        with pytest.raises(ConfigError, match="not negative, such as 1 1"):
            fuse(rgb, flow, weights)


def test_scores_are_added_and_read_as_logits() -> None:
    rgb, flow = evaluation(4 * RGB, average="score"), evaluation(4 * FLOW, average="score")
    fused = fuse(rgb, flow, average="score")
    torch.testing.assert_close(fused.scores, 4 * (RGB + FLOW))
    own = (4 * (RGB + FLOW)).softmax(dim=1).gather(1, TARGETS[:, None]).log().mean()
    assert fused.metrics["nll"] == pytest.approx(-float(own), rel=1e-5)
    assert fused.protocol.average == "score"


def test_scores_become_probabilities_at_their_own_temperature_before_these_are_averaged() -> None:
    rgb, flow = evaluation(4 * RGB, average="score", temperature=2.0), evaluation(FLOW)
    fused = fuse(rgb, flow)
    torch.testing.assert_close(fused.scores, ((2 * RGB).softmax(dim=1) + FLOW) / 2)
    torch.testing.assert_close(probabilities_of(FLOW, "prob", 3.0), FLOW)


def test_probabilities_cannot_become_scores() -> None:
    with pytest.raises(ConfigError, match="hold probabilities, and scores are to be fused"):
        fuse(evaluation(RGB, average="score"), evaluation(FLOW), average="score")


def test_other_videos_are_an_error() -> None:
    with pytest.raises(ConfigError, match=r"not of the same videos \(3 and 3; 'c.mp4' is in one of them only\)"):
        fuse(evaluation(RGB), evaluation(FLOW, "abd"))
    more = evaluation(FLOW)
    more = structs.replace(more, videos=[*more.videos, structs.replace(more.videos[0], video="d.mp4")])
    with pytest.raises(ConfigError, match=r"not of the same videos \(3 and 4; 'd.mp4'"):
        fuse(evaluation(RGB), more)


def test_the_same_video_under_two_labels_is_an_error_and_listed_twice_is_kept_apart() -> None:
    twice, other = evaluation(RGB, "aac"), evaluation(FLOW, "aac")
    torch.testing.assert_close(fuse(twice, other).scores, (RGB + FLOW) / 2)
    swapped = structs.replace(other, videos=[other.videos[1], other.videos[0], other.videos[2]])
    with pytest.raises(ConfigError, match=r"'a.mp4' is 'wave' in the first file and 'clap' in the second"):
        fuse(twice, swapped)


def test_other_classes_are_an_error() -> None:
    with pytest.raises(ConfigError, match="of 3 classes and of 2 cannot be fused"):
        fuse(evaluation(RGB), evaluation(FLOW, labels=("wave", "clap")))
    with pytest.raises(ConfigError, match="class 0 is 'wave' in the first file and 'clap' in the second"):
        fuse(evaluation(RGB), evaluation(FLOW, labels=("clap", "wave", "jump")))
