"""Reference values: what a checkpoint's network makes of the check's clips in float32, worked out once and kept.

    home_folder()/references/KEY.json

KEY is of all that they depend on: the file's content, the clips' make, the mode. An exported file has no float32
weights at hand; it carries its values in its metadata, written when it was exported.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from stream_i3d.config import ModeName
from stream_i3d.errors import CheckpointError
from stream_i3d.files import replace_file
from stream_i3d.inference.selfcheck.clips import VERSION, Clip, stream_clip, window_clips
from stream_i3d.models.spec import ModelSpec
from stream_i3d.models.zoo import home_folder
from stream_i3d.preprocess import Preprocessing

log = logging.getLogger(__name__)

KEPT = 64
"""Files of reference values; one of 400 classes has some 10 KB."""

MAX_CLASSES = 1024
"""Of a network with more, evenly spaced ones are compared."""


class Values(Struct, frozen=True, kw_only=True):
    """Reference values as they are kept and as exported files carry them.

    Attributes:
        version: Of the clips (`clips.VERSION`).
        rows: Logits, one row a clip; in streaming mode one row a step. Of at most `MAX_CLASSES` classes.
    """

    version: int
    rows: list[list[float]]


class CheckedNetwork(Struct, frozen=True, kw_only=True):
    """What of a network its reference values depend on.

    Attributes:
        path: Its weights.
        spec: What is known of it; None where only its tensors tell.
        name: The architecture that was asked for.
        preprocessing: Of the clips that it is given here.
        mode: Whether it takes windows, or is carried along streams.
    """

    path: str
    spec: ModelSpec | None
    name: str | None
    preprocessing: Preprocessing
    mode: ModeName = "window"


def check_clips(preprocessing: Preprocessing, channels: int, mode: ModeName) -> list[Clip]:
    """Return the clips to check a network on; in streaming mode the one stream."""
    size = preprocessing.usual_frame_size
    if mode == "streaming":
        return [stream_clip(size, channels)]
    return window_clips(preprocessing.clip_len, size, channels)


def reference_values(network: CheckedNetwork) -> Values:
    """Return a checkpoint's values: those that are kept, or worked out now.

    Raises:
        CheckpointError: The checkpoint cannot be loaded, or its own output is not finite.
    """
    path = home_folder() / "references" / f"{_key(network)}.json"
    if (kept := _read(path)) is not None:
        return kept
    rows = _work_out(network)
    if not np.isfinite(rows).all():
        raise CheckpointError(
            f"checkpoint {Path(network.path).name} gives an output that is not finite, in float32 too: "
            "give another checkpoint"
        )
    values = make_values(rows)
    _keep(path, values)
    return values


def make_values(rows: NDArray[np.float32]) -> Values:
    """Return logits, (rows, num_classes) float32, as they are kept."""
    return Values(version=VERSION, rows=thinned(rows).tolist())


def thinned(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the logits of the classes that are compared, `MAX_CLASSES` at most, from the last axis."""
    return rows[..., :: -(-rows.shape[-1] // MAX_CLASSES)]


def as_array(values: Values) -> NDArray[np.float32]:
    """Return kept values as (rows, classes) float32."""
    return np.asarray(values.rows, np.float32)


def decode_values(text: str | bytes | None) -> Values | None:
    """Return values that a file carries; None where it has none that are usable."""
    if text is None:
        return None
    try:
        values = msgspec.json.decode(text, type=Values)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    widths = {len(row) for row in values.rows}
    if values.version != VERSION or len(widths) != 1 or not np.isfinite(as_array(values)).all():
        return None
    return values


@functools.lru_cache(maxsize=16)
def _digest_of(path: str, size: int, changed_ns: int) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _key(network: CheckedNetwork) -> str:
    stat = Path(network.path).stat()
    digest = _digest_of(network.path, stat.st_size, stat.st_mtime_ns)
    parts = [VERSION, digest, network.spec, network.name, network.preprocessing, network.mode]
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:32]


def _read(path: Path) -> Values | None:
    try:
        return decode_values(path.read_bytes())
    except OSError:
        return None


def _keep(path: Path, values: Values) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, msgspec.json.encode(values))
        every = sorted(path.parent.glob("*.json"), key=lambda one: one.stat().st_mtime)
        for old in every[:-KEPT]:
            old.unlink(missing_ok=True)
    except OSError as error:
        log.warning("cannot keep reference values in %s (%s): they are worked out at each start", path.parent, error)


def _work_out(network: CheckedNetwork) -> NDArray[np.float32]:
    """Return a checkpoint's logits in float32: by torch where it is loaded, or where nothing else can."""
    if network.mode == "window" and "torch" not in sys.modules:
        from stream_i3d.inference.graphs.inception import read_inception
        from stream_i3d.inference.selfcheck import numpy_inception

        if (tensors := read_inception(Path(network.path), network.spec)) is not None:
            assert network.spec is not None
            clips = check_clips(network.preprocessing, network.spec.in_channels, "window")
            return numpy_inception.window_logits(tensors, clips, network.preprocessing)
    from stream_i3d.models.checkpoint import load_checkpoint  # it imports torch

    model, spec = load_checkpoint(network.path, network.spec, network.name)
    return model_values(model, network.preprocessing, spec.in_channels, network.mode)


def model_values(model: object, preprocessing: Preprocessing, channels: int, mode: ModeName) -> NDArray[np.float32]:
    """Return a torch network's own logits of the check's clips, eager and in float32.

    Args:
        model: A torch.nn.Module on the CPU in eval mode, with one input.
        preprocessing: How its clips are made and normalised.
        channels: Of its clips.
        mode: Whether it takes windows, or is carried along streams.
    """
    from stream_i3d.inference.selfcheck import torch_reference

    clips: Sequence[Clip] = check_clips(preprocessing, channels, mode)
    if mode == "streaming":
        return torch_reference.stream_logits(model, clips[0], preprocessing)  # type: ignore[arg-type]
    return torch_reference.window_logits(model, clips, preprocessing)  # type: ignore[arg-type]
