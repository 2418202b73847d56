"""Networks as files of other libraries, OpenVINO IR (.xml with .bin) and ONNX: what they say of themselves.

`stream-i3d export` puts a checkpoint's `ModelSpec` and head into them, so that such a file can be run as a checkpoint
is. These are read here without the library that runs the file, as the supervisor and the captures need the spec. This
module does not know networks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO
from xml.parsers import expat

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from stream_i3d.errors import CheckpointError, brief
from stream_i3d.models.spec import METADATA_KEY, ModelSpec, decode_spec, encode_spec
from stream_i3d.recognition.head import Head, make_head

IR, ONNX, TORCH = ".xml", ".onnx", ".pt2"

SUFFIXES = (IR, ONNX)
"""Of files that can be run."""

CHECK_KEY = "stream_i3d_check"
"""Where an exported file's metadata holds the reference values of its self-check; see `selfcheck.reference`."""

HEAD_KEY = "stream_i3d_head"
"""Where it holds the head, which the graph leaves out."""

CLIPS, FEATURES = "clips", "features"
"""What a graph of windows calls its input, and every graph its features."""

FRAMES, STEPS, CONTEXT, NEXT_CONTEXT = "frames", "steps", "context_{}", "next_context_{}"
"""What a graph of one step calls its inputs, and its outputs beside the features."""

_MAX_XML_BYTES = 128 * 2**20  # ours have 0.3 MB, and a head of 400 classes 2.2 MB
_MAX_XML_DEPTH = 100
_MAX_TEXT_BYTES = 64 * 2**20
_MAX_FIELDS = 10_000  # of one message; a network's own are some ten, with some ten entries of metadata
_METADATA_FIELD = 14
"""Of onnx.proto's ModelProto: repeated StringStringEntryProto metadata_props; its key is field 1, its value field 2."""

_KEYS = (METADATA_KEY, HEAD_KEY, CHECK_KEY)

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def is_graph(path: str | Path) -> bool:
    """Tell whether a file's name is that of an exported network."""
    return Path(path).suffix.lower() in (*SUFFIXES, TORCH)


class HeadFile(Struct, frozen=True, kw_only=True):
    """A head as an exported file carries it.

    Attributes:
        weights: (num_classes, C) little-endian float32.
        bias: (num_classes,) little-endian float32.
        pool_side: As in `recognition.head.Head`.
    """

    weights: bytes
    bias: bytes
    pool_side: int | None = None


def encode_head(weights: NDArray[np.float32], bias: NDArray[np.float32], pool_side: int | None) -> str:
    """Return a head as the text that an exported file carries."""
    arrays = [np.ascontiguousarray(array, "<f4").tobytes() for array in (weights, bias)]
    return msgspec.json.encode(HeadFile(weights=arrays[0], bias=arrays[1], pool_side=pool_side)).decode()


def graph_metadata(spec: ModelSpec, head: str, check: str | None = None) -> dict[str, str]:
    """Return the texts that an exported file carries, by key.

    Args:
        spec: Of its network.
        head: From `encode_head`.
        check: Reference values for the engine's self-check; None for none.

    Raises:
        CheckpointError: The head is too large to be read again.
    """
    if len(head) > _MAX_TEXT_BYTES:
        raise CheckpointError(
            f"a head of {spec.num_classes} classes takes {len(head) // 2**20} MB, an exported file may have "
            f"{_MAX_TEXT_BYTES // 2**20}: run this network with --backend torch"
        )
    return encode_spec(spec) | {HEAD_KEY: head} | ({} if check is None else {CHECK_KEY: check})


def read_head(path: Path, spec: ModelSpec, labels: Sequence[str]) -> Head:
    """Return the head that an exported file carries.

    Args:
        path: The file.
        spec: What it says of itself.
        labels: One per class.

    Raises:
        CheckpointError: It has none, or one that does not fit its spec.
    """
    text = read_metadata(path, HEAD_KEY)
    if text is None:
        raise CheckpointError(_exported_before(path, spec))
    try:
        head = msgspec.json.decode(text, type=HeadFile)
        bias = np.frombuffer(head.bias, "<f4")
        weights = np.frombuffer(head.weights, "<f4").reshape(len(bias), -1)
        if len(bias) != spec.num_classes or not (np.isfinite(weights).all() and np.isfinite(bias).all()):
            raise ValueError(f"it has {len(bias)} classes, or values that are not finite")
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"checkpoint {str(path)!r} has a head that does not fit its network ({brief(error)}): export it again"
        ) from error
    return make_head(weights, bias, labels, spec.temperature, head.pool_side)


