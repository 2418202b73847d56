"""Features of videos from a frozen network, computed once, to train its last layer on.

The network runs in its live form and precision (BatchNorm folded). The input of its last layer is averaged over time
and space, because averaging and a linear layer commute; this is checked on the first clips. Features are kept on disk
under a hash of all that they depend on, so that a second training starts at once.

    FOLDER/ab/abcdef....npz     (clips, C) float32 features of one variant of one video, and its label
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from zipfile import BadZipFile

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from stream_i3d.errors import ConfigError
from stream_i3d.inference.torch_engine import MixedPrecision
from stream_i3d.inference.two_stream import stream_preprocessing
from stream_i3d.models.head import HasHeads
from stream_i3d.preprocess import Preprocessing
from stream_i3d.training.config import DataConfig
from stream_i3d.training.loading import Batch, ClipDataset, Sample, SampleKey, make_loader

log = logging.getLogger(__name__)

FEATURES = "features"
"""The stream's name in a sample of features."""

_VERSION = 1
"""Increased whenever the same video gives other features."""

_TOLERANCE = 0.02  # share of the largest logit: averaging first rounds differently


class FeatureDataset:
    """A `ClipDataset` of features: each epoch uses another variant of each video.

    Args:
        labels: The classes.
        variants: The variants of each item: (clips, C) float32 and a class, which mirroring may have changed.
        targets: The class of each item.
    """

    def __init__(
        self, labels: tuple[str, ...], variants: Sequence[Sequence[tuple[Tensor, int]]], targets: Sequence[int]
    ) -> None:
        self.labels, self.targets = labels, tuple(targets)
        self._variants = variants

    def __len__(self) -> int:
        """Items in an epoch."""
        return len(self.targets)

    def __getitem__(self, key: SampleKey) -> Sample:
        """Return the variant for the epoch of the key."""
        variants = self._variants[key.index]
        clips, label = variants[(key.epoch + key.index) % len(variants)]
        return {"clips": {FEATURES: clips}, "label": label, "index": key.index}

    def subset(self, indices: Sequence[int]) -> FeatureDataset:
        """Return some of the items, in the given order."""
        return FeatureDataset(
            self.labels, [self._variants[index] for index in indices], [self.targets[index] for index in indices]
        )

    def without_augmentation(self) -> FeatureDataset:
        """Return the items with their first variant only, the one without augmentation."""
        return FeatureDataset(self.labels, [variants[:1] for variants in self._variants], self.targets)

    def joined(self, other: FeatureDataset) -> FeatureDataset:
        """Return the items of both."""
        return FeatureDataset(self.labels, [*self._variants, *other._variants], [*self.targets, *other.targets])


class FeatureStore:
    """A folder of features.

    Args:
        folder: Created at the first write; None stores nothing.
        recipe: All that the features depend on besides the video: network, preprocessing, augmentation.
    """

    def __init__(self, folder: Path | None, recipe: object) -> None:
        self._folder = folder
        self._recipe = msgspec.json.encode(recipe)

    def get(self, video: str, variant: str) -> tuple[Tensor, str] | None:
        """Return the (clips, C) float32 features and the label of a variant; None if they are not stored."""
        file = self._file(video, variant)
        if file is None:
            return None
        try:
            with file.open("rb") as stream, np.load(stream, allow_pickle=False) as kept:
                return torch.from_numpy(kept["features"]), str(kept["label"])
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):  # missing or incomplete
            return None

    def put(self, video: str, variant: str, features: Tensor, label: str) -> None:
        """Store a variant's features; if the folder is not writable, log that once and store nothing."""
        file = self._file(video, variant)
        if file is None:
            return
        partial = file.with_name(f".{file.stem}.{os.getpid()}.partial")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as stream:
                np.savez(stream, features=features.numpy(), label=np.array(label))
            partial.replace(file)
        except OSError as error:
            log.warning("features are not kept in %s: %s", self._folder, error.strerror or error)
            self._folder = None

    def _file(self, video: str, variant: str) -> Path | None:
        """Return the file of a variant's features; None if nothing is stored or the item is not a file."""
        if self._folder is None:
            return None
        path = Path(os.path.abspath(video))  # noqa: PTH100 (resolve() would look at every folder on the way)
        try:
            info = path.stat()
        except (OSError, ValueError):
            return None
        identity = (_VERSION, str(path), info.st_size, info.st_mtime_ns, variant, self._recipe)
        name = hashlib.sha256(repr(identity).encode(errors="surrogateescape")).hexdigest()[:32]
        return self._folder / name[:2] / f"{name}.npz"


