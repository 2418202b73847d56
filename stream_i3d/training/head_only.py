"""Trains only the last layer of a network, on features that are computed once (`model.regime: head`).

    videos -> FeatureExtractor -> FeatureDataset -> Trainer of a FeatureHead -> back into the network

The network before the head does not change, so a step costs a thousandth of a step through the whole network. This
makes cross-validation affordable: each video is classified by a head that was not trained on it, and the temperature is
fitted on these results.
"""

from __future__ import annotations

import copy
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from lightning_fabric import Fabric
from msgspec import structs, to_builtins
from torch import Tensor, nn

from stream_i3d.errors import ConfigError
from stream_i3d.inference.torch_engine import choose_precision
from stream_i3d.models.head import HasHeads
from stream_i3d.models.zoo import home_folder
from stream_i3d.preprocess import Preprocessing
from stream_i3d.training.config import TrainConfig
from stream_i3d.training.datasets import Datasets
from stream_i3d.training.evaluation import Progress
from stream_i3d.training.features import (
    FeatureDataset,
    FeatureExtractor,
    FeatureStore,
    compute_features,
    fingerprint,
)
from stream_i3d.training.loading import ClipDataset
from stream_i3d.training.loop import Trainer
from stream_i3d.training.optimisation import rate_factor
from stream_i3d.training.video_dataset import VideoDataset

FOLDS = 5
"""Number of folds of the cross-validation."""


