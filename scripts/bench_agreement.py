"""Compares every backend and precision with fp32 on real clips: agreement of labels, difference of probabilities.

The clips are windows of the videos in a folder, read as in the live path, at several clip lengths. Engines are built
for each length without their self-check, so that the table shows an engine's own output. Backends and precisions that
this machine does not have are left out; with --emulate, bf16 in torch is emulated if the hardware does not have it.

    agreement      share of windows with the same first label as fp32
    difference     largest difference of a probability over all windows and classes; limit for bf16: 0.03
    finite         whether all logits are finite

The folder of videos is not part of this repository; without it the script prints a message and ends.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from _bench import report
from _logits import logits_of
from msgspec import structs
from numpy.typing import NDArray

from stream_i3d.config import Precision
from stream_i3d.inference.engine import Engine, LoadedModel
from stream_i3d.inference.export.parity import compare
from stream_i3d.inference.export.sample_clips import Clip, video_clips
from stream_i3d.inference.graphs.conversion import make_program, write_graph
from stream_i3d.inference.graphs.file import IR, ONNX, encode_head, graph_metadata
from stream_i3d.inference.graphs.onnx_engine import OnnxEngine, on_cpu
from stream_i3d.inference.graphs.openvino_engine import OpenVinoEngine, has_bf16
from stream_i3d.inference.torch_engine import TorchEngine, cpu_has_bf16, head_of
from stream_i3d.models.backbone import head_arrays
from stream_i3d.models.checkpoint import load_checkpoint
from stream_i3d.models.spec import ModelSpec
from stream_i3d.preprocess import normalise
from stream_i3d.recognition.head import PublishedHead

REAL = Path(__file__).resolve().parents[2] / "shared" / "real" / "kinetics"
Logits = NDArray[np.float32]


@torch.inference_mode()
def plain(model: torch.nn.Module, spec: ModelSpec, clips: list[Clip]) -> Logits:
    """Return the logits of the unfolded network, eager in fp32, (clips, classes)."""
    rows = [model(normalise(torch.from_numpy(clip[None]), spec.preprocessing)) for clip in clips]
    return np.asarray(torch.cat(rows).numpy(), np.float32)


def engines(model: torch.nn.Module, spec: ModelSpec, folder: Path, emulate: bool) -> Iterator[tuple[str, Engine]]:
    """Yield the name and the engine of every available backend and precision."""
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    yield "torch fp32", TorchEngine(model, spec, device, "fp32")
    if emulate or cpu_has_bf16() or torch.cuda.is_available():
        yield "torch bf16", TorchEngine(model, spec, device, "bf16")
    program = make_program(model, spec.preprocessing, spec.in_channels)
    metadata = graph_metadata(spec, encode_head(*head_arrays(model)))
    if importlib.util.find_spec("openvino"):
        path = folder / f"{spec.preprocessing.clip_len}{IR}"
        write_graph(program, metadata, path)
        precisions: list[Precision] = ["fp32", "bf16"] if has_bf16() else ["fp32"]
        for precision in precisions:
            yield f"openvino {precision}", OpenVinoEngine(path, spec, precision, 0, None)
    if importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("onnxscript"):
        path = folder / f"{spec.preprocessing.clip_len}{ONNX}"
        write_graph(program, metadata, path)
        providers, facts = on_cpu("fp32")
        yield "onnxruntime fp32", OnnxEngine(path, spec, providers, 0, facts)


def row_of(name: str, frames: int, reference: Logits, found: Logits, temperature: float) -> dict[str, Any]:
    """Return a row of the table."""
    finite = bool(np.isfinite(found).all())
    row: dict[str, Any] = {"engine": name, "clip_len": frames, "windows": len(found), "finite": finite}
    if finite:
        parity = compare([reference], [found], temperature)
        row |= {"agreement": parity.agreement, "difference": parity.probability_difference}
    return row


@click.command(help=__doc__)
@click.option("--checkpoint", default="motion", show_default=True)
@click.option("--videos", type=click.Path(path_type=Path), default=REAL, show_default=True)
@click.option("--frames", "lengths", multiple=True, type=click.IntRange(8), default=(8, 9, 16, 32), show_default=True)
@click.option("--windows", type=click.IntRange(1), default=114, show_default=True, help="Of all videos together.")
@click.option("--emulate", is_flag=True, help="bf16 by torch also where the processor has none.")
def main(checkpoint: str, videos: Path, lengths: tuple[int, ...], windows: int, emulate: bool) -> None:
    """Compare, and print the table."""
    if not videos.is_dir():
        click.echo(f"no folder {videos}: give --videos")
        return
    model, spec = load_checkpoint(checkpoint)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for frames in lengths:
            made = structs.replace(spec, preprocessing=structs.replace(spec.preprocessing, clip_len=frames))
            clips = video_clips(videos, made, windows, lambda what, done, total: None)
            reference = plain(model, made, clips)
            head = PublishedHead({"rgb": head_of(model, made, tuple(map(str, range(spec.num_classes))))})
            for name, engine in engines(model, made, Path(folder), emulate):
                found = np.concatenate([logits_of(LoadedModel(engine, head), [clip]) for clip in clips])
                rows.append(row_of(name, frames, reference, found, spec.temperature))
    report("agreement", rows)


if __name__ == "__main__":
    main()
