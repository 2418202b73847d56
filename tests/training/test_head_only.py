from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import nn

from stream_i3d.errors import ConfigError
from stream_i3d.preprocess import Preprocessing
from stream_i3d.training.config import TrainConfig
from stream_i3d.training.datasets import Datasets
from stream_i3d.training.distribution import make_fabric
from stream_i3d.training.features import FeatureDataset
from stream_i3d.training.head_only import HeadTraining, stratified_folds
from stream_i3d.training.loop import Trainer
from stream_i3d.training.network import build_network, find_origin
from tests.training.toy import PREPROCESSING, ToyDataset, toy_config


def head_config(**sections: dict[str, Any]) -> TrainConfig:
    merged: dict[str, dict[str, Any]] = {
        # Features of a network without training differ little: dropout would drown what the head can learn of them.
        "model": {"regime": "head", "feature_clips": 2, "options": {"dropout_keep_prob": 1.0}},
        "optimizer": {"lr": 3e-2},
        "run": {"epochs": 30},
    }
    return toy_config(**{name: {**merged.get(name, {}), **sections.get(name, {})} for name in {*merged, *sections}})


def training(config: TrainConfig, train: int = 24, val: int | None = 4) -> tuple[HeadTraining, nn.Module]:
    torch.manual_seed(0)
    data = Datasets(ToyDataset(train), None if val is None else ToyDataset(val), ())
    model, _ = build_network(config.model, find_origin(config.model), data.train.labels)
    fabric = make_fabric(config.run)
    return HeadTraining(config, fabric, model, PREPROCESSING, data, lambda what, done, total: None), model


def trained(head: HeadTraining) -> Trainer:
    trainer = Trainer(head.config, make_fabric(head.config.run), head.head, PREPROCESSING, head.train)
    for _ in trainer.steps():
        pass
    return trainer


@pytest.mark.parametrize("name", ["i3d", "i3d-r50"])
def test_only_the_head_learns_and_the_whole_network_then_has_the_classes(name: str) -> None:
    options: dict[str, Any] = {"name": name}
    if name == "i3d-r50":
        options["options"] = {"dropout": 0.0}
    config = head_config(model={"regime": "head", "feature_clips": 2, **options})
    head, model = training(config)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    trainer = trained(head)
    whole = head.whole(trainer.best_network)
    heads = tuple(f"{one}." for one in model.heads)  # type: ignore[union-attr]
    for key, tensor in whole.state_dict().items():
        same = torch.equal(tensor, before[key])
        assert same != key.startswith(heads), key  # BatchNorm's statistics and counters too stay as they were
    logits, labels = trainer.validate(head.train)  # an untrained network's features: a few are mistaken
    assert (logits.argmax(1) == labels).float().mean() >= 0.8


def with_features(head: HeadTraining, rows: torch.Tensor) -> None:
    """Give the training other features: one variant at each video, whose class is its number modulo 2."""
    width = head.head.head.in_features
    padded = torch.nn.functional.pad(rows, (0, width - rows.shape[1]))
    variants = [[(row[None], index % 2)] for index, row in enumerate(padded)]
    every = FeatureDataset(head.train.labels, variants, [index % 2 for index in range(len(rows))])
    head.train, head.val = every.subset(range(len(rows) - 4)), every.subset(range(len(rows) - 4, len(rows)))


def test_cross_validation_judges_each_video_once() -> None:
    head, _ = training(head_config(run={"epochs": 20}), train=2, val=None)
    with_features(head, torch.eye(2).repeat(12, 1) * 3)  # all of a class are alike
    seen: list[tuple[str, int, int]] = []
    logits, labels = head.cross_validate(lambda what, done, total: seen.append((what, done, total)))
    assert logits.shape == (24, 2)
    assert sorted(labels.tolist()) == [0] * 12 + [1] * 12
    assert logits.argmax(1).tolist() == labels.tolist()
    assert seen[-1] == ("cross-validation", 5, 5)


def test_a_head_of_cross_validation_was_not_trained_on_what_it_judges() -> None:
    head, _ = training(head_config(run={"epochs": 20}), train=2, val=None)
    with_features(head, torch.eye(24) * 3)  # each video is like no other: it can be learned by heart, and not guessed
    logits, labels = head.cross_validate()
    probability = logits.softmax(dim=1).gather(1, labels[:, None])
    assert float(probability.max()) < 0.8


def test_cross_validation_leaves_the_head_as_it_is() -> None:
    head, _ = training(head_config(run={"epochs": 2}))
    trained(head)
    before = [parameter.clone() for parameter in head.head.parameters()]
    head.cross_validate()
    assert all(torch.equal(one, other) for one, other in zip(before, head.head.parameters(), strict=True))


@pytest.mark.parametrize(("targets", "folds"), [((0, 0, 0, 1, 1, 1), 3), ((0,) * 7 + (1,) * 5, 5), ((0, 1), 5)])
def test_folds_hold_every_item_once_and_spread_the_classes(targets: Sequence[int], folds: int) -> None:
    dealt = stratified_folds(tuple(targets), folds, seed=3)
    assert sorted(index for fold in dealt for index in fold) == list(range(len(targets)))
    for label in set(targets):
        counts = [sum(targets[index] == label for index in fold) for fold in dealt]
        assert max(counts) - min(counts) <= 1
    assert all(dealt)


def test_settings_that_need_the_whole_network_are_refused_and_the_heads_rate_is_kept() -> None:
    with pytest.raises(ConfigError, match="resize_from"):
        training(head_config(run={"resize_from": [[0.0, 32]]}))
    with pytest.raises(ConfigError, match="nothing of the network learns"):
        training(head_config(optimizer={"lr_factors": {"logits": 0.0}}))
    head, _ = training(head_config(optimizer={"lr": 0.01, "lr_factors": {"logits": 2.0, "Mixed": 0.1}}))
    assert (head.config.optimizer.lr, head.config.optimizer.lr_factors) == (0.02, {})


def test_the_first_look_at_a_video_is_the_clip_of_its_middle_without_augmentation(tmp_path: Any) -> None:
    from stream_i3d.training.annotations import read_annotations
    from stream_i3d.training.loading import SampleKey
    from stream_i3d.training.video_dataset import VideoDataset, VideoSettings
    from tests.training.clips import numbers_of, write_video

    for name in ("a", "b"):
        write_video(tmp_path / name / "1.mp4", 40)
    found = read_annotations(str(tmp_path), None, None)
    make = Preprocessing(clip_len=8, short_side=48, crop_size=48)
    train = VideoDataset(found, VideoSettings(mode="train", preprocessing=make), [None, None])
    plain = train.in_mode("val")
    middle = numbers_of(plain[SampleKey(0, 0)]["clips"]["rgb"][0].numpy())
    assert middle == list(range(16, 24))
    assert torch.equal(plain[SampleKey(5, 0)]["clips"]["rgb"], plain[SampleKey(0, 0)]["clips"]["rgb"])
    assert any(
        not torch.equal(train[SampleKey(epoch, 0)]["clips"]["rgb"], plain[SampleKey(0, 0)]["clips"]["rgb"])
        for epoch in range(3)
    )
