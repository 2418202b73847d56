"""Turns networks into files of other libraries: OpenVINO IR, ONNX, torch.export; each carries its `ModelSpec` and head.

All three start from one `torch.export` program (models/backbone.py): uint8 clips in, float32 feature maps out. The
network's head goes into the file's metadata.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from msgspec import structs

from stream_i3d.config import ModeName
from stream_i3d.errors import CheckpointError, brief
from stream_i3d.inference.graphs.file import (
    CLIPS,
    CONTEXT,
    FEATURES,
    FRAMES,
    IR,
    NEXT_CONTEXT,
    ONNX,
    STEPS,
    encode_head,
    graph_metadata,
)
from stream_i3d.inference.graphs.inception import inception_graph
from stream_i3d.inference.graphs.openvino_engine import import_openvino, write_ir
from stream_i3d.inference.setup import ModelSetup, check_carried
from stream_i3d.models.backbone import export_program, export_step, head_arrays
from stream_i3d.models.checkpoint import load_checkpoint
from stream_i3d.models.i3d import I3D
from stream_i3d.preprocess import Preprocessing

if TYPE_CHECKING:
    import openvino


def convert_setup(setup: ModelSetup, path: Path, mode: ModeName = "window") -> None:
    """Write the network of a settled choice, for clips as the choice makes them.

    Args:
        setup: Of one network.
        path: Its suffix says what is written; the folder exists.
        mode: Whether it takes windows, or is carried along streams.

    Raises:
        CheckpointError, ConfigError: The checkpoint cannot be loaded, or its network cannot be converted.
        OSError: The file cannot be written.
    """
    model, spec = load_checkpoint(setup.path, setup.spec, setup.config.name)
    if mode == "streaming":
        check_carried(spec, setup.preprocessing, setup.model_name.checkpoint)
    spec = structs.replace(spec, preprocessing=setup.preprocessing, mode=mode)
    metadata = graph_metadata(spec, encode_head(*head_arrays(model)))
    if path.suffix == IR and mode == "window" and isinstance(model, I3D):  # in a tenth of the converter's time
        tensors = {key: tensor.numpy() for key, tensor in model.state_dict().items()}
        write_ir(inception_graph(tensors, spec), metadata, path)
        return
    write_graph(make_program(model, spec.preprocessing, spec.in_channels, mode), metadata, path)


def make_program(
    model: torch.nn.Module, preprocessing: Preprocessing, channels: int = 3, mode: ModeName = "window"
) -> torch.export.ExportedProgram:
    """Return a network's graph; see `models.backbone`.

    Raises:
        CheckpointError: torch cannot make one.
    """
    with _one_line(f"{type(model).__name__} cannot be exported"), quiet():
        if mode == "streaming":
            assert isinstance(model, I3D)
            return export_step(model, preprocessing)
        return export_program(model, preprocessing, channels)


def write_graph(program: torch.export.ExportedProgram, metadata: Mapping[str, str], path: Path) -> None:
    """Write a graph; the suffix of `path` says as what.

    Args:
        program: Of `make_program`.
        metadata: What the file carries beside the graph; see `graphs.file.graph_metadata`.
        path: Where it goes.

    Raises:
        CheckpointError: The graph cannot be converted to that.
        OSError: The file cannot be written.
    """
    if path.suffix == IR:
        write_ir(to_openvino(program), metadata, path)
    elif path.suffix == ONNX:
        _write_onnx(program, metadata, path)
    else:
        with quiet():
            files = {f"{key}.json": text for key, text in metadata.items()}
            torch.export.save(program, path, extra_files=files)


def to_openvino(program: torch.export.ExportedProgram) -> openvino.Model:
    """Return a graph as OpenVINO's, for any number of clips at once; one of a step is for one camera.

    Raises:
        CheckpointError: It cannot be converted.
    """
    library = import_openvino()
    with _one_line("OpenVINO cannot convert this network"), quiet():
        model = library.convert_model(program)
        inputs, outputs = _names(program)
        shapes = [list(example.shape) for example in program.example_inputs[0]]
        if inputs == [CLIPS]:
            shapes[0][0] = -1
        model.reshape(dict(zip(model.inputs, map(library.PartialShape, shapes), strict=True)))
        _simplify_pools(model)
    for port, name in zip((*model.inputs, *model.outputs), (*inputs, *outputs), strict=True):
        port.set_names({name})
    return model


def _names(program: torch.export.ExportedProgram) -> tuple[list[str], list[str]]:
    """Return what to call a graph's inputs and outputs."""
    contexts = len(program.example_inputs[0]) - 2
    if contexts < 0:
        return [CLIPS], [FEATURES]
    numbers = range(contexts)
    return [FRAMES, STEPS, *map(CONTEXT.format, numbers)], [FEATURES, *map(NEXT_CONTEXT.format, numbers)]


def _simplify_pools(model: openvino.Model) -> None:
    """Exchange max-pools for the first version of that operation, which knows no places of its maxima.

    OpenVINO's CPU plugin keeps the places for the later versions whether anybody asks or not, and takes no int8 there.
    Measured on one thread: int8 I3D 145 ms with them, 132 without; the carried model in bf16 6.4 and 5.7 ms.
    """
    from openvino import opset1

    for operation in model.get_ordered_ops():
        if operation.get_type_name() != "MaxPool":
            continue
        given = operation.get_attributes()
        simple = opset1.max_pool(
            operation.input_value(0),
            given["strides"],
            given["pads_begin"],
            given["pads_end"],
            given["kernel"],
            # "ceil_torch" differs where a last window would lie in the padding alone: none of ours does.
            "ceil" if "ceil" in given["rounding_type"] else "floor",
        )
        operation.output(0).replace(simple.output(0))
    model.validate_nodes_and_infer_types()


def _write_onnx(program: torch.export.ExportedProgram, metadata: Mapping[str, str], path: Path) -> None:
    import onnx

    with _one_line("this network cannot be converted to ONNX"), quiet():
        inputs, outputs = _names(program)
        exported = torch.onnx.export(program, input_names=inputs, output_names=outputs, verbose=False, dynamo=True)
    assert exported is not None
    proto = exported.model_proto
    onnx.helper.set_model_props(proto, dict(metadata))
    path.write_bytes(proto.SerializeToString())


@contextlib.contextmanager
def _one_line(what: str) -> Iterator[None]:
    """Raise a converter's errors as one of ours: RuntimeErrors of OpenVINO and torch, and their ValueErrors."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().rpartition("\n")[2] or type(error).__name__  # the last line is the telling one
        raise CheckpointError(f"{what} ({brief(ValueError(reason))}): run it with --backend torch") from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the converters' own remarks from between ours; what goes wrong comes as an exception."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir", "nncf")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
