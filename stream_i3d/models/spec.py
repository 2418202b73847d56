"""The spec of a checkpoint, and how checkpoint names become files.

Checkpoints are safetensors files whose header has a `ModelSpec` as JSON: dimensions, labels and preprocessing of the
network. Reading it takes a few kilobytes and no torch, so a capture process can get its crop size from it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

import msgspec
from msgspec import Meta, Struct

from stream_i3d.errors import CheckpointError, LabelsError, brief, did_you_mean
from stream_i3d.models import zoo
from stream_i3d.models.labels import check_labels, load_labels
from stream_i3d.preprocess import Preprocessing

METADATA_KEY = "stream_i3d"
"""Key of the spec's JSON in the metadata of the header."""

CARRIED_CHECKPOINT = "motion"
"""The name of the checkpoint that comes with the package."""

_MAX_HEADER_BYTES = 16 * 2**20  # usual headers have 50 KB; limits reading if the length field is damaged


class ModelSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything but the weights that is needed to rebuild and feed a network.

    Attributes:
        architecture: A name of `stream_i3d.models.registry.ARCHITECTURES`.
        num_classes: Classes of the head.
        in_channels: 3 for RGB, 2 for optical flow.
        width: Factor on the published channel counts.
        options: Arguments of the architecture that differ from its defaults; the registry lists those allowed.
        labels: Class names in the order of the head's outputs; None if unknown.
        preprocessing: Preprocessing of the training clips.
        provenance: Free text by topic, such as origin, licence and accuracy of the weights.
        temperature: Divisor of the logits before the softmax, so that a confidence is the share of right answers (Guo
            et al., ICML 2017); 1 if it was not fitted.
        calibration: How the temperature was fitted: on the validation set, by cross-validation over the training set,
            or not at all ("none"). None in files that do not record it; there a temperature other than 1 was fitted.
        min_confidence: The live threshold that the training recommends for a checkpoint without calibration; None for
            the default. `idle.min_confidence` takes precedence.
        mode: Input of an exported graph: windows, or one step of a stream. Weights serve both.
    """

    num_classes: Annotated[int, Meta(ge=1, le=1_000_000)]
    architecture: str = "i3d"
    in_channels: Annotated[int, Meta(ge=1, le=1024)] = 3
    width: Annotated[float, Meta(gt=0, le=16)] = 1.0
    options: dict[str, str | int | float | bool | None] = {}
    labels: tuple[str, ...] | None = None
    preprocessing: Preprocessing = Preprocessing()
    provenance: dict[str, str] = {}
    temperature: Annotated[float, Meta(ge=0.01, le=100)] = 1.0
    mode: Literal["window", "streaming"] = "window"
    calibration: Literal["validation", "cross-validation", "none"] | None = None
    min_confidence: Annotated[float, Meta(ge=0, le=1)] | None = None

    @property
    def calibrated(self) -> bool:
        """Whether the temperature was fitted, so that confidences are shares of right answers."""
        return self.temperature != 1 if self.calibration is None else self.calibration != "none"


class _Header(Struct):
    """The metadata of a safetensors header."""

    metadata: dict[str, str] = msgspec.field(name="__metadata__", default_factory=dict)


def encode_spec(spec: ModelSpec) -> dict[str, str]:
    """Return the safetensors metadata with `spec`.

    Raises:
        LabelsError: The labels do not fit the number of classes.
    """
    if spec.labels is not None:
        check_labels(spec.labels, spec.num_classes)
    # One key only: safetensors does not order its metadata, and equal checkpoints should be equal byte for byte.
    return {METADATA_KEY: msgspec.json.encode(spec).decode()}


def decode_spec(text: str, path: Path) -> ModelSpec:
    """Return the spec from the JSON `text` in the metadata of `path`.

    Raises:
        CheckpointError: It is damaged, or from a later version.
    """
    try:
        spec = msgspec.json.decode(text, type=ModelSpec)
        if spec.labels is not None:
            check_labels(spec.labels, spec.num_classes)
    except (msgspec.DecodeError, RecursionError, LabelsError) as error:
        raise CheckpointError(
            f"checkpoint {str(path)!r} describes itself in a way this version cannot read ({brief(error)}): "
            "upgrade stream-i3d, or save the checkpoint again"
        ) from error
    return spec


def read_spec(path: str | Path) -> ModelSpec | None:
    """Read what one of our checkpoints says about itself, without its weights.

    Args:
        path: A checkpoint file of any format, or the name of the packaged checkpoint.

    Returns:
        The spec, or None if the file has none (a .pt file, or safetensors of another program).

    Raises:
        CheckpointError: The file is missing or unreadable, or its header or spec is damaged.
    """
    path = resolve_checkpoint(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            header = _read_header(file, size, path)
    except OSError as error:
        raise CheckpointError(f"checkpoint {str(path)!r} cannot be read ({brief(error)}): check the file") from error
    if header is None:
        return None
    try:
        metadata = msgspec.json.decode(header, type=_Header).metadata
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointError(
            f"checkpoint {str(path)!r} has a damaged header ({brief(error)}): copy it again"
        ) from error
    return decode_spec(metadata[METADATA_KEY], path) if METADATA_KEY in metadata else None


def known_spec(name_or_path: str | Path) -> ModelSpec | None:
    """Return the spec of a checkpoint without reading its weights.

    Args:
        name_or_path: As for `resolve_checkpoint`.

    Returns:
        The spec in the file, or, for the name of published weights, their published facts; else None.

    Raises:
        CheckpointError: As for `read_spec`.
    """
    path = resolve_checkpoint(name_or_path)
    weights = zoo.PUBLISHED.get(str(name_or_path))
    # One that comes in a package was converted, and describes itself.
    return read_spec(path) if weights is None or weights.package is not None else _published_spec(weights)


def carried_checkpoint() -> Path:
    """Return the file of the packaged checkpoint, `CARRIED_CHECKPOINT`."""
    return Path(__file__).parent / "weights" / f"{CARRIED_CHECKPOINT}.safetensors"


def resolve_checkpoint(name_or_path: str | Path) -> Path:
    """Return the file of `--checkpoint NAME_OR_PATH`.

    "motion" is the packaged checkpoint, the names in `stream_i3d.models.zoo` are published weights; ./motion is a file.

    Raises:
        CheckpointError: There is no such file, or the published weights have not been downloaded.
    """
    given = str(name_or_path)
    weights = zoo.PUBLISHED.get(given)
    if weights is not None:
        if weights.is_downloaded:
            return weights.path
        raise CheckpointError(
            f"checkpoint {given!r} has not been downloaded (no file {str(weights.path)!r}): "
            f"run `stream-i3d weights download {given}`"
        )
    path = carried_checkpoint() if given == CARRIED_CHECKPOINT else Path(name_or_path).expanduser()
    # os.path instead of pathlib: False also for a path with a NUL, a too long name, or a folder without access.
    if os.path.isfile(path):  # noqa: PTH113
        return path
    what = "is a folder" if os.path.isdir(path) else "does not exist or is not a file"  # noqa: PTH112
    if given == CARRIED_CHECKPOINT:
        raise CheckpointError(f"the carried checkpoint {str(path)!r} {what}: install the package again")
    raise CheckpointError(
        f"checkpoint {given!r} {what}{did_you_mean(given, [CARRIED_CHECKPOINT, *zoo.PUBLISHED])}: "
        f"give the path of a .safetensors, .pt or .pth file, {CARRIED_CHECKPOINT!r} for the one carried here, "
        "or a name that `stream-i3d weights list` shows"
    )


def is_safetensors(path: Path) -> bool:
    """Return whether a file is safetensors by its name or its first bytes.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        return path.suffix == ".safetensors" or file.read(9)[8:] == b"{"


def _read_header(file: BinaryIO, size: int, path: Path) -> bytes | None:
    """Return the JSON of a safetensors header; None if the file has another format."""
    if not is_safetensors(path):
        return None
    length = int.from_bytes(file.read(8), "little")
    if size < 10 or not 2 <= length <= min(size - 8, _MAX_HEADER_BYTES):
        raise CheckpointError(
            f"checkpoint {str(path)!r} is not a whole safetensors file ({size} bytes, a header of {length}): "
            "it is damaged or cut short; copy it again"
        )
    return file.read(length)


def _published_spec(weights: zoo.PublishedWeights) -> ModelSpec:
    return ModelSpec(
        architecture=weights.architecture,
        num_classes=weights.num_classes,
        in_channels=weights.in_channels,
        labels=None if weights.labels is None else load_labels(weights.labels),
        preprocessing=weights.preprocessing,
        provenance=weights.provenance,
    )
