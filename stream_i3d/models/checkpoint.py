"""Loads and saves checkpoints.

Loads this project's safetensors files, which contain a `ModelSpec`, and plain safetensors or torch.save files with the
tensor names of a published layout (`layouts`) or of any architecture here. What a file does not say is inferred from
the shapes of its tensors.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from msgspec import structs
from torch import Tensor, nn

from stream_i3d.errors import CheckpointError, ConfigError, brief
from stream_i3d.models.arguments import scaled
from stream_i3d.models.initialisation import without_weights
from stream_i3d.models.labels import check_labels, load_labels
from stream_i3d.models.layouts import LAYOUTS, OURS, Candidates, candidates, our_name, recognise
from stream_i3d.models.registry import ARCHITECTURES, Architecture, build_model, find_architecture
from stream_i3d.models.spec import ModelSpec, encode_spec, read_spec, resolve_checkpoint
from stream_i3d.models.weight_files import COUNTER, Contents, check_values, read_contents, shown, strip_prefixes
from stream_i3d.models.weight_files import write_file as _write

_KINETICS_CLASSES = 400

log = logging.getLogger(__name__)


def load_checkpoint(
    path: str | Path, spec: ModelSpec | None = None, architecture: str | None = None
) -> tuple[nn.Module, ModelSpec]:
    """Build the network of a checkpoint and load its weights.

    Args:
        path: A file, or the name of the packaged checkpoint.
        spec: The spec that the file must fit, with the labels and preprocessing to use. None: the file's own spec, or
            else one inferred from the shapes, with the preprocessing of the published weights, and the Kinetics-400
            labels for a head of 400 outputs. `provenance` then has the layout ("layout", a key of `layouts.LAYOUTS`)
            and what the tensors do not determine ("note").
        architecture: The architecture that the file must have. It decides what the tensors do not determine: embedded
            Gaussian and dot product have the same tensors.

    Returns:
        The network on the CPU, float32, in eval mode; and its spec.

    Raises:
        CheckpointError: The file is missing, unreadable, unsafe or damaged, or has another network.
        ConfigError: There is no such architecture.
        LabelsError: `spec` was given with labels that do not fit its number of classes.
    """
    path = resolve_checkpoint(path)
    if architecture is not None:
        find_architecture(architecture)
    embedded = read_spec(path)
    contents = read_contents(path)
    state, layout = _in_our_names(contents)
    if spec is not None:
        if spec.labels is not None:
            check_labels(spec.labels, spec.num_classes)
        if embedded is not None:
            _check_agreement(spec, embedded, path)
    spec = spec or embedded or infer_spec(state, path, architecture, layout=layout, config=contents.config)
    if architecture is not None and spec.architecture != architecture:
        raise _another_architecture(architecture, (spec.architecture,), path)
    model = _build_without_weights(spec, path)
    # assign=True, because the network's tensors are on the meta device.
    model.load_state_dict(_fitted(state, model, path), assign=True)
    return model.eval(), spec


def load_into(model: nn.Module, path: str | Path) -> None:
    """Load a checkpoint of any layout into an existing network.

    Raises:
        CheckpointError: As for `load_checkpoint`, or a tensor does not fit; the network is not changed.
    """
    path = resolve_checkpoint(path)
    state, _ = _in_our_names(read_contents(path))
    model.load_state_dict(_fitted(state, model, path))


def describe_layout(path: str | Path) -> str:
    """Return the layout of a checkpoint: a key of `layouts.LAYOUTS`, a colon, and its description.

    Raises:
        CheckpointError: The file is missing, unreadable, unsafe or damaged, or has an unknown layout.
    """
    path = resolve_checkpoint(path)
    if read_spec(path) is not None:
        return f"{OURS}: {LAYOUTS[OURS]}"
    contents = read_contents(path)
    state, layout = _in_our_names(contents)
    layout = layout or infer_spec(state, path).provenance["layout"]
    return f"{layout}: {LAYOUTS[layout]}"


def save_checkpoint(path: str | Path, model: nn.Module, spec: ModelSpec) -> None:
    """Write a network and its spec as safetensors, atomically.

    Missing folders are created. Tensors keep their dtype; the prefixes of torch.compile and DataParallel are removed
    from their names.

    Args:
        path: Must end in .safetensors; an existing file is replaced.
        model: The network, on any device.
        spec: Describes `model`.

    Raises:
        CheckpointError: The spec does not fit the network, a weight is not finite, or the file cannot be written.
        LabelsError: The spec's labels do not fit its number of classes.
    """
    path = Path(path).expanduser()
    if path.suffix != ".safetensors":
        raise CheckpointError(f"checkpoint {str(path)!r}: give a name ending in .safetensors, the format written here")
    metadata = encode_spec(spec)
    named = strip_prefixes(model.state_dict())
    state = {key: tensor.detach().to("cpu", copy=True).contiguous() for key, tensor in named.items()}
    _fitted(state, _build_without_weights(spec, path), path)
    for key, tensor in state.items():
        check_values(key, tensor, path)
    _write(path, safetensors.torch.save(state, metadata))


def update_spec(path: str | Path, spec: ModelSpec) -> None:
    """Replace the spec of a checkpoint; its tensors are not changed. The file is replaced atomically.

    Args:
        path: A file with a spec.
        spec: The new spec, which may differ in labels, preprocessing, provenance and temperature.

    Raises:
        CheckpointError: The file is missing, damaged or has no spec, `spec` describes another network, or the file
            cannot be written.
        LabelsError: The spec's labels do not fit its number of classes.
    """
    path = Path(path).expanduser()
    embedded = read_spec(path)
    if embedded is None:
        raise CheckpointError(
            f"checkpoint {str(path)!r} carries no description that could be changed: make one that does by "
            "`stream-i3d weights convert`"
        )
    _check_agreement(spec, embedded, path)
    try:
        tensors = safetensors.torch.load(path.read_bytes())
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(
            f"checkpoint {str(path)!r} is not a whole safetensors file ({brief(error)}): copy it again"
        ) from error
    _write(path, safetensors.torch.save(tensors, encode_spec(spec)))


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a file's tensors under this project's names.

    Returns:
        float32 tensors on the CPU, each with its own memory, all finite; BatchNorm's counters are int64.

    Raises:
        CheckpointError: The file cannot be read, has objects other than tensors, or has tensors that are not usable.
    """
    return _in_our_names(read_contents(path))[0]


