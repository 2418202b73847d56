"""The settings of `train` and `evaluate` as one validated schema.

The defaults suit fine-tuning on a small set of one's own clips. Does not import torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from msgspec import Meta

from stream_i3d.config import FlowName, Fraction, Precision
from stream_i3d.settings import Section, load_settings, parse_overrides, setting

Positive = Annotated[int, Meta(ge=1)]
Share = Annotated[float, Meta(gt=0, le=1)]
Rate = Annotated[float, Meta(gt=0)]
Weight = Annotated[float, Meta(ge=0)]
OptionValue = str | int | float | bool | None
Auto = Literal["auto"]
"""Chosen by the size of the training set (`optimisation.plan_updates`)."""


_Number = TypeVar("_Number", int, float)


def settled(value: _Number | Auto) -> _Number:
    """Return a setting whose "auto" has been replaced by a number."""
    assert not isinstance(value, str), "optimisation.with_plan was not called"
    return value


class SceneConfig(Section, frozen=True, kw_only=True):
    """Generated scenes in place of videos (stream_i3d.scenes).

    A network trained on noisy pictures of small objects alone learned nothing in 2,600 steps; hence `plain`.
    """

    clips: Annotated[Positive, setting("Clips of an epoch.")] = 2048
    fresh: Annotated[Positive, setting("Number of them that are new in each epoch.")] = 584
    plain: Annotated[
        int,
        Meta(ge=0),
        setting("A decreasing share of the first so many clips is plain: large objects, a perfect camera."),
    ] = 0
    held_out: Annotated[Positive, setting("Number of validation clips.")] = 320
    size: Annotated[
        tuple[Positive, Positive] | None,
        setting("[width, height] of the pictures; null: a mix of camera sizes and the network's own size."),
    ] = None

    def __post_init__(self) -> None:
        """Check that an epoch's new clips are among its clips."""
        if self.fresh > self.clips:
            raise ValueError(f"fresh {self.fresh} must not be above clips {self.clips}")


class DataConfig(Section, frozen=True, kw_only=True):
    """Where clips come from.

    A line of a list is `path label` or `path frames label`, separated by blanks or by commas.
    """

    source: Annotated[Literal["videos", "scenes"], setting("Videos, or generated scenes.")] = "videos"
    train: Annotated[str | None, setting("A folder with a folder per class, or a file with a line per video.")] = None
    val: Annotated[str | None, setting("The same for validation; null: a part of `train`.")] = None
    val_fraction: Annotated[float, Meta(ge=0, lt=1), setting("Share of each class for validation, without `val`.")] = (
        0.2
    )
    root: Annotated[str | None, setting("Folder that paths in lists are relative to; null: the list's own.")] = None
    labels: Annotated[
        str | None,
        setting(
            "The classes in order: a packaged list or a text file; null: the checkpoint's order if it has the same "
            "classes, else alphabetical."
        ),
    ] = None
    cache: Annotated[
        str | None, setting("Folder that keeps decoded frames between epochs and runs; null: no cache.")
    ] = None
    workers: Annotated[int, Meta(ge=0, le=256), setting("Processes that decode and prepare clips.")] = 2
    prefetch: Annotated[Positive, setting("Batches that each worker prepares ahead.")] = 2
    flow: Annotated[FlowName, setting("Method of optical flow, for networks with flow input.")] = "dis"
    scenes: SceneConfig = SceneConfig()


class ClipConfig(Section, frozen=True, kw_only=True):
    """Preprocessing of clips, and their places in a video. Validation takes one clip, from the middle."""

    sample_fps: Annotated[
        Annotated[float, Meta(ge=1, le=240)] | None,
        setting("Frames per second; null: the value of the checkpoint or the architecture."),
    ] = None
    clip_len: Annotated[
        Annotated[int, Meta(ge=8, le=1024)] | None,
        setting("Frames in a clip; null: the value of the checkpoint or the architecture."),
    ] = None
    frame_interval: Annotated[
        Annotated[int, Meta(ge=1, le=64)] | None,
        setting("Distance of the frames; null: the value of the checkpoint or the architecture."),
    ] = None
    short_side: Annotated[
        Annotated[int, Meta(ge=32, le=4096)] | None,
        setting("Pixels of the shorter side before cropping; null: the value of the checkpoint or the architecture."),
    ] = None
    crop_size: Annotated[
        Annotated[int, Meta(ge=32, le=4096)] | None,
        setting("Pixels of the crop's side; null: the value of the checkpoint or the architecture."),
    ] = None
    num_clips: Annotated[Positive, setting("Clips of each video in an epoch of training, at random places.")] = 1
    test_clips: Annotated[Positive, setting("Clips of each video in a test, spread evenly.")] = 10
    test_crops: Annotated[
        Literal[1, 3], setting("Crops of each clip in a test: the centre, or three along the longer side.")
    ] = 3


