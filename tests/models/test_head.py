from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from stream_i3d.errors import ConfigError
from stream_i3d.models.checkpoint import load_checkpoint, save_checkpoint
from stream_i3d.models.head import HasHeads, replace_head
from stream_i3d.models.i3d import I3D
from stream_i3d.models.resnet_i3d import ResNetI3D
from stream_i3d.models.spec import ModelSpec
from tests.models.conftest import clip, ruled


@pytest.fixture(params=["i3d", "i3d-r50"])
def network(request: pytest.FixtureRequest) -> tuple[str, nn.Module]:
    model = I3D(3, width=1 / 64) if request.param == "i3d" else ResNetI3D(3, width=1 / 16)
    return request.param, ruled(model)


def test_only_the_head_is_new(network: tuple[str, nn.Module], tmp_path: Path) -> None:
    name, model = network
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    assert replace_head(model, 7) is model
    assert isinstance(model, HasHeads)
    assert model.num_classes == 7
    changed = {
        key for key, tensor in model.state_dict().items() if not torch.equal(tensor, before.get(key, tensor + 1))
    }
    (head,) = model.heads
    assert changed == {f"{head}.weight", f"{head}.bias"}
    x = clip(2, 3, 8, 32, 32)
    assert model(x).shape == (2, 7)
    model(x).sum().backward()
    spec = ModelSpec(architecture=name, num_classes=7, width=1 / 64 if name == "i3d" else 1 / 16)
    save_checkpoint(tmp_path / "a.safetensors", model, spec)
    assert torch.equal(load_checkpoint(tmp_path / "a.safetensors")[0](x), model(x))


def test_the_new_head_starts_small_and_keeps_dtype_and_place(network: tuple[str, nn.Module]) -> None:
    _, model = network
    model.half()
    replace_head(model, 400)
    assert isinstance(model, HasHeads)
    layer = model.get_submodule(model.heads[0])
    assert layer.weight.dtype == torch.float16
    assert layer.weight.float().std().item() == pytest.approx(0.01, rel=0.1)
    assert not layer.bias.any()
    assert layer.weight.requires_grad
    assert replace_head(model.to("meta"), 5).get_submodule(model.heads[0]).weight.is_meta


def test_the_same_number_of_classes_makes_a_new_head_too(network: tuple[str, nn.Module]) -> None:
    _, model = network
    before = model.state_dict()[f"{model.heads[0]}.weight"].clone()
    replace_head(model, 3)
    assert not torch.equal(model.state_dict()[f"{model.heads[0]}.weight"], before)


class Pair(nn.Module):
    heads = ("first.fc", "second.conv")

    def __init__(self) -> None:
        super().__init__()
        self.num_classes = 3
        self.first = nn.ModuleDict({"fc": nn.Linear(4, 3, bias=False)})
        self.second = nn.ModuleDict({"conv": nn.Conv2d(4, 3, 1)})
        self.second.num_classes = 3


def test_networks_of_several_heads() -> None:
    model = replace_head(Pair(), 5)
    assert model.first["fc"].weight.shape == (5, 4)
    assert model.first["fc"].bias is None
    assert model.second["conv"].weight.shape == (5, 4, 1, 1)
    assert model.num_classes == model.second.num_classes == 5


def test_what_has_no_head_is_refused() -> None:
    with pytest.raises(ConfigError, match="Linear names no heads"):
        replace_head(nn.Linear(2, 2), 3)
    with pytest.raises(ConfigError, match="num_classes=0"):
        replace_head(Pair(), 0)
    broken = Pair()
    broken.first["fc"] = nn.ReLU()
    with pytest.raises(ConfigError, match=r"type ReLU.*nn\.Linear"):
        replace_head(broken, 3)
