"""Features of videos, computed once by the network that is kept as it is, for training its last layer alone.

The network runs in the form and precision in which it runs live (BatchNorm folded, at rest), and what its last layer is
given is averaged over time and places: averaging and a linear layer commute. That is checked on the first clips of each
computation. Features are kept on disk by all that they depend on, so that a second training starts at once.

    FOLDER/ab/abcdef....npz     (clips, C) float32 of one look at one video, and its label
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
from stream_i3d.inference.engine import MixedPrecision
from stream_i3d.inference.two_stream import stream_preprocessing
from stream_i3d.models.head import HasHeads
from stream_i3d.preprocess import Preprocessing
from stream_i3d.training.config import DataConfig
from stream_i3d.training.loading import Batch, ClipDataset, Sample, SampleKey, make_loader

log = logging.getLogger(__name__)

FEATURES = "features"
"""The stream's name in a sample of features."""

_VERSION = 1
"""Raised whenever the same video gives other features."""

_TOLERANCE = 0.02  # of the logits' largest: averaging first rounds differently, in half precision too


class FeatureDataset:
    """A `ClipDataset` of features: each epoch shows another look at each video.

    Args:
        labels: The classes.
        looks: Of each item its looks: (clips, C) float32 and the class it shows (a mirrored clip may show another).
        targets: The class of each item.
    """

    def __init__(
        self, labels: tuple[str, ...], looks: Sequence[Sequence[tuple[Tensor, int]]], targets: Sequence[int]
    ) -> None:
        self.labels, self.targets = labels, tuple(targets)
        self._looks = looks

    def __len__(self) -> int:
        """Items in an epoch."""
        return len(self.targets)

    def __getitem__(self, key: SampleKey) -> Sample:
        """Return the look that the key's epoch shows."""
        looks = self._looks[key.index]
        clips, label = looks[(key.epoch + key.index) % len(looks)]
        return {"clips": {FEATURES: clips}, "label": label, "index": key.index}

    def subset(self, indices: Sequence[int]) -> FeatureDataset:
        """Return some of the items, in the given order."""
        return FeatureDataset(
            self.labels, [self._looks[index] for index in indices], [self.targets[index] for index in indices]
        )

    def first_looks(self) -> FeatureDataset:
        """Return the items with their first look only, the one without augmentation."""
        return FeatureDataset(self.labels, [looks[:1] for looks in self._looks], self.targets)

    def joined(self, other: FeatureDataset) -> FeatureDataset:
        """Return the items of both."""
        return FeatureDataset(self.labels, [*self._looks, *other._looks], [*self.targets, *other.targets])


class FeatureStore:
    """A folder of features, by all that they depend on.

    Args:
        folder: Made when first written to; None keeps nothing.
        recipe: What the features depend on besides the video: network, clips, augmentation.
    """

    def __init__(self, folder: Path | None, recipe: object) -> None:
        self._folder = folder
        self._recipe = msgspec.json.encode(recipe)

    def get(self, video: str, look: str) -> tuple[Tensor, str] | None:
        """Return the (clips, C) float32 features and the label of a look; None where they are not kept."""
        file = self._file(video, look)
        if file is None:
            return None
        try:
            with file.open("rb") as stream, np.load(stream, allow_pickle=False) as kept:
                return torch.from_numpy(kept["features"]), str(kept["label"])
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):  # none yet, or cut short
            return None

    def put(self, video: str, look: str, features: Tensor, label: str) -> None:
        """Keep a look's features; a folder that cannot be written to keeps nothing, and says so once."""
        file = self._file(video, look)
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

    def _file(self, video: str, look: str) -> Path | None:
        """Return where a look's features lie; None where nothing is kept, or the item is no file."""
        if self._folder is None:
            return None
        path = Path(os.path.abspath(video))  # noqa: PTH100 (resolve() would look at every folder on the way)
        try:
            info = path.stat()
        except (OSError, ValueError):
            return None
        identity = (_VERSION, str(path), info.st_size, info.st_mtime_ns, look, self._recipe)
        name = hashlib.sha256(repr(identity).encode(errors="surrogateescape")).hexdigest()[:32]
        return self._folder / name[:2] / f"{name}.npz"


