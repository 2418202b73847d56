"""The older designs of the paper's comparison."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from stream_i3d.errors import ConfigError
from stream_i3d.models.c3d import C3D
from stream_i3d.models.checkpoint import load_checkpoint, save_checkpoint
from stream_i3d.models.convnet_lstm import BatchNormLSTM, ConvNetLSTM
from stream_i3d.models.fused_two_stream import FusedTwoStream
from stream_i3d.models.head import replace_head
from stream_i3d.models.registry import ARCHITECTURES, build_model
from stream_i3d.models.spec import ModelSpec
from stream_i3d.models.two_stream import TwoStream, snapshots
from tests.golden_rule import fill_by_rule
from tests.models.conftest import clip

SMALL: dict[str, tuple[dict[str, Any], tuple[tuple[int, ...], ...]]] = {  # options, shapes of the inputs
    "c3d": ({"clip_len": 8, "crop_size": 40}, ((3, 8, 40, 40),)),
    "convnet-lstm": ({"max_steps": 3}, ((3, 4, 32, 40),)),
    "two-stream": ({}, ((3, 2, 32, 40), (2, 20, 32, 40))),
    "fused-two-stream": ({}, ((3, 3, 64, 40), (2, 30, 64, 40))),
}


@pytest.fixture(params=SMALL)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def small(name: str, num_classes: int = 5) -> Any:
    model = build_model(name, num_classes=num_classes, width=1 / 16, **SMALL[name][0])
    model.load_state_dict(fill_by_rule(model.state_dict(), 7))
    return model.eval()


def inputs(name: str, batch: int = 2) -> list[Tensor]:
    return [clip(batch, *shape, seed=seed) for seed, shape in enumerate(SMALL[name][1])]


def published_size(name: str) -> float:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build_model(name).parameters()) / 1e6


@pytest.mark.parametrize(
    ("name", "millions", "published"),
    [("convnet-lstm", 8.96, 9), ("c3d", 79.65, 79), ("two-stream", 12.07, 12), ("fused-two-stream", 39.78, 39)],
)
def test_parameters_are_those_of_the_papers_table(name: str, millions: float, published: int) -> None:
    """The paper's table truncates to millions: 79.6 is 79, 39.8 is 39."""
    count = published_size(name)
    assert count == pytest.approx(millions, abs=0.01)
    assert published - 0.1 < count < published + 1


def test_published_inputs_give_published_shapes(name: str) -> None:
    row = ARCHITECTURES[name]
    with torch.device("meta"):
        model = build_model(name).eval()
        assert model(*(torch.empty(2, *shape) for shape in row.inputs.values())).shape == (2, 400)
    assert row.clip[0] == row.preprocessing.clip_len
    assert row.clip[1] == row.preprocessing.crop_size


def test_training_starts_at_chance_and_reaches_every_weight(name: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = build_model(name, num_classes=10, width=1 / 8, **SMALL[name][0])
        loss = F.cross_entropy(model(*inputs(name, batch=4)), torch.arange(4))
        loss.backward()
    assert loss.item() == pytest.approx(math.log(10), abs=0.5)
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), key
        assert parameter.grad.abs().sum() > 0, key


def test_a_checkpoint_gives_the_same_network_back(name: str, tmp_path: Path) -> None:
    model = small(name)
    spec = ModelSpec(num_classes=5, architecture=name, width=1 / 16, options=SMALL[name][0])
    save_checkpoint(tmp_path / "weights.safetensors", model, spec)
    loaded, found = load_checkpoint(tmp_path / "weights.safetensors")
    assert found == spec
    assert type(loaded) is type(model)
    with torch.inference_mode():
        assert torch.equal(loaded(*inputs(name)), model(*inputs(name)))


def test_a_bare_state_dict_loads_strictly(name: str, tmp_path: Path) -> None:
    torch.save(small(name).state_dict(), tmp_path / "weights.pt")
    other = build_model(name, num_classes=5, width=1 / 16, **SMALL[name][0]).eval()
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True), strict=True)
    assert torch.equal(other(*inputs(name)), small(name)(*inputs(name)))


def test_heads_are_replaced(name: str) -> None:
    model = replace_head(small(name), 3)
    assert model(*inputs(name)).shape == (2, 3)
    assert model.num_classes == 3


def test_clips_of_a_batch_do_not_mix(name: str) -> None:
    model = small(name)
    with torch.inference_mode():
        together = model(*inputs(name))
        apart = torch.cat([model(*(x[index : index + 1] for x in inputs(name))) for index in range(2)])
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-4)
    assert (together[0] - together[1]).abs().max() > 1e-3


def test_bfloat16_runs_on_the_cpu(name: str) -> None:
    model = small(name)
    with torch.inference_mode():
        expected = model(*inputs(name))
        rough = model.bfloat16()(*(x.bfloat16() for x in inputs(name)))
    assert (rough - expected).abs().max() < 0.1 * expected.abs().max()


