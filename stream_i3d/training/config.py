"""Everything that `train` and `evaluate` can be told: one validated schema, as config.py is for `run`.

Knows no torch and no file but the YAML it is read from. Defaults are those of a fine-tuning on a small set of one's
own clips.
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
"""Settled by the size of the training set (`update_plan`)."""


_Number = TypeVar("_Number", int, float)


def settled(value: _Number | Auto) -> _Number:
    """Return a setting that is "auto" no more."""
    assert not isinstance(value, str), "update_plan.with_plan was not called"
    return value


class SceneConfig(Section, frozen=True, kw_only=True):
    """Generated scenes in place of videos (stream_i3d.scenes).

    From noisy pictures of small things alone, a network learned nothing in 2,600 steps; hence `plain`.
    """

    clips: Annotated[Positive, setting("Clips of an epoch.")] = 2048
    fresh: Annotated[Positive, setting("How many of them are new in each epoch.")] = 584
    plain: Annotated[
        int,
        Meta(ge=0),
        setting("Of the first clips of a run so many, ever fewer, are plain: large things, a perfect camera."),
    ] = 0
    held_out: Annotated[Positive, setting("Clips to validate on.")] = 320
    size: Annotated[
        tuple[Positive, Positive] | None,
        setting("[width, height] of the pictures; null: a mix of a camera's and the network's own."),
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
    val: Annotated[str | None, setting("The same, to validate on; null: a part of `train` is set aside.")] = None
    val_fraction: Annotated[
        float, Meta(ge=0, lt=1), setting("The part of each class that is set aside without `val`.")
    ] = 0.2
    root: Annotated[str | None, setting("Folder that paths in lists are relative to; null: the list's own.")] = None
    labels: Annotated[
        str | None,
        setting(
            "The classes and their order: a carried list or a text file; null: the checkpoint's order if it has "
            "all of them, else alphabetical."
        ),
    ] = None
    cache: Annotated[
        str | None, setting("Folder that keeps decoded frames between epochs and runs; null: none is kept.")
    ] = None
    workers: Annotated[int, Meta(ge=0, le=256), setting("Processes that decode beside the training.")] = 2
    prefetch: Annotated[Positive, setting("Batches that each worker prepares ahead.")] = 2
    flow: Annotated[FlowName, setting("Method of optical flow, for networks that take it.")] = "dis"
    scenes: SceneConfig = SceneConfig()


class ClipConfig(Section, frozen=True, kw_only=True):
    """A clip's make, and how clips are placed in a video. Validation takes one clip, from the middle."""

    sample_fps: Annotated[
        Annotated[float, Meta(ge=1, le=240)] | None,
        setting("Frames per second; null: as the checkpoint or the architecture says."),
    ] = None
    clip_len: Annotated[
        Annotated[int, Meta(ge=8, le=1024)] | None,
        setting("Frames in a clip; null: as the checkpoint or the architecture says."),
    ] = None
    frame_interval: Annotated[
        Annotated[int, Meta(ge=1, le=64)] | None,
        setting("Gap between frames; null: as the checkpoint or the architecture says."),
    ] = None
    short_side: Annotated[
        Annotated[int, Meta(ge=32, le=4096)] | None,
        setting("Pixels of the shorter side before cropping; null: as the checkpoint or the architecture says."),
    ] = None
    crop_size: Annotated[
        Annotated[int, Meta(ge=32, le=4096)] | None,
        setting("Pixels of the crop's side; null: as the checkpoint or the architecture says."),
    ] = None
    num_clips: Annotated[Positive, setting("Clips of each video in an epoch of training, at random places.")] = 1
    test_clips: Annotated[Positive, setting("Clips of each video in a test, spread evenly.")] = 10
    test_crops: Annotated[
        Literal[1, 3], setting("Crops of each clip in a test: the centre, or three along the longer side.")
    ] = 3


class AugmentConfig(Section, frozen=True, kw_only=True):
    """What is done to training clips, alike for all frames of a clip."""

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
        setting("Pairs of classes that change places when mirrored, such as [left, right]."),
    ] = ()
    brightness: Annotated[Fraction, setting("Largest relative change.")] = 0.2
    contrast: Annotated[Fraction, setting("Largest relative change.")] = 0.2
    saturation: Annotated[Fraction, setting("Largest relative change.")] = 0.2
    hue: Annotated[float, Meta(ge=0, le=0.5), setting("Largest change, as a share of the colour circle.")] = 0.0
    gray: Annotated[Fraction, setting("Probability of a grey clip.")] = 0.0


