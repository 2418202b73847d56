from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from stream_i3d.errors import ConfigError
from stream_i3d.models.resnet_i3d import END_POINTS, NON_LOCAL_KINDS, NonLocalBlock, ResNetI3D
from tests.golden_rule import RESNET_GAIN, fill_by_rule, golden_input
from tests.models.conftest import clip, ruled

GOLDENS = Path(__file__).parents[1] / "goldens"
CASES: dict[str, dict[str, Any]] = json.loads((GOLDENS / "r50.json").read_text())
KEYS: dict[str, dict[str, list[int]]] = json.loads((GOLDENS / "keys_r50_mmaction2.json").read_text())
OPTIONS: dict[str, dict[str, Any]] = {
    "r50": {},
    "r50_heavy": {"variant": "heavy"},
    "r50_nl_gaussian": {"non_local": "gaussian"},
    "r50_nl_embedded_gaussian": {"non_local": "embedded_gaussian"},
    "r50_nl_dot_product": {"non_local": "dot_product"},
}
INFLATED = ((1, 1, 1), (1, 0, 1, 0), (1, 0, 1, 0, 1, 0), (0, 1, 0))
WIDTH = 1 / 16
# More makes the Gaussian's softmaxes so sharp that rounding decides, and five dot products, each of third degree in
# its input, overflow.
GAINS = {"gaussian": 0.8, "dot_product": 0.6}


@pytest.mark.parametrize("name", CASES)
def test_the_published_network_is_reproduced(name: str) -> None:
    case = CASES[name]
    model = ResNetI3D(**OPTIONS[name])
    model.load_state_dict(fill_by_rule(model.state_dict(), case["seed"], RESNET_GAIN))
    model.eval()
    maps: list[Tensor] = []
    model.backbone.register_forward_hook(lambda _, __, out: maps.append(out))
    with torch.inference_mode():
        logits = model(golden_input(case["seed"], case["input_shape"]))
    golden = np.load(GOLDENS / f"{name}.npz")
    assert list(maps[0].shape) == case["feature_map"]
    assert_close(maps[0].mean(dim=(2, 3, 4)), golden["features"])
    assert_close(logits, golden["logits"])
    assert logits.std().item() == pytest.approx(case["logits_std"], rel=1e-3)


def assert_close(given: Tensor, golden: np.ndarray) -> None:
    assert given.shape == golden.shape
    assert np.abs(given.numpy() - golden).max() < 1e-4 * golden.std()  # scaled attention would be off by 4e-4


@pytest.mark.parametrize("name", KEYS)
def test_tensors_are_called_as_in_the_published_files(name: str) -> None:
    with torch.device("meta"):
        state = ResNetI3D(**OPTIONS[name]).state_dict()
    assert {key: list(tensor.shape) for key, tensor in state.items()} == KEYS[name]


