"""Weights on disk: reading them safely, fitting them to a network, writing ours.

Read: our safetensors (which carry a `ModelSpec`), bare safetensors, and torch.save files holding a state dict or
{"state_dict": ...}, with the parameter names of the published Inception-v1 I3D (piergiaj/pytorch-i3d). A file is
material, not a program: pickles are opened with weights_only, so one that would run code is refused, and whatever is
wrong with a file is a `CheckpointError` of one line. This module does not know clips, labels' meaning, devices or
training; it downloads nothing.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from stream_i3d.errors import CheckpointError, ConfigError
from stream_i3d.models.i3d import I3D, scaled
from stream_i3d.models.labels import check_labels, load_labels
from stream_i3d.models.registry import build_model
from stream_i3d.models.spec import ModelSpec, brief, encode_spec, is_safetensors, read_spec, resolve_checkpoint

_WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Where training scripts put the state dict, next to their optimiser and epoch."""

_PREFIXES = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put in front of every name."""

_COUNTER = ".num_batches_tracked"
"""BatchNorm's step counter: unused with a fixed momentum, and absent from files older than PyTorch 0.4.1."""

_STEM, _HEAD = "Conv3d_1a_7x7.conv3d.weight", "logits.conv3d.weight"

_KINETICS_CLASSES = 400

_MAX_BYTES = 4 * 2**30  # files are read whole; the largest networks here, with an optimiser's state, have 0.6 GB


def load_checkpoint(path: str | Path, spec: ModelSpec | None = None) -> tuple[nn.Module, ModelSpec]:
    """Build the network that a checkpoint is of, and load its weights.

    Args:
        path: A file, or the name of the carried checkpoint.
        spec: What the file must be, and the labels and preprocessing to use with it. Without it: what the file says
            of itself, or else what its tensors' shapes say, the default preprocessing (that of the Kinetics weights),
            and the Kinetics-400 labels where the head has 400 outputs.

    Returns:
        The network on the CPU, float32, in eval mode; and its spec.

    Raises:
        CheckpointError: The file is missing, unreadable, unsafe, damaged, or of another network.
        LabelsError: `spec` was given with labels that do not fit its number of classes.
    """
    path = resolve_checkpoint(path)
    embedded = read_spec(path)
    state = read_state_dict(path)
    if spec is not None:
        if spec.labels is not None:
            check_labels(spec.labels, spec.num_classes)
        if embedded is not None:
            _check_agreement(spec, embedded, path)
    spec = spec or embedded or infer_spec(state, path)
    model = _skeleton(spec, path)
    # assign: the network stands on the meta device, so nothing is initialised only to be overwritten.
    model.load_state_dict(_fitted(state, model, path), assign=True)
    return model.eval(), spec


def load_into(model: nn.Module, path: str | Path) -> None:
    """Load a checkpoint into an existing network, which must fit it exactly.

    Raises:
        CheckpointError: As for `load_checkpoint`; the network is unchanged then.
    """
    path = resolve_checkpoint(path)
    model.load_state_dict(_fitted(read_state_dict(path), model, path))


def save_checkpoint(path: str | Path, model: nn.Module, spec: ModelSpec) -> None:
    """Write a network and its spec as safetensors; the file appears whole or not at all.

    Missing folders are made. Tensors keep their dtype; the names lose torch.compile's and DataParallel's prefixes.

    Args:
        path: Ends in .safetensors; an existing file is replaced.
        model: The network, on any device.
        spec: Must describe `model`.

    Raises:
        CheckpointError: The spec is of another network, a weight is NaN or infinite, or the file cannot be written.
        LabelsError: The spec's labels do not fit its number of classes.
    """
    path = Path(path).expanduser()
    if path.suffix != ".safetensors":
        raise CheckpointError(f"checkpoint {str(path)!r}: give a name ending in .safetensors, the format written here")
    metadata = encode_spec(spec)
    named = _strip_prefixes(model.state_dict())
    state = {key: tensor.detach().to("cpu", copy=True).contiguous() for key, tensor in named.items()}
    _fitted(state, _skeleton(spec, path), path)
    for key, tensor in state.items():
        _check_values(key, tensor, path)
    _write(path, safetensors.torch.save(state, metadata))


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a file's tensors by name, without fitting them to a network.

    Returns:
        float32 tensors on the CPU, each with memory of its own, all finite; BatchNorm's counters are int64.

    Raises:
        CheckpointError: The file cannot be read, holds more than tensors, or holds tensors no network can use.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise CheckpointError(f"checkpoint {str(path)!r} is larger than 4 GiB: give a file of weights only")
        raw = _read_safetensors(path) if is_safetensors(path) else _read_torch(path)
    except OSError as error:
        raise CheckpointError(f"checkpoint {str(path)!r} cannot be read ({brief(error)}): check the file") from error
    return {key: _usable(key, tensor, path) for key, tensor in _state_dict_of(raw, path).items()}


