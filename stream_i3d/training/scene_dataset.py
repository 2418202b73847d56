"""A dataset of generated scenes (`stream_i3d.scenes`): nothing to download, and every epoch has new clips.

Training uses an endless sequence of clips: clip i has label i % 10, and an epoch has `clips` of them, of which `fresh`
are new. A clip that is mirrored or played backwards gets the label of what is then visible.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from stream_i3d.errors import ConfigError
from stream_i3d.preprocess import Preprocessing, prepare_frame
from stream_i3d.scenes import LABELS, render_clip
from stream_i3d.training.config import SceneConfig
from stream_i3d.training.loading import Sample, SampleKey

Pictures = NDArray[np.uint8]
"""(T, H, W, 3) uint8 RGB in [0, 255]."""

TRAIN, HELD_OUT = 1, 2
"""First number of every seed, so that training and held-out clips are never the same."""

_MIRROR, _PERMUTE, _INVERT = 0.5, 0.5, 0.15  # probabilities

_Pair = tuple[str, str]
_LEFT_RIGHT: Final[_Pair] = ("left", "right")
_UP_DOWN: Final[_Pair] = ("up", "down")
_TURNS: Final[_Pair] = ("clockwise", "counter-clockwise")
_DEPTHS: Final[_Pair] = ("nearer", "farther")
_SYMMETRIES: Final[tuple[tuple[int, tuple[_Pair, ...]], ...]] = (
    (2, (_LEFT_RIGHT, _TURNS)),  # reversed axis of (T, H, W, 3), and the labels that are exchanged
    (1, (_UP_DOWN, _TURNS)),
    (0, (_LEFT_RIGHT, _UP_DOWN, _TURNS, _DEPTHS)),  # played backwards
)

_TALLEST = 3.0  # height of the largest camera, in short sides


def camera_sizes(short_side: int) -> tuple[tuple[int, int], ...]:
    """Return the (width, height) of the simulated cameras, all equally likely.

    Most have the size of the network's input, which renders fast; some are larger, like real cameras.
    """
    own = (round(short_side * 4 / 3), short_side)
    wide = (round(short_side * 16 / 9), short_side)
    larger = (2 * short_side, round(1.5 * short_side))
    largest = (4 * short_side, round(_TALLEST * short_side))
    return (own,) * 6 + (wide,) + (larger,) * 2 + (largest,)


class SceneDataset:
    """A `ClipDataset` of generated scenes, one clip a sample.

    Args:
        config: Number of clips, of new clips an epoch, and picture size.
        preprocessing: Preprocessing of the clips.
        streams: Input streams of the network; scenes have "rgb" only.
        seed: Seed of the training clips and their augmentation.
        held_out: Whether these are the validation clips, which are not augmented and do not depend on epoch and seed.
        first: Number of the first held-out clip.
        labels: The classes of `scenes.LABELS` in the order of the network's outputs.

    Raises:
        ConfigError: The streams or the classes are others.
    """

    def __init__(
        self,
        config: SceneConfig,
        preprocessing: Preprocessing,
        streams: Sequence[str] = ("rgb",),
        *,
        seed: int = 0,
        held_out: bool = False,
        first: int = 0,
        labels: Sequence[str] = LABELS,
    ) -> None:
        if tuple(streams) != ("rgb",):
            raise ConfigError(
                f"data.source scenes has RGB alone, and the network takes {' and '.join(streams)}; train it on videos"
            )
        if sorted(labels) != sorted(LABELS):
            raise ConfigError(
                f"data.source scenes has the classes {', '.join(LABELS)}; the network or data.labels has others "
                f"({', '.join(labels[:5])}, ...)"
            )
        self.labels = tuple(labels)
        self._length = config.held_out if held_out else config.clips
        self._fresh, self._plain = config.fresh, config.plain
        self._seed = seed
        self._held_out = held_out
        self._first = first
        self._make = preprocessing
        self._sizes = (config.size,) if config.size is not None else camera_sizes(preprocessing.short_side)
        self._place = [self.labels.index(label) for label in LABELS]
        self._mirror_labels = [_mirror_labels(self.labels, pairs) for _, pairs in _SYMMETRIES]
        self._rendered: dict[int, tuple[int, Pictures]] = {}  # the newest clip by number % clips
        self.targets = tuple(self._label(self._number(SampleKey(0, index))) for index in range(self._length))
        self.names = tuple(f"scene {self._number(SampleKey(0, index))}" for index in range(self._length))
        self.skipped: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        """Return the number of clips in an epoch."""
        return self._length

    def __getitem__(self, key: SampleKey) -> Sample:
        """Return the sample of a key; its label may differ from `targets`, which has the unmirrored first epoch."""
        number = self._number(key)
        pictures, label = self._clip(number), self._label(number)
        if not self._held_out:
            pictures, label = self._augmented(
                pictures, label, np.random.default_rng([self._seed, key.epoch, key.index])
            )
        return {"clips": {"rgb": torch.from_numpy(pictures.copy())[None]}, "label": label, "index": key.index}

    def __getstate__(self) -> dict[str, object]:
        """Leave out rendered clips; another process renders its own."""
        return self.__dict__ | {"_rendered": {}}

    def _number(self, key: SampleKey) -> int:
        return self._first + key.index if self._held_out else key.epoch * self._fresh + key.index

    def _label(self, number: int) -> int:
        return self._place[number % len(LABELS)]

    def _clip(self, number: int) -> Pictures:
        """Return a clip, rendered once for all epochs that use it."""
        slot = number % self._length
        kept, pictures = self._rendered.get(slot, (None, None))
        if kept != number or pictures is None:
            pictures = self._render(number)
            self._rendered[slot] = number, pictures
        return pictures

    def _render(self, number: int) -> Pictures:
        make = self._make
        seed = (HELD_OUT, 0, number) if self._held_out else (TRAIN, self._seed, number)
        rng = np.random.default_rng([*seed, 1])
        size = self._sizes[rng.integers(len(self._sizes))]
        plain = not self._held_out and number < self._plain * rng.random()  # less and less often
        label = LABELS[number % len(LABELS)]
        frames = render_clip(seed, label, make.clip_len, make.sample_fps / make.frame_interval, size, plain=plain)
        return np.stack([prepare_frame(frame, make) for frame in frames])

    def _augmented(self, pictures: Pictures, label: int, rng: np.random.Generator) -> tuple[Pictures, int]:
        """Mirror a clip in space and time, adapt its label, and change its colours."""
        for (axis, _), becomes in zip(_SYMMETRIES, self._mirror_labels, strict=True):
            if rng.random() < _MIRROR:
                pictures, label = np.flip(pictures, axis), becomes[label]
        if rng.random() < _PERMUTE:
            pictures = pictures[..., rng.permutation(3)]
        if rng.random() < _INVERT:
            pictures = 255 - pictures
        return pictures, label


def _mirror_labels(labels: Sequence[str], pairs: Sequence[_Pair]) -> list[int]:
    """Return the label that replaces each label when those of `pairs` are exchanged."""
    swapped = dict(pairs) | {other: one for one, other in pairs}
    return [labels.index(swapped.get(label, label)) for label in labels]
