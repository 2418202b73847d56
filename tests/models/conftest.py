from __future__ import annotations

from typing import TypeVar

import pytest
import torch

from stream_i3d.models.i3d import I3D
from tests.golden_rule import INCEPTION_GAIN, fill_by_rule
from tests.threads import one_thread

__all__ = ["clip", "one_thread", "ruled", "tiny"]

Network = TypeVar("Network", bound=torch.nn.Module)


@pytest.fixture
def tiny() -> I3D:
    """A very narrow I3D of three classes in eval mode, fast to run and small on disk."""
    return ruled(I3D(num_classes=3, width=1 / 64))


def ruled(model: Network, seed: int = 7, gain: float = INCEPTION_GAIN) -> Network:
    """Fill a network with generated weights and BatchNorm statistics, and return it in eval mode."""
    model.load_state_dict(fill_by_rule(model.state_dict(), seed, gain))
    return model.eval()


def clip(*shape: int, seed: int = 0) -> torch.Tensor:
    """A clip (B, C, T, H, W) in [-1, 1]."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1
