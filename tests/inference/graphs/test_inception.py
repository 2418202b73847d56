"""The graph made without torch beside the one made by way of it, and what is left to that way."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from msgspec import structs
from torch import Tensor

from stream_i3d.config import ModelConfig, WindowConfig
from stream_i3d.inference.setup import ModelSetup, settle_model
from stream_i3d.models.checkpoint import load_checkpoint, save_checkpoint
from stream_i3d.models.i3d import I3D
from stream_i3d.models.registry import build_model
from stream_i3d.models.spec import ModelSpec, encode_spec
from stream_i3d.preprocess import Preprocessing, normalise
from tests.conftest import TINY
from tests.golden_rule import fill_by_rule

pytest.importorskip("openvino", reason="the extra openvino is not installed")

from stream_i3d.inference.engine import LoadedModel
from stream_i3d.inference.graphs import conversion
from stream_i3d.inference.graphs.file import read_graph_spec, read_head
from stream_i3d.inference.graphs.inception import write_inception
from stream_i3d.inference.graphs.openvino_engine import OpenVinoEngine
from stream_i3d.inference.setup import label_names
from stream_i3d.recognition.head import PublishedHead
from tests.inference.exported import logits_of

WIDTH = 1 / 16


def setup_of(path: Path, **window: int) -> ModelSetup:
    return settle_model(ModelConfig(checkpoint=str(path), name="i3d"), WindowConfig(**window))


def make(path: Path, spec: ModelSpec) -> Path:
    model = I3D(spec.num_classes, spec.in_channels, width=spec.width)
    model.load_state_dict(fill_by_rule(model.state_dict(), 2))
    save_checkpoint(path, model.eval(), spec)
    return path


@pytest.mark.parametrize(
    ("frames", "side", "channels", "mean"),
    [
        (16, 32, 3, 127.5),
        (64, 33, 3, 127.5),  # several steps in time; odd sides are padded unevenly
        (9, 47, 2, 127.5),
        (17, 256, 3, 110.0),  # a last map larger than the average over it
    ],
)
def test_it_says_what_the_network_says(tmp_path: Path, frames: int, side: int, channels: int, mean: float) -> None:
    made = Preprocessing(clip_len=frames, short_side=side, crop_size=side, mean=(mean, 120.0, 130.0), std=(60, 55, 50))
    spec = ModelSpec(num_classes=7, in_channels=channels, width=WIDTH, preprocessing=made)
    checkpoint = make(tmp_path / "network.safetensors", spec)
    setup = structs.replace(setup_of(checkpoint), preprocessing=made)
    assert write_inception(setup, tmp_path / "graph.xml")
    assert read_graph_spec(tmp_path / "graph.xml") == spec
    clips = np.random.default_rng(0).integers(0, 256, (2, frames, side, side, channels), np.uint8)
    model, _ = load_checkpoint(checkpoint)
    with torch.no_grad():
        wanted = model(normalise(torch.from_numpy(clips), made)).numpy()
    path = tmp_path / "graph.xml"
    head = PublishedHead({"rgb": read_head(path, spec, label_names(None, spec))})
    given = logits_of(LoadedModel(OpenVinoEngine(path, spec, "fp32", 1, None), head), list(clips))
    np.testing.assert_allclose(given, wanted, rtol=0, atol=1e-5 * wanted.std() + 1e-6)


def test_the_settings_of_windows_count(tiny_checkpoint: Path, tmp_path: Path) -> None:
    assert write_inception(setup_of(tiny_checkpoint, clip_len=24), tmp_path / "graph.xml")
    assert read_graph_spec(tmp_path / "graph.xml").preprocessing.clip_len == 24


def test_the_carried_model_is_such_a_network(tmp_path: Path) -> None:
    assert write_inception(settle_model(ModelConfig(), WindowConfig()), tmp_path / "graph.xml")


def altered(change: Callable[[dict[str, Tensor]], object]) -> Callable[[Path, Path], Path]:
    """Return what writes the tiny checkpoint with other tensors."""

    def write(checkpoint: Path, path: Path) -> Path:
        tensors = safetensors.torch.load_file(checkpoint)
        change(tensors)
        path.write_bytes(safetensors.torch.save(tensors, encode_spec(TINY)))
        return path

    return write


def without_spec(checkpoint: Path, path: Path) -> Path:
    path.write_bytes(safetensors.torch.save(safetensors.torch.load_file(checkpoint)))
    return path


def pickled(checkpoint: Path, path: Path) -> Path:
    torch.save(safetensors.torch.load_file(checkpoint), path.with_suffix(".pt"))
    return path.with_suffix(".pt")


def cut_short(checkpoint: Path, path: Path) -> Path:
    path.write_bytes(checkpoint.read_bytes()[:-100])
    return path


BIAS, VARIANCE = "logits.conv3d.bias", "Mixed_3b.b0.bn.running_var"
UNUSUAL = {
    "no description": without_spec,
    "another format": pickled,
    "cut short": cut_short,
    "bfloat16": altered(lambda tensors: tensors.update({BIAS: tensors[BIAS].bfloat16()})),
    "float64": altered(lambda tensors: tensors.update({BIAS: tensors[BIAS].double()})),
    "a tensor missing": altered(lambda tensors: tensors.pop(BIAS)),
    "a tensor more": altered(lambda tensors: tensors.update(extra=torch.zeros(3))),
    "another shape": altered(lambda tensors: tensors.update({BIAS: torch.zeros(11)})),
    "NaN": altered(lambda tensors: tensors[BIAS].fill_(float("nan"))),
    "an impossible variance": altered(lambda tensors: tensors[VARIANCE].fill_(-1.0)),
    "far too large": altered(lambda tensors: tensors.update(extra=torch.zeros(9_000_000))),
}


@pytest.mark.parametrize("write", UNUSUAL.values(), ids=UNUSUAL.keys())
def test_what_is_unusual_is_left_to_the_way_by_torch(
    write: Callable[[Path, Path], Path], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    setup = setup_of(tiny_checkpoint)
    path = write(tiny_checkpoint, tmp_path / "unusual.safetensors")
    assert not write_inception(structs.replace(setup, path=str(path)), tmp_path / "graph.xml")
    assert not (tmp_path / "graph.xml").exists()


def test_a_file_of_another_program_is_read_by_torch_and_built_likewise(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("the slow way was taken")

    monkeypatch.setattr(conversion, "make_program", never)
    setup = structs.replace(setup_of(tiny_checkpoint), path=str(pickled(tiny_checkpoint, tmp_path / "tiny.pt")))
    conversion.convert_setup(structs.replace(setup, spec=None), tmp_path / "by-torch.xml")
    assert write_inception(setup_of(tiny_checkpoint), tmp_path / "direct.xml")
    assert (tmp_path / "by-torch.bin").read_bytes() == (tmp_path / "direct.bin").read_bytes()


def test_half_precision_is_read_as_it_is(tiny_checkpoint: Path, tmp_path: Path) -> None:
    halve = altered(lambda tensors: tensors.update({BIAS: tensors[BIAS].half()}))
    path = halve(tiny_checkpoint, tmp_path / "half.safetensors")
    assert write_inception(setup_of(path), tmp_path / "graph.xml")


def test_other_networks_are_left_to_the_way_by_torch(tmp_path: Path) -> None:
    made = Preprocessing(clip_len=8, short_side=32, crop_size=32)
    spec = ModelSpec(num_classes=5, architecture="i3d-r50", preprocessing=made)
    path = tmp_path / "r50.safetensors"
    save_checkpoint(path, build_model("i3d-r50", num_classes=5).eval(), spec)
    setup = settle_model(ModelConfig(checkpoint=str(path), name="i3d-r50"), WindowConfig())
    assert not write_inception(setup, tmp_path / "graph.xml")


FIRST = """
import sys
from stream_i3d.config import ModelConfig, WindowConfig
from stream_i3d.inference.backends import load_model
from stream_i3d.inference.engine import warm_up
from stream_i3d.inference.setup import settle_model

setup = settle_model(ModelConfig(checkpoint=sys.argv[1], backend="openvino"), WindowConfig())
warm_up(load_model(setup).engine, [1])
print(*({"torch", "cv2"} & set(sys.modules)))
"""


def test_the_first_start_of_a_checkpoint_needs_no_torch(tiny_checkpoint: Path, tmp_path: Path) -> None:
    first = subprocess.run(
        [sys.executable, "-c", FIRST, str(tiny_checkpoint)],
        env={**os.environ, "STREAM_I3D_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (first.returncode, first.stdout.strip()) == (0, ""), first.stderr
