"""Builds the network that a training starts from, and selects the parameters that are trained.

The regimes follow Carreira & Zisserman (CVPR 2017), table 4 (original, fixed, full fine-tuning): all parameters, the
last layers only, or those after a named part.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct, structs
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from stream_i3d.errors import CheckpointError, ConfigError, did_you_mean
from stream_i3d.models.checkpoint import load_checkpoint, read_state_dict
from stream_i3d.models.head import HasHeads, replace_head
from stream_i3d.models.registry import Architecture, build_model, find_architecture
from stream_i3d.models.spec import ModelSpec, known_spec, resolve_checkpoint
from stream_i3d.preprocess import Preprocessing
from stream_i3d.training.config import NetworkConfig


class Origin(Struct, frozen=True, kw_only=True):
    """The architecture of a training, and the weights to start from.

    Attributes:
        architecture: Its row in the registry.
        spec: Spec of the weights to start from; None without weights, or if nothing is known of them.
    """

    architecture: Architecture
    spec: ModelSpec | None

    @property
    def preprocessing(self) -> Preprocessing:
        """Preprocessing of the clips that the weights, or else the architecture, were trained on."""
        return self.spec.preprocessing if self.spec else self.architecture.preprocessing

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The classes of the weights to start from, if known."""
        return self.spec.labels if self.spec else None


def find_origin(config: NetworkConfig) -> Origin:
    """Look up the architecture and the weights to start from; the weights are not read.

    Raises:
        CheckpointError: There are no such weights.
        ConfigError: There is no such architecture, or the weights belong to another.
    """
    row = find_architecture(config.name)
    if config.inflate is not None:
        resolve_checkpoint(config.inflate)
    if config.weights is None:
        return Origin(architecture=row, spec=None)
    spec = known_spec(config.weights)
    if spec is not None and spec.architecture != row.name:
        raise ConfigError(
            f"model.name {row.name!r}: the weights {config.weights} are of architecture {spec.architecture!r}; "
            f"set model.name={spec.architecture} or give other weights"
        )
    return Origin(architecture=row, spec=spec)


def build_network(config: NetworkConfig, origin: Origin, labels: tuple[str, ...]) -> tuple[nn.Module, ModelSpec]:
    """Build the network to train, on the CPU in float32.

    A head that was trained on the same classes is kept; any other is replaced by a fresh one.

    Args:
        config: Weights, inflation, width and options.
        origin: From `find_origin`.
        labels: The classes.

    Returns:
        The network, with all parameters trainable (see `set_regime`), and its spec, with the origin's preprocessing.

    Raises:
        CheckpointError: The weights cannot be read, or do not fit.
        ConfigError: The architecture does not have an option, or its value is out of range.
    """
    if config.weights is not None:
        model, spec = _from_weights(config, origin)
        if spec.labels != labels:
            replace_head(model, len(labels))
    else:
        model, spec = _from_scratch(config, origin.architecture, len(labels))
    for module in model.modules():
        if isinstance(module, _BatchNorm) and config.batch_norm_momentum is not None:
            module.momentum = config.batch_norm_momentum
    return model, structs.replace(spec, num_classes=len(labels), labels=labels)


def set_regime(model: nn.Module, config: NetworkConfig) -> None:
    """Set `requires_grad` as the regime says; to be called before the optimiser is made.

    Raises:
        ConfigError: `freeze_until` names no part of the network.
    """
    frozen = _frozen_names(model, config)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen)


def set_training(model: nn.Module, config: NetworkConfig) -> None:
    """Put a network into training mode, except for BatchNorms that stay frozen.

    The BatchNorms of frozen parts keep their statistics; with `batch_norm: frozen` all do.
    """
    model.train()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            own = list(module.parameters(recurse=False))
            kept = bool(own) and not any(parameter.requires_grad for parameter in own)
            module.train(not kept and config.batch_norm == "train")


def head_names(model: nn.Module) -> tuple[str, ...]:
    """Return the dotted names of a network's last layers.

    Raises:
        ConfigError: The network's class has no `heads`.
    """
    if not isinstance(model, HasHeads):
        raise ConfigError(f"{type(model).__name__} names no heads: give a network of stream_i3d.models")
    return model.heads


def _frozen_names(model: nn.Module, config: NetworkConfig) -> set[str]:
    names = [name for name, _ in model.named_parameters()]
    if config.regime == "full":
        return set()
    if config.regime in ("fixed", "head"):
        heads = tuple(f"{head}." for head in head_names(model))
        return {name for name in names if not name.startswith(heads)}
    until = str(config.freeze_until)
    inside = [index for index, name in enumerate(names) if name.startswith(f"{until}.")]
    if not inside:
        parts = [name for name, _ in model.named_modules() if name]
        top = [name for name in parts if name.count(".") == min(part.count(".") for part in parts)]
        raise ConfigError(
            f"model.freeze_until: the network has no part {until!r}{did_you_mean(until, parts)}; give one of "
            f"{', '.join(top)}, or a part of them"
        )
    return set(names[: inside[-1] + 1])  # parameters are in the order of the forward pass


def _from_weights(config: NetworkConfig, origin: Origin) -> tuple[nn.Module, ModelSpec]:
    loaded, spec = load_checkpoint(resolve_checkpoint(str(config.weights)), architecture=origin.architecture.name)
    spec = structs.replace(origin.spec or spec, options=spec.options)
    if config.width not in (None, spec.width):
        raise ConfigError(f"model.width={config.width:g}: the weights are of width {spec.width:g}; leave it out")
    if not config.options:
        return loaded, spec
    # Options such as dropout and fusion change no weight, so a network built with them takes the same weights.
    spec = structs.replace(spec, options={**spec.options, **config.options})
    model = build_model(spec.architecture, **_dimensions(origin.architecture, spec), **spec.options)
    try:
        model.load_state_dict(loaded.state_dict())
    except RuntimeError as error:
        raise ConfigError(
            f"model.options {config.options} do not fit the weights: leave out the option that changes the network"
        ) from error
    return model, spec


def _from_scratch(config: NetworkConfig, row: Architecture, num_classes: int) -> tuple[nn.Module, ModelSpec]:
    spec = ModelSpec(
        architecture=row.name,
        num_classes=num_classes,
        in_channels=row.in_channels,
        width=config.width or 1.0,
        options=config.options,
        preprocessing=row.preprocessing,
    )
    model = build_model(row.name, **_dimensions(row, spec), **config.options)
    if config.inflate is not None:
        _load_inflated(model, config.inflate, row)
    return model, spec


def _dimensions(row: Architecture, spec: ModelSpec) -> dict[str, Any]:
    values = {"num_classes": spec.num_classes, "in_channels": spec.in_channels, "width": spec.width}
    return {name: value for name, value in values.items() if name in row.parameters}


def _load_inflated(model: nn.Module, source: str, row: Architecture) -> None:
    """Load a 2D network's inflated weights into all of `model` except its head."""
    state = read_state_dict(resolve_checkpoint(source))
    try:
        inflated = row.inflate(state)
    except ConfigError as error:
        raise ConfigError(f"model.inflate: {error}") from None
    heads = head_names(model)
    body = {key: tensor for key, tensor in inflated.items() if not key.startswith(heads)}
    _load_body(model, body, source)


def _load_body(model: nn.Module, body: dict[str, Tensor], source: str) -> None:
    try:
        model.load_state_dict(body, strict=False)  # non-local blocks and the head start fresh
    except RuntimeError as error:
        raise CheckpointError(
            f"model.inflate: {source!r} does not fit this network ({str(error).splitlines()[-1].strip()}): "
            "give a 2D network of the same width and input channels"
        ) from error
