"""Reads Flax checkpoints of Inception I3D: pickles of nothing but dictionaries and NumPy arrays. Imports no torch.

    params/<end point>[/Branch_../Conv3d_..]/Conv_0/kernel          (kT, kH, kW, in, out)
    params/<end point>[/Branch_../Conv3d_..]/BatchNorm_0/bias       (C,); a scale is optional, and 1 without
    batch_stats/<end point>[/...]/BatchNorm_0/mean, var             (1, 1, 1, 1, C)

A pickle can call any function by its name. This reader answers the four names that put a NumPy array together with its
own stand-ins, and refuses all others before anything runs: no function or class of NumPy's can be reached.
`layouts` renames what it returns.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from stream_i3d.errors import CheckpointError, brief

Arrays = dict[str, NDArray[np.float32]]

_PICKLE = b"\x80"
_COLLECTIONS = ("params", "batch_stats")
_MAX_DEPTH = 16
_NUMPY = ("numpy.core", "numpy._core")  # before and since NumPy 2


def read_flax(path: Path) -> Arrays | None:
    """Return the arrays of a Flax checkpoint in PyTorch's shapes, by their dotted names in the tree.

    Kernels are (out, in, kT, kH, kW), what belongs to a BatchNorm is (C,), and every BatchNorm has a scale.

    Args:
        path: A file of any kind.

    Returns:
        None if it is not a pickle of such a tree, or one that asks for more than arrays.

    Raises:
        CheckpointError: It holds something else beside its arrays.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        if file.read(1) != _PICKLE:
            return None
        file.seek(0)
        tree = _load(file)
    if not isinstance(tree, dict) or not set(tree) & set(_COLLECTIONS):
        return None
    arrays = {name: _as_torch_has_it(name, array) for name, array in _leaves(tree, path)}
    for name in [name for name in arrays if name.endswith("BatchNorm_0.bias")]:
        arrays.setdefault(name.removesuffix("bias") + "scale", np.ones_like(arrays[name]))
    return arrays


class _NotAllowed(pickle.UnpicklingError):
    """The pickle names a function or class that is refused."""


class _DType:
    """Stands for numpy.dtype; keeps the code and the order of bytes that a pickle gives."""

    __slots__ = ("_code", "_order")

    def __init__(self, code: object, *_: object) -> None:
        self._code = str(code)
        self._order: Literal["<", ">", "=", "|"] = "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] not in ("<", ">", "=", "|"):
            raise _NotAllowed(f"an order of bytes {state[1]!r}"[:80])
        self._order = state[1]

    def numbers(self) -> np.dtype[Any]:
        """Return NumPy's type; an array of objects could hold anything."""
        dtype = np.dtype(self._code)
        if dtype.kind not in "fiu":
            raise _NotAllowed(f"arrays of type {dtype}"[:80])
        return dtype if self._order == "|" else dtype.newbyteorder(self._order)


class _Array:
    """Stands for an array that is being read; `array` is it, once its bytes have come."""

    __slots__ = ("array",)

    def __init__(self) -> None:
        self.array: NDArray[Any] | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        self.array = _from_bytes(data, dtype, shape, "F" if fortran else "C")


class _NDArray:
    """Stands for the class numpy.ndarray, which pickles name but do not call."""

    def __new__(cls, *_: object) -> _NDArray:
        raise _NotAllowed("numpy.ndarray, called")


class _ArraysOnly(pickle.Unpickler):
    """An unpickler that knows how NumPy puts an array together, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what a pickle may call; raises _NotAllowed for anything else."""
        if module in {f"{numpy}.multiarray" for numpy in _NUMPY} and name == "_reconstruct":
            return self._begin
        if module in {f"{numpy}.numeric" for numpy in _NUMPY} and name == "_frombuffer":
            return self._whole
        if (module, name) == ("numpy", "ndarray"):
            return _NDArray
        if (module, name) == ("numpy", "dtype"):
            return _DType
        raise _NotAllowed(f"{module}.{name}"[:80])

    # Methods, because a pickle may set the attributes of a function that it names, and cannot set those of a method.

    def _begin(self, kind: object, shape: object, _: object) -> _Array:
        """Return the empty array that NumPy's pickles begin with."""
        if kind is not _NDArray or shape != (0,):
            raise _NotAllowed("an array that NumPy does not write")
        return _Array()

    def _whole(self, data: object, dtype: object, shape: object, order: object) -> _Array:
        """Return what pickle's protocol 5 holds of an array."""
        made = _Array()
        made.array = _from_bytes(data, dtype, shape, order)
        return made


def _from_bytes(data: Any, dtype: object, shape: Any, order: Any) -> NDArray[Any]:
    """Put an array together; raises ValueError if the bytes are not exactly as many as it has."""
    if not isinstance(data, bytes | bytearray) or not isinstance(dtype, _DType) or -1 in shape:
        raise _NotAllowed("an array that NumPy does not write")
    return np.frombuffer(data, dtype.numbers()).reshape(shape, order=order).copy(order="K")  # writable, as torch wants


def _load(file: BinaryIO) -> object:
    """Return what the first pickle of a file holds; None where it is damaged, or asks for more than arrays."""
    try:
        return _ArraysOnly(file).load()
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, IndexError, KeyError,
            ImportError, OverflowError, MemoryError, RecursionError):  # fmt: skip
        return None  # torch's reader, which is as strict, reads it or says what is wrong with it


def _leaves(tree: Mapping[Any, Any], path: Path) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the arrays of the two collections by dotted name; a key may hold several steps, divided by slashes."""
    waiting: list[tuple[tuple[str, ...], object]] = [((str(key),), tree[key]) for key in _COLLECTIONS if key in tree]
    while waiting:
        names, value = waiting.pop()
        value = value.array if isinstance(value, _Array) else value
        if isinstance(value, Mapping) and len(names) < _MAX_DEPTH:
            waiting += [((*names, *str(key).split("/")), below) for key, below in value.items()]
        elif isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
            yield ".".join(names), value
        else:
            raise CheckpointError(
                f"checkpoint {str(path)!r}: {'.'.join(names)[:80]} is a {type(value).__name__}, not an array of "
                f"numbers: give a Flax tree of NumPy arrays"
            )


def _as_torch_has_it(name: str, array: NDArray[Any]) -> NDArray[np.float32]:
    """Return one array as float32 in PyTorch's order of axes."""
    if name.endswith(".kernel") and array.ndim == 5:
        array = array.transpose(4, 3, 0, 1, 2)
    elif array.ndim == 5 and array.shape[:4] == (1, 1, 1, 1):
        array = array.reshape(-1)
    try:
        return np.ascontiguousarray(array, np.float32)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{name[:80]} cannot be read as float32 ({brief(error)}): give float32 arrays") from error