def infer_spec(
    state: Mapping[str, Tensor],
    path: Path,
    architecture: str | None = None,
    *,
    layout: str | None = None,
    config: str = "",
) -> ModelSpec:
    """Infer a network's architecture and dimensions from the names and shapes of its tensors.

    Args:
        state: Tensors under this project's names.
        path: Their file; the names of MMAction2's files contain more information.
        architecture: The architecture to choose if the tensors fit several.
        layout: Layout of the file, if `recognise` found it.
        config: Text of the training configuration, if there is one.

    Raises:
        CheckpointError: The tensors are not those of any architecture here, or not of `architecture`.
    """
    layout = layout or recognise(state)
    if layout is None:
        found = _by_names(state, architecture, path)
    else:
        found = candidates(layout, {key: tuple(tensor.shape) for key, tensor in state.items()}, path.name, config)
    if architecture is not None and architecture not in found.names:
        raise _another_architecture(architecture, found.names, path)
    row = find_architecture(architecture or found.names[0])
    spec = _with_dimensions(ModelSpec(num_classes=1, architecture=row.name, options=dict(found.options)), state, path)
    provenance = {"file": path.name, "layout": layout or OURS}
    if found.note and architecture is None:
        log.warning("checkpoint %s: %s", path.name, found.note)
        provenance["note"] = found.note
    labels = load_labels("kinetics400") if spec.num_classes == _KINETICS_CLASSES else None
    return structs.replace(spec, labels=labels, preprocessing=row.preprocessing, provenance=provenance)


