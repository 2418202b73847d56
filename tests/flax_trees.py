"""An Inception I3D's tensors as the tree in which Flax keeps them."""

from __future__ import annotations

from typing import Any

import torch

BRANCHES = {
    "b0": "Branch_0/Conv3d_0a_1x1",
    "b1a": "Branch_1/Conv3d_0a_1x1",
    "b1b": "Branch_1/Conv3d_0b_3x3",
    "b2a": "Branch_2/Conv3d_0a_1x1",
    "b2b": "Branch_2/Conv3d_0b_3x3",
    "b3b": "Branch_3/Conv3d_0b_1x1",
}


def flax_tree(model: torch.nn.Module, scales: bool = False) -> dict[str, Any]:
    """Return the tree of NumPy arrays; `scales`: with the BatchNorms' scales, which the released trees leave out."""
    tree: dict[str, Any] = {"params": {}, "batch_stats": {}}
    for name, tensor in model.state_dict().items():
        stage, *middle, part, kind = name.split(".")
        if kind == "num_batches_tracked" or (kind == "weight" and part == "bn" and not scales):
            continue
        branch = "Conv3d_0c_1x1" if stage == "logits" else BRANCHES[middle[0]] if middle else None
        array = tensor.numpy().copy()
        if part == "conv3d":
            module, leaf = "Conv_0", {"weight": "kernel", "bias": "bias"}[kind]
            array = array.transpose(2, 3, 4, 1, 0).copy() if kind == "weight" else array
        else:
            module = "BatchNorm_0"
            leaf = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}[kind]
        collection = "batch_stats" if leaf in ("mean", "var") else "params"
        array = array.reshape(1, 1, 1, 1, -1) if collection == "batch_stats" else array
        place = tree[collection].setdefault("Logits" if stage == "logits" else stage, {})
        if branch is not None:
            place = place.setdefault(branch, {})
        place.setdefault(module, {})[leaf] = array
    return tree
