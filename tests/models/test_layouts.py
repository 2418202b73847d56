from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from stream_i3d.errors import CheckpointError, ConfigError
from stream_i3d.models.checkpoint import describe_layout, load_checkpoint, load_into, save_checkpoint
from stream_i3d.models.i3d import I3D
from stream_i3d.models.layouts import LAYOUTS, candidates, our_name, recognise
from stream_i3d.models.registry import find_architecture
from stream_i3d.models.resnet_i3d import ResNetI3D
from stream_i3d.models.spec import ModelSpec
from tests.golden_rule import RESNET_GAIN, fill_by_rule
from tests.models.conftest import clip, ruled

GOLDENS = Path(__file__).parents[1] / "goldens"
HASSONY2: dict[str, list[int]] = json.loads((GOLDENS / "keys_inception_hassony2.json").read_text())
PIERGIAJ: dict[str, list[int]] = json.loads((GOLDENS / "keys_inception_piergiaj.json").read_text())
MMACTION2: dict[str, dict[str, list[int]]] = json.loads((GOLDENS / "keys_r50_mmaction2.json").read_text())
NON_LOCAL = "i3d_nl_{}_r50_32x2x1_100e_kinetics400_rgb_20200814-7c30d5bb.pth"
OUR_TO_HASSONY2 = {our_name(name, "hassony2"): name for name in HASSONY2}


