"""Reads tensors from weights files safely, and writes files atomically.

Reads safetensors, torch.save files with a state dict or {"state_dict": ...}, and Flax trees of NumPy arrays. Files are
not trusted: pickles are opened with weights_only, or by `flax_file`, so one that would run code is refused, and every
fault of a file is a `CheckpointError` of one line.
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
from stream_i3d.models.flax_file import read_flax
from stream_i3d.models.spec import is_safetensors

COUNTER = ".num_batches_tracked"
"""BatchNorm's step counter, not used with a fixed momentum, and missing in files older than PyTorch 0.4.1."""

_WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Keys under which training scripts store the state dict."""

_PREFIXES = ("module.", "_orig_mod.")
"""Prefixes that DataParallel and torch.compile add to every name."""

_CONFIGS = ("config", "cfg")
"""Keys under "meta" of the training configuration's text in MMAction2's files (before 1.0, since 1.0)."""

_MAX_BYTES = 4 * 2**30  # files are read whole; the largest networks here with optimiser state take 0.6 GB

_MAX_SHARED = 4
"""Largest size of all tensors as a multiple of the file size; several names may share one tensor (tied weights)."""

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
"""Types in the log that MMEngine (MMAction2 since 1.0) stores beside weights; they are not read."""


class Contents(Struct, frozen=True):
    """Content of a weights file.

    Attributes:
        tensors: float32 tensors on the CPU by name, each with its own memory, all finite; BatchNorm's counters are
            int64. Prefixes of wrappers are removed.
        config: Text of the training configuration in MMAction2's files, else empty.
        dtypes: Number of tensors by torch type.
    """

    tensors: dict[str, Tensor]
    config: str = ""
    dtypes: dict[str, int] = {}


def read_contents(path: Path) -> Contents:
    """Read a file's tensors by name.

    Raises:
        CheckpointError: The file cannot be read, has objects other than tensors, or has tensors that are not usable.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise CheckpointError(f"checkpoint {str(path)!r} is larger than 4 GiB: give a file of weights only")
        raw = _read(path)
    except OSError as error:
        raise CheckpointError(f"checkpoint {str(path)!r} cannot be read ({brief(error)}): check the file") from error
    given = _state_dict_of(raw, path)
    _check_sizes(given, path)
    tensors = {key: _usable(key, tensor, path) for key, tensor in given.items()}
    dtypes = Counter(str(tensor.dtype).removeprefix("torch.") for tensor in given.values())
    return Contents(tensors, _config_of(raw), dict(dtypes))


def _read(path: Path) -> object:
    if is_safetensors(path):
        return _read_safetensors(path)
    arrays = read_flax(path)
    if arrays is not None:
        return {name: torch.from_numpy(array) for name, array in arrays.items()}
    return _read_torch(path)


def _read_safetensors(path: Path) -> object:
    data = path.read_bytes()  # not a memory map: a file replaced in place would change a running network
    try:
        return safetensors.torch.load(data)
    except Exception as error:  # the parser's errors, and others for types that torch does not have
        raise CheckpointError(
            f"checkpoint {str(path)!r} is not a whole safetensors file ({brief(error)}): copy it again"
        ) from error


class _Unread:
    """Placeholder for objects in a pickle that are not needed; accepts any arguments and state."""

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
        except Exception as error:  # on arbitrary bytes the unpickler may raise any error
            raise CheckpointError(
                f"checkpoint {str(path)!r} is damaged, or holds more than tensors, which is refused because reading "
                "it could run code: give safetensors, or a file made by torch.save(state_dict)"
            ) from error


def _refuse_compressed(file: BinaryIO, path: Path) -> None:
    """Raise CheckpointError for a compressed zip; torch.save does not compress, but torch.load reads such files.

    torch's own reader is used, because another reader may see another directory in the same file.
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
    """Raise CheckpointError if the tensors are much larger than the file: tensors may share bytes, but are copied."""
    claimed = sum(value.numel() * value.element_size() for value in given.values() if isinstance(value, Tensor))
    if claimed > _MAX_SHARED * path.stat().st_size:
        raise CheckpointError(
            f"checkpoint {str(path)!r} has less data than its shapes say ({claimed} bytes in a file of "
            f"{path.stat().st_size}): copy it again"
        )


def _state_dict_of(raw: object, path: Path) -> dict[str, Any]:
    """Return the state dict in the object read from a file; its values are not checked yet."""
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
    """Remove wrappers' prefixes if *all* names have them."""
    names = dict(state)
    for prefix in (*_PREFIXES, *_PREFIXES):  # twice, for both orders
        if names and all(key.startswith(prefix) for key in names):
            names = {key.removeprefix(prefix): value for key, value in names.items()}
    return names


def _config_of(raw: object) -> str:
    """Return the text of the training configuration beside the state dict, or an empty string."""
    meta = raw.get("meta") if isinstance(raw, Mapping) else None
    texts = [meta.get(name) for name in _CONFIGS] if isinstance(meta, Mapping) else []
    return next((text for text in texts if isinstance(text, str)), "")


def _usable(key: str, tensor: object, path: Path) -> Tensor:
    """Return a checked copy of a tensor as float32, or int64 for a counter."""
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
    # Stride 0 can make a huge tensor of a few bytes; copying it would fill the memory.
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise CheckpointError(f"checkpoint {str(path)!r}: {shown(key)} has less data than its shape: copy it again")
    copied = tensor.detach().to(torch.int64 if counter else torch.float32, copy=True)
    check_values(key, copied, path)
    return copied


def check_values(key: str, tensor: Tensor, path: Path) -> None:
    """Raise CheckpointError for NaN, infinite or impossible values in a tensor of `path`."""
    # In numpy, because torch would wake its threads for each of hundreds of small tensors.
    values = tensor.detach().to("cpu", torch.float32).numpy()
    if not np.isfinite(values).all() or (key.endswith(".running_var") and (values < 0).any()):
        raise CheckpointError(
            f"checkpoint {str(path)!r}: {shown(key)} has NaN, infinite or impossible values: "
            "the file is damaged or its training diverged; use an earlier one"
        )


def shown(key: object) -> str:
    """Return a key from a file for a message, at most 100 characters."""
    text = repr(key) if isinstance(key, str | bytes | int | float | None) else type(key).__name__
    return text if len(text) <= 100 else text[:97] + "..."


def write_file(path: Path, data: bytes) -> None:
    """Write a file atomically; missing folders are created.

    Raises:
        CheckpointError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, data)
    except OSError as error:
        raise CheckpointError(
            f"checkpoint {str(path)!r} cannot be written ({brief(error)}): free some space or give another folder"
        ) from error
