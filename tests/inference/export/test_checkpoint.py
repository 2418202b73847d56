from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs

from stream_i3d.config import ModelConfig, WindowConfig
from stream_i3d.errors import CheckpointError, ConfigError
from stream_i3d.inference.backends import load_model
from stream_i3d.inference.engine import LoadedModel
from stream_i3d.inference.export import checkpoint as export_module
from stream_i3d.inference.export.checkpoint import (
    CALIBRATION_STREAMS,
    PARITY_STREAMS,
    TOLERANCE,
    ExportJob,
    export_checkpoint,
)
from stream_i3d.inference.export.parity import compare
from stream_i3d.inference.export.sample_clips import generated_clips, knows_scenes, video_clips
from stream_i3d.inference.graphs.file import read_graph_spec
from stream_i3d.inference.setup import settle_model
from stream_i3d.models.checkpoint import save_checkpoint
from stream_i3d.models.i3d import I3D
from stream_i3d.models.registry import build_model
from stream_i3d.models.spec import ModelSpec
from stream_i3d.preprocess import Preprocessing
from stream_i3d.recognition.head import PublishedHead
from tests.conftest import TINY
from tests.inference.exported import clips_of, logits_of, plain_logits

Video = Callable[[float, float], Path]
NEEDS = {"openvino": ("openvino",), "onnx": ("onnx", "onnxruntime", "onnxscript"), "int8": ("openvino", "nncf")}


