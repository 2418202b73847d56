"""Tensors by name, out of files and into them, safely.

Read: safetensors, and torch.save files holding a state dict or {"state_dict": ...}. A file is material, not a program:
pickles are opened with weights_only, so one that would run code is refused, and whatever is wrong with a file is a
`CheckpointError` of one line. This module does not know networks, layouts or labels; it downloads nothing.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import safetensors.torch
import torch
from msgspec import Struct
from torch import Tensor

from stream_i3d.errors import CheckpointError, brief
from stream_i3d.files import replace_file
from stream_i3d.models.spec import is_safetensors

COUNTER = ".num_batches_tracked"
"""BatchNorm's step counter: unused with a fixed momentum, and absent from files older than PyTorch 0.4.1."""

_WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Where training scripts put the state dict, next to their optimiser and epoch."""

_PREFIXES = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put in front of every name."""

_CONFIGS = ("config", "cfg")
"""Where MMAction2 (before 1.0, since) puts the text of the training configuration, under "meta"."""

_MAX_BYTES = 4 * 2**30  # files are read whole; the largest networks here, with an optimiser's state, have 0.6 GB

_MAX_SHARED = 4
"""How many times a file's size its tensors may be: several names may stand for one tensor (tied weights)."""

_UNREAD = (
    "mmengine.logging.history_buffer.HistoryBuffer",
    "numpy._core.multiarray._reconstruct",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray.scalar",
    "numpy.ndarray",
    "numpy.dtype",
    *(f"numpy.dtypes.{name}DType" for name in ("Float64", "Float32", "Int64", "Int32", "Bool")),
)
"""What MMEngine (MMAction2 since 1.0) leaves beside the weights of its own training runs: a log, of numpy arrays."""


class Contents(Struct, frozen=True):
    """What a weights file holds.

    Attributes:
        tensors: float32 tensors on the CPU by name, each with memory of its own, all finite; BatchNorm's counters are
            int64. The prefixes of wrappers are gone.
        config: The training configuration's text where the file carries it as MMAction2 does, else empty.
        dtypes: How many tensors the file has of each type, by the type's name in torch.
    """

    tensors: dict[str, Tensor]
    config: str = ""
    dtypes: dict[str, int] = {}


def read_contents(path: Path) -> Contents:
    """Read a file's tensors by name.

    Raises:
        CheckpointError: The file cannot be read, holds more than tensors, or holds tensors no network can use.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise CheckpointError(f"checkpoint {str(path)!r} is larger than 4 GiB: give a file of weights only")
        raw = _read_safetensors(path) if is_safetensors(path) else _read_torch(path)
    except OSError as error:
        raise CheckpointError(f"checkpoint {str(path)!r} cannot be read ({brief(error)}): check the file") from error
    given = _state_dict_of(raw, path)
    _check_sizes(given, path)
    tensors = {key: _usable(key, tensor, path) for key, tensor in given.items()}
    dtypes = Counter(str(tensor.dtype).removeprefix("torch.") for tensor in given.values())
    return Contents(tensors, _config_of(raw), dict(dtypes))


def _read_safetensors(path: Path) -> object:
    data = path.read_bytes()  # not a memory map: a file replaced in place would change a running network
    try:
        return safetensors.torch.load(data)
    except Exception as error:  # the parser's own errors, and KeyError, ValueError, ... for types torch does not have
        raise CheckpointError(
            f"checkpoint {str(path)!r} is not a whole safetensors file ({brief(error)}): copy it again"
        ) from error


class _Unread:
    """Stands for what nobody here needs from a pickle: takes any arguments and any state, and does nothing."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


def _read_torch(path: Path) -> object:
    with path.open("rb") as file:
        try:
            _refuse_compressed(file, path)
            with (
                warnings.catch_warnings(action="ignore"),  # of a pickle's protocol, beside the error below
                torch.serialization.safe_globals([(_Unread, name) for name in _UNREAD]),
            ):
                return torch.load(file, map_location="cpu", weights_only=True)
        except CheckpointError:
            raise
        except Exception as error:  # on arbitrary bytes the unpickler may raise anything at all
            raise CheckpointError(
                f"checkpoint {str(path)!r} is damaged, or holds more than tensors, which is refused because reading "
                "it could run code: give safetensors, or a file made by torch.save(state_dict)"
            ) from error


