"""The nouns of training data: which sample is meant, what it is, and what offers samples."""

from __future__ import annotations

from typing import NamedTuple, Protocol, TypedDict

from torch import Tensor


class SampleKey(NamedTuple):
    """Which sample: the same key gives the same clip, crop and jitter, in any process, at any time."""

    epoch: int
    index: int  # type: ignore[assignment]  # tuple has a method of that name, which nobody needs of a key


class Sample(TypedDict):
    """What a dataset gives.

    Attributes:
        clips: By stream ("rgb", "flow"), in the order in which the network takes them: (N, T, H, W, C) uint8, N clips
            or crops of one video; RGB, or codes of optical flow.
        label: The class.
        index: Of the item in its dataset.
    """

    clips: dict[str, Tensor]
    label: int
    index: int


class Batch(TypedDict):
    """B samples.

    Attributes:
        clips: By stream: (B, N, T, H, W, C) uint8.
        label: (B,) int64.
        index: (B,) int64.
    """

    clips: dict[str, Tensor]
    label: Tensor
    index: Tensor


class ClipDataset(Protocol):
    """A map-style dataset of clips, as torch.utils.data.DataLoader takes it."""

    labels: tuple[str, ...]
    """The classes, in the order of the network's outputs."""

    targets: tuple[int, ...]
    """The class of each item."""

    def __len__(self) -> int:
        """Items in an epoch."""
        ...

    def __getitem__(self, key: SampleKey) -> Sample:
        """Return the sample of a key."""
        ...
