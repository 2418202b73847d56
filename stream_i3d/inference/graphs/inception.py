"""Inception I3D as an OpenVINO graph, made of its weights directly: in a tenth of a second, and without torch.

By way of torch.export (conversion.py), which serves every network, the same takes 5 to 7 s of processor time at the
first start of a checkpoint, and some 300 MB that the worker keeps. Tests hold it to the numbers of the network itself.
What is unusual about a file (another layout, bfloat16, damage) is left to torch to read, and to its errors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from stream_i3d.inference.graphs.file import CLIPS, FEATURES, encode_head, graph_metadata
from stream_i3d.inference.graphs.openvino_engine import import_openvino, write_ir
from stream_i3d.inference.setup import ModelSetup
from stream_i3d.models.inception_table import (
    BN_EPS,
    CONVS,
    END_POINTS,
    POOL_SIDES,
    POOLS,
    Triple,
    same_padding,
    tensor_shapes,
)
from stream_i3d.models.spec import ModelSpec, is_safetensors, read_spec
from stream_i3d.preprocess import Preprocessing

if TYPE_CHECKING:
    import openvino

Tensors = Mapping[str, NDArray[np.float32]]

_ARCHITECTURES = ("i3d", "i3d-flow")
_OPTIONS = {"dropout_keep_prob"}  # of no meaning here
_COUNTER = ".num_batches_tracked"
_SLACK_BYTES = 32 * 2**20  # a header, and counters
_HEAD = "logits.conv3d"


def write_inception(setup: ModelSetup, path: Path) -> bool:
    """Write an Inception I3D of ours as OpenVINO IR; return False, and write nothing, for anything else.

    Args:
        setup: Of one network.
        path: Where the .xml goes; the folder exists.

    Raises:
        CheckpointError: The checkpoint's header is damaged.
        OSError: A file cannot be read or written.
    """
    weights, spec = Path(setup.path), setup.spec
    tensors = read_inception(weights, spec)
    if tensors is None or spec is None:
        return False
    spec = structs.replace(spec, preprocessing=setup.preprocessing)
    write_ir(inception_graph(tensors, spec), graph_metadata(spec, inception_head(tensors)), path)
    return True


def inception_head(tensors: Tensors) -> str:
    """Return the head of an Inception I3D as an exported file carries it."""
    weight, bias = tensors[f"{_HEAD}.weight"], tensors[f"{_HEAD}.bias"]
    return encode_head(weight.reshape(len(weight), -1), bias, POOL_SIDES[1])


def inception_graph(tensors: Tensors, spec: ModelSpec) -> openvino.Model:
    """Return the graph from (B, T, H, W, C) uint8 clips to (B, h, w, features) float32 maps, of any batch.

    Args:
        tensors: Of an Inception I3D, by their published names.
        spec: Says the clips' size.
    """
    openvino = import_openvino()
    graph = _Graph(tensors, spec.preprocessing, spec.in_channels)
    maps = graph.feature_map(graph.trunk(graph.entry()))
    model = openvino.Model([maps], [graph.clips], "i3d")
    model.inputs[0].set_names({CLIPS})
    model.outputs[0].set_names({FEATURES})
    return model


class _Graph:
    """Puts operations of OpenVINO behind each other; `_sizes` is (T, H, W) of the map so far."""

    def __init__(self, tensors: Tensors, made: Preprocessing, channels: int) -> None:
        from openvino import opset1

        self._ops: Any = opset1
        self._tensors, self._made, self._channels = tensors, made, channels
        self._sizes = (made.clip_len, *made.usual_frame_size)
        self.clips = opset1.parameter([-1, *self._sizes, channels], np.uint8, CLIPS)

    def entry(self) -> Any:
        """Return the normalised clips, (B, C, T, H, W)."""
        ops, shape = self._ops, (1, -1, 1, 1, 1)
        mean = np.asarray(self._made.mean[: self._channels], np.float32).reshape(shape)
        std = np.asarray(self._made.std[: self._channels], np.float32).reshape(shape)
        # Turned as bytes, a quarter of the memory: as floats it costs `motion` a sixth of its time.
        pixels = ops.convert(ops.transpose(self.clips, np.array([0, 4, 1, 2, 3], np.int64)), np.float32)
        return ops.divide(ops.subtract(pixels, mean), std)

    def trunk(self, x: Any) -> Any:
        """Return the last map."""
        for name in END_POINTS:
            if name in CONVS:
                x = self._unit(x, name, CONVS[name][2])
            elif name in POOLS:
                x = self._pool(x, *POOLS[name])
            else:
                x = self._mixed(x, name)
        return x

    def feature_map(self, x: Any) -> Any:
        """Return the last map averaged over time, as `I3D.feature_map`, with features last."""
        ops = self._ops
        if self._sizes[0] > POOL_SIDES[0]:
            x = ops.avg_pool(x, [1, 1, 1], [0, 0, 0], [0, 0, 0], [POOL_SIDES[0], 1, 1], exclude_pad=True)
        x = ops.reduce_mean(x, np.array([2], np.int64), keep_dims=False)
        return ops.transpose(x, np.array([0, 2, 3, 1], np.int64))

    def _mixed(self, x: Any, name: str) -> Any:
        branches = (
            self._unit(x, f"{name}.b0"),
            self._unit(self._unit(x, f"{name}.b1a"), f"{name}.b1b"),
            self._unit(self._unit(x, f"{name}.b2a"), f"{name}.b2b"),
            self._unit(self._pool(x, (3, 3, 3), (1, 1, 1)), f"{name}.b3b"),
        )
        return self._ops.concat(branches, axis=1)

    def _unit(self, x: Any, name: str, stride: int = 1) -> Any:
        """Convolution, BatchNorm folded into it in float64 as models/folding.py does, ReLU."""
        weight = self._tensors[f"{name}.conv3d.weight"]
        scale, shift, mean, variance = (
            self._tensors[f"{name}.bn.{part}"].astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = scale / np.sqrt(variance + BN_EPS)
        folded = weight.astype(np.float64) * scale.reshape(-1, 1, 1, 1, 1)
        if self._sizes[0] == 1 and stride == 1:  # as models/time_conv.py: the other planes meet only padding
            middle = weight.shape[2] // 2
            folded = folded[:, :, middle : middle + 1]
        front, back = self._pad(folded.shape[2:], (stride,) * 3)
        bias = (shift - mean * scale).astype(np.float32)
        return self._ops.relu(self._convolve(x, folded.astype(np.float32), bias, front, back, stride))

    def _convolve(
        self,
        x: Any,
        weight: NDArray[np.float32],
        bias: NDArray[np.float32],
        front: Sequence[int],
        back: Sequence[int],
        stride: int = 1,
    ) -> Any:
        ops = self._ops
        x = ops.convolution(x, ops.constant(weight), [stride] * 3, list(front), list(back), [1, 1, 1])
        return ops.add(x, ops.constant(bias.reshape(1, -1, 1, 1, 1)))

    def _pool(self, x: Any, kernel: Triple, stride: Triple) -> Any:
        # The first version of this operation knows no places of its maxima, which the CPU would otherwise keep.
        front, back = self._pad(kernel, stride)
        return self._ops.max_pool(x, list(stride), front, back, list(kernel), "floor")

    def _pad(self, kernel: Sequence[int], stride: Sequence[int]) -> tuple[list[int], list[int]]:
        """Return "same" padding of a layer, front and back, and go on with the sizes behind it."""
        axes = list(zip(self._sizes, kernel, stride, strict=True))
        pairs = [same_padding(*axis) for axis in axes]
        time, height, width = (-(-size // step) for size, _, step in axes)
        self._sizes = (time, height, width)
        return [front for front, _ in pairs], [back for _, back in pairs]


def read_inception(path: Path, spec: ModelSpec | None) -> Tensors | None:
    """Return the tensors of a file of ours that holds exactly the network of `spec`; None where anything is unusual.

    Raises:
        CheckpointError: The checkpoint's header is damaged.
        OSError: The file cannot be read.
    """
    if spec is None or read_spec(path) is None:
        return None
    if spec.architecture not in _ARCHITECTURES or set(spec.options) - _OPTIONS or not is_safetensors(path):
        return None
    shapes = tensor_shapes(spec.num_classes, spec.in_channels, spec.width)
    if path.stat().st_size > _SLACK_BYTES + 4 * sum(math.prod(shape) for shape in shapes.values()):
        return None
    import safetensors
    import safetensors.numpy

    try:
        tensors = safetensors.numpy.load(path.read_bytes())
    except (safetensors.SafetensorError, KeyError, TypeError):  # the last two: types that numpy lacks
        return None
    if any(
        tensor.dtype not in (np.float32, np.float16) for key, tensor in tensors.items() if not key.endswith(_COUNTER)
    ):
        return None
    given = {key: tensor.astype(np.float32) for key, tensor in tensors.items() if not key.endswith(_COUNTER)}
    found = {key: tensor.shape for key, tensor in given.items()}
    return given if found == shapes and all(_usable(key, tensor) for key, tensor in given.items()) else None


def _usable(key: str, tensor: NDArray[np.float32]) -> bool:
    """Tell whether a tensor's values are finite and possible, as weight_files.py demands it."""
    return bool(np.isfinite(tensor).all()) and not (key.endswith(".running_var") and bool((tensor < 0).any()))
