from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from stream_i3d.cli.app import app
from stream_i3d.errors import CheckpointError, ConfigError
from stream_i3d.models.checkpoint import load_checkpoint, save_checkpoint
from stream_i3d.models.head import HasHeads
from stream_i3d.models.i3d import I3D
from stream_i3d.models.layouts import OURS
from stream_i3d.models.overview import architecture_cost, count_flops, count_parameters
from stream_i3d.models.registry import ARCHITECTURES, SAMPLINGS, build_model, find_architecture
from stream_i3d.models.resnet_i3d import ResNetI3D
from stream_i3d.models.spec import ModelSpec
from tests.golden_rule import INCEPTION_GAIN, RESNET_GAIN
from tests.models.conftest import clip, ruled

ROOT = Path(__file__).parents[2]
LITERATURE = {  # M parameters at 400 classes; GFLOPs at the published input, a multiply-add counted as two
    "i3d": (12.7, 55.6),
    "i3d-r50": (28.0, 66.3),
    "i3d-r50-heavy": (33.0, 253.6),
    "i3d-r50-nl-gaussian": (31.7, 83.4),
    "i3d-r50-nl-embedded-gaussian": (35.4, 88.7),
    "i3d-r50-nl-dot-product": (35.4, 88.7),
}
FAMILY = [name for name, row in ARCHITECTURES.items() if row.load() in (I3D, ResNetI3D)]
OUTPUTS = torch.zeros(2, dtype=torch.long)


@pytest.mark.parametrize("name", LITERATURE)
def test_costs_are_those_of_the_literature(name: str) -> None:
    parameters, flops = architecture_cost(name)
    assert (round(parameters / 1e6, 1), round(flops / 1e9, 1)) == LITERATURE[name]


def test_exact_counts_of_mmaction2s_model_zoo() -> None:
    counts = {name: architecture_cost(name)[0] for name in FAMILY if "r50" in name}
    assert counts["i3d-r50"] == counts["i3d-r50-8x8"] == 28_043_472
    assert counts["i3d-r50-nl-gaussian"] == 31_723_728
    assert counts["i3d-r50-nl-embedded-gaussian"] == counts["i3d-r50-nl-dot-product"] == 35_397_840


def test_counting_leaves_the_network_as_it_was() -> None:
    model = ruled(I3D(3, width=1 / 64)).train()
    model.dropout.eval()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    assert count_parameters(model) == sum(parameter.numel() for parameter in model.parameters())
    assert count_flops(model, (2, 3, 8, 32, 32)) == 2 * count_flops(model, (1, 3, 8, 32, 32)) > 0
    assert model.training
    assert not model.dropout.training
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())


@pytest.mark.parametrize("name", FAMILY)
def test_forward_backward_save_and_load(name: str, tmp_path: Path) -> None:
    row = find_architecture(name)
    width = 1 / 64 if row.load() is I3D else 1 / 16
    model = ruled(
        build_model(name, num_classes=3, width=width), gain=INCEPTION_GAIN if row.load() is I3D else RESNET_GAIN
    )
    channels = row.in_channels
    x = clip(2, channels, 8, 32, 32)
    logits = model.train()(x)
    torch.nn.functional.cross_entropy(logits, OUTPUTS).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    spec = ModelSpec(architecture=name, num_classes=3, in_channels=channels, width=width)
    save_checkpoint(tmp_path / "a.safetensors", model, spec)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "b.pt")
    expected = model.eval()(x)
    loaded, found = load_checkpoint(tmp_path / "a.safetensors", architecture=name)
    assert found == spec
    assert torch.equal(loaded(x), expected)
    bare, told = load_checkpoint(tmp_path / "b.pt", architecture=name)
    assert torch.equal(bare(x), expected)
    assert (told.architecture, told.num_classes, told.in_channels, told.width) == (name, 3, channels, width)
    assert told.preprocessing == row.preprocessing
    assert told.provenance["layout"] != OURS


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_rows_fit_their_networks(name: str) -> None:
    row = ARCHITECTURES[name]
    assert row.name == name
    assert {*row.fixed, *row.defaults, *row.options} <= {*row.parameters, *row.fixed}
    assert not {*row.options} & {*row.fixed, "num_classes", "in_channels", "width"}
    assert not [option for option in row.options if "path" in option or "pretrained" in option]
    assert {result.sampling for result in row.results} <= {*SAMPLINGS}
    assert {*row.streams} <= {"rgb", "flow"}
    with torch.device("meta"):
        model = build_model(name)
    assert isinstance(model, HasHeads)
    for head in model.heads:
        assert model.get_submodule(head).weight.shape[0] == model.num_classes


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name not in FAMILY])
def test_a_bare_state_dict_of_any_architecture_is_recognised(name: str, tmp_path: Path) -> None:
    options = {"width": 1 / 16} if "width" in find_architecture(name).parameters else {}
    state = build_model(name, num_classes=3, **options).state_dict()
    torch.save({f"module.{key}": tensor for key, tensor in state.items()}, tmp_path / "a.pt")
    model, spec = load_checkpoint(tmp_path / "a.pt")
    assert (spec.architecture, spec.num_classes, spec.width) == (name, 3, options.get("width", 1.0))
    assert spec.provenance == {"file": "a.pt", "layout": OURS}
    assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())


