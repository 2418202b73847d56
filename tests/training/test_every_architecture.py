"""Every architecture of the registry overfits a few clips, so its gradients reach all parameters that they should."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from msgspec import structs

from stream_i3d.models.registry import ARCHITECTURES
from stream_i3d.preprocess import Preprocessing
from stream_i3d.training.distribution import make_fabric
from stream_i3d.training.loop import Trainer
from stream_i3d.training.network import build_network, find_origin
from tests.training.toy import ToyDataset, toy_config

# Small clips for all; (frames, side, options) of architectures with special inputs.
SIZES: dict[str, tuple[int, int, dict[str, Any]]] = {
    "c3d": (16, 64, {"clip_len": 16, "crop_size": 64, "dropout_keep_prob": 1.0}),
    "convnet-lstm": (8, 32, {"dropout_keep_prob": 1.0}),
    "two-stream": (10, 64, {"dropout_keep_prob": 1.0}),
    "fused-two-stream": (10, 64, {"dropout_keep_prob": 1.0}),
}
RESNET = (8, 32, {"dropout": 0.0})
INCEPTION = (8, 32, {"dropout_keep_prob": 1.0})


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_it_overfits_a_few_clips(name: str) -> None:
    row = ARCHITECTURES[name]
    frames, side, options = SIZES.get(name, RESNET if "r50" in name else INCEPTION)
    config = toy_config(
        model={"name": name, "width": 0.125, "options": options, "batch_norm_momentum": 0.3},
        optimizer={"name": "adam", "lr": 3e-3, "weight_decay": 0.0},
        run={"epochs": 150, "batch_size": 4, "clip_gradient": 5.0},
    )
    preprocessing = structs.replace(
        row.preprocessing, clip_len=frames, frame_interval=1, short_side=side, crop_size=side
    )
    clips = Frozen(4, streams=row.streams, preprocessing=preprocessing)
    torch.manual_seed(0)
    model, _ = build_network(config.model, find_origin(config.model), clips.labels)
    trainer = Trainer(config, make_fabric(config.run), model, preprocessing, clips)
    for result in trainer.steps():
        if result.loss < 0.05:
            break
    assert result.loss < 0.05, f"after {result.step} steps"


class Frozen(ToyDataset):
    """The same clips in every epoch."""

    def __init__(self, items: int, streams: tuple[str, ...], preprocessing: Preprocessing) -> None:
        super().__init__(items, streams=streams, preprocessing=preprocessing)

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(key._replace(epoch=0))