def as_hassony2(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {OUR_TO_HASSONY2[key]: tensor for key, tensor in state.items()}


def test_every_tensor_of_hassony2_is_known_by_our_name() -> None:
    assert {our_name(name, "hassony2"): shape for name, shape in HASSONY2.items()} == PIERGIAJ
    assert [our_name(name, "piergiaj") for name in PIERGIAJ] == list(PIERGIAJ)


@pytest.mark.parametrize("name", ["mixed_3b.branch_4.0.conv3d.weight", "mixed_3b.branch_3.0.weight", "conv3d_x", "a"])
def test_a_name_that_the_layout_lacks_stays(name: str) -> None:
    assert our_name(name, "hassony2") == name


def test_hassony2_and_piergiaj_files_of_the_same_weights_give_the_same_logits(tmp_path: Path) -> None:
    with torch.device("meta"):
        state = fill_by_rule(I3D(400).state_dict(), seed=11)
    state = {key: torch.zeros((), dtype=torch.int64) if tensor.is_meta else tensor for key, tensor in state.items()}
    torch.save(state, tmp_path / "rgb_imagenet.pt")
    torch.save({"state_dict": as_hassony2(state)}, tmp_path / "model_rgb.pth")
    ours, spec = load_checkpoint(tmp_path / "rgb_imagenet.pt")
    theirs, other = load_checkpoint(tmp_path / "model_rgb.pth")
    assert (spec.provenance["layout"], other.provenance["layout"]) == ("piergiaj", "hassony2")
    assert spec.architecture == other.architecture == "i3d"
    assert spec.labels == other.labels is not None
    x = clip(1, 3, 16, 64, 64)
    with torch.inference_mode():
        assert torch.equal(ours(x), theirs(x))


def test_a_hassony2_flow_file_loads_into_a_network_too(tmp_path: Path) -> None:
    model = ruled(I3D(3, 2, width=1 / 64))
    torch.save({f"module.{key}": tensor for key, tensor in as_hassony2(model.state_dict()).items()}, tmp_path / "a.pth")
    loaded, spec = load_checkpoint(tmp_path / "a.pth")
    assert (spec.architecture, spec.in_channels, spec.num_classes) == ("i3d-flow", 2, 3)
    assert load_checkpoint(tmp_path / "a.pth", architecture="i3d")[1].architecture == "i3d"
    other = I3D(3, 2, width=1 / 64).eval()
    load_into(other, tmp_path / "a.pth")
    x = clip(1, 2, 8, 32, 32)
    assert torch.equal(other(x), model(x))
    assert torch.equal(loaded(x), model(x))


@pytest.mark.parametrize("name", MMACTION2)
def test_variant_and_kind_are_inferred_from_the_published_shapes(name: str) -> None:
    shapes = {key: tuple(shape) for key, shape in MMACTION2[name].items()}
    assert recognise(shapes) == "mmaction2"
    found = candidates("mmaction2", shapes)
    expected = {
        "r50": ("i3d-r50", "i3d-r50-8x8"),
        "r50_heavy": ("i3d-r50-heavy",),
        "r50_nl_gaussian": ("i3d-r50-nl-gaussian",),
    }
    both = ("i3d-r50-nl-embedded-gaussian", "i3d-r50-nl-dot-product")
    assert found.names == expected.get(name, both)
    assert bool(found.note) is (name not in expected)


def mmaction2(model: ResNetI3D, config: str = "") -> dict[str, Any]:
    return {"meta": {"config": config, "time": "2020", "CLASSES": None}, "state_dict": model.state_dict()}


KINDS = ["embedded_gaussian", "dot_product"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("told_by", ["config", "new config", "name", "architecture"])
def test_the_kind_of_non_local_block_is_inferred_from_config_and_name(kind: Any, told_by: str, tmp_path: Path) -> None:
    model = ruled(ResNetI3D(5, width=1 / 16, non_local=kind), gain=RESNET_GAIN)
    config = {"config": f"dict(sub_sample=True, mode='{kind}')", "new config": f'"mode": "{kind}"'}.get(told_by, "")
    path = tmp_path / (NON_LOCAL.format(kind) if told_by == "name" else "weights.pth")
    torch.save(mmaction2(model, config), path)
    name = f"i3d-r50-nl-{kind.replace('_', '-')}"
    loaded, spec = load_checkpoint(path, architecture=name if told_by == "architecture" else None)
    assert spec.architecture == name
    assert spec.preprocessing == find_architecture(name).preprocessing
    assert spec.provenance == {"file": path.name, "layout": "mmaction2"}
    x = clip(1, 3, 8, 32, 32)
    assert torch.equal(loaded(x), model(x))


def test_an_ambiguous_kind_has_a_note(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "weights.pth"
    torch.save(mmaction2(ResNetI3D(5, width=1 / 16, non_local="dot_product")), path)
    _, spec = load_checkpoint(path)
    assert spec.architecture == "i3d-r50-nl-embedded-gaussian"
    assert "give architecture i3d-r50-nl-dot-product for the other" in spec.provenance["note"]
    assert spec.provenance["note"] in caplog.text


def test_a_configuration_counts_for_more_than_a_name(tmp_path: Path) -> None:
    path = tmp_path / NON_LOCAL.format("embedded_gaussian")
    torch.save(mmaction2(ResNetI3D(5, width=1 / 16, non_local="dot_product"), "mode='dot_product'"), path)
    assert load_checkpoint(path)[1].architecture == "i3d-r50-nl-dot-product"


@pytest.mark.parametrize(
    ("options", "file", "architecture", "told"),
    [
        ({}, "a.pth", "i3d-r50", {}),
        ({}, "i3d_r50_8x8x1_100e_kinetics400_rgb.pth", "i3d-r50-8x8", {}),
        ({"variant": "heavy"}, "a.pth", "i3d-r50-heavy", {}),
        (
            {"variant": "heavy", "non_local": "gaussian"},
            "a.pth",
            "i3d-r50",
            {"variant": "heavy", "non_local": "gaussian"},
        ),
    ],
    ids=str,
)
def test_mmaction2_files(options: Any, file: str, architecture: str, told: dict[str, str], tmp_path: Path) -> None:
    model = ruled(ResNetI3D(5, 2, width=1 / 8, **options), gain=RESNET_GAIN)
    torch.save(mmaction2(model), tmp_path / file)
    loaded, spec = load_checkpoint(tmp_path / file)
    assert (spec.architecture, spec.options) == (architecture, told)
    assert (spec.num_classes, spec.in_channels, spec.width) == (5, 2, 1 / 8)
    x = clip(1, 2, 8, 32, 32)
    assert torch.equal(loaded(x), model(x))
    save_checkpoint(tmp_path / "ours.safetensors", loaded, spec)
    assert torch.equal(load_checkpoint(tmp_path / "ours.safetensors")[0](x), model(x))


@pytest.mark.parametrize(
    ("model", "asked", "message"),
    [
        (I3D(3, width=1 / 64), "i3d-r50", "of architecture i3d, but 'i3d-r50' was asked for"),
        (I3D(3, width=1 / 64), "i3d-flow", "of architecture i3d, but 'i3d-flow'"),
        (ResNetI3D(3, width=1 / 16), "i3d-r50-heavy", "of architecture i3d-r50 or i3d-r50-8x8, but"),
        (ResNetI3D(3, width=1 / 16, non_local="gaussian"), "i3d-r50-nl-dot-product", "of architecture i3d-r50-nl-gau"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_of_another_architecture(model: torch.nn.Module, asked: str, message: str, tmp_path: Path) -> None:
    torch.save(model.state_dict(), tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path / "a.pt", architecture=asked)


def test_our_file_of_another_architecture(tiny: I3D, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, tiny, ModelSpec(num_classes=3, width=1 / 64))
    assert load_checkpoint(path, architecture="i3d")[1].architecture == "i3d"
    with pytest.raises(CheckpointError, match="of architecture i3d, but 'i3d-r50' was asked for"):
        load_checkpoint(path, architecture="i3d-r50")
    with pytest.raises(ConfigError, match="did you mean"):
        load_checkpoint(path, architecture="i3d-r5")


def test_mmaction2s_2d_networks_are_refused(tmp_path: Path) -> None:
    state = {"backbone.conv1.conv.weight": torch.zeros(64, 3, 7, 7), "cls_head.fc_cls.weight": torch.zeros(400, 2048)}
    torch.save({"state_dict": state}, tmp_path / "tsn.pth")
    with pytest.raises(CheckpointError, match=r"no usable backbone\.conv1\.conv\.weight"):
        load_checkpoint(tmp_path / "tsn.pth")


def test_the_layout_is_described(tiny: I3D, tmp_path: Path) -> None:
    state = tiny.state_dict()
    save_checkpoint(tmp_path / "ours.safetensors", tiny, ModelSpec(num_classes=3, width=1 / 64))
    torch.save(state, tmp_path / "a.pt")
    torch.save(as_hassony2(state), tmp_path / "b.pt")
    torch.save(mmaction2(ResNetI3D(3, width=1 / 16)), tmp_path / "c.pt")
    files = {"ours.safetensors": "stream-i3d", "a.pt": "piergiaj", "b.pt": "hassony2", "c.pt": "mmaction2"}
    for file, layout in files.items():
        assert describe_layout(tmp_path / file) == f"{layout}: {LAYOUTS[layout]}"
    torch.save({"x": torch.zeros(3)}, tmp_path / "d.pt")
    with pytest.raises(CheckpointError, match="no usable Conv3d_1a"):
        describe_layout(tmp_path / "d.pt")


@pytest.fixture
def history_buffer(monkeypatch: pytest.MonkeyPatch) -> Iterator[type]:
    """MMEngine's class of training logs, as pickle sees it."""
    module = types.ModuleType("mmengine.logging.history_buffer")

    class HistoryBuffer:
        def __init__(self) -> None:
            self._log_history = np.array([1.0, 2.0])
            self._count_history = np.array([1, 1])
            self.last = np.float64(2.0)

    HistoryBuffer.__module__, HistoryBuffer.__qualname__ = module.__name__, "HistoryBuffer"
    module.HistoryBuffer = HistoryBuffer  # type: ignore[attr-defined]
    for name in ("mmengine", "mmengine.logging"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    yield HistoryBuffer


@pytest.mark.parametrize("zipped", [True, False])
def test_files_of_a_users_own_mmaction2_training(history_buffer: type, zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "epoch_3.pth"
    model = ruled(ResNetI3D(5, width=1 / 16))
    content = {**mmaction2(model), "message_hub": {"log_scalars": {"train/loss": history_buffer()}}}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    loaded, _ = load_checkpoint(path)
    x = clip(1, 3, 8, 32, 32)
    assert torch.equal(loaded(x), model(x))
