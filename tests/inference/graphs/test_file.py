"""What exported files say of themselves, read without the libraries that run them. The files here are made by hand."""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import quoteattr

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stream_i3d.errors import CheckpointError
from stream_i3d.inference.graphs.file import is_graph, read_graph_spec
from stream_i3d.models.spec import METADATA_KEY, encode_spec
from tests.conftest import TINY

SPEC = encode_spec(TINY)[METADATA_KEY]


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


def carrying(text: str) -> str:
    return ir(f"<{METADATA_KEY} value={quoteattr(text)} />")


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
    assert read_graph_spec(written(tmp_path / "m.onnx", onnx(other, (METADATA_KEY, SPEC), other))) == TINY


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
        ("m.onnx", b"\x08\x01" * 10_001 + onnx((METADATA_KEY, SPEC)), "it has more than 10000 fields"),
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


GOOD = {".onnx": onnx((METADATA_KEY, SPEC)), ".xml": carrying(SPEC).encode()}


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.sampled_from(sorted(GOOD)), st.data())
def test_a_damaged_file_is_read_or_refused(tmp_path: Path, suffix: str, data: st.DataObject) -> None:
    content = bytearray(GOOD[suffix])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, 60) | st.integers(len(content) - 900, len(content) - 1)) % len(content)
        content[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    path = written(tmp_path / f"m{suffix}", bytes(content))
    try:
        read_graph_spec(path)
    except CheckpointError as error:
        assert "\n" not in str(error)
