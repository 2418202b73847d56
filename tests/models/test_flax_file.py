"""Flax trees of NumPy arrays as checkpoints, and pickles that ask for more than arrays."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from stream_i3d.errors import CheckpointError
from stream_i3d.models.checkpoint import describe_layout, load_checkpoint
from stream_i3d.models.flax_file import read_flax
from stream_i3d.models.i3d import I3D
from tests.flax_trees import flax_tree
from tests.models.conftest import ruled

WIDTH = 1 / 16


def network() -> I3D:
    model = ruled(I3D(7, width=WIDTH))
    for name, module in model.named_modules():
        if name.endswith(".bn"):
            torch.nn.init.ones_(module.weight)  # the released trees have none
    return model.eval()


def dumped(path: Path, content: object, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(content, protocol))
    return path


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("scales", [False, True])
def test_a_tree_is_the_network_that_it_was_made_of(tmp_path: Path, protocol: int, scales: bool) -> None:
    model = network()
    path = tmp_path / "own.ckpt"
    dumped(path, flax_tree(model, scales), protocol)
    loaded, spec = load_checkpoint(path)
    assert (spec.architecture, spec.num_classes, spec.width) == ("i3d", 7, WIDTH)
    assert describe_layout(path).startswith("flax: Inception I3D as a Flax tree")
    clip = torch.rand(2, 3, 16, 64, 64) * 2 - 1
    with torch.no_grad():
        wanted, given = model(clip), loaded(clip)
    assert (given - wanted).abs().max() < 1e-4 * wanted.abs().max()
    assert wanted.std() > 1e-3


def test_a_key_may_hold_several_steps(tmp_path: Path) -> None:
    tree = {"params": {"Mixed_3b": {"Branch_0/Conv3d_0a_1x1": {"Conv_0": {"kernel": np.zeros((1, 1, 1, 2, 3))}}}}}
    arrays = read_flax(dumped(tmp_path / "a.ckpt", tree))
    assert arrays is not None
    assert {name: array.shape for name, array in arrays.items()} == {
        "params.Mixed_3b.Branch_0.Conv3d_0a_1x1.Conv_0.kernel": (3, 2, 1, 1, 1)
    }


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("kind", ["<f4", ">f4", ">f8", "<f2", ">i4", "u1"])
def test_numbers_of_any_type_and_order_of_bytes_keep_their_values(tmp_path: Path, protocol: int, kind: str) -> None:
    wanted = np.arange(6, dtype=kind).reshape(2, 3)
    for number, made in enumerate((wanted, np.asfortranarray(wanted))):
        path = dumped(tmp_path / f"{number}.ckpt", {"params": {"bias": made}}, protocol)
        arrays = read_flax(path)
        assert arrays is not None
        assert arrays["params.bias"].tolist() == wanted.tolist()


class Calls:
    """Pickled, it asks for a function to be called."""

    def __init__(self, function: Callable[..., Any], *arguments: object) -> None:
        self._call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        return self._call


def marked(path: Path) -> list[object]:
    """What a pickle might ask for; each would leave a mark, take all memory, or hide an object among the arrays."""
    fill: NDArray[Any] = np.array([Calls(os.mkdir, str(path))], dtype=object)
    return [
        Calls(os.mkdir, str(path)),
        Calls(os.system, f"mkdir {path}"),
        Calls(eval, f"__import__('os').mkdir({str(path)!r})"),
        Calls(np.save, str(path), np.zeros(3)),
        Calls(np.load, str(path)),
        Calls(np.empty, (2**40,)),
        Calls(np.zeros(0).__reduce__()[0], np.ndarray, (2**40,), b"b"),
        Calls(getattr, np.ndarray, "tofile"),
        Calls(np.ndarray, (2**40,)),
        Calls(np.ndarray, (2**20,), "f4", b"0000", 0, (0,)),
        fill,
    ]


@pytest.mark.parametrize("number", range(11))
def test_a_pickle_that_asks_for_more_than_arrays_is_refused_and_nothing_runs(tmp_path: Path, number: int) -> None:
    mark = tmp_path / "mark"
    tree = flax_tree(network())
    tree["params"]["Logits"]["Conv3d_0c_1x1"]["Conv_0"]["bias"] = marked(mark)[number]
    path = dumped(tmp_path / "i3d-kinetics-400.ckpt", tree)
    with pytest.raises(CheckpointError, match="more than tensors, which is refused because reading it could") as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)
    assert not mark.exists()


NO_TREES = [b"\x80", b"\x80\x04", b"\x80\x04N.", b"\x80\x04}.", b"\x80" + bytes(range(256)) * 9, b""]


@pytest.mark.parametrize("content", NO_TREES, ids=range(6))
def test_what_is_no_such_tree_is_left_to_the_other_readers(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.ckpt"
    path.write_bytes(content)
    assert read_flax(path) is None
    with pytest.raises(CheckpointError):
        load_checkpoint(path)


def test_what_torch_saved_is_read_by_torch(tmp_path: Path) -> None:
    for zipped in (True, False):
        path = tmp_path / f"{zipped}.pt"
        torch.save(network().state_dict(), path, _use_new_zipfile_serialization=zipped)
        assert read_flax(path) is None
        assert load_checkpoint(path)[1].num_classes == 7


@pytest.mark.parametrize(
    ("leaf", "message"),
    [("text", "is a str, not an array of numbers"), ([1.0], "is a list"), (np.array(["a"]), "more than tensors")],
)
def test_a_leaf_that_is_no_array_of_numbers_is_told(tmp_path: Path, leaf: object, message: str) -> None:
    tree = flax_tree(network())
    tree["params"]["Logits"]["Conv3d_0c_1x1"]["Conv_0"]["bias"] = leaf
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(dumped(tmp_path / "a.ckpt", tree))


def test_values_that_are_not_finite_are_told(tmp_path: Path) -> None:
    tree = flax_tree(network())
    tree["params"]["Logits"]["Conv3d_0c_1x1"]["Conv_0"]["bias"][0] = np.nan
    with pytest.raises(CheckpointError, match="NaN, infinite or impossible values"):
        load_checkpoint(dumped(tmp_path / "a.ckpt", tree))
