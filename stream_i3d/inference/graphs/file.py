"""Networks as files of other libraries, OpenVINO IR (.xml with .bin) and ONNX: what they say of themselves.

`stream-i3d export` puts a checkpoint's `ModelSpec` into them, so that such a file can be run as a checkpoint is. That
is read here without the library that runs the file, as the supervisor and the captures need it. Knows no networks.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from xml.parsers import expat

from stream_i3d.errors import CheckpointError, brief
from stream_i3d.models.spec import METADATA_KEY, ModelSpec, decode_spec

IR, ONNX, TORCH = ".xml", ".onnx", ".pt2"

SUFFIXES = (IR, ONNX)
"""Of files that can be run."""

CHECK_KEY = "stream_i3d_check"
"""Where an exported file's metadata holds the reference values of its self-check; see `selfcheck.reference`."""

CLIPS, LOGITS = "clips", "logits"
"""What an exported graph calls its input and its output."""

_MAX_XML_BYTES = 64 * 2**20  # ours have 0.3 MB
_MAX_XML_DEPTH = 100
_MAX_TEXT_BYTES = 16 * 2**20
_MAX_FIELDS = 10_000  # of one message; a network's own are some ten, with some ten entries of metadata
_METADATA_FIELD = 14
"""Of onnx.proto's ModelProto: repeated StringStringEntryProto metadata_props; its key is field 1, its value field 2."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def is_graph(path: str | Path) -> bool:
    """Tell whether a file's name is that of an exported network."""
    return Path(path).suffix.lower() in (*SUFFIXES, TORCH)


def read_graph_spec(path: Path) -> ModelSpec:
    """Return what an exported file says of itself.

    Raises:
        CheckpointError: It is damaged, was not made by `stream-i3d export`, or is of a kind that is not run.
    """
    if path.suffix.lower() == TORCH:
        raise CheckpointError(
            f"checkpoint {str(path)!r} is a torch.export program, which is not run here, since reading one can run "
            "code hidden in it: give the checkpoint that it was exported from"
        )
    text = read_metadata(path, METADATA_KEY)
    if text is None:
        raise CheckpointError(
            f"checkpoint {str(path)!r} does not say what its network is: give a file that `stream-i3d export` made"
        )
    return decode_spec(text, path)


def read_metadata(path: Path, key: str) -> str | None:
    """Return the text that an exported file carries under a key; None where it has none.

    Args:
        path: OpenVINO IR's .xml, or ONNX.
        key: `METADATA_KEY` or `CHECK_KEY`.

    Raises:
        CheckpointError: It is damaged.
    """
    suffix = path.suffix.lower()
    try:
        return _from_xml(path, key) if suffix == IR else _from_onnx(path, key)
    except OSError as error:
        raise CheckpointError(f"checkpoint {str(path)!r} cannot be read ({brief(error)}): check the file") from error
    except (expat.ExpatError, ValueError) as error:
        kind = "OpenVINO IR" if suffix == IR else "ONNX"
        raise CheckpointError(
            f"checkpoint {str(path)!r} is not a whole {kind} file ({brief(error)}): export it again"
        ) from error


def _from_xml(path: Path, key: str) -> str | None:
    """Return the text under a key in an IR's rt_info; no tree is built of the rest."""
    if path.stat().st_size > _MAX_XML_BYTES:
        raise ValueError("larger than 64 MiB")
    found: list[str] = []
    within: list[str] = []

    def begin(name: str, attributes: dict[str, str]) -> None:
        within.append(name)
        if within[1:] == ["rt_info", key] and "value" in attributes:
            found.append(attributes["value"])
        if len(within) > _MAX_XML_DEPTH:
            raise ValueError("it is nested too deeply")

    def refuse(*_: object) -> None:  # an IR has no entities, and they can be made to grow without bounds
        raise ValueError("it declares entities")

    parser = expat.ParserCreate()
    parser.StartElementHandler = begin
    parser.EndElementHandler = lambda name: within.pop()
    parser.StartDoctypeDeclHandler = refuse
    with path.open("rb") as file:
        parser.ParseFile(file)
    return found[0] if found else None


def _from_onnx(path: Path, key: str) -> str | None:
    """Return the text under a key in an ONNX file's metadata; its weights are skipped."""
    size = path.stat().st_size
    with path.open("rb") as file:
        for field, length in _fields(file, size):
            if field == _METADATA_FIELD:
                end = file.tell() + length
                entry = {name: file.read(min(part, _MAX_TEXT_BYTES)) for name, part in _fields(file, end)}
                if entry.get(1) == key.encode():
                    return entry.get(2, b"").decode()
    return None


def _fields(file: BinaryIO, end: int) -> Iterator[tuple[int, int]]:
    """Yield number and length of each bytes field of a protobuf message that ends at `end`; the file stands before it.

    Afterwards the file is put behind the field, whatever was read of it.
    """
    for _ in range(_MAX_FIELDS):
        if (start := file.tell()) >= end:
            return
        key = _varint(file)
        kind, length = key & 7 if key > 7 else None, 0  # there is no field 0
        if kind == _VARINT:
            _varint(file)
        elif kind in (_FIXED64, _FIXED32):
            length = 8 if kind == _FIXED64 else 4
        elif kind == _BYTES:
            length = _varint(file)
        else:
            raise ValueError(f"no protobuf field at byte {start}")
        behind = file.tell() + length
        if behind > end:
            raise ValueError(f"the field at byte {start} is cut short")
        if kind == _BYTES:
            yield key >> 3, length
        file.seek(behind)
    raise ValueError(f"it has more than {_MAX_FIELDS} fields")


def _varint(file: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            raise ValueError("it ends within a number")
        value |= (byte[0] & 127) << shift
        if byte[0] < 128:
            return value
    raise ValueError("a number is too long")
