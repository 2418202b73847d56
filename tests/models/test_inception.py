from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from stream_i3d.errors import ConfigError
from stream_i3d.models.head import replace_head
from stream_i3d.models.i3d import I3D
from stream_i3d.models.inception import InceptionTrunk, InceptionV1
from stream_i3d.models.inception_table import END_POINTS, same_padding
from tests.golden_rule import fill_by_rule


@pytest.fixture
def small() -> InceptionV1:
    model = InceptionV1(num_classes=5, width=1 / 16)
    model.load_state_dict(fill_by_rule(model.state_dict(), 3))
    return model.eval()


def picture(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_tensors_are_those_of_i3d_without_time() -> None:
    with torch.device("meta"):
        flat, inflated = InceptionV1(num_classes=400).state_dict(), I3D().state_dict()
    assert [key.replace("conv2d", "conv3d") for key in flat] == list(inflated)
    for key, tensor in flat.items():
        shape = tuple(inflated[key.replace("conv2d", "conv3d")].shape)
        assert tuple(tensor.shape) == (shape[:2] + shape[3:] if len(shape) == 5 else shape), key


def test_the_published_size() -> None:
    with torch.device("meta"):
        model = InceptionV1()
        assert sum(p.numel() for p in model.parameters()) == pytest.approx(6.62e6, rel=1e-3)
        assert sum(p.numel() for p in InceptionTrunk().parameters()) == pytest.approx(5.60e6, rel=1e-3)
        outputs = model.end_points(torch.empty(1, 3, 224, 224))
        assert model(torch.empty(2, 3, 224, 224)).shape == (2, 1000)
        assert model.extract_features(torch.empty(1, 3, 256, 300)).shape == (1, 1024, 2, 4)
    assert list(outputs) == list(END_POINTS)
    sides = (112, 56, 56, 56, 28, 28, 28, 14, 14, 14, 14, 14, 14, 7, 7, 7)
    assert [outputs[name].shape[2] for name in END_POINTS] == list(sides)
    assert outputs["Mixed_5c"].shape[1] == 1024


@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 47), (65, 40), (63, 62), (256, 225)])
def test_padding_is_tensorflows_at_any_size(small: InceptionV1, height: int, width: int) -> None:
    """Convolutions and pools one by one, each on an input with explicit zero padding."""
    checked: list[str] = []

    def check(layer: nn.Module, args: tuple[Tensor], output: Tensor) -> None:
        kernel, stride = layer.kernel, layer.stride
        (top, bottom), (left, right) = (same_padding(size, kernel, stride) for size in args[0].shape[2:])
        padded = F.pad(args[0], (left, right, top, bottom))
        if hasattr(layer, "conv2d"):
            expected = F.relu(layer.bn(F.conv2d(padded, layer.conv2d.weight, stride=stride)))
        else:
            expected = F.max_pool2d(padded, kernel, stride)
        torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-5)
        checked.append(type(layer).__name__)

    for layer in small.modules():
        if hasattr(layer, "kernel"):
            layer.register_forward_hook(check)
    with torch.inference_mode():
        small(picture(1, 3, height, width))
    assert len(checked) == 3 + 4 + 9 * 7


def test_forward_is_head_on_pooled_features(small: InceptionV1) -> None:
    x = picture(2, 3, 256, 225)
    with torch.inference_mode():
        last = small.end_points(x)["Mixed_5c"]
        torch.testing.assert_close(InceptionTrunk.forward(small, x), last)
        pooled = F.avg_pool2d(last, 7, stride=1)
        torch.testing.assert_close(small.extract_features(x), pooled)
        head = small.logits.conv2d
        torch.testing.assert_close(small(x), F.conv2d(pooled, head.weight, head.bias).mean(dim=(2, 3)))


def test_training_starts_at_chance_and_reaches_every_weight() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = InceptionV1(num_classes=10, in_channels=20, width=1 / 8)
        loss = F.cross_entropy(model(picture(4, 20, 64, 64)), torch.arange(4))
        loss.backward()
    assert loss.item() == pytest.approx(math.log(10), abs=0.5)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_weights_survive_a_file(small: InceptionV1, tmp_path: Path) -> None:
    torch.save(small.state_dict(), tmp_path / "weights.pt")
    other = InceptionV1(num_classes=5, width=1 / 16).eval()
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    assert torch.equal(other(picture(1, 3, 32, 32)), small(picture(1, 3, 32, 32)))


def test_head_is_replaced(small: InceptionV1) -> None:
    x = picture(1, 3, 32, 32)
    before = small.extract_features(x)
    replace_head(small, 7)
    assert small(x).shape == (1, 7)
    assert small.num_classes == 7
    assert torch.equal(small.extract_features(x), before)


def test_bfloat16_runs_on_the_cpu(small: InceptionV1) -> None:
    x = picture(1, 3, 256, 256)
    with torch.inference_mode():
        expected = small(x)
        rough = small.bfloat16()(x.bfloat16())
    assert rough.dtype == torch.bfloat16
    assert (rough - expected).abs().max() < 0.1 * expected.abs().max()


@pytest.mark.parametrize("shape", [(1, 3, 31, 32), (1, 3, 32, 31), (1, 2, 32, 32), (3, 32, 32), (1, 3, 8, 32, 32)])
def test_input_that_does_not_fit_is_named(small: InceptionV1, shape: tuple[int, ...]) -> None:
    for method in (small, small.extract_features, small.end_points):
        with pytest.raises(ConfigError, match="give") as caught:
            method(torch.zeros(shape))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "arguments", [{"num_classes": 0}, {"in_channels": 0}, {"dropout_keep_prob": 0.0}, {"width": -1.0}]
)
def test_arguments_outside_their_range_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(arguments))):
        InceptionV1(**arguments)
