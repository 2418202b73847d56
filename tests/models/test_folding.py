from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stream_i3d.models.folding import (
    Float32,
    RearrangedStem,
    SeparableMaxPool3d,
    in_half,
    inference_form,
    is_folded,
    lay_out,
    rearrange_stem,
    separate_pools,
)
from stream_i3d.models.i3d import I3D, MaxPool3dSame
from stream_i3d.models.registry import ARCHITECTURES, build_model
from tests.golden_rule import INCEPTION_GAIN, RESNET_GAIN, fill_by_rule, golden_input
from tests.models.conftest import clip, ruled

GOLDENS = Path(__file__).parents[1] / "goldens"
INCEPTION: dict[str, Any] = json.loads((GOLDENS / "inception.json").read_text())
R50: dict[str, Any] = json.loads((GOLDENS / "r50.json").read_text())

SMALL: dict[str, tuple[dict[str, Any], tuple[tuple[int, ...], ...]]] = {  # options, shapes of the inputs
    "c3d": ({"clip_len": 8, "crop_size": 40}, ((3, 8, 40, 40),)),
    "convnet-lstm": ({"max_steps": 3}, ((3, 4, 32, 40),)),
    "two-stream": ({}, ((3, 2, 32, 40), (2, 20, 32, 40))),
    "fused-two-stream": ({}, ((3, 3, 64, 40), (2, 30, 64, 40))),
    "two-stream-i3d": ({}, ((3, 9, 33, 40), (2, 9, 33, 40))),
    "i3d-flow": ({}, ((2, 9, 33, 40),)),
}
GAINS = {"i3d-r50-nl-gaussian": 0.8, "i3d-r50-nl-dot-product": 0.6}  # as in test_resnet_i3d.py


def toy(name: str) -> tuple[nn.Module, list[Tensor]]:
    """A narrow network with BatchNorm statistics other than the initial ones, and inputs for it."""
    options, shapes = SMALL.get(name, ({}, ((3, 9, 33, 40),)))
    gain = GAINS.get(name, RESNET_GAIN if "r50" in name else 2**0.5)
    model = ruled(build_model(name, num_classes=5, width=1 / 16, **options), gain=gain)
    return model, [clip(2, *shape, seed=seed) for seed, shape in enumerate(shapes)]


@torch.inference_mode()
def run(model: nn.Module, inputs: list[Tensor]) -> Tensor:
    logits: Tensor = model(*inputs)
    return logits


def same(given: Tensor, wanted: Tensor) -> bool:
    """Return whether shapes are equal, and values up to rounding."""
    return given.shape == wanted.shape and bool((given - wanted).abs().max() < 1e-5 * wanted.std())


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_every_architecture_computes_the_same_when_folded(name: str) -> None:
    model, inputs = toy(name)
    wanted = run(model, inputs)
    folded = inference_form(model)
    assert same(run(folded, inputs), wanted)
    assert same(run(model, inputs), wanted)  # which is left as it was
    assert same(run(separate_pools(inference_form(folded)), inputs), wanted)  # and folding twice does no harm
    assert is_folded(folded) == (name != "convnet-lstm")  # its LSTM normalises what is no convolution
    assert not is_folded(model)
    assert not any(parameter.requires_grad for parameter in folded.parameters())


@pytest.mark.parametrize("name", ["inception_rgb_t16", "inception_flow_t16", "r50"])
def test_the_published_networks_are_reproduced_when_folded(name: str) -> None:
    inception = name.startswith("inception")
    case = (INCEPTION if inception else R50)[name]
    shape = case["input_shape"]
    model = (
        build_model("i3d", num_classes=case["num_classes"], in_channels=shape[1])
        if inception
        else build_model("i3d-r50")
    )
    model.load_state_dict(fill_by_rule(model.state_dict(), case["seed"], *([] if inception else [RESNET_GAIN])))
    clips = golden_input(case["seed"], shape)
    model = separate_pools(inference_form(model))
    logits = run(model, [clips])
    golden = torch.from_numpy(np.load(GOLDENS / f"{name}.npz")["logits"])
    assert same(logits, golden.flatten(2).mean(2) if golden.ndim > 2 else golden)


