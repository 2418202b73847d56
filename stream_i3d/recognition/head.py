"""Heads: the small linear layers outside the engine that turn features into scores of labels. Pure NumPy.

An engine gives feature maps averaged over time, (B, h, w, C) a window or step. Averaging over places and a 1 x 1 x 1
convolution commute, so a network's logits are its last layer on the mean of the map. Several heads can read the same
features, over the whole map or over a weighted part of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_i3d.config import FusionName

Floats = NDArray[np.float32]

Features = Mapping[str, Floats]
"""An engine's feature maps by input stream ("rgb", "flow"): (B, h, w, C) float32, averaged over time."""


def softmax(logits: Floats, temperature: float = 1.0) -> Floats:
    """Return the softmax of logits, computed in float32 with the maximum subtracted first.

    Args:
        logits: (..., num_classes) float32.
        temperature: Divides the logits, to calibrate the probabilities; see `ModelSpec.temperature`.

    Returns:
        (..., num_classes) float32 probabilities.
    """
    shifted = logits.astype(np.float32) - logits.max(axis=-1, keepdims=True)
    exponentials = np.exp(shifted / np.float32(temperature))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True), dtype=np.float32)


def pool_weights(size: int, side: int | None) -> Floats:
    """Return how much each place along one axis counts in a network's average, (size,) float32 that sum to 1.

    Args:
        size: Places along the axis.
        side: Side of the windows that are averaged first, at stride 1, before their mean is taken; None for a plain
            mean. Up to this size both are the same.
    """
    if side is None or size <= side:
        return np.full(size, 1 / size, np.float32)
    windows = size - side + 1
    covering = np.convolve(np.ones(windows), np.ones(side))  # windows over each place
    return np.asarray(covering / covering.sum(), np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """A linear layer on features.

    Attributes:
        weights: (num_classes, C) float32.
        bias: (num_classes,) float32.
        labels: One per class.
        temperature: What logits are divided by before the softmax, so that probabilities mean what they say.
        pool_side: Side of the windows of the network's own average pool, 7 in Inception I3D; None for a plain mean.
    """

    weights: Floats
    bias: Floats
    labels: tuple[str, ...]
    temperature: float = 1.0
    pool_side: int | None = None

    def pooled(self, maps: Floats, where: Floats | None = None) -> Floats:
        """Return the mean of feature maps over places, (B, h, w, C) -> (B, C) float32.

        Args:
            maps: Feature maps.
            where: (h, w) weights of the places, not negative and not all zero; None counts them as the network does.
        """
        _, height, width, _ = maps.shape
        if where is None:
            where = np.outer(pool_weights(height, self.pool_side), pool_weights(width, self.pool_side))
        weights = (where.reshape(-1) / where.sum(dtype=np.float32)).astype(np.float32)
        with np.errstate(invalid="ignore", over="ignore"):  # what is not finite stays so: see `Scores.finite`
            return np.asarray(weights @ maps.reshape(len(maps), height * width, -1), np.float32)

    def logits(self, maps: Floats, where: Floats | None = None) -> Floats:
        """Return the logits of feature maps, (B, h, w, C) -> (B, num_classes) float32; arguments as for `pooled`."""
        with np.errstate(invalid="ignore", over="ignore"):
            return np.asarray(self.pooled(maps, where) @ self.weights.T + self.bias, np.float32)


class Scores(NamedTuple):
    """What a published head gives for B windows.

    Attributes:
        logits: (B, num_classes) float32, fused where there are several networks.
        streams: Each network's own (B, num_classes) logits by its stream, where several are fused; else empty.
    """

    logits: Floats
    streams: Mapping[str, Floats]

    def finite(self) -> NDArray[np.bool_]:
        """Tell for which windows everything is finite, (B,)."""
        rows = [self.logits, *self.streams.values()]
        return np.asarray(np.isfinite(np.concatenate(rows, axis=1)).all(axis=1))


class PublishedHead:
    """The head that a network was trained with, or those of several networks whose predictions are fused."""

    def __init__(self, heads: Mapping[str, Head], fusion: FusionName = "probabilities") -> None:
        """Args: `heads` by input stream, all with the same labels; `fusion` of several."""
        self.heads = dict(heads)
        first, *others = self.heads.values()
        self.labels = first.labels
        # Fused logits stand at 1: each network's own temperature is applied before.
        self.temperature = 1.0 if others else first.temperature
        self._fusion = fusion

    @property
    def channels(self) -> int:
        """Length of what `pooled` returns for a window."""
        return sum(head.weights.shape[1] for head in self.heads.values())

    def __call__(self, features: Features) -> Scores:
        """Return the scores of an engine's features."""
        streams = {stream: head.logits(features[stream]) for stream, head in self.heads.items()}
        if len(streams) == 1:
            return Scores(next(iter(streams.values())), {})
        return Scores(self._fuse(streams), streams)

    def own(self, scores: Scores, index: int) -> dict[str, Floats]:
        """Return each network's own probabilities of one window, (num_classes,), where several are fused."""
        return {stream: softmax(rows[index], self.heads[stream].temperature) for stream, rows in scores.streams.items()}

    def pooled(self, features: Features) -> Floats:
        """Return the mean of the feature maps over places, (B, C) float32; of several networks one after another."""
        return np.concatenate([head.pooled(features[stream]) for stream, head in self.heads.items()], axis=1)

    def _fuse(self, streams: Mapping[str, Floats]) -> Floats:
        """Fuse logits, (B, num_classes) each, as `models.fusion.fuse` does in torch.

        Probabilities are averaged at each network's own temperature. Logits are added as they are, because no
        temperature was fitted for their sum.
        """
        if self._fusion == "logits":
            return np.asarray(np.sum(list(streams.values()), axis=0), np.float32)
        logs = [_log_softmax(rows / np.float32(self.heads[stream].temperature)) for stream, rows in streams.items()]
        return np.asarray(_log_sum_exp(np.stack(logs), axis=0)[0] - np.float32(np.log(len(logs))), np.float32)


def make_head(
    weights: Floats,
    bias: Floats,
    labels: Sequence[str],
    temperature: float = 1.0,
    pool_side: int | None = None,
) -> Head:
    """Return a head of contiguous float32 arrays; `weights` may have further axes of length 1, as a convolution's."""
    flat = np.ascontiguousarray(weights.reshape(len(weights), -1), np.float32)
    return Head(flat, np.ascontiguousarray(bias, np.float32), tuple(labels), temperature, pool_side)


def _log_softmax(logits: Floats) -> Floats:
    return np.asarray(logits - _log_sum_exp(logits, axis=-1), np.float32)


def _log_sum_exp(values: Floats, axis: int) -> Floats:
    """Return log(sum(exp(values))) along an axis, which stays with length 1."""
    largest = values.max(axis=axis, keepdims=True)
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite stays so, and is counted by the caller
        return np.asarray(largest + np.log(np.exp(values - largest).sum(axis=axis, keepdims=True)), np.float32)
