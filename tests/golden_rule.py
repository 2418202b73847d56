"""The rule of tests/goldens/README.md: weights and inputs that anyone can rebuild. Needs torch and numpy only."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

INCEPTION_GAIN = math.sqrt(2)
RESNET_GAIN = 0.5


def fill_by_rule(state_dict: Mapping[str, Tensor], seed: int, gain: float = INCEPTION_GAIN) -> dict[str, Tensor]:
    """Return new float32 tensors for every name; only the names and shapes of `state_dict` are looked at.

    Step counters (num_batches_tracked) are returned as they are. Load the result with `load_state_dict`.
    """
    return {
        name: tensor if name.endswith("num_batches_tracked") else _filled(name, tuple(tensor.shape), seed, gain)
        for name, tensor in state_dict.items()
    }


def golden_input(seed: int, shape: Sequence[int]) -> Tensor:
    """Return the clip (B, C, T, H, W), float32 in [-1, 1], that a golden was made with."""
    return torch.from_numpy(np.random.default_rng(seed).uniform(-1, 1, tuple(shape)).astype(np.float32))


def _filled(name: str, shape: tuple[int, ...], seed: int, gain: float) -> Tensor:
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    if name.endswith("running_var") or (name.endswith(".weight") and len(shape) == 1):
        values = rng.uniform(0.5, 1.5, shape)
    elif len(shape) >= 2:
        values = rng.normal(0, gain / math.sqrt(math.prod(shape[1:])), shape)
    else:
        values = rng.normal(0, 0.1, shape)  # running_mean and biases
    return torch.from_numpy(values.astype(np.float32))
