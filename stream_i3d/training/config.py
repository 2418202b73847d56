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
from stream_i3d.settings import Section, load_settings, parse_overrides

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
    """Generated scenes in place of videos (stream_i3d.scenes): an epoch shows `clips` clips, `fresh` of them new.

    Of the first `plain` clips of a run, ever fewer are plain ones, with large things and a perfect camera: from noisy
    pictures of small things alone, a network learned nothing in 2,600 steps.
    """

    clips: Positive = 2048
    fresh: Positive = 584
    plain: Annotated[int, Meta(ge=0)] = 0
    held_out: Positive = 320
    size: tuple[Positive, Positive] | None = None  # (width, height); None: a mix of a camera's and the network's own

    def __post_init__(self) -> None:
        """Check that an epoch's new clips are among its clips."""
        if self.fresh > self.clips:
            raise ValueError(f"fresh {self.fresh} must not be above clips {self.clips}")


class DataConfig(Section, frozen=True, kw_only=True):
    """Where clips come from.

    `train` and `val` are each a folder with a folder per class, or a file with a line per video: `path label` or
    `path frames label`, separated by blanks or by commas; `root` is what paths in such files are relative to
    (default: the file's folder). Without `val`, `val_fraction` of each class is set aside, chosen by the seed.
    `labels` fixes the classes' order: a carried list or a text file; else it is that of the checkpoint if it has all
    of them, else alphabetical. `cache` is a folder that keeps decoded frames between epochs and runs. `workers`
    decode beside the training.
    """

    source: Literal["videos", "scenes"] = "videos"
    train: str | None = None
    val: str | None = None
    val_fraction: Annotated[float, Meta(ge=0, lt=1)] = 0.2
    root: str | None = None
    labels: str | None = None
    cache: str | None = None
    workers: Annotated[int, Meta(ge=0, le=256)] = 2
    prefetch: Positive = 2
    flow: FlowName = "dis"
    scenes: SceneConfig = SceneConfig()


class ClipConfig(Section, frozen=True, kw_only=True):
    """A clip's make, over what the checkpoint or the architecture says (None), and how clips are placed in a video.

    Training takes `num_clips` clips at random places; validation one from the middle; tests `test_clips` clips spread
    evenly by `test_crops` crops (1: centre; 3: along the longer side, at `short_side`, as the published tests do).
    """

    sample_fps: Annotated[float, Meta(ge=1, le=240)] | None = None
    clip_len: Annotated[int, Meta(ge=8, le=1024)] | None = None
    frame_interval: Annotated[int, Meta(ge=1, le=64)] | None = None
    short_side: Annotated[int, Meta(ge=32, le=4096)] | None = None
    crop_size: Annotated[int, Meta(ge=32, le=4096)] | None = None
    num_clips: Positive = 1
    test_clips: Positive = 10
    test_crops: Literal[1, 3] = 3


class AugmentConfig(Section, frozen=True, kw_only=True):
    """What is done to training clips, alike for all frames of a clip.

    `crop`: `random` (crop_size out of short_side), `multi-scale` (MMAction2's: a corner or the centre, sides `scales`
    of the shorter one, resized to crop_size), or `centre`. `flip` is the probability of mirroring left and right;
    classes in `flip_keep` are never mirrored, and those in `flip_swap` pairs (such as [left, right]) change places.
    The jitters are largest relative changes; `gray` is a probability.
    """

    crop: Literal["random", "multi-scale", "centre"] = "random"
    scales: tuple[Share, ...] = (1.0, 0.8)
    flip: Fraction = 0.5
    flip_keep: tuple[str, ...] = ()
    flip_swap: tuple[tuple[str, str], ...] = ()
    brightness: Fraction = 0.2
    contrast: Fraction = 0.2
    saturation: Fraction = 0.2
    hue: Annotated[float, Meta(ge=0, le=0.5)] = 0.0
    gray: Fraction = 0.0