class FeatureExtractor:
    """A network that gives what its last layer sees.

    Args:
        model: Has one head that is linear in what it sees, and averages.
        preprocessing: How its clips are normalised.
        device: Where it runs.
        precision: One that the device has.

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
                f"model.regime head: {type(model).__name__} has no single last layer to train on features of its own; "
                "give regime fixed"
            )
        self._mixed = MixedPrecision(model, device, precision)  # type: ignore[arg-type]
        self._head = self._mixed.model.get_submodule(model.heads[0])
        self._preprocessing = preprocessing
        self._checked = False

    def __call__(self, clips: Mapping[str, Tensor]) -> Tensor:
        """Return what the head sees, averaged over time and places.

        Args:
            clips: By stream: (B, T, H, W, C) uint8.

        Returns:
            (B, C) float32 on the CPU.

        Raises:
            ConfigError: The head's logits of the average are not the network's.
        """
        inputs = [
            self._mixed.inputs(pixels, stream_preprocessing(stream, self._preprocessing))
            for stream, pixels in clips.items()
        ]
        with _seen_by(self._head) as seen:
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
    """Return (B, C) float32: what a layer is given, averaged over all axes but the batch's and the channels'.

    Args:
        layer: Linear, with the channels last; or a convolution, with the channels second. May stand in a wrapper.
        seen: Its input.
    """
    inner = getattr(layer, "layer", layer)
    seen = seen.float()
    if isinstance(inner, nn.Linear):
        return seen.flatten(1, -2).mean(dim=1) if seen.ndim > 2 else seen
    return seen.flatten(2).mean(dim=2) if seen.ndim > 2 else seen


def fingerprint(model: nn.Module) -> str:
    """Return a hash of all weights of a network but its heads'."""
    heads = tuple(f"{head}." for head in model.heads) if isinstance(model, HasHeads) else ()
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if not name.startswith(heads):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} ".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def compute_features(
    looks: Sequence[ClipDataset],
    names: Sequence[str] | None,
    extract: Callable[[Mapping[str, Tensor]], Tensor],
    store: FeatureStore,
    data: DataConfig,
    device: torch.device,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> FeatureDataset:
    """Compute, or read, the features of all looks at all items.

    Args:
        looks: For each look, the dataset that gives its clips; all have the same items. The look's number is the epoch.
        names: The items' files; None where they are none, and nothing is kept.
        extract: Clips to features.
        store: Keeps them.
        data: How clips are prepared.
        device: Where the network runs.
        progress: Told how many looks are done, and of how many.
    """
    first = looks[0]
    found: list[list[tuple[Tensor, int]]] = [[] for _ in first.targets]
    done, total = 0, len(looks) * len(first)
    places = {label: index for index, label in enumerate(first.labels)}
    for number, dataset in enumerate(looks):
        kept = {index: store.get(name, _look_name(number, index)) for index, name in enumerate(names or ())}
        rows = {index: (one[0], places[one[1]]) for index, one in kept.items() if one and one[1] in places}
        missing = [index for index in range(len(first)) if index not in rows]
        done += len(rows)
        progress(done, total)
        for wanted, batch in zip(missing, _one_by_one(dataset, missing, number, data, device), strict=True):
            clips = {stream: one.flatten(0, 1) for stream, one in batch["clips"].items()}  # (N, T, H, W, C)
            features, label = extract(clips), int(batch["label"][0])
            rows[wanted] = (features, label)
            if names and int(batch["index"][0]) == wanted:  # not those of a video that stands in for a bad one
                store.put(names[wanted], _look_name(number, wanted), features, first.labels[label])
            done += 1
            progress(done, total)
        for index, row in rows.items():
            found[index].append(row)
    return FeatureDataset(first.labels, found, first.targets)


def _look_name(number: int, index: int) -> str:
    """Return what tells a look apart: an augmented one draws its random numbers by the item's place."""
    return f"{number} of {index}" if number else "plain"


def _one_by_one(
    dataset: ClipDataset, items: Sequence[int], epoch: int, data: DataConfig, device: torch.device
) -> Iterator[Batch]:
    if items:
        yield from make_loader(dataset, [[SampleKey(epoch, item)] for item in items], data, device)


@contextmanager
def _seen_by(layer: nn.Module) -> Iterator[list[Tensor]]:
    """Collect what a layer is given meanwhile."""
    seen: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        hook.remove()
