"""The targets of `make fuzz`: functions of bytes that may raise only this package's errors.

The first byte of an input chooses a reader, the rest is what it reads. Files go through a folder of their own, since
that is how they come. Knows no fuzzer: tests/test_fuzz_targets.py and `fuzz.py --replay` call the same functions.
"""

from __future__ import annotations

import atexit
import io
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from stream_i3d.errors import StreamI3DError

FOLDER = "STREAM_I3D_FUZZ_FOLDER"
"""Environment variable with the folder for files; another process removes it, as libFuzzer exits without cleanup."""

Reader = Callable[[bytes], object]

_CUT = b"\xff\xfe\xff"


@dataclass(frozen=True, slots=True)
class Target:
    """Related readers and valid inputs: (number of the reader, input)."""

    readers: Sequence[Reader]
    seeds: Callable[[], list[tuple[int, bytes]]]

    def refusal(self, data: bytes) -> str | None:
        """Run the chosen reader; return its error message, or None if it accepts the input."""
        if not data:
            return None
        try:
            self.readers[data[0] % len(self.readers)](data[1:])
        except StreamI3DError as error:
            return str(error)
        return None

    def run(self, data: bytes) -> None:
        """Run the chosen reader; raise AssertionError if its error is not as it should be."""
        said = self.refusal(data)
        if not in_order(said):
            raise AssertionError(f"not one short line: {said!r:.200}")

    def corpus(self) -> list[bytes]:
        """Return the seeds as inputs of the target."""
        return [bytes([number]) + content for number, content in self.seeds()]


def in_order(refusal: str | None) -> bool:
    """Return whether the result of bad input is allowed: no error, or one short line."""
    return refusal is None or (len(refusal.splitlines()) == 1 and len(refusal) <= 4000)


