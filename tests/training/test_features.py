from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from stream_i3d.errors import ConfigError
from stream_i3d.models.registry import build_model
from stream_i3d.preprocess import Preprocessing, normalise
from stream_i3d.training.config import DataConfig
from stream_i3d.training.features import (
    FEATURES,
    FeatureDataset,
    FeatureExtractor,
    FeatureStore,
    average_features,
    compute_features,
    fingerprint,
)
from stream_i3d.training.head_only import FeatureHead
from stream_i3d.training.loading import Sample, SampleKey
from tests.training.toy import PREPROCESSING, ToyDataset

CPU = torch.device("cpu")


def clips(count: int = 3, make: Preprocessing = PREPROCESSING) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (count, make.clip_len, make.crop_size, make.crop_size, 3)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def network(name: str, classes: int = 5) -> nn.Module:
    """A small network whose BatchNorms have statistics other than their initial ones."""
    torch.manual_seed(0)
    model = build_model(name, num_classes=classes, width=0.125)
    with torch.no_grad():
        model.train()(normalise(clips(4), PREPROCESSING))
    return model


@pytest.mark.parametrize("name", ["i3d", "i3d-r50"])
def test_a_head_on_averaged_features_gives_the_logits_of_the_network_at_rest(name: str) -> None:
    model = network(name)
    extract = FeatureExtractor(model, PREPROCESSING, CPU, "fp32")
    features = extract({"rgb": clips()})
    assert features.shape == (3, model.feature_channels)
    head = FeatureHead(model.get_submodule(model.heads[0]), 0.5).eval()  # type: ignore[index, operator]
    with torch.no_grad():
        whole = model.eval()(normalise(clips(), PREPROCESSING))
        torch.testing.assert_close(head(features), whole, atol=1e-4, rtol=1e-3)


def test_a_map_larger_than_one_place_is_averaged() -> None:
    make = Preprocessing(clip_len=24, short_side=64, crop_size=64)
    model = network("i3d")
    features = FeatureExtractor(model, make, CPU, "fp32")({"rgb": clips(1, make)})
    with torch.no_grad():
        own = model.eval().extract_features(normalise(clips(1, make), make)).mean(dim=(2, 3, 4))  # type: ignore[operator]
    torch.testing.assert_close(features, own, atol=1e-4, rtol=1e-3)


def test_a_layer_with_channels_last_is_averaged_over_what_stands_between() -> None:
    seen = torch.arange(12.0).reshape(1, 3, 4)
    assert torch.equal(average_features(nn.Linear(4, 2), seen), seen.mean(dim=1))
    seen = torch.arange(24.0).reshape(1, 4, 3, 2, 1)
    assert torch.equal(average_features(nn.Conv3d(4, 2, 1), seen), seen.mean(dim=(2, 3, 4)))


def test_a_network_whose_logits_are_not_linear_in_its_features_is_refused() -> None:
    class Odd(nn.Module):
        heads = ("head",)
        num_classes = 2

        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.head(x.mean(dim=(2, 3, 4)))
            return logits.exp() * 3 + 5

    with pytest.raises(ConfigError, match="give regime fixed"):
        FeatureExtractor(Odd(), PREPROCESSING, CPU, "fp32")({"rgb": clips()})


def test_a_network_of_two_heads_is_refused() -> None:
    with pytest.raises(ConfigError, match="no single last layer"):
        FeatureExtractor(build_model("two-stream-i3d", num_classes=2, width=0.125), PREPROCESSING, CPU, "fp32")


def test_the_fingerprint_is_of_all_weights_but_the_heads() -> None:
    model = network("i3d")
    before = fingerprint(model)
    with torch.no_grad():
        model.get_parameter("logits.conv3d.weight").add_(1)
    assert fingerprint(model) == before
    with torch.no_grad():
        model.get_buffer("Conv3d_1a_7x7.bn.running_mean").add_(1)
    assert fingerprint(model) != before


