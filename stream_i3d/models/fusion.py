"""How two networks' opinions on one clip become one.

Carreira & Zisserman (CVPR 2017) average the predictions of networks trained apart; their released code adds the
logits. Simonyan & Zisserman (NIPS 2014) averaged softmax scores. Both ways are here, for the 2D and the 3D networks.

This module does not know networks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from stream_i3d.errors import ConfigError, did_you_mean

Fusion = Literal["probabilities", "logits"]
"""Average the probabilities, or add the logits."""


def fuse(logits: Sequence[Tensor], fusion: Fusion) -> Tensor:
    """Fuse the logits of several networks.

    Args:
        logits: One tensor (..., classes) per network, all of one shape.
        fusion: "probabilities": the logarithm of the mean of the networks' probabilities. These are
            log-probabilities: softmax of them gives that mean back, and cross-entropy on them is its negative log
            likelihood, so they serve wherever logits do. "logits": the sum of the logits.

    Returns:
        (..., classes) float32 for "probabilities" (softmax is never taken in less), else the logits' dtype.
    """
    if fusion == "logits":
        return torch.stack(list(logits)).sum(dim=0)
    return average_predictions(torch.stack(list(logits)), dim=0)


def average_predictions(logits: Tensor, dim: int) -> Tensor:
    """Return the logarithm of the mean, over an axis other than the last, of the softmax over the last.

    (..., n, ..., classes) -> (..., classes) float32 without the axis `dim`.
    """
    # By logsumexp, so that a class of which all are sure to be wrong has a finite logarithm and gradient.
    return torch.log_softmax(logits.float(), dim=-1).logsumexp(dim=dim) - math.log(logits.shape[dim])


def check_fusion(fusion: str) -> None:
    """Refuse a word that is no `Fusion`.

    Raises:
        ConfigError: The word, those allowed and the closest of them.
    """
    allowed = get_args(Fusion)
    if fusion not in allowed:
        raise ConfigError(
            f"fusion={fusion!r} is not allowed{did_you_mean(fusion, allowed)}: give one of {', '.join(allowed)}"
        )