class AugmentConfig(Section, frozen=True, kw_only=True):
    """Augmentation of training clips, the same for all frames of a clip."""

    crop: Annotated[
        Literal["random", "multi-scale", "centre"],
        setting(
            "`random`: crop_size out of short_side; `multi-scale`: a corner or the centre at one of `scales`, "
            "resized; or `centre`."
        ),
    ] = "random"
    scales: Annotated[tuple[Share, ...], setting("Sides of a multi-scale crop, as shares of the shorter side.")] = (
        1.0,
        0.8,
    )
    flip: Annotated[Fraction, setting("Probability of mirroring left and right.")] = 0.5
    flip_keep: Annotated[tuple[str, ...], setting("Classes that are never mirrored.")] = ()
    flip_swap: Annotated[
        tuple[tuple[str, str], ...],
        setting("Pairs of classes that are exchanged by mirroring, such as [left, right]."),
    ] = ()
    brightness: Annotated[Fraction, setting("Largest relative change.")] = 0.2
    contrast: Annotated[Fraction, setting("Largest relative change.")] = 0.2
    saturation: Annotated[Fraction, setting("Largest relative change.")] = 0.2
    hue: Annotated[float, Meta(ge=0, le=0.5), setting("Largest change, as a share of the colour circle.")] = 0.0
    gray: Annotated[Fraction, setting("Probability of a gray clip.")] = 0.0


class NetworkConfig(Section, frozen=True, kw_only=True):
    """The network to train. Without `weights` and `inflate` it is trained from scratch.

    The regime `head` takes minutes on a CPU: features are computed once and kept for later runs.
    """

    name: Annotated[str, setting("The architecture (`stream-i3d models`).")] = "i3d"
    weights: Annotated[
        str | None, setting("A checkpoint to start from: `motion`, a name of `weights list`, or a file.")
    ] = None
    inflate: Annotated[str | None, setting("A 2D network's state dict to inflate and start from.")] = None
    width: Annotated[
        Annotated[float, Meta(gt=0, le=16)] | None,
        setting("Factor on the published channel counts; null: that of the architecture."),
    ] = None
    options: Annotated[dict[str, OptionValue], setting("Further arguments of the architecture.")] = {}
    regime: Annotated[
        Literal["full", "fixed", "freeze", "head"],
        setting(
            "What is trained (paper, section 4): `full`: all layers; `fixed`: the last ones; `freeze`: all after "
            "`freeze_until`; `head`: the last layer, on features that are computed once."
        ),
    ] = "full"
    feature_clips: Annotated[
        Positive, setting("Clips of each video for `head`: one from the middle, the others augmented.")
    ] = 4
    freeze_until: Annotated[str | None, setting("Name of the last frozen module, with `freeze`.")] = None
    batch_norm: Annotated[Literal["train", "frozen"], setting("Whether batch normalisation is trained or frozen.")] = (
        "train"
    )
    batch_norm_momentum: Annotated[
        Share | None, setting("Share of a batch in the running statistics; null: that of the architecture.")
    ] = None

    def __post_init__(self) -> None:
        """Check the start weights and the frozen part."""
        if self.weights is not None and self.inflate is not None:
            raise ValueError("weights and inflate both say what to start from: give one of them")
        if (self.regime == "freeze") != (self.freeze_until is not None):
            raise ValueError("regime freeze and freeze_until belong together: give both or neither")


class OptimizerConfig(Section, frozen=True, kw_only=True):
    """The optimiser."""

    name: Annotated[Literal["sgd", "adam", "adamw"], setting("The method.")] = "adamw"
    lr: Annotated[Rate, setting("Learning rate of a whole batch.")] = 1e-3
    momentum: Annotated[float, Meta(ge=0, lt=1), setting("Momentum of sgd.")] = 0.9
    nesterov: Annotated[bool, setting("Nesterov momentum, with sgd.")] = False
    weight_decay: Annotated[Weight, setting("L2 penalty; with adamw decoupled weight decay.")] = 1e-4
    lr_factors: Annotated[
        dict[str, Weight],
        setting("Factors on the learning rate by prefix of the parameter's name; the longest counts."),
    ] = {}