def _in_our_names(contents: Contents) -> tuple[dict[str, Tensor], str | None]:
    layout = recognise(contents.tensors)
    return {our_name(key, layout): tensor for key, tensor in contents.tensors.items()}, layout


def _by_names(state: Mapping[str, Tensor], architecture: str | None, path: Path) -> Candidates:
    """Return the architectures with exactly these tensor names, for tensors of no published layout."""
    names = frozenset(key for key in state if not key.endswith(COUNTER))
    matching = tuple(
        name for name in ([architecture] if architecture else ARCHITECTURES) if names == _tensor_names(name)
    )
    if not matching:
        row = ARCHITECTURES[architecture or "i3d"]
        wanted = [key for key in _published_shapes(row.name) if key not in state]
        raise _another_network(next(iter(wanted), "tensor"), state, path)
    return Candidates(matching)


@cache
def _published_shapes(architecture: str) -> dict[str, tuple[int, ...]]:
    """Return the tensor shapes of an architecture as published, by name, without BatchNorm's counters."""
    with without_weights():
        published = build_model(architecture).state_dict()
    return {key: tuple(tensor.shape) for key, tensor in published.items() if not key.endswith(COUNTER)}


@cache
def _tensor_names(architecture: str) -> frozenset[str]:
    return frozenset(_published_shapes(architecture))


def _with_dimensions(spec: ModelSpec, state: Mapping[str, Tensor], path: Path) -> ModelSpec:
    """Return `spec` with the classes, channels and width inferred from the shapes."""
    row = find_architecture(spec.architecture)
    heads = _heads(row.load())
    published = {key: shape for key, shape in _published_shapes(row.name).items() if key not in heads}
    stem = next(key for key, shape in published.items() if len(shape) >= 4)
    for key, axes in ((stem, len(published[stem])), (heads[0], len(_published_shapes(row.name)[heads[0]]))):
        if key not in state or state[key].ndim != axes:
            raise _another_network(key, state, path)
    return structs.replace(
        spec,
        num_classes=state[heads[0]].shape[0],
        in_channels=state[stem].shape[1] if "in_channels" in row.parameters else row.in_channels,
        width=_infer_width(published, state, stem) if "width" in row.parameters else 1.0,
    )


def _infer_width(published: Mapping[str, tuple[int, ...]], state: Mapping[str, Tensor], stem: str) -> float:
    """Return the simplest factor that gives all channel counts of the convolutions, or else that of the first one."""
    counts = [
        (shape[0], state[key].shape[0])
        for key, shape in published.items()
        if len(shape) >= 4 and key in state and state[key].ndim == len(shape)
    ]
    low = max(
        ((given - 0.5) / full for full, given in counts if given > 1), default=0.0
    )  # 1 may be a 0 that was raised to 1
    high = min((given + 0.5) / full for full, given in counts)
    middle = (low + high) / 2
    for denominator in range(1, 1025):
        width = round(middle * denominator) / denominator
        if all(scaled(full, width) == given for full, given in counts):
            return width
    return float(state[stem].shape[0] / published[stem][0])