def infer_spec(state: Mapping[str, Tensor], path: Path) -> ModelSpec:
    """Tell a network's dimensions from its tensors' shapes.

    Raises:
        CheckpointError: These are not the tensors of an Inception-v1 I3D.
    """
    for key in (_STEM, _HEAD):
        if key not in state or state[key].ndim != 5:
            raise _another_network(key, state, path)
    num_classes = state[_HEAD].shape[0]
    return ModelSpec(
        num_classes=num_classes,
        in_channels=state[_STEM].shape[1],
        width=_infer_width(state),
        labels=load_labels("kinetics400") if num_classes == _KINETICS_CLASSES else None,
        provenance={"file": path.name},
    )


def _infer_width(state: Mapping[str, Tensor]) -> float:
    """Return the simplest factor that gives the tensors' channel counts; the stem's where no factor gives them all."""
    with torch.device("meta"):
        published = I3D().state_dict()
    counts: list[tuple[int, int]] = [
        (tensor.shape[0], state[key].shape[0])
        for key, tensor in published.items()
        if key.endswith(".conv3d.weight") and key != _HEAD and key in state and state[key].ndim == 5
    ]
    low = max(((given - 0.5) / full for full, given in counts if given > 1), default=0.0)  # 1 may be a raised 0
    high = min((given + 0.5) / full for full, given in counts)
    middle = (low + high) / 2
    for denominator in range(1, 1025):
        width = round(middle * denominator) / denominator
        if all(scaled(full, width) == given for full, given in counts):
            return width
    return float(state[_STEM].shape[0] / published[_STEM].shape[0])


def _skeleton(spec: ModelSpec, path: Path) -> nn.Module:
    """Build a spec's network without memory for its weights."""
    try:
        with torch.device("meta"):
            return build_model(
                spec.architecture, num_classes=spec.num_classes, in_channels=spec.in_channels, width=spec.width
            )
    except ConfigError as error:
        raise CheckpointError(f"checkpoint {str(path)!r} is of no network that can be built: {error}") from error


def _check_agreement(asked: ModelSpec, embedded: ModelSpec, path: Path) -> None:
    for field in ("architecture", "num_classes", "in_channels", "width"):
        wanted, found = getattr(asked, field), getattr(embedded, field)
        if wanted != found:
            raise CheckpointError(
                f"checkpoint {str(path)!r} has {field}={found!r}, but {wanted!r} was asked for: "
                "ask for what it has, or give another checkpoint"
            )


def _fitted(state: Mapping[str, Tensor], model: nn.Module, path: Path) -> dict[str, Tensor]:
    """Return the tensors that `model` needs, or say which is the first that does not fit."""
    fitted: dict[str, Tensor] = {}
    wanted = model.state_dict()
    for key, own in wanted.items():
        if key in state:
            if state[key].shape != own.shape:
                raise _another_shape(key, tuple(state[key].shape), tuple(own.shape), path)
            fitted[key] = state[key]
        elif key.endswith(_COUNTER):
            fitted[key] = torch.zeros((), dtype=torch.int64)
        else:
            raise _another_network(key, state, path)
    for key in state:
        if key not in wanted:
            raise CheckpointError(
                f"checkpoint {str(path)!r} holds {_shown(key)}, which {type(model).__name__} does not have: "
                "give a checkpoint of exactly this network"
            )
    return fitted


def _another_shape(key: str, found: tuple[int, ...], wanted: tuple[int, ...], path: Path) -> CheckpointError:
    remedy = "give a checkpoint of this network and this width"
    if key.startswith("logits.") and found[1:] == wanted[1:] and found:
        remedy = f"build the network with num_classes={found[0]}, or give a checkpoint of {wanted[0]} classes"
    elif key == _STEM and len(found) == 5 and found[:1] + found[2:] == wanted[:1] + wanted[2:]:
        remedy = f"build the network with in_channels={found[1]}, or give a checkpoint for {wanted[1]} channels"
    return CheckpointError(
        f"checkpoint {str(path)!r}: {key} has the shape {found}, the network needs {wanted}: {remedy}"
    )


