"""Exports a checkpoint as OpenVINO IR, ONNX or torch.export, float32 or int8, compared with its source first."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import math
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
import torch
from msgspec import Struct, structs

from stream_i3d.config import ModeName
from stream_i3d.errors import CheckpointError, ConfigError
from stream_i3d.inference.backends import BACKENDS
from stream_i3d.inference.export.parity import Parity
from stream_i3d.inference.export.sample_clips import Clip, Progress, generated_clips, knows_scenes, video_clips
from stream_i3d.inference.export.step import Item, calibration_items, sample_streams
from stream_i3d.inference.export.written import compare_written, load_written
from stream_i3d.inference.graphs.conversion import make_program, quiet, to_openvino, write_graph
from stream_i3d.inference.graphs.file import IR, ONNX, TORCH, encode_head, graph_metadata, is_graph
from stream_i3d.inference.graphs.openvino_engine import the_core, write_ir
from stream_i3d.inference.selfcheck.reference import make_values, model_values
from stream_i3d.inference.setup import check_carried
from stream_i3d.models.backbone import head_arrays
from stream_i3d.models.checkpoint import load_checkpoint
from stream_i3d.models.registry import find_architecture
from stream_i3d.models.spec import ModelSpec, known_spec, resolve_checkpoint

if TYPE_CHECKING:
    import openvino

Format = Literal["onnx", "openvino", "torch"]

SUFFIXES: dict[Format, str] = {"onnx": ONNX, "openvino": IR, "torch": TORCH}

_NEEDS: dict[Format, tuple[tuple[str, ...], str]] = {
    "onnx": (("onnx", "onnxruntime", "onnxscript"), BACKENDS["onnxruntime"].command),
    "openvino": (("openvino",), BACKENDS["openvino"].command),
    "torch": ((), ""),
}

TOLERANCE = 1e-3
"""Of the logits' deviation: what a float32 export may differ by; a wrong padding or eps is a hundred times that."""

CALIBRATION_CLIPS, PARITY_CLIPS = 300, 64
"""NNCF's own default, and as many as make the comparison of a full I3D a matter of half a minute."""

CALIBRATION_STREAMS, PARITY_STREAMS = 40, 4
"""The same in streaming mode; of the former, 30 are calibrated on."""


class ExportJob(Struct, frozen=True, kw_only=True):
    """What to export.

    Attributes:
        checkpoint: A name or a file, as for `--checkpoint`.
        architecture: What the file is of, where its tensors leave that open.
        format: Of the result.
        output: The file; its suffix is the format's.
        int8: Whether weights and activations are quantised to 8 bits.
        calibrate: Folder of videos: they say what activations are like, and serve the comparison.
        clip_len: Frames in a clip, in place of what the checkpoint was trained with.
        mode: Whether the result takes clips, or is one step of a network that is carried along streams.
    """

    checkpoint: str
    format: Format
    output: Path
    architecture: str | None = None
    int8: bool = False
    calibrate: Path | None = None
    clip_len: int | None = None
    mode: ModeName = "window"


class Exported(Struct, frozen=True, kw_only=True):
    """What was written, and how it compares with its source on which clips."""

    spec: ModelSpec
    description: str
    files: tuple[Path, ...]
    parity: Parity
    clips: str


def export_checkpoint(job: ExportJob, progress: Progress) -> Exported:
    """Write a checkpoint in another format.

    The files appear only when they agree with their source (int8: whatever they do).

    Raises:
        CheckpointError: The checkpoint cannot be read or exported, or the result computes something else.
        ConfigError: A package is missing, or what was asked for does not fit together.
    """
    check_job(job)
    model, spec = _load(job)
    if job.int8 and job.calibrate is None and not knows_scenes(spec):
        raise ConfigError(
            "--int8 needs clips to measure activations on: give --calibrate a folder of videos like those that the "
            "network will see, some dozens at least"
        )
    clips, named = _clips(job, spec, progress)
    seen, compared = _divide(clips) if job.int8 else ([], clips)
    with tempfile.TemporaryDirectory(dir=_folder(job.output), prefix=".export-") as folder:
        path = Path(folder) / job.output.name
        progress("converting", 0, 1)
        _write(job, model, spec, seen, path)
        written = load_written(path, model, spec)
        parity = compare_written(model, spec, written, compared[:PARITY_CLIPS], progress)
        if not math.isfinite(parity.logit_difference):
            raise CheckpointError(
                f"exporting {job.checkpoint} gives an output that is not finite on {named}; nothing was written: try "
                "another --format" + (", or other videos for --calibrate" if job.int8 else "")
            )
        if not job.int8 and not parity.logit_difference <= TOLERANCE * parity.logit_deviation:
            raise CheckpointError(
                f"exporting {job.checkpoint} gives another network on {parity.clips} {named}: {parity}; nothing was "
                "written; try another --format"
            )
        files = _keep(path, job.output)
    return Exported(spec=spec, description=written.engine.description, files=files, parity=parity, clips=named)


def check_job(job: ExportJob) -> None:
    """Check what can be checked before the work.

    Raises:
        CheckpointError: There is no such checkpoint, or it is an export already.
        ConfigError: A package is missing, or what was asked for does not fit together.
    """
    suffix = SUFFIXES[job.format]
    if job.output.suffix != suffix:
        raise ConfigError(f"--output {job.output}: give a name ending in {suffix} with --format {job.format}")
    if job.int8 and job.format != "openvino":
        raise ConfigError(f"--int8 goes with --format openvino, not {job.format}: leave one of them out")
    packages, command = _NEEDS[job.format]
    if job.int8:
        packages, command = (*packages, "nncf"), "pip install 'stream-i3d[int8]'"
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"export to {job.format} needs {' and '.join(missing)}: run {command}")
    path = resolve_checkpoint(job.checkpoint)
    if is_graph(path):
        raise CheckpointError(f"checkpoint {path.name} is an export already: give the weights that it was made from")
    _folder(job.output)