class Reference:
    """The network by MMAction2's configuration and the papers' formulas, layer by layer."""

    def __init__(self, model: ResNetI3D) -> None:
        self.state = model.state_dict()
        self.heavy, self.kind = model.variant == "heavy", model.non_local

    def end_points(self, x: Tensor) -> dict[str, Tensor]:
        time = 1 if self.heavy else 2
        outputs = {"conv1": self.unit("conv1", x, (time, 2, 2), (2, 3, 3)).relu()}
        outputs["maxpool"] = F.max_pool3d(outputs["conv1"], (1, 3, 3), (time, 2, 2), (0, 1, 1))
        x = outputs["maxpool"]
        for stage in range(1, 5):
            for block in range(len(INFLATED[stage - 1])):
                x = self.block(f"layer{stage}.{block}", x, stage, block)
            outputs[f"layer{stage}"] = x
            if stage == 1:
                x = outputs["pool2"] = F.max_pool3d(x, (2, 1, 1), (2, 1, 1))
        return outputs

    def logits(self, x: Tensor) -> Tensor:
        features = F.adaptive_avg_pool3d(self.end_points(x)["layer4"], 1).flatten(1)
        return F.linear(features, self.state["cls_head.fc_cls.weight"], self.state["cls_head.fc_cls.bias"])

    def block(self, name: str, x: Tensor, stage: int, block: int) -> Tensor:
        stride = (1, 2, 2) if stage > 1 and block == 0 else (1, 1, 1)
        inflated = self.heavy or INFLATED[stage - 1][block]
        y = self.unit(f"{name}.conv1", x, (1, 1, 1), (1, 0, 0) if inflated else (0, 0, 0)).relu()
        y = self.unit(f"{name}.conv2", y, stride, (0, 1, 1)).relu()
        y = self.unit(f"{name}.conv3", y, (1, 1, 1), (0, 0, 0))
        y = y + (self.unit(f"{name}.downsample", x, stride, (0, 0, 0)) if block == 0 else x)
        y = y.relu()
        followed = self.kind and ((stage == 2 and block in (1, 3)) or (stage == 3 and block in (1, 3, 5)))
        return self.non_local(f"{name}.non_local_block", y) if followed else y

    def non_local(self, name: str, x: Tensor) -> Tensor:
        def projected(part: str, y: Tensor) -> Tensor:
            key = f"backbone.{name}.{part}.conv"
            return F.conv3d(y, self.state[f"{key}.weight"], self.state[f"{key}.bias"])

        def pooled(y: Tensor) -> Tensor:
            return F.max_pool3d(y, (1, 2, 2))

        theta = x if self.kind == "gaussian" else projected("theta", x)
        phi = pooled(x if self.kind == "gaussian" else projected("phi.0", x))
        pairs = torch.einsum("bci,bcj->bij", theta.flatten(2), phi.flatten(2))
        weights = pairs / pairs.shape[2] if self.kind == "dot_product" else pairs.softmax(dim=2)
        y = torch.einsum("bij,bcj->bci", weights, pooled(projected("g.0", x)).flatten(2))
        y = y.reshape(x.shape[0], -1, *x.shape[2:])
        return x + self.unit(f"{name}.conv_out", y, (1, 1, 1), (0, 0, 0))

    def unit(self, name: str, x: Tensor, stride: tuple[int, ...], padding: tuple[int, ...]) -> Tensor:
        x = F.conv3d(x, self.state[f"backbone.{name}.conv.weight"], None, stride, padding)
        scale, bias, mean, var = (
            self.state[f"backbone.{name}.bn.{part}"].view(-1, 1, 1, 1)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / (var + 1e-5).sqrt() * scale + bias


@pytest.mark.parametrize("options", [*OPTIONS.values(), {"variant": "heavy", "non_local": "gaussian"}], ids=str)
@pytest.mark.parametrize("size", [(8, 32, 32), (13, 47, 65)], ids=str)
def test_every_stage_equals_the_written_down_network(options: dict[str, Any], size: tuple[int, int, int]) -> None:
    model = ruled(ResNetI3D(5, width=WIDTH, **options), gain=GAINS.get(options.get("non_local"), 1.0))
    x = clip(2, 3, *size)
    with torch.inference_mode():
        ours, reference = model.end_points(x), Reference(model).end_points(x)
        assert list(ours) == list(END_POINTS)
        for name in END_POINTS:
            assert ours[name].shape == reference[name].shape, name
            assert (ours[name] - reference[name]).abs().max() < 1e-4 * reference[name].std(), name
        torch.testing.assert_close(model(x), Reference(model).logits(x), rtol=1e-4, atol=1e-4)
        features = model.extract_features(x)
        assert features.shape == (2, model.feature_channels)
        torch.testing.assert_close(model.cls_head(features), model(x))


@pytest.mark.parametrize(("variant", "times"), [("plain", (16, 8, 8, 4, 4)), ("heavy", (32, 32, 32, 16, 16))])
def test_end_points_at_the_published_size(variant: Any, times: tuple[int, ...]) -> None:
    with torch.device("meta"):
        shapes = [
            tuple(y.shape) for y in ResNetI3D(variant=variant).end_points(torch.empty(1, 3, 32, 224, 224)).values()
        ]
    a, b, c, d, e = times
    assert shapes == [
        (1, 64, a, 112, 112),
        (1, 64, b, 56, 56),
        (1, 256, c, 56, 56),
        (1, 256, d, 56, 56),
        (1, 512, e, 28, 28),
        (1, 1024, e, 14, 14),
        (1, 2048, e, 7, 7),
    ]


def test_batchnorm_is_as_published() -> None:
    with torch.device("meta"):
        model = ResNetI3D(non_local="embedded_gaussian")
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm3d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-5, 0.1)}