def needs(extra: str) -> None:
    missing = [name for name in NEEDS.get(extra, ()) if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed (pip install -e '.[dev]')")


def nobody(what: str, done: int, total: int) -> None:
    pass


def job(checkpoint: Path, output: Path, kind: str = "openvino", **more: Any) -> ExportJob:
    return ExportJob(checkpoint=str(checkpoint), format=kind, output=output, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(("kind", "suffix"), [("openvino", ".xml"), ("onnx", ".onnx"), ("torch", ".pt2")])
def test_an_export_agrees_with_its_source_and_runs_as_a_checkpoint(
    tiny_checkpoint: Path, tmp_path: Path, kind: str, suffix: str
) -> None:
    needs(kind)
    output = tmp_path / "new" / f"tiny{suffix}"
    exported = export_checkpoint(job(tiny_checkpoint, output, kind), nobody)
    assert exported.parity.agreement == 1.0
    assert exported.parity.logit_difference < TOLERANCE * exported.parity.logit_deviation
    assert exported.parity.probability_difference < 1e-5
    assert exported.clips == "generated clips"
    files = {output, output.with_suffix(".bin")} if kind == "openvino" else {output}
    assert set(exported.files) == files == set(output.parent.iterdir())
    if kind == "torch":
        return
    spec = read_graph_spec(output)
    assert spec.labels == TINY.labels
    assert spec.provenance["exported"] == f"{kind}, float32, from tiny.safetensors"
    setup = settle_model(ModelConfig(checkpoint=str(output), precision="fp32", threads=1), WindowConfig())
    model, clips = load_model(setup), clips_of(2)
    np.testing.assert_allclose(logits_of(model, clips), plain_logits(tiny_checkpoint, clips), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("kind", "suffix"), [("openvino", ".xml"), ("onnx", ".onnx"), ("torch", ".pt2")])
def test_a_step_of_streaming_mode_agrees_with_its_source(
    tiny_checkpoint: Path, tmp_path: Path, kind: str, suffix: str
) -> None:
    needs(kind)
    output = tmp_path / f"tiny{suffix}"
    exported = export_checkpoint(job(tiny_checkpoint, output, kind, mode="streaming"), nobody)
    assert (exported.parity.clips, exported.clips) == (PARITY_STREAMS * 9, "generated streams")
    assert exported.parity.agreement == 1.0
    assert exported.parity.logit_difference < 1e-4 * exported.parity.logit_deviation
    assert exported.spec.mode == "streaming"
    if kind == "openvino":
        config = ModelConfig(checkpoint=str(output), precision="fp32", threads=1)
        model = load_model(settle_model(config, WindowConfig(mode="streaming")), "streaming")
        assert exported.description == model.engine.description


@pytest.mark.slow
def test_an_int8_step_is_calibrated_on_streams_and_compared_on_others(tiny_checkpoint: Path, tmp_path: Path) -> None:
    needs("int8")
    output = tmp_path / "tiny.xml"
    exported = export_checkpoint(job(tiny_checkpoint, output, int8=True, mode="streaming"), nobody)
    assert exported.description.endswith(", cpu, int8 and fp32, streaming")
    assert exported.parity.clips == CALIBRATION_STREAMS // 4 * 9
    assert 0 < exported.parity.logit_difference < 0.5 * exported.parity.logit_deviation


def test_what_cannot_be_carried_is_not_exported_as_a_step(tmp_path: Path) -> None:
    needs("openvino")
    path = tmp_path / "r50.safetensors"
    spec = ModelSpec(num_classes=10, architecture="i3d-r50", width=1 / 64)
    save_checkpoint(path, build_model("i3d-r50", num_classes=10, width=1 / 64), spec)
    with pytest.raises(ConfigError, match=r"^streaming mode is for .*, and r50.safetensors is i3d-r50"):
        export_checkpoint(job(path, tmp_path / "r50.xml", mode="streaming"), nobody)


@pytest.mark.slow
def test_int8_is_calibrated_on_videos_and_compared_on_others_of_them(
    tiny_checkpoint: Path, tmp_path: Path, make_video: Video, capfd: pytest.CaptureFixture[str]
) -> None:
    needs("int8")
    folder = tmp_path / "videos" / "wave"
    folder.mkdir(parents=True)
    (folder / "one.mp4").write_bytes(make_video(25, 6).read_bytes())
    output = tmp_path / "tiny.xml"
    exported = export_checkpoint(job(tiny_checkpoint, output, int8=True, calibrate=tmp_path / "videos"), nobody)
    assert "int8" in exported.description
    assert exported.parity.clips == 3  # every fourth of nine
    assert 0 < exported.parity.probability_difference < 0.2
    assert output.with_suffix(".bin").stat().st_size < 0.4 * tiny_checkpoint.stat().st_size
    assert capfd.readouterr().out == ""  # NNCF's progress is not ours
    setup = settle_model(ModelConfig(checkpoint=str(output), precision="fp32", threads=1), WindowConfig())
    model, clips = load_model(setup), video_clips(folder, TINY, 9, nobody)[::4]
    assert model.engine.description.endswith(", cpu, int8 and fp32")
    logits, wanted = logits_of(model, clips), plain_logits(tiny_checkpoint, clips)
    assert exported.parity.logit_difference == pytest.approx(np.abs(logits - wanted).max(), rel=1e-3)
    assert exported.parity.logit_difference < 0.2 * np.ptp(wanted)


def test_an_export_that_computes_something_else_is_not_kept(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("onnx")
    whole = export_module.load_written

    def broken(*given: Any) -> LoadedModel:
        model = whole(*given)
        head = model.head.heads["rgb"]
        return replace(model, head=PublishedHead({"rgb": replace(head, bias=head.bias + np.float32(0.1))}))

    monkeypatch.setattr(export_module, "load_written", broken)
    output = tmp_path / "tiny.onnx"
    with pytest.raises(CheckpointError, match=r"gives another network on 64 generated clips: .*; nothing was written"):
        export_checkpoint(job(tiny_checkpoint, output, "onnx"), nobody)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"output": "tiny.onnx"}, r"^--output .*tiny.onnx: give a name ending in .xml with --format openvino$"),
        ({"kind": "onnx", "output": "tiny.onnx", "int8": True}, "^--int8 goes with --format openvino, not onnx"),
        ({"calibrate": "none"}, "^no folder '.*none': give one of videos like those"),
        ({"calibrate": "."}, r"^no video in '.*' has 16 frames: give a folder of mp4, avi"),
    ],
)
def test_what_does_not_fit_together_is_told(
    tiny_checkpoint: Path, tmp_path: Path, more: dict[str, Any], message: str
) -> None:
    needs("openvino")
    output = tmp_path / more.pop("output", "tiny.xml")
    if "calibrate" in more:
        more["calibrate"] = tmp_path / more["calibrate"]
    with pytest.raises(ConfigError, match=message):
        export_checkpoint(job(tiny_checkpoint, output, **more), nobody)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "int8", "package", "message"),
    [
        ("openvino", False, "openvino", r"export to openvino needs openvino: run pip install 'stream-i3d\[openvino\]'"),
        ("openvino", True, "nncf", r"export to openvino needs nncf: run pip install 'stream-i3d\[int8\]'"),
        ("onnx", False, "onnxscript", r"export to onnx needs onnxscript: run pip install 'stream-i3d\[onnxruntime\]'"),
    ],
)
def test_a_missing_package_is_told(
    tiny_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    int8: bool,
    package: str,
    message: str,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == package else object())
    output = tmp_path / ("tiny.onnx" if kind == "onnx" else "tiny.xml")
    with pytest.raises(ConfigError, match=message):
        export_checkpoint(job(tiny_checkpoint, output, kind, int8=int8), nobody)


def test_int8_of_a_network_for_real_actions_wants_videos(tmp_path: Path) -> None:
    needs("int8")
    checkpoint = tmp_path / "own.safetensors"
    spec = structs.replace(TINY, num_classes=2, labels=("wave", "nothing"))
    save_checkpoint(checkpoint, I3D(2, width=TINY.width).eval(), spec)
    with pytest.raises(ConfigError, match=r"^--int8 needs clips to measure activations on: give --calibrate a folder"):
        export_checkpoint(job(checkpoint, tmp_path / "own.xml", int8=True), nobody)