@pytest.mark.parametrize("size", [(8, 32, 32), (9, 33, 47), (17, 64, 38), (26, 34, 65)], ids=str)
def test_a_folded_network_takes_any_size(size: tuple[int, ...]) -> None:
    model = ruled(I3D(num_classes=5, width=1 / 16))
    inputs = [clip(2, 3, *size)]
    assert same(run(separate_pools(inference_form(model)), inputs), run(model, inputs))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_half_precision_only_the_head_stays_float32(dtype: torch.dtype) -> None:
    model = in_half(inference_form(ruled(I3D(num_classes=5, width=1 / 8))), dtype)
    head = model.get_submodule("logits.conv3d")
    assert isinstance(head, Float32)
    kept = {id(parameter) for parameter in head.parameters()}
    types = {parameter.dtype for parameter in model.parameters() if id(parameter) not in kept}
    assert types == {dtype}
    assert {parameter.dtype for parameter in head.parameters()} == {torch.float32}


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name != "convnet-lstm"])
def test_in_bf16_the_logits_stay_close_and_are_float32(name: str) -> None:
    model, inputs = toy(name)
    wanted = run(model, inputs)
    logits = run(in_half(inference_form(model), torch.bfloat16), [one.bfloat16() for one in inputs])
    assert logits.dtype == torch.float32
    assert (logits - wanted).abs().max() < 0.2 * wanted.std()
    assert (logits - wanted).abs().max() > 1e-5 * wanted.std()  # bf16 it was
    assert (logits != logits.bfloat16().float()).any()  # and nothing rounded them


@pytest.mark.parametrize("size", [(1, 1, 1), (1, 2, 3), (2, 1, 4), (4, 5, 6)])
def test_pooling_axis_by_axis_is_pooling(size: tuple[int, ...]) -> None:
    x = clip(2, 5, *size).contiguous(memory_format=torch.channels_last_3d)
    pooled = SeparableMaxPool3d()(x)
    assert torch.equal(pooled, torch.nn.functional.max_pool3d(x, 3, 1, 1))
    assert pooled.is_contiguous(memory_format=torch.channels_last_3d)


def test_only_pools_of_stride_one_are_separated() -> None:
    model = separate_pools(inference_form(I3D(num_classes=5, width=1 / 16)))
    left = [module.stride for module in model.modules() if isinstance(module, MaxPool3dSame)]
    assert left == [(1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2)]
    assert sum(isinstance(module, SeparableMaxPool3d) for module in model.modules()) == 9


SIZES = [(8, 32, 32), (9, 33, 47), (16, 46, 33), (11, 40, 62)]


def stems(model: nn.Module) -> list[RearrangedStem]:
    return [module for module in model.modules() if isinstance(module, RearrangedStem)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(
    ("name", "options", "channels"),
    [
        ("i3d", {}, 24),
        ("i3d-flow", {}, 16),
        ("i3d-r50", {}, 24),
        ("i3d-r50-heavy", {}, 12),  # its stem takes every frame
    ],
)
def test_the_rearranged_network_computes_the_same(
    name: str, options: dict[str, Any], channels: int, size: tuple[int, ...]
) -> None:
    gain = RESNET_GAIN if "r50" in name else INCEPTION_GAIN
    model = ruled(build_model(name, num_classes=5, width=1 / 16, **options), gain=gain)
    inputs = clip(2, 2 if name == "i3d-flow" else 3, *size)
    rearranged = rearrange_stem(inference_form(model))
    with torch.inference_mode():
        wanted, logits = model(inputs), rearranged(inputs)
    assert (logits - wanted).abs().max() < 1e-5 * wanted.std()
    assert [stem.conv.in_channels for stem in stems(rearranged)] == [channels]
    assert stems(rearranged)[0].conv.stride == (1, 1, 1)


def test_both_streams_are_rearranged_and_nothing_else_is() -> None:
    model = inference_form(build_model("two-stream-i3d", num_classes=5, width=1 / 16))
    before = [name for name, _ in model.named_modules()]
    assert len(stems(rearrange_stem(model))) == 2
    changed = [name for name in before if name not in dict(model.named_modules())]
    assert {name.split(".")[1] for name in changed} == {"Conv3d_1a_7x7"}


def test_a_network_that_is_not_folded_is_refused() -> None:
    with pytest.raises(AssertionError, match="fold the network first"):
        rearrange_stem(I3D(num_classes=5, width=1 / 16))


@pytest.mark.parametrize("width", [1 / 64, 1 / 8])
def test_a_network_is_laid_out_channels_last(width: float) -> None:
    model = I3D(3, width=width)
    assert lay_out(model) == torch.channels_last_3d
    stem = next(module for module in model.modules() if isinstance(module, nn.Conv3d))
    assert stem.weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert not stem.weight.is_contiguous()


def test_a_2d_layer_keeps_the_plain_order() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv3d(3, 4, 3))
    assert lay_out(model) == torch.contiguous_format
    assert all(weight.is_contiguous() for weight in model.parameters())