@pytest.mark.parametrize("kind", NON_LOCAL_KINDS)
def test_a_fresh_non_local_block_changes_nothing(kind: Any) -> None:
    block = NonLocalBlock(8, 4, kind)
    torch.nn.init.zeros_(block.conv_out.bn.weight)
    x = clip(1, 8, 2, 4, 4)
    assert torch.equal(block.eval()(x), x)
    model = ResNetI3D(3, non_local=kind, width=WIDTH)
    blocks = [module for module in model.modules() if isinstance(module, NonLocalBlock)]
    assert len(blocks) == 5
    assert all(not found.conv_out.bn.weight.any() for found in blocks)


@pytest.mark.parametrize("options", [{}, {"variant": "heavy"}, {"non_local": "dot_product"}], ids=str)
def test_training_from_scratch_starts_at_chance_and_reaches_every_weight(options: dict[str, Any]) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = ResNetI3D(10, width=1 / 8, **options)
        loss = F.cross_entropy(model(clip(4, 3, 8, 64, 64)), torch.arange(4))
        loss.backward()
    assert loss.item() == pytest.approx(math.log(10), abs=0.5)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        behind_zero = "non_local_block" in name and not name.endswith(("conv_out.bn.weight", "conv_out.bn.bias"))
        assert bool(parameter.grad.abs().sum() > 0) is not behind_zero, name


@pytest.mark.parametrize("options", [{}, {"non_local": "gaussian"}, {"non_local": "dot_product"}], ids=str)
def test_bfloat16_and_channels_last_run_on_the_cpu(options: dict[str, Any]) -> None:
    model = ruled(ResNetI3D(5, width=WIDTH, **options), gain=RESNET_GAIN)
    x = clip(1, 3, 8, 64, 64)
    with torch.inference_mode():
        expected = model(x)
        laid_out = model.to(memory_format=torch.channels_last_3d)
        moved = laid_out(x.contiguous(memory_format=torch.channels_last_3d))
        torch.testing.assert_close(moved, expected, rtol=1e-4, atol=1e-4)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = laid_out(x)
        rough = model.bfloat16()(x.bfloat16())
    for given in (mixed, rough):
        assert given.dtype == torch.bfloat16
        assert (given - expected).abs().max() < 0.1 * expected.std() + 0.05 * expected.abs().max()


def test_dropout_acts_in_training_only() -> None:
    model = ruled(ResNetI3D(3, width=WIDTH))
    x = clip(1, 3, 8, 32, 32)
    assert torch.equal(model(x), model(x))
    model.dropout.train()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        assert not torch.equal(model(x), model(x))
    assert ResNetI3D(3, width=WIDTH, dropout=0.25).dropout.p == 0.25


@pytest.mark.parametrize(
    "shape", [(1, 3, 7, 32, 32), (1, 3, 8, 31, 32), (1, 3, 8, 32, 31), (1, 2, 8, 32, 32), (3, 8, 32, 32)]
)
def test_input_that_does_not_fit_is_named(shape: tuple[int, ...]) -> None:
    model = ResNetI3D(3, width=WIDTH)
    for method in (model, model.extract_features, model.end_points):
        with pytest.raises(ConfigError, match="give") as caught:
            method(torch.zeros(shape))
        assert "\n" not in str(caught.value)


def test_the_heavy_variant_takes_shorter_clips() -> None:
    assert ResNetI3D(3, 2, variant="heavy", width=WIDTH).eval()(clip(1, 2, 2, 32, 32)).shape == (1, 3)


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_classes": 0},
        {"in_channels": 0},
        {"variant": "light"},
        {"non_local": "gausian"},
        {"non_local": ""},
        {"dropout": 1.0},
        {"dropout": -0.1},
        {"width": 0.0},
        {"width": math.nan},
    ],
    ids=str,
)
def test_arguments_outside_their_range_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(arguments))) as caught:
        ResNetI3D(**arguments)
    assert "give" in str(caught.value) or "at least" in str(caught.value)
