from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from stream_i3d.errors import CheckpointError, ConfigError
from stream_i3d.models.checkpoint import load_checkpoint
from stream_i3d.models.inception import InceptionV1
from stream_i3d.training.config import NetworkConfig
from stream_i3d.training.network import build_network, find_origin, set_regime, set_training

CLASSES = ("wave", "nothing", "clap")


def built(config: NetworkConfig, labels: tuple[str, ...] = CLASSES) -> nn.Module:
    model, spec = build_network(config, find_origin(config), labels)
    assert spec.labels == labels
    assert spec.num_classes == len(labels)
    return model


def learning(model: nn.Module) -> set[str]:
    return {name.split(".")[0] for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_from_scratch_with_a_width_and_options() -> None:
    config = NetworkConfig(width=0.125, options={"dropout_keep_prob": 0.9}, batch_norm_momentum=0.2)
    model, spec = build_network(config, find_origin(config), CLASSES)
    assert (spec.architecture, spec.width, spec.options) == ("i3d", 0.125, {"dropout_keep_prob": 0.9})
    assert model.eval()(torch.zeros(1, 3, 8, 32, 32)).shape == (1, 3)
    assert model.get_submodule("Conv3d_1a_7x7.bn").momentum == 0.2


def test_weights_of_other_classes_get_a_fresh_head_and_keep_their_body() -> None:
    theirs, _ = load_checkpoint("motion")
    ours = built(NetworkConfig(weights="motion"))
    torch.testing.assert_close(
        ours.state_dict()["Mixed_4f.b0.conv3d.weight"], theirs.state_dict()["Mixed_4f.b0.conv3d.weight"]
    )
    assert ours.state_dict()["logits.conv3d.weight"].shape[0] == 3


def test_weights_of_the_same_classes_keep_their_head_too() -> None:
    theirs, spec = load_checkpoint("motion")
    assert spec.labels is not None
    ours = built(NetworkConfig(weights="motion", options={"dropout_keep_prob": 1.0}), spec.labels)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())


def test_a_2d_networks_weights_are_inflated_into_all_but_the_head(tmp_path: Path) -> None:
    flat = InceptionV1(num_classes=5, width=0.125)
    torch.save(flat.state_dict(), tmp_path / "flat.pt")
    model = built(NetworkConfig(inflate=str(tmp_path / "flat.pt"), width=0.125))
    own, theirs = model.state_dict(), flat.state_dict()
    key = "Mixed_3b.b1b.conv{}.weight"
    torch.testing.assert_close(own[key.format("3d")].sum(2), theirs[key.format("2d")])
    with pytest.raises(CheckpointError, match="does not fit this network"):
        built(NetworkConfig(inflate=str(tmp_path / "flat.pt"), width=0.25))
    with pytest.raises(ConfigError, match="nothing is inflated into 'c3d'"):
        built(NetworkConfig(name="c3d", inflate=str(tmp_path / "flat.pt")))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (NetworkConfig(name="i3d-r50", weights="motion"), "the weights motion are of architecture 'i3d'"),
        (NetworkConfig(weights="motion", width=1.0), "the weights are of width 0.25"),
        (NetworkConfig(weights="motion", options={"dropout": 0.5}), "no option 'dropout'"),
    ],
)
def test_what_does_not_fit_is_refused(config: NetworkConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        built(config)


def test_full_fine_tuning_moves_everything_and_fixed_only_the_head() -> None:
    model = built(NetworkConfig(width=0.125))
    set_regime(model, NetworkConfig())
    assert "Conv3d_1a_7x7" in learning(model)
    set_regime(model, NetworkConfig(regime="fixed"))
    assert learning(model) == {"logits"}


def test_freezing_stops_after_the_named_part() -> None:
    config = NetworkConfig(width=0.125, regime="freeze", freeze_until="Mixed_4f")
    model = built(config)
    set_regime(model, config)
    assert learning(model) == {"Mixed_5b", "Mixed_5c", "logits"}
    with pytest.raises(ConfigError, match=r"no part 'Mixed_4z' \(did you mean 'Mixed_4"):
        set_regime(model, NetworkConfig(regime="freeze", freeze_until="Mixed_4z"))


def test_statistics_of_what_does_not_learn_stay_as_they_are() -> None:
    config = NetworkConfig(width=0.125, regime="freeze", freeze_until="Mixed_3c")
    model = built(config)
    set_regime(model, config)
    set_training(model, config)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model(torch.randn(2, 3, 8, 32, 32))
    changed = {name.split(".")[0] for name, buffer in model.named_buffers() if not torch.equal(buffer, before[name])}
    assert "Mixed_4b" in changed
    assert not changed & {"Conv3d_1a_7x7", "Mixed_3b", "Mixed_3c"}
    set_training(model, NetworkConfig(batch_norm="frozen"))
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model(torch.randn(2, 3, 8, 32, 32))
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
    assert model.get_submodule("dropout").training