class NetworkConfig(Section, frozen=True, kw_only=True):
    """The network to train.

    `weights`: a checkpoint to start from (`motion`, a name of `weights list`, a file); `inflate`: a 2D network's
    state dict to inflate; neither: from scratch. `regime` is the paper's (section 4, table 4): `full` trains all;
    `fixed` only the last layers, on the features of a network that stays as it is; `freeze` all parts after
    `freeze_until` (a module's name). `head` is `fixed` with the features computed once, of `feature_clips` clips of
    each video (one from its middle, the others augmented), and kept for later runs: minutes on a CPU.
    """

    name: str = "i3d"
    weights: str | None = None
    inflate: str | None = None
    width: Annotated[float, Meta(gt=0, le=16)] | None = None
    options: dict[str, OptionValue] = {}
    regime: Literal["full", "fixed", "freeze", "head"] = "full"
    feature_clips: Positive = 4
    freeze_until: str | None = None
    batch_norm: Literal["train", "frozen"] = "train"
    batch_norm_momentum: Share | None = None

    def __post_init__(self) -> None:
        """Check that what starts the network and what is frozen of it are said once."""
        if self.weights is not None and self.inflate is not None:
            raise ValueError("weights and inflate both say what to start from: give one of them")
        if (self.regime == "freeze") != (self.freeze_until is not None):
            raise ValueError("regime freeze and freeze_until belong together: give both or neither")


class OptimizerConfig(Section, frozen=True, kw_only=True):
    """`lr` is that of a whole batch. `lr_factors` scale it by the start of a parameter's name; the longest counts."""

    name: Literal["sgd", "adam", "adamw"] = "adamw"
    lr: Rate = 1e-3
    momentum: Annotated[float, Meta(ge=0, lt=1)] = 0.9
    nesterov: bool = False
    weight_decay: Weight = 1e-4
    lr_factors: dict[str, Weight] = {}


class ScheduleConfig(Section, frozen=True, kw_only=True):
    """The learning rate over the run: `step` multiplies it by `gamma` at each milestone; others end at zero.

    Milestones and warm-up are in epochs, and may be fractions; `auto`: one, a tenth of the run at most.
    """

    name: Literal["constant", "step", "cosine", "linear"] = "cosine"
    milestones: tuple[Rate, ...] = ()
    gamma: Share = 0.1
    warmup: Weight | Auto = 0.0
    warmup_start: Share = 0.1

    def __post_init__(self) -> None:
        """Check that a step schedule has steps."""
        if (self.name == "step") != bool(self.milestones):
            raise ValueError("schedule step needs milestones, such as [40, 80], and no other schedule takes them")


class LossConfig(Section, frozen=True, kw_only=True):
    """Cross-entropy. `class_weights`: `balanced`, or a factor by label (others 1).

    `label_smoothing` `auto` is 0.1 from 500 clips on, and 0 below.
    """

    label_smoothing: Annotated[float, Meta(ge=0, lt=1)] | Auto = 0.0
    class_weights: Literal["balanced"] | dict[str, Weight] | None = None


class RunConfig(Section, frozen=True, kw_only=True):
    """The run itself.

    `batch_size` is the number of videos behind one step, over all processes and `accumulate` parts; `auto` takes at
    most 16, and fewer where these would leave less than five steps an epoch, in parts of at most 8. `resize_from`
    trains the first part of the run on smaller clips: pairs of (share of the run, side in pixels), such as [[0, 48],
    [0.4, 64]]. `ema` keeps a moving average of the weights with this decay, which is what is validated and saved as
    best. `metric` chooses the best checkpoint; where it is equal, the lower loss does. `live_check` plays validation
    videos through the live path at the end.
    """

    epochs: Annotated[float, Meta(gt=0)] = 20
    batch_size: Positive | Auto = "auto"
    accumulate: Positive | Auto = 1
    clip_gradient: Rate | None = None
    ema: Annotated[float, Meta(gt=0, lt=1)] | None = None
    resize_from: tuple[tuple[Fraction, Annotated[int, Meta(ge=32)]], ...] = ()
    seed: Annotated[int, Meta(ge=0, lt=2**31)] = 0
    deterministic: bool = False
    device: str = "auto"
    precision: Precision = "auto"
    threads: Annotated[int, Meta(ge=0, le=1024)] = 0
    validate_every: Positive = 1
    save_every: Positive | None = None
    metric: Literal["acc@1", "mean_class_accuracy", "loss"] = "acc@1"
    tensorboard: bool = True
    live_check: bool = True

    def __post_init__(self) -> None:
        """Check that a step can be cut into its parts."""
        if "auto" not in (self.batch_size, self.accumulate) and settled(self.batch_size) % settled(self.accumulate):
            raise ValueError(f"batch_size {self.batch_size} must be a multiple of accumulate {self.accumulate}")


class TrainConfig(Section, frozen=True, kw_only=True):
    """Everything `train` can be told; it stands in every checkpoint that it writes."""

    output: str = "runs/train"
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