class FeatureHead(nn.Module):
    """A network's last layer on averaged features, with dropout before it.

    Args:
        layer: The head of the network; it is copied.
        dropout: Probability of dropping a feature in training.
    """

    heads: ClassVar[tuple[str, ...]] = ("head",)

    def __init__(self, layer: nn.Module, dropout: float) -> None:
        super().__init__()
        weight, bias = layer.weight, layer.bias
        assert isinstance(weight, Tensor)
        self.num_classes = weight.shape[0]
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(weight[0].numel(), weight.shape[0], bias=isinstance(bias, Tensor))
        with torch.no_grad():
            self.head.weight.copy_(weight.flatten(1))
            if isinstance(bias, Tensor):
                self.head.bias.copy_(bias)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C) float -> (B, num_classes) logits."""
        logits: Tensor = self.head(self.dropout(features))
        return logits


class HeadTraining:
    """The features of a training's videos, and the head that is trained on them.

    Args:
        config: Settings of the training.
        fabric: A Fabric of one process.
        model: The network with a fresh head; not changed.
        preprocessing: Preprocessing of the clips.
        data: The videos.
        progress: Called with the name of the work, the units done and the units in all.

    Raises:
        ConfigError: The network has no single linear head, or a setting needs the whole network to be trained.
    """

    def __init__(
        self,
        config: TrainConfig,
        fabric: Fabric,
        model: nn.Module,
        preprocessing: Preprocessing,
        data: Datasets,
        progress: Progress,
    ) -> None:
        _check(config, fabric)
        precision = choose_precision(config.run.precision, fabric.device)
        extract = FeatureExtractor(model, preprocessing, fabric.device, precision)
        assert isinstance(model, HasHeads)
        self._model, self._name = model, model.heads[0]
        self._fabric, self._preprocessing = fabric, preprocessing
        self.config = _for_head(config, self._name)
        recipe = _recipe(config, preprocessing, precision, fingerprint(model))

        def features(variants: list[ClipDataset], what: str) -> FeatureDataset:
            names = getattr(variants[0], "names", None) if config.data.source == "videos" else None
            store = FeatureStore(home_folder() / "features" if names else None, recipe)
            return compute_features(
                variants, names, extract, store, config.data, fabric.device, partial(progress, what)
            )

        self.train = features(_variants(data.train, config.model.feature_clips), "features for training")
        self.val = None if data.val is None else features([data.val], "features for validation")
        self.datasets = Datasets(self.train, self.val, data.skipped)
        self.head = self._fresh()
        self._untrained = copy.deepcopy(self.head)

    def _fresh(self) -> FeatureHead:
        dropout = [module.p for module in self._model.modules() if isinstance(module, nn.Dropout)]
        return FeatureHead(self._model.get_submodule(self._name), dropout[-1] if dropout else 0.0)

    def whole(self, head: nn.Module) -> nn.Module:
        """Copy the weights of a trained head into the network, and return the network."""
        assert isinstance(head, FeatureHead)
        layer = self._model.get_submodule(self._name)
        assert isinstance(layer.weight, Tensor)
        with torch.no_grad():
            layer.weight.copy_(head.head.weight.reshape(layer.weight.shape))
            if isinstance(layer.bias, Tensor):
                layer.bias.copy_(head.head.bias)
        return self._model

    def cross_validate(self, progress: Progress = lambda what, done, total: None) -> tuple[Tensor, Tensor]:
        """Classify each video by a head that was trained without it.

        Returns:
            (N, num_classes) float32 logits of one clip of each video, without augmentation, and (N,) int64 classes.
        """
        all_items = self.train if self.val is None else self.train.joined(self.val)
        folds = stratified_folds(all_items.targets, FOLDS, self.config.run.seed)
        logits, labels = [], []
        for number, held_out in enumerate(folds):
            rest = [index for index in range(len(all_items)) if index not in set(held_out)]
            torch.manual_seed(self.config.run.seed)
            head = copy.deepcopy(self._untrained)
            trainer = Trainer(self.config, self._fabric, head, self._preprocessing, all_items.subset(rest))
            for _ in trainer.steps():
                pass
            judged, truth = trainer.validate(all_items.subset(held_out).without_augmentation())
            logits.append(judged)
            labels.append(truth)
            progress("cross-validation", number + 1, len(folds))
        return torch.cat(logits), torch.cat(labels)


def stratified_folds(targets: tuple[int, ...], folds: int, seed: int) -> list[list[int]]:
    """Divide items into folds, with each class spread evenly over them.

    Args:
        targets: The class of each item.
        folds: Number of folds; fewer are returned if some would be empty.
        seed: Seed of the order within a class.

    Returns:
        The indices of each fold.
    """
    rng = np.random.default_rng([seed, len(targets)])
    order = rng.permutation(len(targets)).tolist()
    order.sort(key=lambda index: targets[index])  # stable: shuffled within a class
    dealt = [sorted(order[place::folds]) for place in range(folds)]
    return [fold for fold in dealt if fold]


def _check(config: TrainConfig, fabric: Fabric) -> None:
    if fabric.world_size > 1:
        raise ConfigError("model.regime head: features are computed by one process; leave out torchrun")
    if config.run.resize_from:
        raise ConfigError("run.resize_from: model.regime head computes features at one size; leave it out")


def _for_head(config: TrainConfig, name: str) -> TrainConfig:
    """Return the settings for training the head alone: no decoding workers, its own learning rate."""
    factor = rate_factor(f"{name}.weight", config.optimizer.lr_factors)
    if factor == 0:
        raise ConfigError("nothing of the network learns: give the head an lr_factor above 0")
    return structs.replace(
        config,
        data=structs.replace(config.data, workers=0),
        optimizer=structs.replace(config.optimizer, lr=config.optimizer.lr * factor, lr_factors={}),
    )


def _variants(train: ClipDataset, count: int) -> list[ClipDataset]:
    """Return the dataset of each variant; the first is not augmented if the dataset supports that."""
    plain: ClipDataset = train.in_mode("val") if isinstance(train, VideoDataset) else train
    return [plain, *[train] * (count - 1)]


def _recipe(config: TrainConfig, preprocessing: Preprocessing, precision: str, weights: str) -> Any:
    """Return all that the features depend on besides the video."""
    made = (config.clip.num_clips, config.augment, config.data.flow, config.run.seed)
    return to_builtins((weights, preprocessing, precision, made))
