from __future__ import annotations

import json
import os
import pickle
import random
import struct
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs
from torch import Tensor

from stream_i3d.errors import CheckpointError, LabelsError
from stream_i3d.models import spec as spec_module
from stream_i3d.models.checkpoint import infer_spec, load_checkpoint, load_into, save_checkpoint, update_spec
from stream_i3d.models.i3d import I3D
from stream_i3d.models.labels import load_labels
from stream_i3d.models.spec import ModelSpec, carried_checkpoint, read_spec, resolve_checkpoint
from stream_i3d.models.weight_files import check_values
from stream_i3d.preprocess import Preprocessing
from tests.models.conftest import clip, ruled

WIDTH = 1 / 64
SPEC = ModelSpec(
    num_classes=3,
    width=WIDTH,
    labels=("push", "pull", "wave ✋"),
    preprocessing=Preprocessing(sample_fps=12.5, short_side=80, crop_size=80),
    provenance={"made by": "a test"},
)


def refused(path: Path | str, **arguments: Any) -> str:
    """Load a file that must be refused; return the error, which must be one line."""
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, **arguments)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 1000
    return message


def saved(path: Path, state: Any, **options: Any) -> Path:
    torch.save(state, path, **options)
    return path


# What is read


def test_our_files_carry_their_spec(tiny: I3D, tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "tiny.safetensors"
    save_checkpoint(path, tiny, SPEC)
    assert read_spec(path) == SPEC
    model, spec = load_checkpoint(path)
    assert spec == SPEC
    assert not model.training
    assert same(model, tiny)
    assert list(path.parent.iterdir()) == [path]


def test_equal_checkpoints_are_equal_files_and_replace_each_other(tiny: I3D, tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    path.write_bytes(b"old")
    save_checkpoint(path, tiny, SPEC)
    first = path.read_bytes()
    save_checkpoint(path, tiny.to(memory_format=torch.channels_last_3d), SPEC)
    assert path.read_bytes() == first


def wrapped(state: dict[str, Tensor]) -> dict[str, Any]:
    return {"epoch": 3, "state_dict": state, "optimizer": {"lr": 0.1, "steps": [1, 2]}}


def prefixed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"module.{key}": tensor for key, tensor in state.items()}


def compiled_then_wrapped(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"_orig_mod.module.{key}": tensor for key, tensor in state.items()}


def without_counters(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return OrderedDict((key, tensor) for key, tensor in state.items() if "num_batches" not in key)


def in_double(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: tensor.double() if tensor.is_floating_point() else tensor for key, tensor in state.items()}


@pytest.mark.parametrize("layout", [dict, wrapped, prefixed, compiled_then_wrapped, without_counters, in_double])
@pytest.mark.parametrize("zipped", [True, False])
def test_published_layouts_of_torch_save(
    tiny: I3D, tmp_path: Path, layout: Callable[[dict[str, Tensor]], Any], zipped: bool
) -> None:
    # The published files of 2017 are of the format before zip, and older than BatchNorm's counters.
    path = saved(tmp_path / "weights.pt", layout(tiny.state_dict()), _use_new_zipfile_serialization=zipped)
    assert read_spec(path) is None
    model, spec = load_checkpoint(path)
    assert spec == ModelSpec(num_classes=3, width=WIDTH, provenance={"file": "weights.pt", "layout": "piergiaj"})
    assert same(model, tiny)


def test_bare_safetensors(tiny: I3D, tmp_path: Path) -> None:
    path = tmp_path / "bare.safetensors"
    safetensors.torch.save_file(tiny.state_dict(), path, metadata={"format": "pt"})
    assert read_spec(path) is None
    assert load_checkpoint(path)[1].num_classes == 3
    assert same(load_checkpoint(path)[0], tiny)


def test_content_counts_and_not_the_name(tiny: I3D, tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    save_checkpoint(path, tiny, SPEC)
    renamed = path.rename(tmp_path / "tiny.pt")
    assert read_spec(renamed) == SPEC
    assert same(load_checkpoint(renamed)[0], tiny)


@pytest.mark.parametrize("width", [1.0, 0.5, 0.3, 0.28125, 1 / 3, 0.1, 0.07, 1 / 64, 1.7])
def test_dimensions_are_inferred_from_the_shapes(width: float) -> None:
    state = on_meta(width)
    spec = infer_spec(state, Path("weights.pt"))
    assert shapes(on_meta(spec.width)) == shapes(state)
    assert (spec.num_classes, spec.in_channels) == (400, 2)
    assert spec.labels == load_labels("kinetics400")
    assert spec.preprocessing == Preprocessing()


def on_meta(width: float) -> dict[str, Tensor]:
    with torch.device("meta"):
        return I3D(num_classes=400, in_channels=2, width=width).state_dict()


def shapes(state: dict[str, Tensor]) -> dict[str, torch.Size]:
    return {key: tensor.shape for key, tensor in state.items()}


def test_a_given_spec_wins_for_labels_and_preprocessing(tiny: I3D, tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    save_checkpoint(path, tiny, SPEC)
    mine = ModelSpec(num_classes=3, width=WIDTH, labels=("a", "b", "c"))
    assert load_checkpoint(path, mine)[1] == mine
    assert load_checkpoint(saved(tmp_path / "tiny.pt", tiny.state_dict()), mine)[1] == mine


def test_loaded_weights_are_the_networks_own(tiny: I3D, tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    save_checkpoint(path, tiny, SPEC)
    model, _ = load_checkpoint(path)
    before = model(clip(1, 3, 8, 32, 32))
    path.write_bytes(b"\0" * path.stat().st_size)
    assert torch.equal(model(clip(1, 3, 8, 32, 32)), before)
    assert all(parameter.requires_grad for parameter in model.parameters())
    model.train()(clip(2, 3, 8, 64, 64)).sum().backward()


def test_the_carried_checkpoint_has_a_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny: I3D) -> None:
    assert carried_checkpoint().parts[-3:] == ("models", "weights", "motion.safetensors")
    carried = tmp_path / "motion.safetensors"
    monkeypatch.setattr(spec_module, "carried_checkpoint", lambda: carried)
    assert "install" in refused("motion")
    save_checkpoint(carried, tiny, SPEC)
    assert resolve_checkpoint("motion") == carried
    assert load_checkpoint("motion")[1] == read_spec("motion") == SPEC


# What is refused


@pytest.mark.parametrize("name", ["nowhere.pt", "", "a\0b", "x" * 300, "~nobody/x.pt"])
def test_missing_files(name: str) -> None:
    assert "give the path of a .safetensors, .pt or .pth file" in refused(name)
    with pytest.raises(CheckpointError):
        read_spec(name)


def test_a_near_miss_of_the_carried_name() -> None:
    assert "did you mean 'motion'?" in refused("moton")


def test_a_folder(tmp_path: Path) -> None:
    assert "is a folder" in refused(tmp_path)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0",
        b"{}",
        b"PK\x03\x04",
        b"\x80\x02.",
        b"hello, this is text",
        random.Random(0).randbytes(5000),
        b"\0" * 100,
    ],
)
def test_files_that_are_something_else(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    assert "checkpoint" in refused(path)


@pytest.mark.parametrize("share", [0.001, 0.05, 0.5, 0.99])
def test_truncated_files(tiny: I3D, tmp_path: Path, share: float) -> None:
    save_checkpoint(tmp_path / "a.safetensors", tiny, SPEC)
    saved(tmp_path / "b.pt", tiny.state_dict())
    saved(tmp_path / "c.pt", tiny.state_dict(), _use_new_zipfile_serialization=False)
    for path in sorted(tmp_path.iterdir()):
        os.truncate(path, int(path.stat().st_size * share))
        assert path.name in refused(path)


class Hostile:
    """Creates a file if it is unpickled without weights_only."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("where", ["pickle", "zip", "old", "safetensors"])
def test_a_hostile_pickle_is_refused_and_not_run(tiny: I3D, tmp_path: Path, where: str) -> None:
    target = tmp_path / "ran"
    path = tmp_path / ("weights.safetensors" if where == "safetensors" else "weights.pt")
    state = {**tiny.state_dict(), "extra": Hostile(target)}
    if where in ("zip", "old"):
        saved(path, state, _use_new_zipfile_serialization=where == "zip")
    else:
        path.write_bytes(pickle.dumps(Hostile(target)))
    assert path.name in refused(path)
    assert not target.exists()
    if where == "pickle":  # the test's own trap works
        pickle.loads(path.read_bytes())
        assert target.exists()


def test_a_pickled_network_is_refused_with_the_remedy(tiny: I3D, tmp_path: Path) -> None:
    assert "torch.save(state_dict)" in refused(saved(tmp_path / "whole.pt", tiny))


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ([1, 2], "holds a list"),
        (torch.zeros(3), "holds a Tensor"),
        ({}, "it is empty"),
        ({"state_dict": {}}, "it is empty"),
        ({1: torch.zeros(3)}, "key 1"),
        ({"epoch": 3}, "'epoch' is a int, not a tensor"),
        ({"a\nb" * 100: torch.zeros(3)}, r"'a\nba"),
        ({"backbone.conv1.conv.weight": torch.zeros(64, 3, 5, 7, 7)}, "its first tensor is 'backbone.conv1"),
        ({"conv3d_1a_7x7.conv3d.weight": torch.zeros(64, 3, 7, 7, 7)}, "names of piergiaj"),
        ({"Conv3d_1a_7x7.conv3d.weight": torch.zeros(64)}, "no usable Conv3d_1a_7x7"),
        ({"x": torch.zeros(3, dtype=torch.int8)}, "int8"),
        ({"x": torch.eye(3).to_sparse()}, "sparse"),
        ({"x": torch.zeros(3, device="meta")}, "on meta"),
        ({"x": torch.zeros(1).expand(10**12)}, "less data than its shape"),
        ({"x.num_batches_tracked": torch.zeros(3, dtype=torch.complex64)}, "complex64"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.filterwarnings("ignore")  # torch's own about sparse and quantised tensors
def test_contents_that_are_no_i3d(tmp_path: Path, state: Any, message: str) -> None:
    assert message in refused(saved(tmp_path / "weights.pt", state))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("Mixed_3b.b1a.conv3d.weight", None, "no usable Mixed_3b.b1a.conv3d.weight"),
        ("Mixed_9z.weight", torch.zeros(2), "holds 'Mixed_9z.weight', which I3D does not have"),
        ("Mixed_4f.b0.bn.weight", torch.ones(7), "Mixed_4f.b0.bn.weight has the shape (7,), the network needs (4,)"),
        ("Mixed_4f.b0.conv3d.weight", torch.ones(9, 9, 9, 9, 9), "the shape"),
        ("Mixed_3b.b1a.conv3d.weight", torch.full((2, 3, 1, 1, 1), torch.nan), "has NaN"),
        ("Mixed_3b.b1a.bn.bias", torch.full((2,), torch.inf), "infinite"),
        ("Mixed_3b.b1a.bn.bias", torch.full((2,), 1e300, dtype=torch.float64), "infinite"),
        ("Mixed_3b.b1a.bn.running_var", torch.full((2,), -1.0), "impossible"),
        ("logits.conv3d.bias", torch.zeros(4), "(4,), the network needs (3,)"),
    ],
)
def test_one_tensor_that_does_not_fit(tiny: I3D, tmp_path: Path, key: str, value: Tensor | None, message: str) -> None:
    state = {**tiny.state_dict(), key: value}
    state = {name: tensor for name, tensor in state.items() if tensor is not None}
    assert message in refused(saved(tmp_path / "weights.pt", state))


@pytest.mark.parametrize(
    ("asked", "own", "bare"),
    [
        ({"num_classes": 4}, "num_classes=3, but 4", "build the network with num_classes=3"),
        ({"in_channels": 2}, "in_channels=3, but 2", "build the network with in_channels=3"),
        ({"width": 0.25}, "width=0.015625, but 0.25", "Conv3d_1a_7x7.conv3d.weight has the shape (1, 3, 7, 7, 7)"),
        ({"architecture": "i4d"}, "architecture='i3d', but 'i4d'", "did you mean 'i3d'?"),
    ],
)
def test_a_file_of_another_spec_is_an_error(
    tiny: I3D, tmp_path: Path, asked: dict[str, Any], own: str, bare: str
) -> None:
    spec = ModelSpec(**{"num_classes": 3, "width": WIDTH, **asked})
    save_checkpoint(tmp_path / "own.safetensors", tiny, SPEC)
    assert own in refused(tmp_path / "own.safetensors", spec=spec)
    assert bare in refused(saved(tmp_path / "bare.pt", tiny.state_dict()), spec=spec)


def test_labels_of_another_length_are_an_error(tiny: I3D, tmp_path: Path) -> None:
    path = saved(tmp_path / "weights.pt", tiny.state_dict())
    wrong = ModelSpec(num_classes=3, width=WIDTH, labels=("a",))
    with pytest.raises(LabelsError, match="1 labels do not fit a network of 3 classes"):
        load_checkpoint(path, wrong)
    with pytest.raises(LabelsError):
        save_checkpoint(tmp_path / "weights.safetensors", tiny, wrong)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"num_classes": 0}',
        '{"num_classes": 3, "a later field": 1}',
        '{"num_classes": 3, "labels": ["a"]}',
        '{"num_classes": 3, "width": 1e9}',
        '{"num_classes": 3, "preprocessing": {"crop_size": 1}}',
        '{"num_classes": 3, "architecture": "i4d"}',
        "[" * 100_000,
    ],
)
def test_a_damaged_spec(tiny: I3D, tmp_path: Path, text: str) -> None:
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(tiny.state_dict(), path, metadata={"stream_i3d": text})
    assert path.name in refused(path)


@pytest.mark.parametrize(
    "header",
    [
        b"{",
        b"[]",
        b'{"__metadata__": 3}',
        b'{"__metadata__": {"stream_i3d": 3}}',
        b"{" + b'"a":[' * 50_000,
        b'{"\xff": 1}',
    ],
)
def test_a_damaged_header(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    assert path.name in refused(path)


@pytest.mark.parametrize("length", [0, 1, 2**63, 2**40, 10_000_000_000])
def test_a_damaged_header_length_reads_nothing(tiny: I3D, tmp_path: Path, length: int) -> None:
    path = tmp_path / "weights.safetensors"
    save_checkpoint(path, tiny, SPEC)
    path.write_bytes(struct.pack("<Q", length) + path.read_bytes()[8:])
    assert "header" in refused(path)
    with pytest.raises(CheckpointError):
        read_spec(path)


def test_an_unreadable_file(tiny: I3D, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "weights.pt", tiny.state_dict())

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    assert "Permission denied" in refused(path)


def test_a_refused_file_leaves_the_network_as_it_was(tiny: I3D, tmp_path: Path) -> None:
    before = {key: tensor.clone() for key, tensor in tiny.state_dict().items()}
    state = {**ruled(I3D(num_classes=3, width=WIDTH), seed=8).state_dict(), "logits.conv3d.bias": torch.zeros(4)}
    with pytest.raises(CheckpointError):
        load_into(tiny, saved(tmp_path / "weights.pt", state))
    assert all(torch.equal(before[key], tensor) for key, tensor in tiny.state_dict().items())


# Saving


@pytest.mark.parametrize("other", [{"num_classes": 4}, {"in_channels": 2}, {"width": 0.25}, {"architecture": "no"}])
def test_a_spec_of_another_network_is_not_saved(tiny: I3D, tmp_path: Path, other: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError):
        save_checkpoint(tmp_path / "a.safetensors", tiny, ModelSpec(**{"num_classes": 3, "width": WIDTH, **other}))
    assert not list(tmp_path.iterdir())


def test_diverged_weights_are_not_saved(tiny: I3D, tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    save_checkpoint(path, tiny, SPEC)
    with torch.no_grad():
        tiny.logits.conv3d.weight[0] = torch.nan
    with pytest.raises(CheckpointError, match="diverged"):
        save_checkpoint(path, tiny, SPEC)
    assert load_checkpoint(path)[1] == SPEC


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_weights_of_any_type_are_saved_as_they_are_unless_they_diverged(
    tiny: I3D, tmp_path: Path, dtype: torch.dtype
) -> None:
    path, model = tmp_path / "weights.safetensors", tiny.train().requires_grad_().to(dtype)
    save_checkpoint(path, model, SPEC)
    assert safetensors.torch.load_file(path)["logits.conv3d.weight"].dtype == dtype
    for name, parameter in model.named_parameters():
        check_values(name, parameter, path)
    with torch.no_grad():
        model.logits.conv3d.weight[0] = torch.nan
    with pytest.raises(CheckpointError, match="diverged"):
        check_values("logits.conv3d.weight", model.logits.conv3d.weight, path)


@pytest.mark.parametrize("name", ["weights.pt", "weights"])
def test_the_name_says_the_format(tiny: I3D, tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match="ending in"):
        save_checkpoint(tmp_path / name, tiny, SPEC)


def test_a_failed_write_keeps_the_old_file(tiny: I3D, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match="No space left on device"):
        save_checkpoint(path, tiny, SPEC)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("weights.safetensors", b"old")]


def test_a_wrapped_network_is_saved_under_its_own_names(tiny: I3D, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "weights.safetensors", torch.nn.ModuleDict({"module": tiny}), SPEC)
    assert same(load_checkpoint(tmp_path / "weights.safetensors")[0], tiny)


def test_the_header_is_plain_json(tiny: I3D, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "weights.safetensors", tiny, SPEC)
    data = (tmp_path / "weights.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    metadata = json.loads(data[8 : 8 + length])["__metadata__"]
    assert list(metadata) == ["stream_i3d"]
    assert json.loads(metadata["stream_i3d"])["labels"][2] == "wave ✋"


# A spec that is changed in place


def test_a_spec_is_changed_and_the_tensors_stay_bit_by_bit(tiny: I3D, tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    halves = {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in tiny.state_dict().items()}
    path.write_bytes(safetensors.torch.save(halves, spec_module.encode_spec(SPEC)))
    changed = structs.replace(SPEC, temperature=1.75, provenance={"made by": "another"})
    update_spec(path, changed)
    assert read_spec(path) == changed
    kept = safetensors.torch.load_file(path)
    assert kept.keys() == halves.keys()
    assert all(torch.equal(kept[key], halves[key]) and kept[key].dtype == halves[key].dtype for key in halves)
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_from_before_there_was_a_temperature_has_none(tiny: I3D, tmp_path: Path) -> None:
    old = json.loads(spec_module.encode_spec(SPEC)["stream_i3d"])
    del old["temperature"]
    path = tmp_path / "old.safetensors"
    path.write_bytes(safetensors.torch.save(tiny.state_dict(), {"stream_i3d": json.dumps(old)}))
    assert read_spec(path) == SPEC
    assert load_checkpoint(path)[1].temperature == 1.0


@pytest.mark.parametrize("temperature", [0, -1, 0.001, 1e6, "1", True])
def test_a_temperature_that_no_fit_gives_is_refused(tiny: I3D, tmp_path: Path, temperature: object) -> None:
    wrong = {**json.loads(spec_module.encode_spec(SPEC)["stream_i3d"]), "temperature": temperature}
    path = tmp_path / "wrong.safetensors"
    path.write_bytes(safetensors.torch.save(tiny.state_dict(), {"stream_i3d": json.dumps(wrong)}))
    assert "temperature" in refused(path)


def test_the_spec_of_another_network_is_not_written_into_a_file(tiny: I3D, tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    save_checkpoint(path, tiny, SPEC)
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=r"has width=0\.015625, but 0\.5 was asked for"):
        update_spec(path, structs.replace(SPEC, width=0.5))
    with pytest.raises(LabelsError, match="2 labels do not fit"):
        update_spec(path, structs.replace(SPEC, labels=("push", "pull")))
    assert path.read_bytes() == before


def test_files_that_cannot_be_given_another_spec(tiny: I3D, tmp_path: Path) -> None:
    foreign = saved(tmp_path / "weights.pt", tiny.state_dict())
    with pytest.raises(CheckpointError, match=r"carries no description .* `stream-i3d weights convert`$"):
        update_spec(foreign, SPEC)
    cut = tmp_path / "cut.safetensors"
    save_checkpoint(cut, tiny, SPEC)
    cut.write_bytes(cut.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        update_spec(cut, SPEC)


# Anything at all: refused in one line, or loaded; never another exception

fuzzed = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def refusal(path: Path) -> str:
    """Load a file; return the error, or "" if it was loaded. Other errors fail the test."""
    try:
        read_spec(path)
        load_checkpoint(path)
    except CheckpointError as error:
        return str(error)
    return ""


@fuzzed
@given(
    content=st.binary(max_size=300),
    prefix=st.sampled_from([b"", b"\x80\x02", b"PK\x03\x04", b"\x10" + b"\0" * 7 + b"{"]),
)
def test_random_bytes(tmp_path: Path, content: bytes, prefix: bytes) -> None:
    for suffix in (".pt", ".safetensors"):
        path = tmp_path / f"weights{suffix}"
        path.write_bytes(prefix + content)
        assert "\n" not in refusal(path)


@fuzzed
@given(data=st.data(), kind=st.sampled_from(["ours", "zip", "old"]))
def test_valid_files_with_flipped_bits(tiny: I3D, tmp_path: Path, data: st.DataObject, kind: str) -> None:
    original = tmp_path / ("a.safetensors" if kind == "ours" else f"{kind}.pt")
    if not original.exists():
        if kind == "ours":
            save_checkpoint(original, tiny, SPEC)
        else:
            saved(original, tiny.state_dict(), _use_new_zipfile_serialization=kind == "zip")
    content = bytearray(original.read_bytes())
    # Half of the flips go where the structure is: the front of the file, or the zip's directory at its end.
    places = (
        st.integers(0, len(content) - 1) | st.integers(0, 2000) | st.integers(len(content) - 2000, len(content) - 1)
    )
    for place in data.draw(st.lists(places, min_size=1, max_size=4)):
        content[place] ^= 1 << data.draw(st.integers(0, 7))
    damaged = tmp_path / f"damaged{original.suffix}"
    damaged.write_bytes(content)
    assert "\n" not in refusal(damaged)


def same(model: torch.nn.Module, other: torch.nn.Module) -> bool:
    ours, theirs = model.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(
        torch.equal(ours[key], theirs[key]) and ours[key].dtype == theirs[key].dtype
        for key in ours
        if not key.endswith("num_batches_tracked")
    )
