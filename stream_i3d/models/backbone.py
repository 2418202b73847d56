"""Networks without their heads, as engines run and export them: clips in, feature maps averaged over time out.

A network that keeps a map of places has a method `feature_map`; any other is run with its last layer left out, and
gives one feature vector. Normalisation is inside the serving forms, so an exported file takes pixels as they are.
This module does not know files, nor what runs them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol, cast, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stream_i3d.errors import ConfigError
from stream_i3d.models.folding import inference_form
from stream_i3d.models.head import HasHeads
from stream_i3d.models.i3d import I3D
from stream_i3d.models.streaming_i3d import Pass, StreamingI3D
from stream_i3d.models.streaming_plan import STEP_FRAMES
from stream_i3d.preprocess import Preprocessing

MAX_EXPORTED_BATCH = 1024


@runtime_checkable
class HasFeatureMap(Protocol):
    """A network that keeps a map of places up to its head.

    Attributes:
        pool_side: Side of the windows, at stride 1, of its own average over places; None for a plain mean.
    """

    pool_side: ClassVar[int | None]

    def feature_map(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) normalised clips -> (B, features, h, w), averaged over time as the network does it."""


class Backbone(nn.Module):
    """A network without its head.

    Args:
        network: One with one input and one head. Its layers are shared, not copied.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.has_map = isinstance(network, HasFeatureMap)
        self.network = network if self.has_map else _without(network, _head_name(network))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) normalised clips -> (B, h, w, features) float32; 1 x 1 where there is no map."""
        if not self.has_map:
            features: Tensor = self.network(x)
            return features.float()[:, None, None]
        maps = cast(HasFeatureMap, self.network).feature_map(x)
        return maps.float().permute(0, 2, 3, 1)


class ServingForm(nn.Module):
    """A function of normalised clips behind their normalisation.

    Args:
        network: Takes (B, C, T, H, W) of `dtype`.
        preprocessing: Mean and deviation per channel; of flow, the first two are taken.
        channels: Of a clip.
        dtype: What the network takes.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: Callable[[Tensor], Tensor],
        preprocessing: Preprocessing,
        channels: int = 3,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.network, self.dtype = network, dtype
        # As preprocess.normalise, which makes these two anew at each call: neither an export nor a CUDA graph may.
        self.register_buffer("mean", torch.tensor(preprocessing.mean[:channels]).view(1, channels, 1, 1, 1))
        self.register_buffer("std", torch.tensor(preprocessing.std[:channels]).view(1, channels, 1, 1, 1))

    def forward(self, clips: Tensor) -> Tensor:
        """(B, T, H, W, C) uint8 -> what the network returns, float32."""
        pixels = clips.permute(0, 4, 1, 2, 3).float()  # (B, C, T, H, W), channels last in memory
        return self.network(((pixels - self.mean) / self.std).to(self.dtype)).float()


class CarriedForm(nn.Module):
    """One step of one camera, carried along its stream, behind its normalisation.

    A graph cannot ask how many steps a stream has had, so `steps` is an input, and what comes before a layer's first
    output is multiplied by zero. Once `steps` is `DELAY_STEPS` or more all these factors are ones.

    Args:
        network: In the form in which it runs; see `StreamingI3D`.
        preprocessing: Mean and deviation per channel.
    """

    def __init__(self, network: I3D, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.streaming = StreamingI3D(network)
        self.serving = ServingForm(lambda pixels: pixels, preprocessing)

    def forward(self, frames: Tensor, steps: Tensor, *contexts: Tensor) -> tuple[Tensor, ...]:
        """Feed the next frames.

        Args:
            frames: (1, 8, H, W, 3) uint8.
            steps: (1,) int64, how many steps the stream had before.
            contexts: As in `StreamState`; zeros before the first step.

        Returns:
            (1, h, w, features) float32, and the contexts after this step.
        """
        pass_ = _MaskedPass(contexts, steps)
        pixels = pass_.silence(self.serving(frames))  # nothing but the first frame comes too early
        maps = self.streaming.feature_maps(pixels, pass_)
        return last_step(maps), *pass_.contexts


class _MaskedPass(Pass):
    """A pass whose number of steps is data."""

    def __init__(self, contexts: tuple[Tensor, ...], steps: Tensor) -> None:
        super().__init__(contexts, ())
        self._steps = steps

    def silence(self, x: Tensor) -> Tensor:
        """(1, C, T, H, W) -> the same, zeros where it comes before the layer's first output."""
        numbers = torch.arange(x.shape[2]) + self._steps * self.late.outputs
        return x * (numbers >= self.late.delay).to(x.dtype).view(1, 1, -1, 1, 1)


