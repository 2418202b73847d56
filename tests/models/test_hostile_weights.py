"""Malicious weights files are refused in one line, before they take memory or run code."""

from __future__ import annotations

import io
import json
import pickle
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from stream_i3d.errors import CheckpointError
from stream_i3d.models.checkpoint import load_checkpoint
from stream_i3d.models.spec import METADATA_KEY, ModelSpec, encode_spec, read_spec
from stream_i3d.models.weight_files import read_contents


def refusal(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def saved(state: Any) -> bytes:
    packed = io.BytesIO()
    torch.save(state, packed)
    return packed.getvalue()


def safetensors(header: dict[str, Any] | bytes, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def tensor(begin: int, end: int, shape: list[int], dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


# --- torch.save's zips


def recompressed(content: bytes, replace: Callable[[str, bytes], bytes] = lambda name, data: data) -> bytes:
    """The same zip, compressed; `replace` may change the content of its records."""
    packed = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as old,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, replace(name, old.read(name)))
    return packed.getvalue()


def test_a_zip_that_unpacks_to_much_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    bomb = recompressed(saved({"x": torch.zeros(5_000_000)}))
    assert len(bomb) < 50_000
    assert "compressed zip" in refusal(tmp_path / "bomb.pt", bomb)


def test_a_pickle_that_unpacks_to_much_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    bomb = recompressed(
        saved({"x": torch.zeros(2)}), lambda name, data: bytes(50_000_000) if name.endswith("data.pkl") else data
    )
    tracemalloc.start()
    try:
        assert "compressed zip" in refusal(tmp_path / "bomb.pt", bomb)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_many_names_for_one_large_tensor_are_refused_and_a_few_are_not(tmp_path: Path) -> None:
    shared = torch.ones(50_000)
    many = saved({f"layer{number}": shared for number in range(1000)})
    assert "less data than its shapes say" in refusal(tmp_path / "many.pt", many)
    tied = tmp_path / "tied.pt"
    tied.write_bytes(saved({"a.weight": shared, "b.weight": shared}))
    assert torch.equal(read_contents(tied).tensors["b.weight"], shared)


class _Call:
    """Pickles as a call of a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    "call",
    [
        _Call(eval, "open('was-here', 'w')"),
        _Call(getattr, "", "format"),
        _Call(bytearray, 2**50),
        _Call(torch.ones, 2**40),
        _Call(__import__, "os"),
    ],
    ids=["eval", "getattr", "bytearray", "ones", "import"],
)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "bare"])
def test_calls_in_a_pickle_are_refused_and_not_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, call: _Call, zipped: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    content = pickle.dumps({"state_dict": {"x": call}}, protocol=2)
    if zipped:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("archive/data.pkl", content)
            archive.writestr("archive/version", "3\n")
        content = packed.getvalue()
    assert "holds more than tensors, which is refused" in refusal(tmp_path / "calls.pt", content)
    assert [path.name for path in tmp_path.iterdir()] == ["calls.pt"]


def test_a_tensor_that_a_pickle_has_torch_make_is_refused_before_it_is_filled(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:  # 16 GB that are only promised, until they are copied
        archive.writestr("archive/data.pkl", pickle.dumps({"x": _Call(torch.FloatTensor, 4 * 2**30)}, protocol=2))
        archive.writestr("archive/version", "3\n")
    message = refusal(tmp_path / "promised.pt", packed.getvalue())
    assert "less data than its shapes say" in message or "is damaged, or holds more than tensors" in message


# --- safetensors


@pytest.mark.parametrize(
    "content",
    [
        (2**63).to_bytes(8, "little") + b"{}",
        (100 * 2**20).to_bytes(8, "little") + b"{" + b" " * 1000,
        safetensors(b""),
        safetensors(b"[" * 5000),
        safetensors(b'{"a":' * 5000),
        safetensors({"a": tensor(0, 24, [2, 3]), "b": tensor(8, 32, [2, 3])}, bytes(32)),
        safetensors({"a": tensor(0, 24, [2, 3]), "b": tensor(0, 24, [2, 3])}, bytes(24)),
        safetensors({"a": tensor(8, 32, [2, 3])}, bytes(32)),
        safetensors({"a": tensor(24, 0, [2, 3])}, bytes(24)),
        safetensors({"a": tensor(0, 24, [2**40, 2**40])}, bytes(24)),
        safetensors({"a": tensor(0, 2**60, [2**58])}, bytes(24)),
        safetensors({"a": tensor(0, 24, [-2, -3])}, bytes(24)),
        safetensors({"a": tensor(0, 24, [2, 3], "F99")}, bytes(24)),
        safetensors({"a": tensor(0, 24, [2, 3], "F64")}, bytes(24)),
        safetensors({"a": tensor(0, 24, [2, 3])}, bytes(23)),
        safetensors({"a": tensor(0, 24, [2, 3])}, bytes(25)),
        safetensors({"a": 5}),
        safetensors({"__metadata__": {"a": 5}}),
        safetensors({"__metadata__": [1]}),
        safetensors(b'{"__metadata__":{"\xff":"\xfe"}}'),
        safetensors({"a\r\nb": tensor(0, 24, [2, 3])}, bytes(24)),
    ],
    ids=range(21),
)
def test_headers_that_lie(tmp_path: Path, content: bytes) -> None:
    assert refusal(tmp_path / "lies.safetensors", content)


SPEC = json.loads(encode_spec(ModelSpec(num_classes=2, labels=("a", "b")))[METADATA_KEY])


@pytest.mark.parametrize(
    "changes",
    [
        {"num_classes": 10**30},
        {"num_classes": -1},
        {"num_classes": "2"},
        {"num_classes": 10**6, "labels": None, "width": 16.0},
        {"width": 1e999},
        {"architecture": "i3d\r\nfaked line"},
        {"architecture": "../../etc/passwd"},
        {"architecture": "stream_i3d.models.i3d:I3D"},
        {"options": {"pretrained_path": "/etc/passwd"}},
        {"options": {"dropout_keep_prob": "x"}},
        {"options": {"dropout_keep_prob": {}}},
        {"architecture": "c3d", "options": {"crop_size": 10**18}},
        {"architecture": "c3d", "options": {"crop_size": 10**40}},
        {"architecture": "convnet-lstm", "options": {"max_steps": 2**62}},
        {"architecture": "convnet-lstm", "options": {"max_steps": 1.5}},
        {"architecture": "convnet-lstm", "options": {"max_steps": 10**40}},
        {"labels": ["a"] * 3},
        {"labels": "ab"},
        {"preprocessing": {"crop_size": 10**9}},
        {"preprocessing": {"clip_len": 10**9}},
        {"preprocessing": {"std": [0, 1, 1]}},
        {"temperature": 0},
        {"temperature": None},
        {"unheard": "of"},
        {"provenance": {"a": [1]}},
    ],
    ids=range(25),
)
def test_descriptions_that_lie(tmp_path: Path, changes: dict[str, Any]) -> None:
    text = json.dumps({**SPEC, **changes}).replace("Infinity", "1e999")
    header = {"__metadata__": {METADATA_KEY: text}}
    assert refusal(tmp_path / "lies.safetensors", safetensors(header))


def test_a_description_that_is_no_json_is_one_line(tmp_path: Path) -> None:
    for text in ("", "{", "[" * 10_000, '{"num_classes":NaN}', "\ud800"):
        path = tmp_path / "text.safetensors"
        path.write_bytes(safetensors({"__metadata__": {METADATA_KEY: text}}))
        with pytest.raises(CheckpointError) as caught:
            read_spec(path)
        assert len(str(caught.value).splitlines()) == 1