def _refuse_compressed(file: BinaryIO, path: Path) -> None:
    """Refuse a zip that unpacks to more than it is: torch packs without compressing, and reads what others compressed.

    Its own reader is asked, since two readers may see two directories in one file.
    """
    zipped = file.read(4) == b"PK\x03\x04"
    file.seek(0)
    if not zipped:
        return
    reader = torch._C.PyTorchFileReader(file)
    unpacked = sum(reader.get_record_size(name) for name in reader.get_all_records())
    file.seek(0)
    if unpacked > path.stat().st_size:
        raise CheckpointError(
            f"checkpoint {str(path)!r} is a compressed zip, which can unpack to anything: save it with torch.save, "
            "which does not compress"
        )


def _check_sizes(given: Mapping[str, Any], path: Path) -> None:
    """Refuse tensors that say they are many times the file: few bytes can be many tensors' (each is copied here)."""
    claimed = sum(value.numel() * value.element_size() for value in given.values() if isinstance(value, Tensor))
    if claimed > _MAX_SHARED * path.stat().st_size:
        raise CheckpointError(
            f"checkpoint {str(path)!r} has less data than its shapes say ({claimed} bytes in a file of "
            f"{path.stat().st_size}): copy it again"
        )


def _state_dict_of(raw: object, path: Path) -> dict[str, Any]:
    """Find the state dict in what a file holds; its values are not checked yet."""
    if isinstance(raw, Mapping):
        raw = next((raw[name] for name in _WRAPPERS if isinstance(raw.get(name), Mapping)), raw)
    if not isinstance(raw, Mapping):
        raise CheckpointError(
            f"checkpoint {str(path)!r} holds a {type(raw).__name__}, not tensors by name: save model.state_dict()"
        )
    for key in raw:
        if not isinstance(key, str):
            raise CheckpointError(
                f"checkpoint {str(path)!r} has the key {shown(key)}, not a parameter's name: save model.state_dict()"
            )
    return strip_prefixes(raw)


def strip_prefixes(state: Mapping[str, Any]) -> dict[str, Any]:
    """Remove the prefixes that wrappers put in front of *all* names."""
    names = dict(state)
    for prefix in (*_PREFIXES, *_PREFIXES):  # twice, for the two in either order
        if names and all(key.startswith(prefix) for key in names):
            names = {key.removeprefix(prefix): value for key, value in names.items()}
    return names


def _config_of(raw: object) -> str:
    """Return the training configuration's text that stands beside the state dict."""
    meta = raw.get("meta") if isinstance(raw, Mapping) else None
    texts = [meta.get(name) for name in _CONFIGS] if isinstance(meta, Mapping) else []
    return next((text for text in texts if isinstance(text, str)), "")


def _usable(key: str, tensor: object, path: Path) -> Tensor:
    """Return a tensor as the network will hold it."""
    if not isinstance(tensor, Tensor):
        raise CheckpointError(
            f"checkpoint {str(path)!r}: {shown(key)} is a {type(tensor).__name__}, not a tensor: "
            "save model.state_dict() by itself, or as {'state_dict': ...}"
        )
    counter = key.endswith(COUNTER)
    numeric = tensor.is_floating_point() or (counter and tensor.dtype in (torch.int64, torch.int32))
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or not numeric:
        raise CheckpointError(
            f"checkpoint {str(path)!r}: {shown(key)} is {tensor.layout} {tensor.dtype} on {tensor.device.type}: "
            "give dense floating-point weights, not a quantised or sparse checkpoint"
        )
    # A few bytes can claim to be a huge tensor by repeating them (stride 0); copying that would fill the memory.
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise CheckpointError(f"checkpoint {str(path)!r}: {shown(key)} has less data than its shape: copy it again")
    copied = tensor.detach().to(torch.int64 if counter else torch.float32, copy=True)
    check_values(key, copied, path)
    return copied


def check_values(key: str, tensor: Tensor, path: Path) -> None:
    """Refuse NaN, infinite or impossible values in a tensor read from, or to be written to, `path`."""
    # As numpy's, since torch would wake its threads for each of hundreds of small tensors; wherever and whatever it is.
    values = tensor.detach().to("cpu", torch.float32).numpy()
    if not np.isfinite(values).all() or (key.endswith(".running_var") and (values < 0).any()):
        raise CheckpointError(
            f"checkpoint {str(path)!r}: {shown(key)} has NaN, infinite or impossible values: "
            "the file is damaged or its training diverged; use an earlier one"
        )


def shown(key: object) -> str:
    """Return a key from a file as a part of one line, at most 100 characters."""
    text = repr(key) if isinstance(key, str | bytes | int | float | None) else type(key).__name__
    return text if len(text) <= 100 else text[:97] + "..."


def write_file(path: Path, data: bytes) -> None:
    """Write a file so that a crash leaves either the old one or the new one, never half of one."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, data)
    except OSError as error:
        raise CheckpointError(
            f"checkpoint {str(path)!r} cannot be written ({brief(error)}): free some space or give another folder"
        ) from error
