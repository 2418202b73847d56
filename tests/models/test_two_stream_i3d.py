from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from stream_i3d.errors import ConfigError
from stream_i3d.models.checkpoint import load_checkpoint, save_checkpoint
from stream_i3d.models.fusion import average_predictions, fuse
from stream_i3d.models.head import replace_head
from stream_i3d.models.i3d import I3D
from stream_i3d.models.registry import build_model
from stream_i3d.models.spec import ModelSpec
from stream_i3d.models.two_stream_i3d import TwoStreamI3D
from tests.golden_rule import fill_by_rule, golden_input
from tests.models.conftest import clip

GOLDENS = Path(__file__).parents[1] / "goldens"


def tiny(**options: Any) -> TwoStreamI3D:
    model = TwoStreamI3D(num_classes=4, width=1 / 32, **options)
    model.load_state_dict(fill_by_rule(model.state_dict(), 7))
    return model.eval()


def clips(batch: int = 2) -> tuple[Tensor, Tensor]:
    return clip(batch, 3, 16, 32, 40), clip(batch, 2, 16, 32, 40, seed=1)


def test_parameters_are_those_of_two_i3ds() -> None:
    with torch.device("meta"):
        model = TwoStreamI3D()
        single = I3D().state_dict()
    assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(25.38e6, rel=1e-3)  # paper: 25 M
    assert model.state_dict().keys() == {f"{stream}.{key}" for stream in ("rgb", "flow") for key in single}


def test_probabilities_are_averaged() -> None:
    model = tiny()
    with torch.inference_mode():
        rgb, flow = model.stream_logits(*clips())
        mean = (rgb.softmax(dim=1) + flow.softmax(dim=1)) / 2
        fused = model(*clips())
    assert fused.shape == (2, 4)
    torch.testing.assert_close(fused.softmax(dim=1), mean)
    torch.testing.assert_close(fused, mean.log())  # log-probabilities: their own softmax changes nothing


def test_logits_are_added_as_in_the_released_code() -> None:
    model = tiny(fusion="logits")
    with torch.inference_mode():
        rgb, flow = model.stream_logits(*clips())
        torch.testing.assert_close(model(*clips()), rgb + flow)


def test_the_published_networks_goldens_add_up() -> None:
    """Two networks with known weights and a clip each: the sum of their logits, as in the released code."""
    model = TwoStreamI3D(fusion="logits").eval()
    inputs, logits = [], []
    for stream, name, shape in (("rgb", "rgb_t16", (2, 3, 16, 224, 224)), ("flow", "flow_t16", (1, 2, 16, 224, 224))):
        seed = 1 if stream == "rgb" else 3
        network = model.get_submodule(stream)
        network.load_state_dict(fill_by_rule(network.state_dict(), seed))
        inputs.append(golden_input(seed, shape)[:1])
        logits.append(np.load(GOLDENS / f"inception_{name}.npz")["logits"][:1, :, 0])
    with torch.inference_mode():
        added = model(*inputs).numpy()
    assert np.abs(added - sum(logits)).max() < 1e-3 * sum(logits).std()


def test_streams_are_plain_i3ds() -> None:
    model = tiny()
    rgb = I3D(num_classes=4, width=1 / 32).eval()
    flow = I3D(num_classes=4, in_channels=2, width=1 / 32).eval()
    rgb.load_state_dict(model.rgb.state_dict())
    flow.load_state_dict(model.flow.state_dict())
    x, y = clips()
    with torch.inference_mode():
        assert torch.equal(torch.cat(model.stream_logits(x, y)), torch.cat((rgb(x), flow(y))))
        assert torch.equal(model.extract_features(x, y)[1], flow.extract_features(y))


def test_fusion_is_exact_where_a_stream_is_sure() -> None:
    sure, unsure = torch.tensor([[200.0, 0.0, -200.0]]), torch.tensor([[0.0, 0.0, 0.0]])
    both = fuse((sure, unsure), "probabilities")
    torch.testing.assert_close(both.exp(), torch.tensor([[2 / 3, 1 / 6, 1 / 6]]))
    same = fuse((sure, sure), "probabilities")
    assert torch.isfinite(same).all()
    torch.testing.assert_close(same, sure.log_softmax(dim=1))
    assert average_predictions(torch.zeros(2, 5, 3, dtype=torch.bfloat16), dim=1).dtype == torch.float32


def test_training_fuses_too_and_reaches_every_weight() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = TwoStreamI3D(num_classes=4, width=1 / 16)
        x, y = clips(4)
        loss = F.cross_entropy(model(x, y), torch.arange(4))
        loss.backward()
    assert loss.item() == pytest.approx(math.log(4), abs=0.5)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("fusion", ["probabilities", "logits"])
def test_a_checkpoint_gives_the_same_network_back(fusion: str, tmp_path: Path) -> None:
    model = tiny(fusion=fusion)
    spec = ModelSpec(num_classes=4, architecture="two-stream-i3d", width=1 / 32, options={"fusion": fusion})
    save_checkpoint(tmp_path / "weights.safetensors", model, spec)
    loaded, found = load_checkpoint(tmp_path / "weights.safetensors")
    assert found == spec
    with torch.inference_mode():
        assert torch.equal(loaded(*clips()), model(*clips()))


def test_both_heads_are_replaced() -> None:
    model = replace_head(tiny(), 6)
    assert (model.num_classes, model.rgb.num_classes, model.flow.num_classes) == (6, 6, 6)
    assert [logits.shape for logits in model.stream_logits(*clips())] == [(2, 6), (2, 6)]
    assert model(*clips()).shape == (2, 6)


def test_registry_builds_it() -> None:
    model = build_model("two-stream-i3d", num_classes=4, width=1 / 32, fusion="logits")
    assert isinstance(model, TwoStreamI3D)
    assert model.fusion == "logits"


def test_another_fusion_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"fusion='logit' is not allowed \(did you mean 'logits'\?\): give one of"):
        build_model("two-stream-i3d", fusion="logit")


def test_streams_of_different_lengths_of_batch_are_refused() -> None:
    x, y = clips()
    with pytest.raises(ConfigError, match="2 RGB clips and 1 of flow"):
        tiny()(x, y[:1])
    with pytest.raises(ConfigError, match="give"):
        tiny()(x, x)