class Counting:
    """Uses each clip's mean as features, and counts its calls."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, given: Mapping[str, Tensor]) -> Tensor:
        self.asked += 1
        return given["rgb"].float().mean(dim=(1, 2, 3))


class Files(ToyDataset):
    """Toy clips with files; item `bad` is replaced by item 0."""

    bad: int | None = None

    def __getitem__(self, key: SampleKey) -> Sample:
        return super().__getitem__(SampleKey(key.epoch, 0) if key.index == self.bad else key)


@pytest.fixture
def names(tmp_path: Path) -> list[str]:
    for index in range(4):
        (tmp_path / f"{index}.mp4").write_bytes(b"x" * (index + 1))
    return [str(tmp_path / f"{index}.mp4") for index in range(4)]


def computed(
    dataset: ToyDataset, names: list[str], store: FeatureStore, variants: int = 2
) -> tuple[FeatureDataset, int]:
    extract = Counting()
    data = DataConfig(workers=0)
    return compute_features([dataset] * variants, names, extract, store, data, CPU), extract.asked


def test_features_are_computed_once_and_read_by_the_next_training(tmp_path: Path, names: list[str]) -> None:
    store = FeatureStore(tmp_path / "features", {"weights": "a"})
    first, asked = computed(Files(4), names, store)
    assert asked == 8
    again, asked = computed(Files(4), names, FeatureStore(tmp_path / "features", {"weights": "a"}))
    assert asked == 0
    for index in range(4):
        for epoch in range(2):
            one, other = first[SampleKey(epoch, index)], again[SampleKey(epoch, index)]
            assert torch.equal(one["clips"][FEATURES], other["clips"][FEATURES])
            assert one["label"] == other["label"] == index % 2


def test_another_network_or_a_changed_video_is_computed_anew(tmp_path: Path, names: list[str]) -> None:
    folder = tmp_path / "features"
    computed(Files(4), names, FeatureStore(folder, {"weights": "a"}))
    assert computed(Files(4), names, FeatureStore(folder, {"weights": "b"}))[1] == 8
    Path(names[2]).write_bytes(b"another video")
    assert computed(Files(4), names, FeatureStore(folder, {"weights": "a"}))[1] == 2


def test_a_kept_file_that_was_cut_short_is_computed_anew(tmp_path: Path, names: list[str]) -> None:
    folder = tmp_path / "features"
    computed(Files(4), names, FeatureStore(folder, {}))
    for file in folder.rglob("*.npz"):
        file.write_bytes(file.read_bytes()[:20])
    assert computed(Files(4), names, FeatureStore(folder, {}))[1] == 8


def test_features_of_a_video_that_stands_in_for_a_bad_one_are_not_kept_under_its_name(
    tmp_path: Path, names: list[str]
) -> None:
    folder, dataset = tmp_path / "features", Files(4)
    dataset.bad = 3
    computed(dataset, names, FeatureStore(folder, {}), variants=1)
    assert computed(Files(4), names, FeatureStore(folder, {}), variants=1)[1] == 1


def test_an_unwritable_folder_is_logged_once_and_training_continues(
    tmp_path: Path, names: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no folder")
    store = FeatureStore(tmp_path / "file", {})
    assert computed(Files(4), names, store)[1] == 8
    assert len([record for record in caplog.records if "features are not kept" in record.message]) == 1


def test_each_epoch_uses_another_variant_and_the_first_is_not_augmented() -> None:
    variants = [
        [(torch.full((1, 2), float(10 * item + variant)), item % 2) for variant in range(3)] for item in range(2)
    ]
    data = FeatureDataset(("a", "b"), variants, (0, 1))
    seen = [float(data[SampleKey(epoch, 0)]["clips"][FEATURES][0, 0]) for epoch in range(3)]
    assert sorted(seen) == [0.0, 1.0, 2.0]
    plain = data.without_augmentation()
    assert [float(plain[SampleKey(epoch, 1)]["clips"][FEATURES][0, 0]) for epoch in range(3)] == [10.0] * 3
    assert data.subset([1]).targets == (1,)
    assert data.joined(data.subset([1])).targets == (0, 1, 1)
