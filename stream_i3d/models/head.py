"""Another head for fine-tuning: the one place that knows how a network's last layers are exchanged.

A network takes part by naming its last layers (`HasHeads`). This module knows no architecture and no checkpoint.
"""

from __future__ import annotations

from typing import ClassVar, Protocol, TypeVar, cast, runtime_checkable

import torch
from torch import Tensor, nn

from stream_i3d.errors import ConfigError

HEAD_STD = 0.01
"""Deviation of a fresh head's weights: small logits, so that the first losses are those of chance (MMAction2's too)."""


@runtime_checkable
class HasHeads(Protocol):
    """What every network here offers. All of its modules that keep a `num_classes` are kept right by `replace_head`.

    Attributes:
        heads: Dotted names of the layers (nn.Linear, nn.Conv1d, 2d or 3d) whose outputs are logits, one per stream.
        num_classes: How many logits it gives.
    """

    heads: ClassVar[tuple[str, ...]]
    num_classes: int


Network = TypeVar("Network", bound=nn.Module)


def replace_head(model: Network, num_classes: int) -> Network:
    """Give a network new last layers for another number of classes; everything before them stays as trained.

    The new layers keep the old ones' kind, kernel, device, dtype and whether they have a bias. Make the optimiser
    afterwards: one made before still holds the old layers.

    Args:
        model: A network with `heads`; changed in place.
        num_classes: Outputs of the new head, also where that is their number already.

    Returns:
        `model`, with weights from N(0, 0.01) and zero biases in its heads.

    Raises:
        ConfigError: Fewer than one class, or a network without `heads`.
    """
    if num_classes < 1:
        raise ConfigError(f"num_classes={num_classes}: give a whole number of at least 1")
    if not isinstance(model, HasHeads):
        raise ConfigError(f"{type(model).__name__} names no heads: give a network of stream_i3d.models")
    for name in model.heads:
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, _fresh(model.get_submodule(name), num_classes))
    for module in model.modules():  # a network of two streams counts its classes in each of them
        if isinstance(getattr(module, "num_classes", None), int):
            module.num_classes = cast(Tensor, num_classes)  # nn.Module's attributes are typed as tensors and modules
    return model


def initialise_head(layer: nn.Module) -> None:
    """Set a last layer's weights to N(0, 0.01) and its bias, where it has one, to zero."""
    assert isinstance(layer.weight, Tensor)
    nn.init.normal_(layer.weight, std=HEAD_STD)
    if isinstance(layer.bias, Tensor):
        nn.init.zeros_(layer.bias)


def _fresh(old: nn.Module, num_classes: int) -> nn.Module:
    """Return a layer like `old` with another number of outputs."""
    new: nn.Module
    if isinstance(old, nn.Linear):
        new = nn.Linear(old.in_features, num_classes, bias=old.bias is not None)
    elif isinstance(old, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        new = type(old)(
            old.in_channels,
            num_classes,
            old.kernel_size,  # type: ignore[arg-type]  # a tuple of as many numbers as this kind has axes
            old.stride,  # type: ignore[arg-type]
            old.padding,  # type: ignore[arg-type]
            bias=old.bias is not None,
        )
    else:
        raise ConfigError(f"a head of type {type(old).__name__} cannot be replaced: name an nn.Linear or nn.ConvNd")
    initialise_head(new)
    weight = old.weight
    assert isinstance(weight, Tensor)
    with torch.no_grad():
        return new.to(device=weight.device, dtype=weight.dtype)