def test_an_export_is_not_exported_again(tmp_path: Path) -> None:
    needs("openvino")
    path = tmp_path / "made.onnx"
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"^checkpoint made.onnx is an export already: give the weights"):
        export_checkpoint(job(path, tmp_path / "again.xml"), nobody)


def test_two_streams_are_exported_one_by_one(tmp_path: Path) -> None:
    checkpoint = tmp_path / "both.safetensors"
    spec = structs.replace(TINY, architecture="two-stream-i3d", width=1 / 16)
    save_checkpoint(checkpoint, build_model("two-stream-i3d", num_classes=10, width=1 / 16).eval(), spec)
    with pytest.raises(CheckpointError, match=r"^two-stream-i3d sees rgb and flow: export each network by itself$"):
        export_checkpoint(job(checkpoint, tmp_path / "both.pt2", "torch"), nobody)


def test_a_network_of_flow_can_be_exported_for_another_clip_length(tmp_path: Path) -> None:
    checkpoint = tmp_path / "flow.safetensors"
    spec = structs.replace(TINY, in_channels=2, width=1 / 16, labels=None)
    save_checkpoint(checkpoint, I3D(10, in_channels=2, width=1 / 16).eval(), spec)
    exported = export_checkpoint(job(checkpoint, tmp_path / "flow.pt2", "torch", clip_len=24), nobody)
    assert exported.spec.preprocessing.clip_len == 24
    assert exported.parity.clips == 16


def test_an_output_that_cannot_be_written_is_told(tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"^cannot write .*x.pt2: .*; give --output another"):
        export_checkpoint(job(tiny_checkpoint, tmp_path / "file" / "x.pt2", "torch"), nobody)


def test_videos_give_clips_as_the_live_path_sees_them(
    tmp_path: Path, make_video: Video, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one.MP4").write_bytes(make_video(25, 6).read_bytes())
    (tmp_path / "two.mp4").write_bytes(make_video(25, 2).read_bytes())
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    (tmp_path / "notes.txt").write_text("no video either")
    with caplog.at_level(logging.WARNING):
        clips = video_clips(tmp_path, TINY, 8, nobody)
    assert [clip.shape for clip in clips] == [(16, 32, 32, 3)] * 6  # each gives its share, three
    assert "broken.mp4 is left out" in caplog.text
    assert len({clip.tobytes() for clip in clips}) == 3  # of one scene, twice
    flow = video_clips(tmp_path, structs.replace(TINY, in_channels=2), 2, nobody)
    assert [clip.shape for clip in flow] == [(16, 32, 32, 2)] * 2
    apart = structs.replace(TINY, preprocessing=structs.replace(TINY.preprocessing, frame_interval=2))
    (first,) = video_clips(tmp_path / "a", apart, 1, nobody)
    (near,) = video_clips(tmp_path / "a", TINY, 1, nobody)
    assert first.shape == (16, 32, 32, 3)
    assert np.array_equal(first[:8], near[::2])


def test_generated_clips_are_of_the_networks_size_and_always_the_same() -> None:
    clips = generated_clips(TINY, 3, nobody)
    assert [clip.shape for clip in clips] == [(16, 32, 32, 3)] * 3
    assert all(np.array_equal(*pair) for pair in zip(clips, generated_clips(TINY, 3, nobody), strict=True))
    flow = generated_clips(structs.replace(TINY, in_channels=2), 1, nobody)
    assert flow[0].shape == (16, 32, 32, 2)
    assert knows_scenes(TINY)
    assert not knows_scenes(ModelSpec(num_classes=400, preprocessing=Preprocessing()))


def test_a_comparison_tells_labels_probabilities_and_logits() -> None:
    own = np.array([[2.0, 0.0], [0.0, 1.0], [0.0, 0.5], [3.0, 0.0]], np.float32)
    other = np.array([[2.0, 0.0], [0.0, 1.0], [0.5, 0.0], [3.0, 0.25]], np.float32)
    parity = compare([own[:3], own[3:]], [other[:1], other[1:]], 1.0)
    assert (parity.clips, parity.agreement, parity.logit_difference) == (4, 0.75, 0.5)
    assert parity.probability_difference == pytest.approx(0.2449, abs=1e-3)
    assert parity.logit_deviation == pytest.approx(float(own.std()))
    assert compare([own], [other], 100.0).probability_difference < 0.01
    assert str(parity).startswith(
        "first label the same in 75.0 %, largest difference of a probability 0.24, of a logit 0.5"
    )