def _another_network(missing: str, state: Iterable[str], path: Path) -> CheckpointError:
    first = next(iter(state), None)
    holds = "it is empty" if first is None else f"its first tensor is {_shown(first)}"
    return CheckpointError(
        f"checkpoint {str(path)!r} has no usable {missing} ({holds}): give a checkpoint of an Inception-v1 I3D, "
        "with the names of piergiaj/pytorch-i3d"
    )


def _read_safetensors(path: Path) -> object:
    data = path.read_bytes()  # not a memory map: a file replaced in place would change a running network
    try:
        return safetensors.torch.load(data)
    except Exception as error:  # the parser's own errors, and KeyError, ValueError, ... for types torch does not have
        raise CheckpointError(
            f"checkpoint {str(path)!r} is not a whole safetensors file ({brief(error)}): copy it again"
        ) from error


def _read_torch(path: Path) -> object:
    with path.open("rb") as file:
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # on arbitrary bytes the unpickler may raise anything at all
            raise CheckpointError(
                f"checkpoint {str(path)!r} is damaged, or holds more than tensors, which is refused because reading "
                "it could run code: give safetensors, or a file made by torch.save(state_dict)"
            ) from error


def _state_dict_of(raw: object, path: Path) -> dict[str, Any]:
    """Find the state dict in what a file holds; its values are not checked yet."""
    if isinstance(raw, Mapping):
        raw = next((raw[name] for name in _WRAPPERS if isinstance(raw.get(name), Mapping)), raw)
    if not isinstance(raw, Mapping):
        raise CheckpointError(
            f"checkpoint {str(path)!r} holds a {type(raw).__name__}, not tensors by name: save model.state_dict()"
        )
    for key in raw:
        if not isinstance(key, str):
            raise CheckpointError(
                f"checkpoint {str(path)!r} has the key {_shown(key)}, not a parameter's name: save model.state_dict()"
            )
    return _strip_prefixes(raw)


def _strip_prefixes(state: Mapping[str, Any]) -> dict[str, Any]:
    """Remove the prefixes that wrappers put in front of *all* names."""
    names = dict(state)
    for prefix in (*_PREFIXES, *_PREFIXES):  # twice, for the two in either order
        if names and all(key.startswith(prefix) for key in names):
            names = {key.removeprefix(prefix): value for key, value in names.items()}
    return names


def _usable(key: str, tensor: object, path: Path) -> Tensor:
    """Return a tensor as the network will hold it."""
    if not isinstance(tensor, Tensor):
        raise CheckpointError(
            f"checkpoint {str(path)!r}: {_shown(key)} is a {type(tensor).__name__}, not a tensor: "
            "save model.state_dict() by itself, or as {'state_dict': ...}"
        )
    counter = key.endswith(_COUNTER)
    numeric = tensor.is_floating_point() or (counter and tensor.dtype in (torch.int64, torch.int32))
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or not numeric:
        raise CheckpointError(
            f"checkpoint {str(path)!r}: {_shown(key)} is {tensor.layout} {tensor.dtype} on {tensor.device.type}: "
            "give dense floating-point weights, not a quantised or sparse checkpoint"
        )
    # A few bytes can claim to be a huge tensor by repeating them (stride 0); copying that would fill the memory.
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise CheckpointError(f"checkpoint {str(path)!r}: {_shown(key)} has less data than its shape: copy it again")
    copied = tensor.detach().to(torch.int64 if counter else torch.float32, copy=True)
    _check_values(key, copied, path)
    return copied


def _check_values(key: str, tensor: Tensor, path: Path) -> None:
    if not bool(torch.isfinite(tensor).all()) or (key.endswith(".running_var") and bool((tensor < 0).any())):
        raise CheckpointError(
            f"checkpoint {str(path)!r}: {_shown(key)} has NaN, infinite or impossible values: "
            "the file is damaged or its training diverged; use an earlier one"
        )


def _shown(key: object) -> str:
    """Return a key from a file as a part of one line, at most 100 characters."""
    text = repr(key) if isinstance(key, str | bytes | int | float | None) else type(key).__name__
    return text if len(text) <= 100 else text[:97] + "..."


def _write(path: Path, data: bytes) -> None:
    """Write a file so that a crash leaves either the old one or the new one, never half of one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise CheckpointError(
            f"checkpoint {str(path)!r} cannot be written ({brief(error)}): free some space or give another folder"
        ) from error
