"""A new architecture is one file and one row in the registry; no other change is needed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec import structs

from stream_i3d.errors import ConfigError
from stream_i3d.models import overview, registry
from stream_i3d.models.checkpoint import load_checkpoint, save_checkpoint
from stream_i3d.models.folding import inference_form, is_folded
from stream_i3d.models.registry import build_model, find_architecture
from stream_i3d.models.spec import ModelSpec, read_spec
from stream_i3d.models.verify import inspect_checkpoint
from stream_i3d.training.distribution import make_fabric
from stream_i3d.training.evaluation import Network
from stream_i3d.training.features import FeatureExtractor
from stream_i3d.training.loading import SampleKey
from stream_i3d.training.loop import Trainer
from stream_i3d.training.network import build_network, find_origin
from tests.models.toy_architecture import ROW, ToyNet
from tests.training.toy import ToyDataset, toy_config

SPEC = ModelSpec(architecture="toy", num_classes=2, width=0.5, labels=("first", "second"), options={"dropout": 0.0})


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(registry._BY_NAME, ROW.name, ROW)  # as a row of registry._TABLE
    yield
    overview.architecture_cost.cache_clear()


def test_it_is_built_by_name_and_refuses_what_others_refuse() -> None:
    assert isinstance(build_model("toy", num_classes=7, width=0.5), ToyNet)
    with pytest.raises(ConfigError, match="did you mean 'dropout'"):
        build_model("toy", dropuot=0.1)
    with pytest.raises(ConfigError, match="nothing is inflated into 'toy': choose one of i3d, i3d-flow, i3d-r50"):
        find_architecture("toy").inflate({})


def test_it_is_listed_with_its_cost() -> None:
    row = next(row for row in overview.overview() if row.name == "toy")
    assert row.parameters == 32 * 3 * 27 + 2 * 32 + 32 * 400 + 400
    assert row.inputs == {"rgb": (3, 8, 32, 32)}


def test_its_checkpoint_describes_itself_and_a_bare_one_is_recognised(tmp_path: Path) -> None:
    model = build_model("toy", num_classes=2, width=0.5, dropout=0.0).eval()
    spec = structs.replace(SPEC, preprocessing=ROW.preprocessing)
    save_checkpoint(tmp_path / "own.safetensors", model, spec)
    assert read_spec(tmp_path / "own.safetensors") == spec
    torch.save(model.state_dict(), tmp_path / "bare.pt")
    for name in ("own.safetensors", "bare.pt"):
        loaded, found = load_checkpoint(tmp_path / name)
        assert (found.architecture, found.num_classes, found.width) == ("toy", 2, 0.5)
        assert found.preprocessing == ROW.preprocessing
        torch.testing.assert_close(loaded.state_dict(), model.state_dict())
    assert inspect_checkpoint(tmp_path / "own.safetensors").parameters == 16 * 81 + 2 * 16 + 2 * 16 + 2


def test_its_batch_norm_is_folded_and_its_features_are_those_of_its_head() -> None:
    model = build_model("toy", num_classes=2, width=0.5).eval()
    clips = torch.randint(0, 255, (2, 8, 32, 32, 3), dtype=torch.uint8)
    folded = inference_form(model)
    assert is_folded(folded)
    x = clips.permute(0, 4, 1, 2, 3) / 127.5 - 1
    torch.testing.assert_close(folded(x), model(x))
    extract = FeatureExtractor(model, ROW.preprocessing, torch.device("cpu"), "fp32")
    torch.testing.assert_close(extract({"rgb": clips}), model.extract_features(x))


def test_it_trains_and_what_was_trained_is_evaluated() -> None:
    config = toy_config(
        model={"name": "toy", "width": 0.5, "options": {"dropout": 0.0}},
        optimizer={"name": "adam", "lr": 3e-2},
        run={"epochs": 20, "precision": "fp32"},
    )
    data = ToyDataset(8, preprocessing=ROW.preprocessing)
    torch.manual_seed(0)
    model, spec = build_network(config.model, find_origin(config.model), data.labels)
    trainer = Trainer(config, make_fabric(config.run), model, ROW.preprocessing, data)
    losses = [result.loss for result in trainer.steps()]
    assert np.mean(losses[-4:]) < 0.5 * np.mean(losses[:4])
    logits, targets = trainer.validate(data)
    network = Network(trainer.best_network.eval(), spec, config, "toy.safetensors")
    clips = torch.cat([data[SampleKey(0, index)]["clips"]["rgb"] for index in range(len(data))])
    torch.testing.assert_close(network.logits({"rgb": clips}), logits, rtol=1e-3, atol=1e-3)
    assert logits.argmax(dim=1).tolist() == targets.tolist()
