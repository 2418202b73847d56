"""Checkpoints converted for another library, and what that library compiled of them, kept from one start to the next.

    home_folder()/graphs/KEY/model.xml, model.bin, compiled/

A conversion takes seconds and needs torch (but of Inception I3D to OpenVINO: inception.py); a kept one needs
neither. KEY is of all that the graph depends on, so nothing here is ever out of date, only unused: the least recently
used are removed.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import logging
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
from filelock import FileLock

from stream_i3d.config import ModeName
from stream_i3d.inference.graphs.file import IR, ONNX
from stream_i3d.inference.setup import ModelSetup
from stream_i3d.models.zoo import home_folder

log = logging.getLogger(__name__)

KEPT = 8
"""Converted networks; a full I3D takes 100 MB with what is compiled of it."""

_VERSION = 4
"""Raised when a conversion of the same network gives another graph."""

_NAMES = {IR: "OpenVINO IR", ONNX: "ONNX"}
_DISTRIBUTIONS = {IR: ("torch", "openvino"), ONNX: ("torch", "onnx", "onnxscript")}


def graphs_folder() -> Path:
    """Return the folder of converted networks; it may not exist yet."""
    return home_folder() / "graphs"


@contextlib.contextmanager
def kept_graph(setup: ModelSetup, suffix: str, mode: ModeName = "window") -> Iterator[Path]:
    """Give the graph of a checkpoint, converted now where it was not before.

    Args:
        setup: Of one network.
        suffix: `file.IR` or `file.ONNX`.
        mode: Whether the graph takes windows, or is carried along streams.

    Yields:
        The file. Where the cache cannot be written it is gone afterwards: read it within.

    Raises:
        CheckpointError, ConfigError: The checkpoint cannot be loaded.
    """
    folder = graphs_folder() / _key(setup, suffix, mode)
    path = folder / f"model{suffix}"
    with contextlib.ExitStack() as stack:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(folder.with_suffix(".lock")))  # another process may be at it
            if not path.is_file():
                _make(setup, folder, suffix, mode)
            folder.touch()
            _prune(folder.parent)
        except OSError as error:
            log.warning("cannot keep the converted network in %s (%s): it is converted at each start", folder, error)
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            path = folder / f"model{suffix}"
            _convert(setup, path, mode)
        yield path


def compiled_folder(path: Path) -> Path | None:
    """Return where to keep what is compiled of a graph; None where nothing can be kept."""
    parent = path.parent if path.parent.parent == graphs_folder() else graphs_folder() / _digest([path])[:32]
    folder = parent / "compiled"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder


def _make(setup: ModelSetup, folder: Path, suffix: str, mode: ModeName) -> None:
    """Convert into `folder`, which appears whole or not at all."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as made:
        _convert(setup, Path(made) / "graph" / f"model{suffix}", mode)
        shutil.rmtree(folder, ignore_errors=True)
        (Path(made) / "graph").replace(folder)


def _convert(setup: ModelSetup, path: Path, mode: ModeName) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == IR and mode == "window":
        from stream_i3d.inference.graphs.inception import write_inception  # it imports OpenVINO

        if write_inception(setup, path):
            return
    from stream_i3d.inference.graphs.conversion import convert_setup  # it imports torch

    what = f"{_NAMES[path.suffix]}, streaming" if mode == "streaming" else _NAMES[path.suffix]
    log.info("converting %s to %s, which is done once", setup.model_name.checkpoint, what)
    convert_setup(setup, path, mode)


def _key(setup: ModelSetup, suffix: str, mode: ModeName) -> str:
    """Return a name for all that a converted network depends on."""
    parts = [
        msgspec.json.encode([_VERSION, suffix, mode, setup.spec, setup.config.name, setup.preprocessing]),
        *(f"{name} {importlib.metadata.version(name)}".encode() for name in _DISTRIBUTIONS[suffix]),
    ]
    return hashlib.sha256(_digest([Path(setup.path)]).encode() + b"".join(parts)).hexdigest()[:32]


def _digest(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _prune(folder: Path) -> None:
    """Remove the least recently used networks but `KEPT`."""
    entries = sorted((path for path in folder.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for path in entries[:-KEPT]:
        shutil.rmtree(path, ignore_errors=True)
        path.with_suffix(".lock").unlink(missing_ok=True)
