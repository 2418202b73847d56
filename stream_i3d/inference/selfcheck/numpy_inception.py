"""Inception I3D in float32 by numpy, layer by layer: reference values where torch is not loaded.

A worker that runs a checkpoint by OpenVINO needs no torch, which would take 1.6 s and 300 MB at its first start. Slow
(a full window takes some seconds), and independent of every library that it is compared with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from stream_i3d.models.inception_table import BN_EPS, CONVS, END_POINTS, POOLS, Triple, same_padding
from stream_i3d.preprocess import Preprocessing

Array = NDArray[np.float32]
Tensors = Mapping[str, Array]


def window_logits(tensors: Tensors, clips: Sequence[NDArray[np.uint8]], preprocessing: Preprocessing) -> Array:
    """Return what an Inception I3D makes of clips, (clips, num_classes) float32.

    Args:
        tensors: By their published names.
        clips: Each (T, H, W, C) uint8.
        preprocessing: How they are normalised.
    """
    return np.stack([_logits(tensors, _normalised(clip, preprocessing)) for clip in clips])


def _normalised(clip: NDArray[np.uint8], preprocessing: Preprocessing) -> Array:
    """(T, H, W, C) uint8 -> (C, T, H, W) float32."""
    channels = clip.shape[-1]
    mean, std = (np.array(values[:channels], np.float32) for values in (preprocessing.mean, preprocessing.std))
    return np.ascontiguousarray(((clip.astype(np.float32) - mean) / std).transpose(3, 0, 1, 2))


def _logits(tensors: Tensors, x: Array) -> Array:
    for name in END_POINTS:
        if name in CONVS:
            x = _unit(tensors, name, x, CONVS[name][2])
        elif name in POOLS:
            x = _pool(x, *POOLS[name])
        else:
            x = _mixed(tensors, name, x)
    sides = tuple(min(side, size) for side, size in zip((2, 7, 7), x.shape[1:], strict=True))
    pooled = sliding_window_view(x, sides, axis=(1, 2, 3)).mean(axis=(4, 5, 6), dtype=np.float32)
    weight, bias = tensors["logits.conv3d.weight"], tensors["logits.conv3d.bias"]
    mean = pooled.reshape(len(pooled), -1).mean(axis=1, dtype=np.float32)  # the head is linear: before it is after it
    return np.asarray(weight.reshape(len(weight), -1) @ mean + bias, np.float32)


def _mixed(tensors: Tensors, name: str, x: Array) -> Array:
    def unit(branch: str, given: Array) -> Array:
        return _unit(tensors, f"{name}.{branch}", given)

    branches = (
        unit("b0", x),
        unit("b1b", unit("b1a", x)),
        unit("b2b", unit("b2a", x)),
        unit("b3b", _pool(x, (3, 3, 3), (1, 1, 1))),
    )
    return np.concatenate(branches)


def _unit(tensors: Tensors, name: str, x: Array, stride: int = 1) -> Array:
    """Convolution, BatchNorm, ReLU: (in, T, H, W) -> (out, T', H', W')."""
    weight = tensors[f"{name}.conv3d.weight"]
    gain, shift, mean, variance = (
        tensors[f"{name}.bn.{part}"] for part in ("weight", "bias", "running_mean", "running_var")
    )
    scale = gain / np.sqrt(variance + np.float32(BN_EPS))
    y = _convolve(x, weight, stride)
    y -= mean[:, None, None, None]
    y *= scale[:, None, None, None]
    y += shift[:, None, None, None]
    return np.maximum(y, 0, out=y)


def _convolve(x: Array, weight: Array, stride: int) -> Array:
    """(in, T, H, W) with "same" padding -> (out, T', H', W'); one output step at a time, so that memory is bounded."""
    outputs, inputs, *kernel = weight.shape
    if kernel == [1, 1, 1] and stride == 1:
        return np.asarray((weight.reshape(outputs, inputs) @ x.reshape(inputs, -1)).reshape(outputs, *x.shape[1:]))
    padding = [same_padding(size, kernel[0], stride) for size in x.shape[1:]]
    padded = np.pad(x, ((0, 0), *padding))
    flat = weight.reshape(outputs, -1)
    steps = []
    for first in range(0, padded.shape[1] - kernel[0] + 1, stride):
        views = sliding_window_view(padded[:, first : first + kernel[0]], kernel[1:], axis=(2, 3))
        views = views[:, :, ::stride, ::stride]  # (in, kt, H', W', kh, kw)
        columns = views.transpose(0, 1, 4, 5, 2, 3).reshape(flat.shape[1], -1)
        steps.append((flat @ columns).reshape(outputs, *views.shape[2:4]))
    return np.stack(steps, axis=1)


def _pool(x: Array, kernel: Triple, stride: Triple) -> Array:
    """Max-pool with "same" padding of what is nowhere negative."""
    sizes = zip(x.shape[1:], kernel, stride, strict=True)
    x = np.pad(x, ((0, 0), *(same_padding(*axis) for axis in sizes)))
    for axis, (length, step) in enumerate(zip(kernel, stride, strict=True), start=1):
        views = sliding_window_view(x, length, axis=axis).max(axis=-1)
        x = np.take(views, range(0, views.shape[axis], step), axis=axis)
    return x
