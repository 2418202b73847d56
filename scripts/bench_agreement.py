"""How far every backend and precision is from fp32 on real clips: the largest difference of a probability.

The clips are windows of the videos in a folder, read as they are live, at several clip lengths. Each engine is made
anew for a length, without its self-check: this shows what an engine computes, not what would be used in its place.
What this machine does not have is left out; bf16 by torch is emulated where it is not in hardware, with --emulate.

    agreement      share of the windows whose first label is fp32's
    difference     largest difference of a probability over all windows and classes; the bar for bf16: 0.03
    finite         whether every logit is

Without the folder it says so and ends: it is no part of this repository.
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
from msgspec import structs
from numpy.typing import NDArray

from stream_i3d.config import Precision
from stream_i3d.inference.engine import TorchEngine, cpu_has_bf16
from stream_i3d.inference.export.parity import compare
from stream_i3d.inference.export.sample_clips import Clip, video_clips
from stream_i3d.inference.graphs.conversion import make_program, write_graph
from stream_i3d.inference.graphs.file import IR, ONNX
from stream_i3d.inference.graphs.onnx_runner import OnnxRunner, on_cpu
from stream_i3d.inference.graphs.openvino_runner import OpenVinoRunner, has_bf16
from stream_i3d.models.checkpoint import load_checkpoint
from stream_i3d.models.spec import ModelSpec
from stream_i3d.preprocess import normalise

REAL = Path(__file__).resolve().parents[2] / "shared" / "real" / "kinetics"
Logits = NDArray[np.float32]


@torch.inference_mode()
def plain(model: torch.nn.Module, spec: ModelSpec, clips: list[Clip]) -> Logits:
    """Return what the network as it is makes of clips, eager and in fp32, (clips, classes)."""
    rows = [model(normalise(torch.from_numpy(clip[None]), spec.preprocessing)) for clip in clips]
    return np.asarray(torch.cat(rows).numpy(), np.float32)


def by_torch(model: torch.nn.Module, spec: ModelSpec, clips: list[Clip], precision: Precision) -> Logits:
    """Return what PyTorch's engine makes of clips, (clips, classes)."""
    names = tuple(map(str, range(spec.num_classes)))
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    engine = TorchEngine(model, spec, names, device, precision)
    return np.concatenate([engine.logits(engine.prepare([clip])) for clip in clips])


def engines(
    model: torch.nn.Module, spec: ModelSpec, clips: list[Clip], folder: Path, emulate: bool
) -> Iterator[tuple[str, Logits]]:
    """Yield the name and the logits of every backend and precision that there is here."""
    yield "torch fp32", by_torch(model, spec, clips, "fp32")
    if emulate or cpu_has_bf16() or torch.cuda.is_available():
        yield "torch bf16", by_torch(model, spec, clips, "bf16")
    program = make_program(model, spec.preprocessing, spec.in_channels)
    if importlib.util.find_spec("openvino"):
        path = folder / f"{spec.preprocessing.clip_len}{IR}"
        write_graph(program, spec, path)
        precisions: list[Precision] = ["fp32", "bf16"] if has_bf16() else ["fp32"]
        for precision in precisions:
            runner = OpenVinoRunner(path, spec, precision, 0, None)
            yield f"openvino {precision}", np.concatenate([runner(clip[None]) for clip in clips])
    if importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("onnxscript"):
        path = folder / f"{spec.preprocessing.clip_len}{ONNX}"
        write_graph(program, spec, path)
        providers, facts = on_cpu("fp32")
        session = OnnxRunner(path, spec, providers, 0, facts)
        yield "onnxruntime fp32", np.concatenate([session(clip[None]) for clip in clips])


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
            for name, found in engines(model, made, clips, Path(folder), emulate):
                rows.append(row_of(name, frames, reference, found, spec.temperature))
    report("agreement", rows)


if __name__ == "__main__":
    main()
