"""Temperature scaling: fits the temperature of a network's softmax, and stores it in its checkpoint.

Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017), section 4.2: logits are divided by a temperature
before the softmax, which does not change the order of the classes. The temperature is fitted on samples that were not
used for training, so that a confidence is the share of right answers.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from msgspec import structs
from torch import Tensor

from stream_i3d.errors import CheckpointError, ConfigError
from stream_i3d.models.checkpoint import update_spec
from stream_i3d.models.spec import carried_checkpoint, read_spec, resolve_checkpoint
from stream_i3d.training.config import TrainConfig
from stream_i3d.training.evaluation import (
    Network,
    Progress,
    data_name,
    no_progress,
    score_videos,
    videos_for,
    with_clips,
)
from stream_i3d.training.metrics import expected_calibration_error, negative_log_likelihood
from stream_i3d.training.results import Calibration

MIN_SAMPLES = 20
MIN_SAMPLES_PER_CLASS = 2
"""With fewer samples, in total or on average per class, a fitted temperature is not reliable."""

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.25, 20.0
"""Limits of the temperature. If all samples are right, the likelihood grows as the temperature falls, without end,
but no set is large enough to justify that; logits are multiplied by 4 at most."""

_GOLDEN = (math.sqrt(5) - 1) / 2
_TOLERANCE = 1e-6  # of the logarithm of the temperature


def enough_samples(samples: int, classes: int) -> bool:
    """Return whether there are enough samples to fit a temperature."""
    return samples >= max(MIN_SAMPLES, MIN_SAMPLES_PER_CLASS * classes)


def fit_temperature(logits: Tensor, labels: Tensor) -> float | None:
    """Return the temperature with the highest likelihood of the true classes.

    The logits must be those of single clips, one a video, because a live window is a single clip. Averages over a
    video's clips have another temperature.

    Args:
        logits: (N, C) float, finite: the network's output for samples that it was not trained on.
        labels: (N,) int64 in [0, C).

    Returns:
        A value in [MIN_TEMPERATURE, MAX_TEMPERATURE]; None if there are too few samples (`enough_samples`).
    """
    if not enough_samples(*logits.shape):
        return None
    logits = logits.double().cpu()
    labels = labels.cpu()

    def loss(log_temperature: float) -> float:
        return float(torch.nn.functional.cross_entropy(logits / math.exp(log_temperature), labels))

    # The loss is convex in 1 / T, so it is unimodal in log T as well.
    return math.exp(_lowest(loss, math.log(MIN_TEMPERATURE), math.log(MAX_TEMPERATURE)))


def calibrate(logits: Tensor, labels: Tensor, before: float = 1.0) -> Calibration | None:
    """Fit a temperature and measure what it changes.

    Args:
        logits: (N, C) float of single clips.
        labels: (N,) int64.
        before: The temperature in use.

    Returns:
        The fit and its effect; None if there are too few samples.
    """
    temperature = fit_temperature(logits, labels)
    if temperature is None:
        return None
    old, new = (logits.double().div(value).softmax(dim=1) for value in (before, temperature))
    return Calibration(
        temperature=temperature,
        before=before,
        samples=len(labels),
        ece_before=expected_calibration_error(old, labels),
        ece=expected_calibration_error(new, labels),
        nll_before=negative_log_likelihood(old, labels),
        nll=negative_log_likelihood(new, labels),
    )


def _lowest(loss: Callable[[float], float], low: float, high: float) -> float:
    """Return the minimum of a unimodal function in [low, high] by golden-section search."""
    ends = (low, high)
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = loss(left), loss(right)
    while high - low > _TOLERANCE:
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = loss(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = loss(right)
    return min((*ends, (low + high) / 2), key=loss)


def check_calibratable(checkpoint: str) -> None:
    """Check that a temperature can be stored in a checkpoint.

    Raises:
        CheckpointError: There is no such file, it is the packaged checkpoint, or it has no spec.
    """
    path = resolve_checkpoint(checkpoint)
    remedy = f"make a copy by `stream-i3d weights convert {checkpoint} --output FILE.safetensors`, and calibrate that"
    if path.samefile(carried_checkpoint()):
        raise CheckpointError(f"--calibrate: {checkpoint} comes with the package and is not written to: {remedy}")
    if read_spec(path) is None:
        raise CheckpointError(f"--calibrate: {path.name} has no place for a temperature: {remedy}")


def calibrate_network(network: Network, config: TrainConfig, progress: Progress = no_progress) -> Calibration:
    """Fit a network's temperature on the middle clip of each validation video; the network is not changed.

    Raises:
        ConfigError: There is no validation set, it is too small, or its classes are others.
    """
    one = with_clips(config, 1, 1)
    dataset = videos_for(network, one, None)
    scored = score_videos(network, dataset, one, "score", lambda done, total: progress("calibrating", done, total))
    found = calibrate(scored.single, scored.targets, network.spec.temperature)
    if found is None:
        need = max(MIN_SAMPLES, MIN_SAMPLES_PER_CLASS * network.spec.num_classes)
        raise ConfigError(
            f"--calibrate: {data_name(config)} has {len(scored.indices)} videos, and fewer than {need} say too little: "
            "give more in data.val or by data.val_fraction, or leave out --calibrate"
        )
    return found


def store_calibration(checkpoint: str, calibration: Calibration, data: str) -> str:
    """Write a temperature into a checkpoint, and its origin into the provenance.

    Args:
        checkpoint: One that `check_calibratable` accepts.
        calibration: The fitted temperature.
        data: Name of the data that it was fitted on, for messages.

    Returns:
        A line for the user about what changed.

    Raises:
        CheckpointError: The file cannot be written.
    """
    path = resolve_checkpoint(checkpoint)
    spec = read_spec(path)
    assert spec is not None
    note = (
        f"temperature {calibration.temperature:.3f} (was {calibration.before:.3f}), on {calibration.samples} clips of "
        f"{data}: calibration error {calibration.ece_before:.1%} -> {calibration.ece:.1%}, negative log likelihood "
        f"{calibration.nll_before:.3f} -> {calibration.nll:.3f}"
    )
    provenance = {**spec.provenance, "calibration": note}
    calibrated = structs.replace(
        spec,
        temperature=calibration.temperature,
        calibration="validation",
        min_confidence=None,  # a threshold is recommended only for an uncalibrated checkpoint
        provenance=provenance,
    )
    update_spec(path, calibrated)
    return note
