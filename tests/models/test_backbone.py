from __future__ import annotations

import numpy as np
import pytest
import torch

from stream_i3d.models.backbone import ServingForm, export_program, head_arrays
from stream_i3d.models.i3d import I3D
from stream_i3d.preprocess import Preprocessing, normalise
from stream_i3d.recognition.head import make_head
from tests.models.conftest import ruled

MADE = Preprocessing(
    clip_len=8, short_side=32, crop_size=32, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375)
)


def pixels(count: int, channels: int) -> torch.Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, 256, (count, 8, 32, 32, channels), np.uint8))


@pytest.mark.parametrize("channels", [3, 2])
def test_normalisation_inside_is_the_shared_one_to_the_last_bit(channels: int) -> None:
    clips = pixels(2, channels)
    seen: list[torch.Tensor] = []

    def network(x: torch.Tensor) -> torch.Tensor:
        seen.append(x)
        return x

    outputs = ServingForm(network, MADE, channels)(clips)
    assert torch.equal(outputs, normalise(clips, MADE))
    ServingForm(network, MADE, channels, torch.bfloat16)(clips)
    assert torch.equal(seen[1], normalise(clips, MADE).bfloat16())


def test_an_exported_program_takes_any_number_of_clips() -> None:
    model = ruled(I3D(num_classes=3, width=1 / 64))
    program = export_program(model, MADE)
    weights, bias, pool_side = head_arrays(model)
    head = make_head(weights, bias, "abc", pool_side=pool_side)
    with torch.no_grad():
        for count in (1, 2, 5):
            clips = pixels(count, 3)
            maps, wanted = program.module()(clips), model(normalise(clips, MADE))
            assert maps.shape == (count, 1, 1, weights.shape[1])
            logits = head.logits(maps.numpy())
            assert np.abs(logits - wanted.numpy()).max() < 1e-4 * wanted.std()