def _exported_before(path: Path, spec: ModelSpec) -> str:
    kind = "openvino" if path.suffix.lower() == IR else "onnx"
    mode = " --mode streaming" if spec.mode == "streaming" else ""
    return (
        f"checkpoint {str(path)!r} was exported by an earlier version, whose files give logits and not features: "
        f"export it again with `stream-i3d export CHECKPOINT --format {kind}{mode} --output {path.name}`"
    )


def read_graph_spec(path: Path) -> ModelSpec:
    """Return what an exported file says of itself.

    Raises:
        CheckpointError: It is damaged, was not made by this version's `stream-i3d export`, or is of a kind that is not
            run.
    """
    if path.suffix.lower() == TORCH:
        raise CheckpointError(
            f"checkpoint {str(path)!r} is a torch.export program, which is not run here, since reading one can run "
            "code hidden in it: give the checkpoint that it was exported from"
        )
    metadata = _metadata(path)
    if METADATA_KEY not in metadata:
        raise CheckpointError(
            f"checkpoint {str(path)!r} does not say what its network is: give a file that `stream-i3d export` made"
        )
    spec = decode_spec(metadata[METADATA_KEY], path)
    if HEAD_KEY not in metadata:
        raise CheckpointError(_exported_before(path, spec))
    return spec


def read_metadata(path: Path, key: str) -> str | None:
    """Return the text that an exported file carries under a key; None where it has none.

    Args:
        path: OpenVINO IR's .xml, or ONNX.
        key: `METADATA_KEY`, `HEAD_KEY` or `CHECK_KEY`.

    Raises:
        CheckpointError: It is damaged.
    """
    return _metadata(path).get(key)


def _metadata(path: Path) -> dict[str, str]:
    """Return the texts that an exported file carries, by key."""
    suffix = path.suffix.lower()
    try:
        return _from_xml(path) if suffix == IR else _from_onnx(path)
    except OSError as error:
        raise CheckpointError(f"checkpoint {str(path)!r} cannot be read ({brief(error)}): check the file") from error
    except (expat.ExpatError, ValueError) as error:
        kind = "OpenVINO IR" if suffix == IR else "ONNX"
        raise CheckpointError(
            f"checkpoint {str(path)!r} is not a whole {kind} file ({brief(error)}): export it again"
        ) from error


def _from_xml(path: Path) -> dict[str, str]:
    """Return our texts in an IR's rt_info; no tree is built of the rest."""
    if path.stat().st_size > _MAX_XML_BYTES:
        raise ValueError(f"larger than {_MAX_XML_BYTES // 2**20} MiB")
    found: dict[str, str] = {}
    within: list[str] = []

    def begin(name: str, attributes: dict[str, str]) -> None:
        within.append(name)
        if within[1:] in (["rt_info", key] for key in _KEYS) and "value" in attributes:
            found.setdefault(name, attributes["value"])
        if len(within) > _MAX_XML_DEPTH:
            raise ValueError("it is nested too deeply")

    def refuse(*_: object) -> None:  # an IR has no entities, and they can be made to grow without bounds
        raise ValueError("it declares entities")

    parser = expat.ParserCreate()
    parser.StartElementHandler = begin
    parser.EndElementHandler = lambda name: within.pop()
    parser.StartDoctypeDeclHandler = refuse
    parser.Parse(path.read_bytes(), True)  # at once: by parts, a long attribute is read anew with each
    return found


def _from_onnx(path: Path) -> dict[str, str]:
    """Return our texts in an ONNX file's metadata; its weights are skipped."""
    size = path.stat().st_size
    found: dict[str, str] = {}
    with path.open("rb") as file:
        for field, length in _fields(file, size):
            if field == _METADATA_FIELD:
                end = file.tell() + length
                entry = {name: file.read(min(part, _MAX_TEXT_BYTES)) for name, part in _fields(file, end)}
                if (key := entry.get(1, b"").decode(errors="replace")) in _KEYS:
                    found.setdefault(key, entry.get(2, b"").decode())
    return found


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
