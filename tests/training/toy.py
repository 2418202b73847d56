"""A data set of two classes that a small network learns in a few steps, and settings to do it with."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from stream_i3d.preprocess import Preprocessing
from stream_i3d.settings import convert_settings
from stream_i3d.training.config import TrainConfig
from stream_i3d.training.loading import Sample, SampleKey

PREPROCESSING = Preprocessing(clip_len=8, short_side=32, crop_size=32)
SIDE = 32


class ToyDataset:
    """Item i is noise, its left half brighter in the first channel (class 0) or in another one (class 1)."""

    labels = ("first", "second")

    def __init__(
        self, items: int = 8, streams: tuple[str, ...] = ("rgb",), clips: int = 1, preprocessing=PREPROCESSING
    ):
        self.targets = tuple(item % 2 for item in range(items))
        self._streams, self._clips, self._make = streams, clips, preprocessing

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, key: SampleKey) -> Sample:
        label = self.targets[key.index]
        rng = np.random.default_rng([key.epoch, key.index])
        clips = {stream: self._clip(label, 3 if stream == "rgb" else 2, rng) for stream in self._streams}
        return {"clips": clips, "label": label, "index": key.index}

    def _clip(self, label: int, channels: int, rng: np.random.Generator) -> torch.Tensor:
        frames, side = self._make.clip_len, self._make.crop_size
        clip = rng.integers(0, 60, (self._clips, frames, side, side, channels), dtype=np.uint8)
        clip[..., : side // 2, label] += 150
        return torch.from_numpy(clip)


def toy_config(**sections: dict[str, Any]) -> TrainConfig:
    """Settings of a run of two epochs with a very small network; sections lie over them."""
    data: dict[str, Any] = {
        "data": {"workers": 0},
        "clip": {"clip_len": 8, "short_side": 32, "crop_size": 32},
        "model": {"width": 0.125, "options": {"dropout_keep_prob": 0.8}, "batch_norm_momentum": 0.2},
        "optimizer": {"name": "adam", "lr": 1e-3},
        "schedule": {"name": "constant"},
        "run": {"epochs": 2, "batch_size": 4, "device": "cpu", "threads": 1, "tensorboard": False},
    }
    for name, section in sections.items():
        data[name] = {**data.get(name, {}), **section} if isinstance(section, dict) else section
    return convert_settings(TrainConfig, data)