@pytest.mark.parametrize("kind", [C3D, ConvNetLSTM, TwoStream, FusedTwoStream])
@pytest.mark.parametrize("arguments", [{"num_classes": 0}, {"dropout_keep_prob": 0.0}, {"width": 0.0}])
def test_arguments_outside_their_range_are_refused(kind: Callable[..., nn.Module], arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(arguments))):
        kind(**arguments)


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("c3d", [(2, 3, 8, 40, 41)]),
        ("c3d", [(2, 3, 9, 40, 40)]),
        ("convnet-lstm", [(2, 3, 4, 31, 40)]),
        ("convnet-lstm", [(2, 2, 4, 32, 32)]),
        ("two-stream", [(2, 3, 1, 32, 32), (2, 2, 11, 32, 32)]),
        ("two-stream", [(2, 3, 1, 32, 32), (1, 2, 10, 32, 32)]),
        ("two-stream", [(2, 3, 2, 32, 32), (2, 2, 10, 32, 32)]),
        ("two-stream", [(2, 3, 1, 32, 32), (2, 3, 10, 32, 32)]),
        ("fused-two-stream", [(2, 3, 1, 32, 32), (2, 2, 10, 64, 64)]),
        ("fused-two-stream", [(2, 3, 1, 32, 32), (2, 2, 9, 32, 32)]),
    ],
)
def test_input_that_does_not_fit_is_named(name: str, shapes: list[tuple[int, ...]]) -> None:
    with pytest.raises(ConfigError, match="give") as caught:
        small(name)(*(torch.zeros(shape) for shape in shapes))
    assert "\n" not in str(caught.value)


# C3D


def test_c3d_has_eight_convolutions_five_pools_and_batchnorm_after_all_but_the_head() -> None:
    with torch.device("meta"):
        model = C3D()
    layers = list(model.modules())
    assert sum(isinstance(layer, nn.Conv3d) for layer in layers) == 8
    assert sum(isinstance(layer, nn.BatchNorm3d) for layer in layers) == 8
    assert sum(isinstance(layer, nn.BatchNorm1d) for layer in layers) == 2
    pools = [layer for layer in layers if isinstance(layer, nn.MaxPool3d)]
    assert len(pools) == 5
    assert pools[0].stride == 2  # the original's first pool leaves time alone
    assert model.fc6.linear.in_features == 512 * 1 * 4 * 4
    assert list(dict(model.features.named_children())) == [
        *("conv1", "pool1", "conv2", "pool2", "conv3a", "conv3b", "pool3"),
        *("conv4a", "conv4b", "pool4", "conv5a", "conv5b", "pool5"),
    ]


@pytest.mark.parametrize(("clip_len", "crop_size"), [(0, 112), (33, 112), (16, 0)])
def test_c3d_takes_no_clips_that_its_layers_cannot_hold(clip_len: int, crop_size: int) -> None:
    with pytest.raises(ConfigError, match="give 1 to 32 frames"):
        C3D(clip_len=clip_len, crop_size=crop_size)


@pytest.mark.parametrize("name", ["c3d", "convnet-lstm"])
def test_a_single_clip_in_training_is_refused_with_the_remedy(name: str) -> None:
    model = small(name).train()
    with pytest.raises(ConfigError, match=r"at least 2 clips at once, or call eval\(\)"):
        model(*inputs(name, batch=1))


# ConvNet + LSTM


def test_the_lstms_last_step_is_the_prediction_and_all_steps_are_trained() -> None:
    model = small("convnet-lstm")
    (x,) = inputs("convnet-lstm")
    targets = torch.tensor([1, 4])
    with torch.inference_mode():
        steps = model.temporal_logits(x)
        assert steps.shape == (2, 5, 4)
        torch.testing.assert_close(steps[:, :, -1], model(x))
        expected = sum(F.cross_entropy(steps[:, :, step], targets) for step in range(4)) / 4
        torch.testing.assert_close(model.training_loss(x, targets), expected)
        shorter = model.temporal_logits(x[:, :, :3])
    torch.testing.assert_close(shorter, steps[:, :, :3], rtol=1e-4, atol=1e-5)  # later frames change nothing earlier
    assert model.extract_features(x).shape == (2, 32, 4)


def test_the_order_of_frames_matters_to_the_lstm() -> None:
    model = small("convnet-lstm")
    (x,) = inputs("convnet-lstm")
    with torch.inference_mode():
        assert (model(x) - model(x.flip(2))).abs().max() > 1e-3


def test_the_lstm_is_that_of_its_paper() -> None:
    """Equations (6) to (8) of Cooijmans et al., written out, with statistics per step."""
    lstm = BatchNormLSTM(6, 4, max_steps=3)
    lstm.load_state_dict(fill_by_rule(lstm.state_dict(), 5))
    lstm.eval()
    x = clip(2, 5, 6)
    hidden, cell = torch.zeros(2, 4), torch.zeros(2, 4)

    def norm(values: Tensor, layer: Any, step: int) -> Tensor:
        row = min(step, 2)  # later steps use the last statistics
        return layer.weight * (values - layer.running_mean[row]) / (layer.running_var[row] + 1e-5).sqrt()

    with torch.inference_mode():
        outputs = lstm(x)
        for step in range(5):
            gates = (
                norm(hidden @ lstm.recurrent.weight.T, lstm.bn_recurrent, step)
                + norm(x[:, step] @ lstm.input.weight.T, lstm.bn_input, step)
                + lstm.bias
            )
            forget, inward, outward, candidate = gates.split(4, dim=1)
            cell = torch.sigmoid(forget) * cell + torch.sigmoid(inward) * torch.tanh(candidate)
            hidden = torch.sigmoid(outward) * torch.tanh(norm(cell, lstm.bn_cell, step) + lstm.bn_cell.bias)
            torch.testing.assert_close(outputs[:, step], hidden)