class ScheduleConfig(Section, frozen=True, kw_only=True):
    """The learning rate over the run."""

    name: Annotated[
        Literal["constant", "step", "cosine", "linear"],
        setting(
            "The learning rate over the run: `step` multiplies it by `gamma` at each milestone; `cosine` and "
            "`linear` end at zero."
        ),
    ] = "cosine"
    milestones: Annotated[tuple[Rate, ...], setting("Epochs of the milestones; may be fractional.")] = ()
    gamma: Annotated[Share, setting("Factor at a milestone.")] = 0.1
    warmup: Annotated[
        Weight | Auto, setting("Epochs of warm-up, may be fractional; `auto`: one, at most a tenth of the run.")
    ] = 0.0
    warmup_start: Annotated[Share, setting("Share of the learning rate at the start of the warm-up.")] = 0.1

    def __post_init__(self) -> None:
        """Check that a step schedule has milestones."""
        if (self.name == "step") != bool(self.milestones):
            raise ValueError("schedule step needs milestones, such as [40, 80], and no other schedule takes them")


class LossConfig(Section, frozen=True, kw_only=True):
    """Cross-entropy."""

    label_smoothing: Annotated[
        Annotated[float, Meta(ge=0, lt=1)] | Auto, setting("`auto`: 0.1 with 500 clips or more, else 0.")
    ] = 0.0
    class_weights: Annotated[
        Literal["balanced"] | dict[str, Weight] | None, setting("`balanced`, or a factor by label (others 1).")
    ] = None


class RunConfig(Section, frozen=True, kw_only=True):
    """The run itself."""

    epochs: Annotated[float, Meta(gt=0), setting("Epochs of the run; may be fractional.")] = 20
    batch_size: Annotated[
        Positive | Auto,
        setting(
            "Videos in one step, over all processes and parts; `auto`: at most 16, and fewer if an epoch would have "
            "less than five steps."
        ),
    ] = "auto"
    accumulate: Annotated[
        Positive | Auto, setting("Parts of a batch, one after the other; `auto`: parts of at most 8.")
    ] = 1
    clip_gradient: Annotated[Rate | None, setting("Largest norm of the gradient; null: no limit.")] = None
    ema: Annotated[
        Annotated[float, Meta(gt=0, lt=1)] | None,
        setting("Decay of a moving average of the weights, which is validated and saved as best; null: none."),
    ] = None
    resize_from: Annotated[
        tuple[tuple[Fraction, Annotated[int, Meta(ge=32)]], ...],
        setting(
            "Train on smaller clips first: pairs of (share of the run, side in pixels), such as [[0, 48], [0.4, 64]]."
        ),
    ] = ()
    seed: Annotated[int, Meta(ge=0, lt=2**31), setting("Seed of all random numbers.")] = 0
    deterministic: Annotated[bool, setting("Whether the same seed gives the same weights, at some cost of speed.")] = (
        False
    )
    device: Annotated[str, setting("auto, cpu, cuda, cuda:N.")] = "auto"
    precision: Annotated[Precision, setting("Number format of the network.")] = "auto"
    threads: Annotated[int, Meta(ge=0, le=1024), setting("CPU threads (0: torch decides).")] = 0
    validate_every: Annotated[Positive, setting("Epochs between validations.")] = 1
    save_every: Annotated[
        Positive | None, setting("Steps between saves of the run's state and last checkpoint; null: once an epoch.")
    ] = None
    metric: Annotated[
        Literal["acc@1", "mean_class_accuracy", "loss"],
        setting("Selects the best checkpoint; of equal ones, the one with the lower loss."),
    ] = "acc@1"
    tensorboard: Annotated[bool, setting("Whether to write TensorBoard files.")] = True
    live_check: Annotated[bool, setting("Whether validation videos are played through the live path at the end.")] = (
        True
    )

    def __post_init__(self) -> None:
        """Check that a batch can be divided into its parts."""
        if "auto" not in (self.batch_size, self.accumulate) and settled(self.batch_size) % settled(self.accumulate):
            raise ValueError(f"batch_size {self.batch_size} must be a multiple of accumulate {self.accumulate}")


class TrainConfig(Section, frozen=True, kw_only=True):
    """All settings of `train`; they are stored in every checkpoint that it writes."""

    output: Annotated[str, setting("Folder of the run.")] = "runs/train"
    data: DataConfig = DataConfig()
    clip: ClipConfig = ClipConfig()
    augment: AugmentConfig = AugmentConfig()
    model: NetworkConfig = NetworkConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    loss: LossConfig = LossConfig()
    run: RunConfig = RunConfig()


def load_train_config(path: Path | None, arguments: Sequence[str] = ()) -> TrainConfig:
    """Read a training's YAML file (None: defaults) with `key=value` arguments over it.

    Raises:
        ConfigError: As `settings.load_settings` and `settings.parse_overrides`.
    """
    return load_settings(TrainConfig, path, parse_overrides(arguments))
