from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from stream_i3d.models.folding import inference_form
from stream_i3d.models.i3d import I3D
from stream_i3d.models.registry import build_model
from stream_i3d.models.stem import RearrangedStem, rearrange_stem
from tests.golden_rule import INCEPTION_GAIN, RESNET_GAIN
from tests.models.conftest import clip, ruled

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