def make_folder() -> str:
    """Create a folder for the files to read, in memory if possible; return its path."""
    return tempfile.mkdtemp(prefix="stream-i3d-fuzz-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)


@cache
def _folder() -> Path:
    if given := os.environ.get(FOLDER):
        return Path(given)
    made = make_folder()
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return Path(made)


def _file(name: str, content: bytes, mode: int = 0o600) -> Path:
    path = _folder() / name
    path.write_bytes(content)
    path.chmod(mode)
    return path


def _parts(data: bytes) -> list[bytes]:
    """Split an input into the parts of a message."""
    return data.split(_CUT)


# --- wire


def _capture(data: bytes) -> None:
    from stream_i3d.transport.wire import ReceivedFrame, decode_capture

    message = decode_capture(_parts(data))
    if isinstance(message, ReceivedFrame):
        assert message.pixels.shape[2] == 3
        assert message.pixels.nbytes <= len(data)


def _published(data: bytes) -> None:
    from stream_i3d.transport.wire import decode_published, encode_published

    message = decode_published(_parts(data))
    assert decode_published(encode_published(message)) == message


def _preview(data: bytes) -> None:
    from stream_i3d.transport.wire import decode_preview, encode_preview

    assert encode_preview(decode_preview(data)) == data


def _request(data: bytes) -> None:
    from stream_i3d.transport.control import decode_request, encode_control

    message = decode_request(data)
    assert decode_request(encode_control(message)) == message


def _reply(data: bytes) -> None:
    from stream_i3d.transport.control import decode_reply, encode_control

    message = decode_reply(data)
    assert decode_reply(encode_control(message)) == message


@cache
def _link() -> tuple[object, object]:
    import multiprocessing

    from stream_i3d.stage import Stage, StageLink

    link = StageLink(multiprocessing.get_context("spawn"))
    return link, Stage("fuzzed", *link.child_side())


def _stage(data: bytes) -> None:
    from stream_i3d.stage import Stage, StageLink

    link, child = _link()
    assert isinstance(link, StageLink)
    assert isinstance(child, Stage)
    child._pipe.put(data[:60_000])
    link.receive()
    link._pipe.put(data[:60_000])
    child.order()


def _address(data: bytes) -> None:
    from stream_i3d.capture.address import parse_source
    from stream_i3d.redact import redact
    from stream_i3d.transport.addresses import check_address

    text = data.decode(errors="replace")
    redact(text)
    for read in (parse_source, check_address):
        try:
            read(text)
        except StreamI3DError as error:
            assert len(str(error).splitlines()) == 1


def _relay(data: bytes) -> None:
    from stream_i3d.transport.relay_wire import Greeting, decode_from_worker, encode_control, encode_publication

    message = decode_from_worker(_parts(data))
    again = (
        [encode_control(message)]
        if isinstance(message, Greeting)
        else encode_publication(message.number, message.message)
    )
    assert decode_from_worker(again) == message


def _answer(data: bytes) -> None:
    from stream_i3d.transport.relay_wire import decode_answer, encode_control

    assert decode_answer(encode_control(decode_answer(data))) == decode_answer(data)


def _wire_seeds() -> list[tuple[int, bytes]]:
    from _fuzz_messages import FAMILIES  # here: what it imports must be imported instrumented

    return [(reader, _CUT.join(parts)) for reader, family in enumerate(FAMILIES) for parts in family()]


# --- config: all text that a person writes, or is sent


def _config(data: bytes) -> None:
    from stream_i3d.config import convert, load_config
    from stream_i3d.settings import to_yaml

    config = load_config(_file("config.yaml", data), {}, environ={"HOME": "x"})
    to_yaml(config)
    assert convert(_builtins(config)) == config


def _training_config(data: bytes) -> None:
    from stream_i3d.settings import load_settings, to_yaml
    from stream_i3d.training.config import TrainConfig

    to_yaml(load_settings(TrainConfig, _file("train.yaml", data), {}, environ={}))


def _builtins(value: object) -> object:
    import msgspec

    return msgspec.to_builtins(value)


def _overrides(data: bytes) -> None:
    from stream_i3d.config import load_config
    from stream_i3d.settings import parse_overrides

    load_config(None, parse_overrides(data.decode(errors="replace").split("\n")))


def _labels(data: bytes) -> None:
    from stream_i3d.models.labels import load_labels

    load_labels(_file("labels.txt", data))


def _key(data: bytes) -> None:
    from stream_i3d.transport.keys import AllowList, read_key_file

    path = _file("client.key", data)
    try:
        read_key_file(path)
    except StreamI3DError as error:
        assert len(str(error).splitlines()) == 1
    assert b"x" * 40 not in AllowList([path])


def _list(data: bytes) -> None:
    from stream_i3d.training.annotations import read_annotations

    read_annotations(str(_file("list.csv", data)))


def _config_seeds() -> list[tuple[int, bytes]]:
    root = Path(__file__).parent.parent
    bombs = [
        b"a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n",
        b"a: &a {x: 1}\nb: &b {<<: [*a,*a]}\nc: {<<: *b}\n",
        b"window: {stride: !!int '8', sample_fps: !!float '2.5', mode: !!str window}\nmodel: !!map {compile: yes}",
        b"events: {on_threshold: 1e-3, min_on_s: .inf}\n? [a]\n: !!set {b}\n--- |\n text\n...",
        b"publish: {jsonl: !!timestamp 2026-01-01 00:00:00.5 +1:00, top_k: 0x1f}\nidle: !!omap [a: !!binary aGk=]",
        b"cameras: [{source: '${HOME}', name: x}, {source: 0}]\nsecurity: {key: k, clients: [c]}",
    ]
    keys = b'metadata\ncurve\n    public-key = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"\n'
    return [
        *((0, path.read_bytes()) for path in sorted((root / "configs").glob("*.yaml"))),
        *((1, path.read_bytes()) for path in sorted((root / "configs/train").glob("*.yaml"))),
        *((0, bomb) for bomb in bombs),
        (2, b"window.stride=4\nmodel.device=cpu\nidle.min_motion=1e-3"),
        (3, b"left\nright\nup"),
        (4, keys),
        (4, keys + b'    secret-key = "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs"\n'),
        (5, b'path,frames,label\na.mp4,250,0\n"b c.mp4",3,1\n'),
        (5, b"a.mp4 0\nb.mp4 1\n# c\n"),
    ]


# --- checkpoint: files that hold a network


def _safetensors(data: bytes) -> None:
    _load("a.safetensors", data)


def _safetensors_header(data: bytes) -> None:
    """The input is the header's JSON; its length and the bytes of some tensors are added."""
    _load("b.safetensors", len(data).to_bytes(8, "little") + data + bytes(4096))


def _spec(data: bytes) -> None:
    """The input is the JSON of a spec."""
    header = json.dumps({"__metadata__": {"stream_i3d": data.decode(errors="replace")}}).encode()
    _load("c.safetensors", len(header).to_bytes(8, "little") + header)


def _torch_file(data: bytes) -> None:
    _load("d.pt", data)


def _pickle(data: bytes) -> None:
    """The input is the pickle in an otherwise valid torch.save file."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/byteorder", b"little")
        archive.writestr("archive/version", b"3\n")
        archive.writestr("archive/data/0", bytes(4096))
    _load("e.pt", packed.getvalue())


def _onnx(data: bytes) -> None:
    from stream_i3d.inference.graphs.file import read_graph_spec

    read_graph_spec(_file("f.onnx", data))


def _xml(data: bytes) -> None:
    from stream_i3d.inference.graphs.file import read_graph_spec

    read_graph_spec(_file("g.xml", data))


def _load(name: str, data: bytes) -> None:
    from stream_i3d.models.checkpoint import load_checkpoint

    load_checkpoint(_file(name, data))


def _checkpoint_seeds() -> list[tuple[int, bytes]]:
    import torch

    from stream_i3d.models.registry import OptionValue
    from stream_i3d.models.spec import METADATA_KEY, ModelSpec, carried_checkpoint, encode_spec

    state = {"logits.weight": torch.ones(2, 3), "bn.num_batches_tracked": torch.tensor(1), "half": torch.ones(2).half()}
    files = []
    for zipped in (True, False):
        packed = io.BytesIO()
        torch.save({"state_dict": state, "meta": {"config": "x"}}, packed, _use_new_zipfile_serialization=zipped)
        files.append(packed.getvalue())
    with zipfile.ZipFile(io.BytesIO(files[0])) as archive:
        pickle = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
    tensors = json.dumps({"a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, "__metadata__": {"b": "c"}})
    whole = len(tensors).to_bytes(8, "little") + tensors.encode() + bytes(24)
    carried = carried_checkpoint().read_bytes()
    header = carried[8 : 8 + int.from_bytes(carried[:8], "little")]
    options: dict[str, dict[str, OptionValue]] = {
        "i3d": {"dropout_keep_prob": 0.5},
        "c3d": {"clip_len": 16, "crop_size": 112},
        "convnet-lstm": {"max_steps": 25},
        "i3d-r50": {"variant": "heavy", "non_local": "gaussian"},
        "two-stream": {"fusion": "probabilities"},
    }
    specs = [
        encode_spec(ModelSpec(num_classes=2, architecture=name, options=own, labels=("a", "b")))[METADATA_KEY]
        for name, own in options.items()
    ]
    value = specs[0].replace("&", "&amp;").replace('"', "&quot;")
    entry = b"\x0a\x0astream_i3d\x12" + _varint(len(specs[0])) + specs[0].encode()
    return [
        (0, whole),
        (1, header),
        (1, tensors.encode()),
        *((2, text.encode()) for text in specs),
        *((3, content) for content in files),
        (4, pickle),
        (5, b"\x08\x0a\x72" + _varint(len(entry)) + entry),
        (6, f'<?xml version="1.0"?><net><rt_info><stream_i3d value="{value}"/></rt_info></net>'.encode()),
    ]


def _varint(value: int) -> bytes:
    digits = bytearray()
    while value > 127:
        digits.append(value & 127 | 128)
        value >>= 7
    return bytes([*digits, value])


TARGETS = {
    "wire": Target((_capture, _published, _preview, _request, _reply, _stage, _address, _relay, _answer), _wire_seeds),
    "config": Target((_config, _training_config, _overrides, _labels, _key, _list), _config_seeds),
    "checkpoint": Target(
        (_safetensors, _safetensors_header, _spec, _torch_file, _pickle, _onnx, _xml), _checkpoint_seeds
    ),
}