def test_each_step_has_statistics_and_those_out_of_reach_take_the_last_ones() -> None:
    lstm = BatchNormLSTM(3, 2, max_steps=4)
    x = clip(64, 2, 3) + torch.tensor([[[0.0], [5.0]]])
    for _ in range(200):
        lstm(x)
    projected = lstm.input(x).detach()
    for row, step in enumerate((0, 1, 1, 1)):
        torch.testing.assert_close(lstm.bn_input.running_mean[row], projected[:, step].mean(dim=0))
        torch.testing.assert_close(lstm.bn_input.running_var[row], projected[:, step].var(dim=0))
    trained = lstm(x)
    torch.testing.assert_close(lstm.eval()(x), trained, rtol=0.05, atol=0.01)


def test_a_fresh_lstm_is_initialised_as_in_its_paper() -> None:
    lstm = BatchNormLSTM(3, 2)
    for layer in (lstm.bn_input, lstm.bn_recurrent, lstm.bn_cell):
        assert torch.equal(layer.weight, torch.full_like(layer.weight, 0.1))
        assert layer.running_mean.shape[0] == 25
    for gate in lstm.recurrent.weight.chunk(4):
        torch.testing.assert_close(gate @ gate.T, torch.eye(2))
    with pytest.raises(ConfigError, match="max_steps=0"):
        BatchNormLSTM(3, 2, max_steps=0)


# Two-stream


def test_flow_is_stacked_x_and_y_in_turn() -> None:
    rgb, flow = clip(2, 3, 3, 32, 33), clip(2, 2, 30, 32, 33, seed=1)
    frames, stacks = snapshots(rgb, flow, 3)
    assert frames.shape == (6, 3, 32, 33)
    assert stacks.shape == (6, 20, 32, 33)
    for video in range(2):
        for snapshot in range(3):
            assert torch.equal(frames[3 * video + snapshot], rgb[video, :, snapshot])
            for step in range(10):
                for axis in range(2):
                    stacked = stacks[3 * video + snapshot, 2 * step + axis]
                    assert torch.equal(stacked, flow[video, axis, 10 * snapshot + step])


def test_of_all_frames_the_middle_of_each_snapshot_is_taken() -> None:
    rgb, flow = clip(1, 3, 20, 32, 32), clip(1, 2, 20, 32, 32, seed=1)
    frames, _ = snapshots(rgb, flow, 3)
    assert torch.equal(frames, rgb[0, :, [5, 15]].transpose(0, 1))


def test_two_stream_averages_the_predictions_of_streams_and_snapshots() -> None:
    model = small("two-stream")
    rgb, flow = inputs("two-stream")
    frames, stacks = snapshots(rgb, flow, 3)
    with torch.inference_mode():
        scores = torch.stack([model.rgb(frames), model.flow(stacks)]).softmax(dim=-1)  # (2, B * n, classes)
        expected = scores.reshape(2, 2, 2, 5).mean(dim=(0, 2))
        torch.testing.assert_close(model(rgb, flow).softmax(dim=-1), expected)
        torch.testing.assert_close(model(rgb, flow).exp(), expected)
        model.fusion = "logits"
        added = (model.rgb(frames) + model.flow(stacks)).reshape(2, 2, 5).mean(dim=1)
        torch.testing.assert_close(model(rgb, flow), added)


# 3D-fused two-stream


def test_fusion_is_one_convolution_over_space_time_and_both_streams() -> None:
    model = small("fused-two-stream")
    rgb, flow = inputs("fused-two-stream")
    frames, stacks = snapshots(rgb, flow, 3)
    with torch.inference_mode():
        maps = torch.cat([model.rgb(frames), model.flow(stacks)], dim=1)  # (B * n, 128, 2, 2)
        clips = torch.stack([maps[:3], maps[3:]]).transpose(1, 2)
        assert clips.shape == (2, 128, 3, 2, 2)
        convolved = F.conv3d(clips, model.fusion.conv3d.weight, padding=1)
        pooled = F.max_pool3d(F.relu(model.fusion.bn(convolved)), 3, 2, ceil_mode=True, padding=(1, 0, 0))
        features = pooled.mean(dim=(2, 3, 4))
        torch.testing.assert_close(model.extract_features(rgb, flow), features, rtol=1e-4, atol=1e-5)
        expected = features @ model.logits.weight.T + model.logits.bias
        torch.testing.assert_close(model(rgb, flow), expected, rtol=1e-4, atol=1e-5)