def _build_without_weights(spec: ModelSpec, path: Path) -> nn.Module:
    """Build the network of a spec on the meta device."""
    try:
        row = find_architecture(spec.architecture)
        with without_weights():
            return build_model(spec.architecture, **_arguments(row, spec))
    except (ConfigError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        # other errors: options of a wrong type, or a size that no tensor can have
        reason = str(error) if isinstance(error, ConfigError) else brief(error)
        raise CheckpointError(f"checkpoint {str(path)!r} is of no network that can be built: {reason}") from error


def _arguments(row: Architecture, spec: ModelSpec) -> dict[str, Any]:
    """Return the arguments to build the network of a spec."""
    for option in spec.options:
        if option not in row.options:  # a checkpoint must not set other options, such as one that reads a file
            raise ConfigError(
                f"a checkpoint of architecture {row.name!r} cannot have the option {option!r}: "
                f"give some of {', '.join(row.options) or 'none'}"
            )
    arguments = {"num_classes": spec.num_classes, **spec.options}
    for name, value, only in (("in_channels", spec.in_channels, row.in_channels), ("width", spec.width, 1.0)):
        if name in row.parameters:
            arguments[name] = value
        elif value != only:
            raise ConfigError(f"architecture {row.name!r} has {name}={only} only, not {value}")
    return arguments


def _heads(network: nn.Module | type[nn.Module]) -> tuple[str, ...]:
    """Return the names of the weight tensors of a network's last layers."""
    return tuple(f"{name}.weight" for name in getattr(network, "heads", ()))


def _check_agreement(asked: ModelSpec, embedded: ModelSpec, path: Path) -> None:
    for field in ("architecture", "num_classes", "in_channels", "width", "options"):
        wanted, found = getattr(asked, field), getattr(embedded, field)
        if wanted != found:
            raise CheckpointError(
                f"checkpoint {str(path)!r} has {field}={found!r}, but {wanted!r} was asked for: "
                "ask for what it has, or give another checkpoint"
            )


def _fitted(state: Mapping[str, Tensor], model: nn.Module, path: Path) -> dict[str, Tensor]:
    """Return the tensors that `model` needs; raise CheckpointError for the first that does not fit."""
    fitted: dict[str, Tensor] = {}
    wanted = model.state_dict()
    for key, own in wanted.items():
        if key in state:
            if state[key].shape != own.shape:
                raise _another_shape(key, tuple(state[key].shape), tuple(own.shape), model, path)
            fitted[key] = state[key]
        elif key.endswith(COUNTER):
            fitted[key] = torch.zeros((), dtype=torch.int64)
        else:
            raise _another_network(key, state, path)
    for key in state:
        if key not in wanted:
            raise CheckpointError(
                f"checkpoint {str(path)!r} holds {shown(key)}, which {type(model).__name__} does not have: "
                "give a checkpoint of exactly this network"
            )
    return fitted


def _another_shape(
    key: str, found: tuple[int, ...], wanted: tuple[int, ...], model: nn.Module, path: Path
) -> CheckpointError:
    remedy = "give a checkpoint of this network and this width"
    stem = next((name for name, tensor in model.state_dict().items() if tensor.ndim >= 4), "")
    heads = tuple(name.removesuffix("weight") for name in _heads(model))
    if key.startswith(heads) and found[1:] == wanted[1:] and found:
        remedy = f"build the network with num_classes={found[0]}, or give a checkpoint of {wanted[0]} classes"
    elif key == stem and len(found) == len(wanted) and found[:1] + found[2:] == wanted[:1] + wanted[2:]:
        remedy = f"build the network with in_channels={found[1]}, or give a checkpoint for {wanted[1]} channels"
    return CheckpointError(
        f"checkpoint {str(path)!r}: {key} has the shape {found}, the network needs {wanted}: {remedy}"
    )


def _another_architecture(asked: str, found: tuple[str, ...], path: Path) -> CheckpointError:
    return CheckpointError(
        f"checkpoint {str(path)!r} is of architecture {' or '.join(found)}, but {asked!r} was asked for: "
        "ask for what it has, or give another checkpoint"
    )


def _another_network(missing: str, state: Iterable[str], path: Path) -> CheckpointError:
    first = next(iter(state), None)
    holds = "it is empty" if first is None else f"its first tensor is {shown(first)}"
    return CheckpointError(
        f"checkpoint {str(path)!r} has no usable {missing} ({holds}): give a checkpoint of an architecture that "
        "`stream-i3d models` lists, with the names of piergiaj/pytorch-i3d, hassony2, MMAction2 or stream-i3d"
    )
