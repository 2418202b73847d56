from __future__ import annotations

import importlib.util
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.timeout(300)
def test_a_checkpoint_is_exported_and_the_export_recognises_what_the_checkpoint_does(
    cli: Cli, tiny_checkpoint: Path, make_video: Callable[[float, float], Path], tmp_path: Path
) -> None:
    if importlib.util.find_spec("openvino") is None:
        pytest.skip("the extra openvino is not installed")
    output = tmp_path / "tiny.xml"
    made = cli("export", tiny_checkpoint, "--format", "openvino", "--output", output, timeout=200)
    assert made.returncode == 0, made.stderr
    assert made.stderr == ""
    first, second, third = made.stdout.splitlines()
    assert first.startswith(
        f"{output.with_suffix('.bin')} and {output}: i3d, 10 classes, clips of 16 x 32 x 32 x 3 uint8"
    )
    assert second.startswith("run by OpenVINO ")
    assert second.endswith("cpu, fp32, against its source on 64 generated clips:")
    assert third.startswith("  first label the same in 100.0 %, largest difference of a probability ")
    said = []
    for checkpoint, backend in ((tiny_checkpoint, "torch"), (output, "auto")):
        flags = ("--checkpoint", checkpoint, "--backend", backend, "--precision", "fp32", "--smoothing", "none")
        run = cli("recognize", make_video(25, 2), *flags, timeout=200)
        assert run.returncode == 0, run.stderr
        said.append([json.loads(line) for line in run.stdout.splitlines()])
    own, other = ([line for line in lines if line.get("top_k")] for lines in said)
    assert len(own) == len(other) > 2
    for one, two in zip(own, other, strict=True):
        assert [score["label"] for score in one["top_k"]] == [score["label"] for score in two["top_k"]]
        assert one["confidence"] == pytest.approx(two["confidence"], abs=1e-4)


def test_mistakes_are_one_line_and_exit_code_2(cli: Cli, tiny_checkpoint: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"\x08\x0a\x12\x07pytorch" + bytes(50))
    for arguments, message in (
        (("recognize", tmp_path / "x.mp4", "--checkpoint", broken), "no such file"),
        (("run", "--source", "synthetic://", "--checkpoint", broken), "is not a whole ONNX file"),
        (("run", "--source", "synthetic://", "--backend", "tensort"), "model.backend"),
        (("export", "motion", "--format", "onnx", "--output", tmp_path / "m.xml"), "give a name ending in .onnx"),
        (("export", "motoin", "--format", "torch", "--output", tmp_path / "m.pt2"), "did you mean 'motion'?"),
        (("export", "motion", "--output", tmp_path / "m.pt2"), "--format"),
    ):
        ended = cli(*arguments)
        assert ended.returncode == 2, arguments
        assert message in ended.stderr
        assert ended.stderr.startswith("error: ")
        assert ended.stderr.count("\n") == 1
        assert ended.stdout == ""
