"""Calibrates a checkpoint: its validation set through its network, a temperature fitted, and stored in its file."""

from __future__ import annotations

from msgspec import structs

from stream_i3d.errors import CheckpointError, ConfigError
from stream_i3d.models.checkpoint import update_spec
from stream_i3d.models.spec import carried_checkpoint, read_spec, resolve_checkpoint
from stream_i3d.training.calibration import MIN_SAMPLES, MIN_SAMPLES_PER_CLASS, Calibration, calibrate
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


def check_calibratable(checkpoint: str) -> None:
    """Check that a temperature can be stored in a checkpoint.

    Raises:
        CheckpointError: There is no such file, it comes with the package, or it carries no spec.
    """
    path = resolve_checkpoint(checkpoint)
    remedy = f"make a copy by `stream-i3d weights convert {checkpoint} --output FILE.safetensors`, and calibrate that"
    if path.samefile(carried_checkpoint()):
        raise CheckpointError(f"--calibrate: {checkpoint} comes with the package and is not written to: {remedy}")
    if read_spec(path) is None:
        raise CheckpointError(f"--calibrate: {path.name} has no place for a temperature: {remedy}")


def calibrate_network(network: Network, config: TrainConfig, progress: Progress = no_progress) -> Calibration:
    """Fit a network's temperature on one clip from the middle of each video of the validation set; change nothing.

    Raises:
        ConfigError: There is no validation set, it is too small, or it is of other classes.
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
    """Write a temperature into a checkpoint, and into its provenance where it comes from.

    Args:
        checkpoint: One that `check_calibratable` accepts.
        calibration: What was found.
        data: What it was found on, for people.

    Returns:
        What changed, for people.

    Raises:
        CheckpointError: The file cannot be written.
    """
    path = resolve_checkpoint(checkpoint)
    spec = read_spec(path)
    assert spec is not None
    told = (
        f"temperature {calibration.temperature:.3f} (was {calibration.before:.3f}), on {calibration.samples} clips of "
        f"{data}: calibration error {calibration.ece_before:.1%} -> {calibration.ece:.1%}, negative log likelihood "
        f"{calibration.nll_before:.3f} -> {calibration.nll:.3f}"
    )
    provenance = {**spec.provenance, "calibration": told}
    calibrated = structs.replace(
        spec,
        temperature=calibration.temperature,
        calibration="validation",
        min_confidence=None,  # only recommended for want of calibration
        provenance=provenance,
    )
    update_spec(path, calibrated)
    return told