def _load(job: ExportJob) -> tuple[torch.nn.Module, ModelSpec]:
    model, spec = load_checkpoint(job.checkpoint, known_spec(job.checkpoint), job.architecture)
    row = find_architecture(spec.architecture)
    if len(row.streams) != 1:
        raise CheckpointError(f"{spec.architecture} sees {' and '.join(row.streams)}: export each network by itself")
    made = spec.preprocessing if job.clip_len is None else structs.replace(spec.preprocessing, clip_len=job.clip_len)
    kind = f"{job.format}, {'int8' if job.int8 else 'float32'}, from {resolve_checkpoint(job.checkpoint).name}"
    provenance = {**spec.provenance, "exported": kind}
    if job.mode == "streaming":
        check_carried(spec, made, resolve_checkpoint(job.checkpoint).name, spec.architecture)
    return model, structs.replace(spec, preprocessing=made, provenance=provenance, mode=job.mode)


def _clips(job: ExportJob, spec: ModelSpec, progress: Progress) -> tuple[list[Clip], str]:
    """Return the clips to calibrate and compare on, and what to call them."""
    if job.mode == "streaming":
        count = CALIBRATION_STREAMS if job.int8 else PARITY_STREAMS
        named = "generated streams" if job.calibrate is None else f"streams of {job.calibrate}"
        return sample_streams(job.calibrate, spec, count, progress), named
    count = CALIBRATION_CLIPS if job.int8 else PARITY_CLIPS
    if job.calibrate is not None:
        return video_clips(job.calibrate, spec, count, progress), f"clips of {job.calibrate}"
    if not knows_scenes(spec):
        count = 16  # enough to see that it is the same function
    return generated_clips(spec, count, progress), "generated clips"


def _divide(clips: list[Clip]) -> tuple[list[Clip], list[Clip]]:
    """Return the clips that int8 sees, and those it is compared on: others, every fourth, where there are enough."""
    if len(clips) < 8:
        return clips, clips
    return [clip for index, clip in enumerate(clips) if index % 4], clips[::4]


def _write(job: ExportJob, model: torch.nn.Module, spec: ModelSpec, clips: Sequence[Clip], path: Path) -> None:
    program = make_program(model, spec.preprocessing, spec.in_channels, job.mode)
    values = make_values(model_values(model, spec.preprocessing, spec.in_channels, job.mode))
    check = msgspec.json.encode(values).decode()  # what the file's engine compares itself with when it is loaded
    metadata = graph_metadata(spec, encode_head(*head_arrays(model)), check)
    if job.int8 and job.mode == "streaming":
        write_ir(quantise_step(to_openvino(program), calibration_items(model, spec, clips)), metadata, path)
    elif job.int8:
        write_ir(quantise(to_openvino(program), clips), metadata, path)
    else:
        write_graph(program, metadata, path)


def quantise(model: openvino.Model, clips: Sequence[Clip]) -> openvino.Model:
    """Return a model whose convolutions are int8, by NNCF's post-training quantisation.

    Args:
        model: Of `graphs.conversion.to_openvino`.
        clips: What it will see.
    """
    return _quantise(model, [clip[None] for clip in clips], [])


def quantise_step(model: openvino.Model, items: Sequence[Item]) -> openvino.Model:
    """Return one step of a carried network with its convolutions in int8; `items`: of `calibration_items`.

    What silences a stream's beginning stays as it is, and so do contexts.
    """
    return _quantise(model, items, ["Multiply", "Add", "Divide"])


def _quantise(model: openvino.Model, items: Sequence[object], left_alone: list[str]) -> openvino.Model:
    """Quantise; operations of the kinds `left_alone` stay as they are."""
    the_core()  # before NNCF makes one, which does not last
    import nncf
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    # NNCF draws its progress on standard output, which is ours.
    with quiet(), contextlib.redirect_stdout(sys.stderr if sys.stderr.isatty() else io.StringIO()):
        return nncf.quantize(
            model,
            nncf.Dataset(items),
            subset_size=len(items),
            preset=nncf.QuantizationPreset.PERFORMANCE,  # after a ReLU the other one gains nothing
            fast_bias_correction=False,
            ignored_scope=nncf.IgnoredScope(types=left_alone),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                activations_range_estimator_params=RangeEstimatorParametersSet.HISTOGRAM
            ),
        )


def _folder(output: Path) -> Path:
    """Make the output's folder, and check that files can be made in it."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        writable = os.access(output.parent, os.W_OK)
    except OSError as error:
        raise ConfigError(f"cannot write {output}: {error.strerror}; give --output another folder") from None
    if not writable:
        raise ConfigError(f"cannot write {output}: no permission; give --output another folder")
    return output.parent


def _keep(made: Path, output: Path) -> tuple[Path, ...]:
    """Move the files to where they were asked for: an IR's weights first, so that its .xml is never alone."""
    files: list[Path] = []
    try:
        for path in sorted(made.parent.iterdir(), key=lambda path: path.suffix != ".bin"):
            files.append(output.with_name(path.name))
            path.replace(files[-1])
    except OSError as error:
        raise ConfigError(f"cannot write {output}: {error.strerror}; give --output another name") from None
    return tuple(files)