def last_step(maps: Tensor) -> Tensor:
    """Return the newest step of a carried network's maps, (B, C, n, h, w) -> (B, h, w, C) float32."""
    return maps[:, :, -1].float().permute(0, 2, 3, 1)


def export_program(model: nn.Module, preprocessing: Preprocessing, channels: int = 3) -> torch.export.ExportedProgram:
    """Return a backbone's graph, folded, float32, for any number of clips at once; of its one size.

    Args:
        model: A network with one input, on the CPU.
        preprocessing: The clips' length and size, which become part of the graph.
        channels: Of a clip.
    """
    serving = ServingForm(Backbone(inference_form(model)), preprocessing, channels).eval()
    size, frames = preprocessing.usual_frame_size, preprocessing.clip_len
    clips = torch.zeros((2, frames, *size, channels), dtype=torch.uint8)  # of 1 the graph would be of 1 only
    batch = torch.export.Dim("batch", min=1, max=MAX_EXPORTED_BATCH)
    return torch.export.export(serving, (clips,), dynamic_shapes={"clips": {0: batch}})


def export_step(model: I3D, preprocessing: Preprocessing) -> torch.export.ExportedProgram:
    """Return the graph of one step of one camera, folded, float32.

    Args:
        model: An Inception I3D on RGB, on the CPU.
        preprocessing: The frames' size, which becomes part of the graph.
    """
    form = CarriedForm(cast(I3D, inference_form(model)), preprocessing).eval()
    size = preprocessing.usual_frame_size
    frames = torch.zeros((1, STEP_FRAMES, *size, 3), dtype=torch.uint8)
    contexts = form.streaming.blank(*size).contexts
    return torch.export.export(form, (frames, torch.zeros(1, dtype=torch.int64), *contexts))


def head_arrays(model: nn.Module) -> tuple[NDArray[np.float32], NDArray[np.float32], int | None]:
    """Return the last layer of a network with one head.

    Returns:
        Weights (num_classes, C), bias (num_classes,), and the side of its pool (see `HasFeatureMap`).

    Raises:
        ConfigError: It has several heads, or none that is linear in features averaged over places.
    """
    layer = model.get_submodule(_head_name(model))
    layer = getattr(layer, "layer", layer)  # `folding.Float32`
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor)
    if any(size != 1 for size in weight.shape[2:]):
        raise ConfigError(
            f"{type(model).__name__} has a head that looks at several places: it cannot be run apart from its head"
        )
    weights = np.asarray(weight.detach().float().cpu().flatten(1).numpy(), np.float32)
    offsets = bias.detach().float().cpu().numpy() if isinstance(bias, Tensor) else np.zeros(len(weights))
    return weights, np.asarray(offsets, np.float32), model.pool_side if isinstance(model, HasFeatureMap) else None


def _head_name(model: nn.Module) -> str:
    names: Sequence[str] = model.heads if isinstance(model, HasHeads) else ()
    if len(names) != 1:
        raise ConfigError(f"{type(model).__name__} has {len(names)} heads: give a network of one")
    return names[0]


def _without(module: nn.Module, path: str) -> nn.Module:
    """Return a module that shares everything with another but the layer at a dotted path, which passes on its input."""
    name, _, rest = path.partition(".")
    clone = copy.copy(module)
    child = _without(module.get_submodule(name), rest) if rest else nn.Identity()
    clone._modules = {**module._modules, name: child}
    return clone
