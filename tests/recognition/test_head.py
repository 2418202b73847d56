"""Heads on feature maps beside the networks they were taken from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from stream_i3d.config import FusionName
from stream_i3d.models.backbone import Backbone, head_arrays
from stream_i3d.models.fusion import fuse
from stream_i3d.models.registry import build_model
from stream_i3d.recognition.head import Head, PublishedHead, make_head, pool_weights, softmax
from tests.models.conftest import ruled

LABELS = tuple("abcde")


def random_maps(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def random_head(channels: int = 6, seed: int = 1, **more: Any) -> Head:
    rng = np.random.default_rng(seed)
    weights, bias = rng.normal(size=(5, channels)), rng.normal(size=5)
    return make_head(weights.astype(np.float32), bias.astype(np.float32), LABELS, **more)


CASES = [
    ("i3d", (16, 224, 224), (7, 7)),
    ("i3d", (32, 224, 224), (7, 7)),  # more than two steps
    ("i3d", (16, 256, 256), (8, 8)),  # a map larger than the pool
    ("i3d", (16, 320, 320), (10, 10)),
    ("i3d", (16, 224, 384), (7, 12)),
    ("i3d", (24, 288, 224), (9, 7)),
    ("i3d", (16, 64, 96), (2, 3)),
    ("i3d-r50", (8, 64, 96), (2, 3)),
    ("c3d", (16, 112, 112), (1, 1)),  # its features have no place
    ("convnet-lstm", (8, 64, 64), (1, 1)),
]


@pytest.mark.parametrize(("name", "clip", "places"), CASES)
def test_the_head_on_a_networks_map_gives_the_networks_logits(
    name: str, clip: tuple[int, int, int], places: tuple[int, int]
) -> None:
    model = ruled(build_model(name, num_classes=5, width=1 / 32))
    inputs = torch.from_numpy(random_maps(2, 3, *clip)).clip(-1, 1)
    with torch.no_grad():
        wanted = model(inputs).numpy()
        maps = Backbone(model)(inputs).numpy()
    weights, bias, pool_side = head_arrays(model)
    assert maps.shape == (2, *places, weights.shape[1])
    given = make_head(weights, bias, LABELS, pool_side=pool_side).logits(maps)
    np.testing.assert_allclose(given, wanted, rtol=0, atol=1e-4 * float(np.abs(wanted).max()))
    assert np.ptp(wanted) > 1e-3


def test_a_plain_mean_would_be_wrong_on_a_larger_map() -> None:
    """What the weights of the pool are for: see docs/decisions.md."""
    model = ruled(build_model("i3d", num_classes=5, width=1 / 32))
    inputs = torch.from_numpy(random_maps(1, 3, 16, 320, 320)).clip(-1, 1)
    with torch.no_grad():
        wanted, maps = model(inputs).numpy(), Backbone(model)(inputs).numpy()
    weights, bias, _ = head_arrays(model)
    assert np.abs(make_head(weights, bias, LABELS).logits(maps) - wanted).max() > 1e-3 * np.abs(wanted).max()


@pytest.mark.parametrize(
    ("size", "side", "wanted"),
    [
        (3, None, [1 / 3] * 3),
        (7, 7, [1 / 7] * 7),
        (2, 7, [1 / 2] * 2),
        (8, 7, [1 / 14, *[2 / 14] * 6, 1 / 14]),
        (4, 2, [1 / 6, 2 / 6, 2 / 6, 1 / 6]),
    ],
)
def test_a_place_counts_by_the_windows_over_it(size: int, side: int | None, wanted: list[float]) -> None:
    weights = pool_weights(size, side)
    np.testing.assert_allclose(weights, wanted, rtol=1e-6)
    assert weights.dtype == np.float32


def test_a_part_of_the_map_can_be_read_alone() -> None:
    head, maps = random_head(), random_maps(2, 4, 3, 6)
    where = np.zeros((4, 3), np.float32)
    where[1, 2], where[3, 0] = 1, 3
    wanted = (maps[:, 1, 2] + 3 * maps[:, 3, 0]) / 4 @ head.weights.T + head.bias
    np.testing.assert_allclose(head.logits(maps, where), wanted, rtol=0, atol=1e-5)
    np.testing.assert_allclose(head.logits(maps, where * 10), wanted, rtol=0, atol=1e-5)


def test_the_logits_of_all_places_average_to_the_maps_own() -> None:
    """So a heat map adds up to the prediction that it explains."""
    head, maps = random_head(), random_maps(1, 7, 12, 6)
    each = maps[0] @ head.weights.T + head.bias  # (7, 12, 5)
    np.testing.assert_allclose(head.logits(maps)[0], each.mean(axis=(0, 1)), rtol=0, atol=1e-5)


def test_several_heads_read_the_same_features() -> None:
    features = {"rgb": random_maps(3, 2, 2, 6)}
    heads = [PublishedHead({"rgb": random_head(seed=seed)}) for seed in (1, 2)]
    kept = features["rgb"].copy()
    first, second = (head(features).logits for head in heads)
    assert not np.allclose(first, second)
    np.testing.assert_array_equal(features["rgb"], kept)
    np.testing.assert_array_equal(heads[0](features).logits, first)


def test_one_network_is_published_at_its_temperature_and_has_no_streams() -> None:
    head = PublishedHead({"rgb": random_head(temperature=1.75)})
    scores = head({"rgb": random_maps(2, 1, 1, 6)})
    assert (head.temperature, head.labels, head.channels) == (1.75, LABELS, 6)
    assert scores.streams == {} and head.own(scores, 0) == {}


@pytest.mark.parametrize("fusion", ["probabilities", "logits"])
def test_two_networks_are_fused_as_torch_fuses_them(fusion: FusionName) -> None:
    heads = {"rgb": random_head(temperature=0.5), "flow": random_head(4, seed=2, temperature=3.0)}
    published = PublishedHead(heads, fusion)
    features = {"rgb": random_maps(2, 2, 2, 6), "flow": random_maps(2, 2, 2, 4, seed=5)}
    scores = published(features)
    own = {stream: torch.from_numpy(rows) for stream, rows in scores.streams.items()}
    if fusion == "probabilities":
        own = {stream: rows / heads[stream].temperature for stream, rows in own.items()}
    wanted = fuse(list(own.values()), fusion).numpy()
    assert published.temperature == 1.0
    np.testing.assert_allclose(softmax(scores.logits), softmax(wanted), rtol=0, atol=1e-6)
    for stream, head in heads.items():
        np.testing.assert_array_equal(scores.streams[stream], head.logits(features[stream]))
        np.testing.assert_array_equal(
            published.own(scores, 1)[stream], softmax(scores.streams[stream][1], head.temperature)
        )
    np.testing.assert_array_equal(
        published.pooled(features), np.concatenate([heads[name].pooled(features[name]) for name in heads], axis=1)
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_in_one_window_stays_so_and_leaves_the_others_alone(value: float) -> None:
    heads = {"rgb": random_head(), "flow": random_head(seed=2)}
    features = {"rgb": random_maps(3, 2, 2, 6), "flow": random_maps(3, 2, 2, 6, seed=5)}
    features["flow"][1, 0, 1, 3] = value
    for fusion in ("probabilities", "logits"):
        scores = PublishedHead(heads, fusion)(features)  # type: ignore[arg-type]
        assert scores.finite().tolist() == [True, False, True]
    alone = PublishedHead({"flow": heads["flow"]})(features)
    assert alone.finite().tolist() == [True, False, True]
    assert np.isfinite(alone.logits[[0, 2]]).all()


def test_a_softmax_of_large_logits_is_finite() -> None:
    probabilities = softmax(np.array([[1e4, 0.0], [-1e4, -1e4]], np.float32), temperature=0.1)
    np.testing.assert_array_equal(probabilities, [[1, 0], [0.5, 0.5]])
