"""The end of a training: the checkpoint's confidences are calibrated, or said not to be, and tried on the live path."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, cast

import msgspec
from msgspec import Struct, structs

from stream_i3d.config import DEFAULT_MIN_CONFIDENCE
from stream_i3d.models.checkpoint import load_checkpoint, update_spec
from stream_i3d.models.spec import ModelSpec
from stream_i3d.training.calibration import MIN_SAMPLES, MIN_SAMPLES_PER_CLASS, fit_temperature
from stream_i3d.training.config import TrainConfig
from stream_i3d.training.datasets import Datasets
from stream_i3d.training.evaluation import NamedDataset, Network
from stream_i3d.training.head_only import HeadTraining
from stream_i3d.training.outlook import Outlook, make_outlook, play_validation, recommend_threshold

OUTLOOK = "outlook.json"
"""The file's name in a run's folder."""

Progress = Callable[[str, int, int], None]


class Ending(Struct, frozen=True, kw_only=True):
    """What a training ends with.

    Attributes:
        architecture: Of the network.
        streams: What it sees.
        calibration: How its temperature was found; "none": not at all.
        samples: Videos that were looked at for that.
        needed: How many it takes.
        live: What live use will be like; None where that was not looked at.
    """

    schema: Literal["stream-i3d/outlook/1"] = "stream-i3d/outlook/1"
    architecture: str
    streams: tuple[str, ...]
    calibration: Literal["validation", "cross-validation", "none"]
    samples: int
    needed: int
    live: Outlook | None

    def lines(self) -> list[str]:
        """Return it for people, a line each."""
        if self.calibration == "none":
            few = f"{self.samples or 'no'} validation videos, {self.needed} are needed"
            told = (
                f"not calibrated ({few}): confidences are no shares of right answers; give more by data.val or "
                "data.val_fraction, or train with model.regime=head, which calibrates by cross-validation"
            )
        else:
            told = f"calibrated by {self.calibration} on {self.samples} videos"
        return [told, *(self.live.lines() if self.live else [])]


def finish(
    checkpoint: Path, config: TrainConfig, data: Datasets, head: HeadTraining | None, progress: Progress
) -> Ending:
    """Calibrate a trained checkpoint where its validation set was too small for that, and try it on the live path.

    What is found is written into the checkpoint: the temperature, how it was found, and a live threshold where it was
    not.

    Args:
        checkpoint: The file to use, as the run left it.
        config: Of the training.
        data: Its videos.
        head: Where only the head was trained: affords cross-validation.
        progress: Told what is going on, how much of it is done, and of how much.
    """
    model, spec = load_checkpoint(checkpoint)
    held_out = 0 if data.val is None else len(data.val)
    samples = held_out
    if spec.calibration == "none" and head is not None:
        logits, labels = head.cross_validate(progress)
        temperature = fit_temperature(logits, labels)
        if temperature is not None:
            samples = len(labels)
            spec = structs.replace(spec, temperature=temperature, calibration="cross-validation")
    network = Network(model, spec, config, checkpoint.name)
    live = None
    if data.val is not None and config.run.live_check and network.streams == ("rgb",):
        live, spec = _try_live(network, spec, cast("NamedDataset", data.val), config, progress)
    how = f"by {spec.calibration} on" if spec.calibrated else "none:"
    note = f"{how} {samples} videos"
    spec = structs.replace(spec, provenance={**spec.provenance, "calibration": note})
    update_spec(checkpoint, spec)
    assert spec.calibration is not None
    return Ending(
        architecture=spec.architecture,
        streams=network.streams,
        calibration=spec.calibration,
        samples=samples,
        needed=max(MIN_SAMPLES, MIN_SAMPLES_PER_CLASS * spec.num_classes),
        live=live,
    )


def _try_live(
    network: Network, spec: ModelSpec, dataset: NamedDataset, config: TrainConfig, progress: Progress
) -> tuple[Outlook, ModelSpec]:
    """Return what live use will be like, and the spec with a threshold where confidences are not calibrated."""
    videos, windows = play_validation(
        network,
        dataset,
        config.data.source == "scenes",
        config.run.seed,
        lambda done, total: progress("live check", done, total),
    )
    threshold = None if spec.calibrated else recommend_threshold(windows, spec.num_classes)
    spec = structs.replace(spec, min_confidence=threshold)
    used = DEFAULT_MIN_CONFIDENCE if threshold is None else threshold
    return make_outlook(videos, windows, used, threshold is not None), spec


def write_outlook(path: Path, ending: Ending) -> None:
    """Write what a training ended with as JSON."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(ending)) + b"\n")