class NetworkConfig(Section, frozen=True, kw_only=True):
    """The network to train. Without `weights` and `inflate` it is trained from scratch.

    `head` takes minutes on a CPU: features are computed once, and kept for later runs.
    """

    name: Annotated[str, setting("The architecture (`stream-i3d models`).")] = "i3d"
    weights: Annotated[
        str | None, setting("A checkpoint to start from: `motion`, a name of `weights list`, or a file.")
    ] = None
    inflate: Annotated[str | None, setting("A 2D network's state dict to inflate and start from.")] = None
    width: Annotated[
        Annotated[float, Meta(gt=0, le=16)] | None,
        setting("Factor on the published channel counts; null: the architecture's own."),
    ] = None
    options: Annotated[dict[str, OptionValue], setting("More arguments of the architecture.")] = {}
    regime: Annotated[
        Literal["full", "fixed", "freeze", "head"],
        setting(
            "What is trained (paper, section 4): `full`: all; `fixed`: the last layers; `freeze`: all after "
            "`freeze_until`; `head`: the last layer, on features that are computed once."
        ),
    ] = "full"
    feature_clips: Annotated[
        Positive, setting("Clips of each video whose features `head` keeps: one from the middle, the others augmented.")
    ] = 4
    freeze_until: Annotated[str | None, setting("Name of the last module that stays as it is, with `freeze`.")] = None
    batch_norm: Annotated[
        Literal["train", "frozen"], setting("Whether batch normalisation learns, or stays as it is.")
    ] = "train"
    batch_norm_momentum: Annotated[
        Share | None, setting("Share of a batch in the running statistics; null: the architecture's own.")
    ] = None

    def __post_init__(self) -> None:
        """Check that what starts the network and what is frozen of it are said once."""
        if self.weights is not None and self.inflate is not None:
            raise ValueError("weights and inflate both say what to start from: give one of them")
        if (self.regime == "freeze") != (self.freeze_until is not None):
            raise ValueError("regime freeze and freeze_until belong together: give both or neither")


class OptimizerConfig(Section, frozen=True, kw_only=True):
    """How weights are updated."""

    name: Annotated[Literal["sgd", "adam", "adamw"], setting("The method.")] = "adamw"
    lr: Annotated[Rate, setting("Learning rate of a whole batch.")] = 1e-3
    momentum: Annotated[float, Meta(ge=0, lt=1), setting("Of sgd.")] = 0.9
    nesterov: Annotated[bool, setting("Nesterov's momentum, of sgd.")] = False
    weight_decay: Annotated[Weight, setting("L2 penalty, or decoupled decay of adamw.")] = 1e-4
    lr_factors: Annotated[
        dict[str, Weight],
        setting("Factors on the learning rate, by the start of a parameter's name; the longest counts."),
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
    milestones: Annotated[tuple[Rate, ...], setting("Epochs, may be fractions.")] = ()
    gamma: Annotated[Share, setting("Factor at a milestone.")] = 0.1
    warmup: Annotated[
        Weight | Auto, setting("Epochs of warm-up, may be a fraction; `auto`: one, a tenth of the run at most.")
    ] = 0.0
    warmup_start: Annotated[Share, setting("Share of the learning rate that the warm-up begins with.")] = 0.1

    def __post_init__(self) -> None:
        """Check that a step schedule has steps."""
        if (self.name == "step") != bool(self.milestones):
            raise ValueError("schedule step needs milestones, such as [40, 80], and no other schedule takes them")


class LossConfig(Section, frozen=True, kw_only=True):
    """Cross-entropy."""

    label_smoothing: Annotated[
        Annotated[float, Meta(ge=0, lt=1)] | Auto, setting("`auto` is 0.1 from 500 clips on, and 0 below.")
    ] = 0.0
    class_weights: Annotated[
        Literal["balanced"] | dict[str, Weight] | None, setting("`balanced`, or a factor by label (others 1).")
    ] = None


class RunConfig(Section, frozen=True, kw_only=True):
    """The run itself."""

    epochs: Annotated[float, Meta(gt=0), setting("May be a fraction.")] = 20
    batch_size: Annotated[
        Positive | Auto,
        setting(
            "Videos behind one step, over all processes and parts; `auto`: at most 16, and fewer where these "
            "would leave less than five steps an epoch."
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
    seed: Annotated[int, Meta(ge=0, lt=2**31), setting("Of all random numbers.")] = 0
    deterministic: Annotated[bool, setting("Whether the same seed gives the same weights, at some cost of speed.")] = (
        False
    )
    device: Annotated[str, setting("auto, cpu, cuda, cuda:N.")] = "auto"
    precision: Annotated[Precision, setting("Numbers that the network computes with.")] = "auto"
    threads: Annotated[int, Meta(ge=0, le=1024), setting("CPU threads (0: torch decides).")] = 0
    validate_every: Annotated[Positive, setting("Epochs between validations.")] = 1
    save_every: Annotated[
        Positive | None, setting("Epochs between checkpoints that are kept; null: the last and the best alone.")
    ] = None
    metric: Annotated[
        Literal["acc@1", "mean_class_accuracy", "loss"],
        setting("Chooses the best checkpoint; where it is equal, the lower loss does."),
    ] = "acc@1"
    tensorboard: Annotated[bool, setting("Whether figures are written for TensorBoard.")] = True
    live_check: Annotated[bool, setting("Whether validation videos are played through the live path at the end.")] = (
        True
    )

    def __post_init__(self) -> None:
        """Check that a step can be cut into its parts."""
        if "auto" not in (self.batch_size, self.accumulate) and settled(self.batch_size) % settled(self.accumulate):
            raise ValueError(f"batch_size {self.batch_size} must be a multiple of accumulate {self.accumulate}")


class TrainConfig(Section, frozen=True, kw_only=True):
    """Everything `train` can be told; it stands in every checkpoint that it writes."""

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