class FeatureExtractor:
    """Computes the averaged input of a network's last layer.

    Args:
        model: A network with one linear head, whose output is averaged over time and space.
        preprocessing: Normalisation of its clips.
        device: Device to run on.
        precision: A precision that the device supports.

    Raises:
        ConfigError: The network has several heads.
    """

    def __init__(
        self,
        model: nn.Module,
        preprocessing: Preprocessing,
        device: torch.device,
        precision: str,
    ) -> None:
        if not isinstance(model, HasHeads) or len(model.heads) != 1:
            raise ConfigError(
                f"model.regime head: {type(model).__name__} has no single last layer that can be trained on "
                "features alone; give regime fixed"
            )
        self._mixed = MixedPrecision(model, device, precision)  # type: ignore[arg-type]
        self._head = self._mixed.model.get_submodule(model.heads[0])
        self._preprocessing = preprocessing
        self._checked = False

    def __call__(self, clips: Mapping[str, Tensor]) -> Tensor:
        """Return the input of the head, averaged over time and space.

        Args:
            clips: By stream: (B, T, H, W, C) uint8.

        Returns:
            (B, C) float32 on the CPU.

        Raises:
            ConfigError: The logits of the averaged features are not those of the network.
        """
        inputs = [
            self._mixed.inputs(pixels, stream_preprocessing(stream, self._preprocessing))
            for stream, pixels in clips.items()
        ]
        with _inputs_of(self._head) as seen:
            logits = torch.as_tensor(self._mixed.call(self._mixed.model, *inputs)).float().cpu()
        features = average_features(self._head, seen[-1])
        if not self._checked:
            self._check(features, logits)
        return features.cpu()

    @torch.inference_mode()
    def _check(self, features: Tensor, logits: Tensor) -> None:
        layer = getattr(self._head, "layer", self._head)
        weight = layer.weight
        assert isinstance(weight, Tensor)
        shaped = features.reshape(*features.shape, *[1] * (weight.ndim - 2))
        own = torch.as_tensor(layer(shaped.to(weight.dtype))).flatten(1).float().cpu()
        if own.shape != logits.shape or not torch.allclose(
            own, logits, rtol=0, atol=_TOLERANCE * max(1.0, float(logits.abs().max()))
        ):
            raise ConfigError(
                "model.regime head: this network's logits are not those of its last layer on averaged features; give "
                "regime fixed"
            )
        self._checked = True


def average_features(layer: nn.Module, seen: Tensor) -> Tensor:
    """Return (B, C) float32: the input of a layer, averaged over all axes but batch and channels.

    Args:
        layer: A linear layer (channels last) or a convolution (channels second), or a wrapper with one as `layer`.
        seen: The layer's input.
    """
    inner = getattr(layer, "layer", layer)
    seen = seen.float()
    if isinstance(inner, nn.Linear):
        return seen.flatten(1, -2).mean(dim=1) if seen.ndim > 2 else seen
    return seen.flatten(2).mean(dim=2) if seen.ndim > 2 else seen


def fingerprint(model: nn.Module) -> str:
    """Return a hash of all weights of a network except those of its heads."""
    heads = tuple(f"{head}." for head in model.heads) if isinstance(model, HasHeads) else ()
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if not name.startswith(heads):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} ".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def compute_features(
    variants: Sequence[ClipDataset],
    names: Sequence[str] | None,
    extract: Callable[[Mapping[str, Tensor]], Tensor],
    store: FeatureStore,
    data: DataConfig,
    device: torch.device,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> FeatureDataset:
    """Compute the features of all variants of all items, or read them from the store.

    Args:
        variants: The dataset of each variant; all have the same items. The variant's number is used as the epoch.
        names: The files of the items; None if they are not files, and nothing is stored.
        extract: Function from clips to features.
        store: Store of computed features.
        data: Workers that prepare the clips.
        device: Device of the network.
        progress: Called with the number of variants done and the number in all.

    Returns:
        The features as a data set.
    """
    first = variants[0]
    found: list[list[tuple[Tensor, int]]] = [[] for _ in first.targets]
    done, total = 0, len(variants) * len(first)
    places = {label: index for index, label in enumerate(first.labels)}
    for number, dataset in enumerate(variants):
        kept = {index: store.get(name, _variant_name(number, index)) for index, name in enumerate(names or ())}
        rows = {index: (one[0], places[one[1]]) for index, one in kept.items() if one and one[1] in places}
        missing = [index for index in range(len(first)) if index not in rows]
        done += len(rows)
        progress(done, total)
        for wanted, batch in zip(missing, _one_by_one(dataset, missing, number, data, device), strict=True):
            clips = {stream: one.flatten(0, 1) for stream, one in batch["clips"].items()}  # (N, T, H, W, C)
            features, label = extract(clips), int(batch["label"][0])
            rows[wanted] = (features, label)
            if (
                names and int(batch["index"][0]) == wanted
            ):  # not the features of a video that replaces an unreadable one
                store.put(names[wanted], _variant_name(number, wanted), features, first.labels[label])
            done += 1
            progress(done, total)
        for index, row in rows.items():
            found[index].append(row)
    return FeatureDataset(first.labels, found, first.targets)


def _variant_name(number: int, index: int) -> str:
    """Return the name of a variant; the random numbers of an augmented one depend on the item's index."""
    return f"{number} of {index}" if number else "plain"


def _one_by_one(
    dataset: ClipDataset, items: Sequence[int], epoch: int, data: DataConfig, device: torch.device
) -> Iterator[Batch]:
    if items:
        yield from make_loader(dataset, [[SampleKey(epoch, item)] for item in items], data, device)


@contextmanager
def _inputs_of(layer: nn.Module) -> Iterator[list[Tensor]]:
    """Collect the inputs of a layer inside the block."""
    seen: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        hook.remove()