def test_the_facts_of_a_row() -> None:
    row = find_architecture("i3d-r50-8x8")
    assert (row.clip, row.frame_interval, row.in_channels, row.streams) == ((8, 224, 224), 8, 3, ("rgb",))
    assert row.preprocessing.std == (58.395, 57.12, 57.375)
    assert find_architecture("i3d-flow").in_channels == 2
    assert [(result.sampling, result.top1) for result in find_architecture("i3d-r50").results] == [
        ("uniform", 73.27),
        ("dense", 73.48),
        ("lazy", 73.24),
    ]


def test_options_are_passed_on() -> None:
    with torch.device("meta"):
        model = build_model("i3d-r50", num_classes=7, non_local="gaussian", variant="heavy", dropout=0.1)
        assert isinstance(model, ResNetI3D)
        assert (model.num_classes, model.non_local, model.variant) == (7, "gaussian", "heavy")
        assert build_model("i3d-flow").in_channels == 2
        assert build_model("i3d", in_channels=2).in_channels == 2


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("i3d-r5O", {}, r"no architecture 'i3d-r5O' \(did you mean 'i3d-r50'\?\): give one of i3d, i3d-flow, i3d-r50,"),
        ("i3d-r50", {"non_locl": "gaussian"}, r"'non_locl' \(did you mean 'non_local'\?\): give some of num_classes"),
        ("i3d-r50", {"non_local": "gausian"}, r"'gausian' is not allowed \(did you mean 'gaussian'\?\)"),
        ("i3d-r50-heavy", {"variant": "plain"}, r"has variant='heavy', which is what its name says"),
        ("i3d-r50-heavy", {"dropout_keep_prob": 0.5}, r"no option 'dropout_keep_prob'.*dropout"),
    ],
)
def test_what_is_not_allowed_is_named(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        build_model(name, **options)
    assert "\n" not in str(caught.value)


def test_checkpoints_carry_options(tmp_path: Path) -> None:
    path = tmp_path / "heavy.safetensors"
    spec = ModelSpec(
        architecture="i3d-r50",
        num_classes=3,
        width=1 / 16,
        options={"variant": "heavy", "non_local": "gaussian", "dropout": 0.25},
    )
    model = ruled(ResNetI3D(3, width=1 / 16, variant="heavy", non_local="gaussian"))
    save_checkpoint(path, model, spec)
    loaded, found = load_checkpoint(path)
    assert found == spec
    assert isinstance(loaded, ResNetI3D)
    assert (loaded.variant, loaded.non_local, loaded.dropout.p) == ("heavy", "gaussian", 0.25)
    with pytest.raises(CheckpointError, match="options="):
        load_checkpoint(path, ModelSpec(architecture="i3d-r50", num_classes=3, width=1 / 16))


@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        ("i3d", {"pretrained_path": "/etc/passwd"}),
        ("i3d", {"use_pretrained": True}),
        ("i3d", {"num_classes": 5}),
        ("i3d", {"dropout_keep_prob": "half"}),
        ("i3d-r50", {"dropout": None}),
        ("i3d-r50", {"non_local": 3}),
        ("i3d-r50-heavy", {"variant": "plain"}),
    ],
)
def test_options_that_no_checkpoint_may_carry(architecture: str, options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        save_checkpoint(
            tmp_path / "a.safetensors",
            I3D(3, width=1 / 64),
            ModelSpec(architecture=architecture, num_classes=3, width=1 / 64, options=options),
        )
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_the_table_is_read_without_torch() -> None:
    code = "import sys, stream_i3d.models.registry; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 0


def test_the_command_lists_every_architecture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAM_I3D_HOME", str(tmp_path))
    listed = CliRunner().invoke(app, ["models"])  # in this process: a fresh one needs seconds to import torch
    assert listed.exit_code == 0, listed.output
    assert all(f" {name} " in listed.output for name in ARCHITECTURES)
    assert " 73.48 / 91 dense " in listed.output
    told = CliRunner().invoke(app, ["models", "--json"])
    rows = {row["name"]: row for row in json.loads(told.stdout)}
    assert list(rows) == list(ARCHITECTURES)
    heavy = rows["i3d-r50-heavy"]
    assert (heavy["parameters"], heavy["gflops"]) == (33_024_208, 253.6)
    assert heavy["inputs"] == {"rgb": [3, 32, 224, 224]}
    assert heavy["results"][0]["top1"] == 76.21
    assert rows["i3d"]["weights_at_hand"] == ["motion"]
