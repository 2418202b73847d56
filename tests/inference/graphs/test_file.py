"""What exported files say of themselves, read without the libraries that run them. The files here are made by hand."""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stream_i3d.config import ModelConfig, WindowConfig
from stream_i3d.errors import CheckpointError
from stream_i3d.inference.graphs.file import HEAD_KEY, encode_head, is_graph, read_graph_spec, read_head
from stream_i3d.inference.setup import settle_model
from stream_i3d.models.spec import METADATA_KEY, encode_spec
from tests.conftest import TINY

SPEC = encode_spec(TINY)[METADATA_KEY]
WEIGHTS = np.arange(40, dtype=np.float32).reshape(10, 4)
BIAS = np.arange(10, dtype=np.float32)
HEAD = encode_head(WEIGHTS, BIAS, 7)
ENTRIES = ((METADATA_KEY, SPEC), (HEAD_KEY, HEAD))


def varint(value: int) -> bytes:
    digits = bytearray()
    while value > 127:
        digits.append(value & 127 | 128)
        value >>= 7
    return bytes([*digits, value])


def field(number: int, content: bytes | int) -> bytes:
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def onnx(*properties: tuple[str, str]) -> bytes:
    entries = [field(14, field(1, key.encode()) + field(2, value.encode())) for key, value in properties]
    graph = b"\x3d" + b"four" + b"\x39" + b"eight by" + field(1, 300)  # numbers of fixed sizes within
    return field(1, 10) + field(2, b"pytorch") + field(7, field(5, bytes(70_000)) + graph) + b"".join(entries)


def ir(inside: str) -> str:
    return f'<?xml version="1.0"?><net name="m" version="11"><layers/><rt_info>{inside}</rt_info></net>'


def carrying(text: str, head: str | None = HEAD) -> str:
    entries = {METADATA_KEY: text} | ({} if head is None else {HEAD_KEY: head})
    return ir("".join(f"<{key} value={quoteattr(value)} />" for key, value in entries.items()))


def written(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_suffixes_tell_exported_files() -> None:
    assert [name for name in ("a.xml", "b.ONNX", "c.pt2", "d.pt", "e.safetensors", "motion") if is_graph(name)] == [
        "a.xml",
        "b.ONNX",
        "c.pt2",
    ]


def test_both_kinds_carry_a_spec(tmp_path: Path) -> None:
    assert read_graph_spec(written(tmp_path / "m.xml", carrying(SPEC))) == TINY
    other = ("author", "x" * 300)
    assert read_graph_spec(written(tmp_path / "m.onnx", onnx(other, *ENTRIES, other))) == TINY


@pytest.mark.parametrize("name", ["m.xml", "m.onnx"])
def test_both_kinds_carry_a_head(tmp_path: Path, name: str) -> None:
    content = carrying(SPEC) if name == "m.xml" else onnx(*ENTRIES)
    head = read_head(written(tmp_path / name, content), TINY, tuple("abcdefghij"))
    assert np.array_equal(head.weights, WEIGHTS) and np.array_equal(head.bias, BIAS)
    assert (head.labels, head.pool_side, head.temperature) == (tuple("abcdefghij"), 7, TINY.temperature)


@pytest.mark.parametrize(
    "head",
    [
        "{}",
        "[" * 100_000,
        encode_head(WEIGHTS[:9], BIAS[:9], 7),
        encode_head(WEIGHTS, BIAS[:7], 7),
        encode_head(WEIGHTS * np.float32("nan"), BIAS, 7),
    ],
    ids=range(5),
)
def test_a_head_that_does_not_fit_is_one_line(tmp_path: Path, head: str) -> None:
    path = written(tmp_path / "m.xml", carrying(SPEC, head))
    with pytest.raises(
        CheckpointError, match=r"m.xml' has a head that does not fit its network \(.*\): export it again$"
    ):
        read_head(path, TINY, tuple("abcdefghij"))


@pytest.mark.parametrize(("name", "kind"), [("m.xml", "openvino"), ("m.onnx", "onnx")])
def test_a_file_of_an_earlier_version_is_refused_with_the_command_that_exports_it_again(
    tmp_path: Path, name: str, kind: str
) -> None:
    path = written(tmp_path / name, carrying(SPEC, None) if name == "m.xml" else onnx((METADATA_KEY, SPEC)))
    wanted = rf"earlier version.*`stream-i3d export CHECKPOINT --format {kind} --output {name}`$"
    with pytest.raises(CheckpointError, match=wanted):
        settle_model(ModelConfig(checkpoint=str(path)), WindowConfig())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.xml", ir(""), "does not say what its network is: give a file that `stream-i3d export` made"),
        ("m.onnx", onnx(("author", "somebody")), "does not say what its network is"),
        ("m.xml", ir("")[:-20], r"is not a whole OpenVINO IR file \(unclosed token.*\): export it again"),
        ("m.xml", "", "is not a whole OpenVINO IR file"),
        ("m.xml", '<!DOCTYPE x [<!ENTITY a "aaaa">]>' + carrying(SPEC), "it declares entities"),
        ("m.onnx", onnx((METADATA_KEY, SPEC))[:-5], r"is not a whole ONNX file \(the field at byte \d+ is cut short\)"),
        ("m.onnx", b"\x80" * 40, r"is not a whole ONNX file \(a number is too long\)"),
        ("m.onnx", b"\xff\xff", "it ends within a number"),
        ("m.onnx", b"no onnx at all", "is not a whole ONNX file"),
        ("m.xml", ('<!DOCTYPE x [<!ENTITY a "aaaa">]>' + carrying(SPEC)).encode("utf-16"), "it declares entities"),
        ("m.xml", "<a>" * 200, "it is nested too deeply"),
        ("m.onnx", b"\x08\x01" * 10_001 + onnx(*ENTRIES), "it has more than 10000 fields"),
        ("m.xml", carrying("{}"), "describes itself in a way this version cannot read"),
        ("m.xml", carrying(SPEC.replace('"num_classes":10', '"num_classes":9')), "describes itself in a way"),
        ("m.onnx", onnx((METADATA_KEY, "[" * 100_000)), "describes itself in a way"),
        ("m.pt2", b"anything", "is a torch.export program, which is not run here, since reading one can run code"),
    ],
    ids=range(16),
)
def test_what_is_wrong_with_a_file_is_one_line(tmp_path: Path, name: str, content: bytes | str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        read_graph_spec(written(tmp_path / name, content))
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_graph_spec(tmp_path / "none.onnx")


GOOD = {".onnx": onnx(*ENTRIES), ".xml": carrying(SPEC).encode()}


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.sampled_from(sorted(GOOD)), st.data())
def test_a_damaged_file_is_read_or_refused(tmp_path: Path, suffix: str, data: st.DataObject) -> None:
    content = bytearray(GOOD[suffix])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, 60) | st.integers(len(content) - 900, len(content) - 1)) % len(content)
        content[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    path = written(tmp_path / f"m{suffix}", bytes(content))
    try:
        read_head(path, read_graph_spec(path), TINY.labels or ())
    except CheckpointError as error:
        assert "\n" not in str(error)
