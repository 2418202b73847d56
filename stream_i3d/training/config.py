"""The settings of `train` and `evaluate` as one validated schema.

The defaults suit fine-tuning on a small set of one's own clips. Does not import torch.
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
"""Chosen by the size of the training set (`optimisation.plan_updates`)."""


_Number = TypeVar("_Number", int, float)


def settled(value: _Number | Auto) -> _Number:
    """Return a setting whose "auto" has been replaced by a number."""
    assert not isinstance(value, str), "optimisation.with_plan was not called"
    return value


class SceneConfig(Section, frozen=True, kw_only=True):
    """Generated scenes in place of videos (stream_i3d.scenes): an epoch has `clips` clips, `fresh` of them new.

    A decreasing share of the first `plain` clips of a run is plain, with large objects and a perfect camera. Without
    them, from noisy pictures of small objects alone, a network learned nothing in 2,600 steps.
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
    `path frames label`, separated by blanks or by commas. Paths in such files are relative to `root` (default: the
    file's folder). Without `val`, `val_fraction` of each class is used for validation, chosen by the seed. `labels`
    sets the order of the classes: a packaged list or a text file. Without it the order is that of the checkpoint, if
    it has the same classes, else alphabetical. `cache` is a folder that keeps decoded frames between epochs and runs.
    `workers` is the number of processes that decode.
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
    """How clips are made and where in a video they are taken; None takes the checkpoint's or the architecture's value.

    Training takes `num_clips` clips at random places, validation one from the middle, tests `test_clips` evenly spaced
    clips by `test_crops` crops (1: centre; 3: along the longer side, at `short_side`, as in the published tests).
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
    """Augmentation of training clips, the same for all frames of a clip.

    `crop`: `random` (crop_size out of short_side), `multi-scale` (MMAction2's: a corner or the centre, sides `scales`
    of the shorter one, resized to crop_size), or `centre`. `flip` is the probability of mirroring left and right;
    classes in `flip_keep` are never mirrored, and pairs in `flip_swap` (such as [left, right]) exchange labels. The
    jitters are the largest relative changes; `gray` is a probability.
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
    state dict to inflate; neither: from scratch. `regime` (Carreira & Zisserman, CVPR 2017, section 4, table 4):
    `full` trains all layers; `fixed` only the last ones; `freeze` all layers after the module `freeze_until`. `head`
    is `fixed` with features that are computed once, from `feature_clips` clips of each video (one from the middle, the
    others augmented), and kept for later runs: it takes minutes on a CPU.
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
        """Check the start weights and the frozen part."""
        if self.weights is not None and self.inflate is not None:
            raise ValueError("weights and inflate both say what to start from: give one of them")
        if (self.regime == "freeze") != (self.freeze_until is not None):
            raise ValueError("regime freeze and freeze_until belong together: give both or neither")


class OptimizerConfig(Section, frozen=True, kw_only=True):
    """`lr` is the learning rate of a whole batch. `lr_factors` scale it by the longest matching name prefix."""

    name: Literal["sgd", "adam", "adamw"] = "adamw"
    lr: Rate = 1e-3
    momentum: Annotated[float, Meta(ge=0, lt=1)] = 0.9
    nesterov: bool = False
    weight_decay: Weight = 1e-4
    lr_factors: dict[str, Weight] = {}


class ScheduleConfig(Section, frozen=True, kw_only=True):
    """The learning rate over the run: `step` multiplies it by `gamma` at each milestone; others end at zero.

    Milestones and warm-up are in epochs and may be fractional. Warm-up `auto` is one epoch, at most a tenth of the run.
    """

    name: Literal["constant", "step", "cosine", "linear"] = "cosine"
    milestones: tuple[Rate, ...] = ()
    gamma: Share = 0.1
    warmup: Weight | Auto = 0.0
    warmup_start: Share = 0.1

    def __post_init__(self) -> None:
        """Check that a step schedule has milestones."""
        if (self.name == "step") != bool(self.milestones):
            raise ValueError("schedule step needs milestones, such as [40, 80], and no other schedule takes them")


class LossConfig(Section, frozen=True, kw_only=True):
    """Cross-entropy. `class_weights`: `balanced`, or a factor by label (others 1).

    `label_smoothing` `auto` is 0.1 for 500 clips or more, else 0.
    """

    label_smoothing: Annotated[float, Meta(ge=0, lt=1)] | Auto = 0.0
    class_weights: Literal["balanced"] | dict[str, Weight] | None = None


class RunConfig(Section, frozen=True, kw_only=True):
    """The run itself.

    `batch_size` is the number of videos in one step, over all processes and `accumulate` parts; `auto` takes at most
    16, fewer if an epoch would have less than five steps, in parts of at most 8. `resize_from` trains the first part of
    the run on smaller clips: pairs of (share of the run, side in pixels), such as [[0, 48], [0.4, 64]]. `ema` is the
    decay of a moving average of the weights, which is then validated and saved as best. `metric` selects the best
    checkpoint; if it is equal, the lower loss decides. `live_check` plays validation videos through the live path at
    the end.
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
        """Check that a batch can be divided into its parts."""
        if "auto" not in (self.batch_size, self.accumulate) and settled(self.batch_size) % settled(self.accumulate):
            raise ValueError(f"batch_size {self.batch_size} must be a multiple of accumulate {self.accumulate}")


class TrainConfig(Section, frozen=True, kw_only=True):
    """All settings of `train`; they are stored in every checkpoint that it writes."""

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
