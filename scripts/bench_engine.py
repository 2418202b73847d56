"""Measures every backend, precision and batch on the full Inception I3D, relative to the fp32 eager network.

The weights are generated (tests/golden_rule.py), because timing does not depend on their values. Clips are 16 x 224 x
224; cases ending in -streaming-8 are streaming mode, with 8 new frames of one camera. Every round times each case once,
in turn, so that disturbances affect all cases equally; medians are reported. A call is what the worker does: uint8
frames in, logits out.

    median_ms        of a call; ms_per_window: by clip
    ratio            eager-fp32's time for as many clips to this one's; of streaming mode, for one clip to 8 frames'
    floor_share      the time that the network's arithmetic takes at the machine's matrix-product rate (2048 x 2048 x
                     2048, on a GPU 8192, in the same rounds) to this one's: of bf16 (matmul-peak), of int8 cases that
                     of int8 (matmul-peak-int8)
    agree            share of the same first labels as the fp32 eager network's, on the carried model `motion` and
                     generated clips that its training did not see; prob_diff: the largest of a probability. Of
                     streaming mode: on steps of generated streams, with the fp32 eager carried network's
    media_...        the same on clips of the videos in --media

On a machine with an NVIDIA GPU the same for it, at batch 1 and 32; its rows say "not measured" elsewhere.
torch-cuda-window takes whole clips up; torch-cuda-ring-window 8 new frames of each, into rings on the GPU, as the
worker does at stride 8.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
from _bench import report
from _full_checkpoint import full_checkpoint
from _logits import logits_of
from _streaming_cases import CASES, StreamingNetwork, held_out_streams
from numpy.typing import NDArray

from stream_i3d.config import BackendName, ModelConfig, Precision, WindowConfig
from stream_i3d.errors import DeviceError
from stream_i3d.inference.backends import BACKENDS, load_model
from stream_i3d.inference.export.parity import Logits, compare
from stream_i3d.inference.export.sample_clips import generated_clips, video_clips
from stream_i3d.inference.ring import FrameRing
from stream_i3d.inference.setup import settle_model, wait_passively
from stream_i3d.messages import FrameStamp
from stream_i3d.models.spec import CARRIED_CHECKPOINT, ModelSpec, known_spec
from stream_i3d.scenes import LABELS, render_clip

Case = tuple[BackendName, Precision, bool]  # the last: int8
ON_CPU: dict[str, Case] = {
    "torch-fp32-window": ("torch", "fp32", False),
    "torch-window": ("torch", "auto", False),
    "onnxruntime-window": ("onnxruntime", "fp32", False),
    "openvino-fp32-window": ("openvino", "fp32", False),
    "openvino-bf16-window": ("openvino", "bf16", False),
    "openvino-int8-window": ("openvino", "auto", True),
}
ON_GPU: dict[str, Case] = {
    "torch-cuda-window": ("torch", "auto", False),
    "tensorrt-window": ("tensorrt", "fp16", False),
}
GPU_RING = "torch-cuda-ring-window"
GPU_BATCHES = (1, 32)
EAGER, PEAK, PEAK_INT8 = "eager-fp32", "matmul-peak", "matmul-peak-int8"
MATRIX, MATRIX_ON_GPU = 2048, 8192  # a small product would measure how fast a GPU is asked, not how fast it is
HELD_OUT_SEED = 7_000_000
NOT_HERE = "not measured: this machine lacks the precision, or the backend is not installed"
QUANTISED_ON = 300
"""Calibration clips for int8 of the packaged model; 8 for the full one, whose speed does not depend on them."""
QUANTISED_ON_STREAMS = 30
"""Calibration streams for streaming mode, with 10 steps each."""

Clip = NDArray[np.uint8]
Call = Callable[[list[Clip]], Logits]


class Network:
    """A checkpoint on all backends; each maps B clips of (T, H, W, 3) uint8 to (B, num_classes) logits."""

    def __init__(self, checkpoint: str, folder: Path, quantised_on: int, device: str = "cpu") -> None:
        self.checkpoint, self.device = checkpoint, device
        spec = known_spec(checkpoint)
        assert spec is not None
        self.spec: ModelSpec = spec
        self.base = EAGER if device == "cpu" else f"cuda-{EAGER}"
        self.calls: dict[str, Call] = {self.base: self._eager()}
        for case, (backend, precision, int8) in (ON_CPU if device == "cpu" else ON_GPU).items():
            if BACKENDS[backend].installed and not (int8 and importlib.util.find_spec("nncf") is None):
                file = self._quantised(folder, quantised_on) if int8 else checkpoint
                with contextlib.suppress(DeviceError):  # this machine has not the precision: the case is left out
                    self.calls[case] = self._engine(file, backend, precision)
        if device != "cpu":
            self.calls[GPU_RING] = self._from_rings()

    def _eager(self) -> Call:
        import torch

        from stream_i3d.models.checkpoint import load_checkpoint
        from stream_i3d.preprocess import normalise

        model, spec = load_checkpoint(self.checkpoint, self.spec)
        model = model.to(self.device)

        @torch.inference_mode()
        def call(clips: list[Clip]) -> Logits:
            pixels = torch.from_numpy(np.stack(clips)).to(self.device)
            inputs = normalise(pixels, spec.preprocessing).contiguous()  # as the published port takes them
            return np.asarray(model(inputs).cpu().numpy(), np.float32)

        return call

    def _engine(self, file: str, backend: BackendName, precision: Precision) -> Call:
        config = ModelConfig(checkpoint=file, backend=backend, precision=precision, device=self.device)
        model = load_model(settle_model(config, WindowConfig()))
        print(f"{Path(file).name}: {model.engine.description}", flush=True)
        return partial(logits_of, model)

    def _from_rings(self) -> Call:
        config = ModelConfig(checkpoint=self.checkpoint, backend="torch", device=self.device)
        model = load_model(settle_model(config, WindowConfig()))
        made, stride, rings = self.spec.preprocessing, WindowConfig().stride, list[FrameRing]()
        stamp = FrameStamp(camera="bench", epoch=1, seq=0, capture_ns=0, wall_time=0.0)

        def call(clips: list[Clip]) -> Logits:
            while len(rings) < len(clips):
                rings.append(
                    FrameRing((made.window_frames + stride + 64, *made.usual_frame_size, 3), model.engine.make_ring)
                )
            for ring, clip in zip(rings, clips, strict=False):
                for frame in clip if not ring.end else clip[-stride:]:
                    ring.push(stamp, frame)
            places = [ring.device_frames(ring.end - made.clip_len, ring.end - 1) for ring in rings[: len(clips)]]
            return logits_of(model, clips, places)

        return call

    def _quantised(self, folder: Path, count: int) -> str:
        """Export to int8."""
        from stream_i3d.inference.export.checkpoint import quantise
        from stream_i3d.inference.graphs.conversion import make_program, to_openvino
        from stream_i3d.inference.graphs.file import encode_head, graph_metadata
        from stream_i3d.inference.graphs.openvino_engine import write_ir
        from stream_i3d.models.backbone import head_arrays
        from stream_i3d.models.checkpoint import load_checkpoint

        model, spec = load_checkpoint(self.checkpoint, self.spec)
        path = folder / f"{Path(self.checkpoint).stem}-int8.xml"
        clips = generated_clips(spec, count, lambda what, done, total: None)
        metadata = graph_metadata(spec, encode_head(*head_arrays(model)))
        write_ir(quantise(to_openvino(make_program(model, spec.preprocessing)), clips), metadata, path)
        return str(path)


def held_out(spec: ModelSpec, count: int) -> list[Clip]:
    """Return clips outside the packaged model's training set, prepared as in the live path."""
    from stream_i3d.preprocess import prepare_frame

    made = spec.preprocessing
    clips = (
        render_clip((HELD_OUT_SEED, index), LABELS[index % len(LABELS)], made.clip_len, made.sample_fps, (320, 240))
        for index in range(count)
    )
    return [np.stack([prepare_frame(frame, made) for frame in clip]) for clip in clips]


def accuracy(network: Network, clips: Sequence[Clip]) -> dict[str, tuple[float, float]]:
    """Return the agreement with fp32 eager and the largest difference of a probability, for each case."""
    own: list[Logits] = [network.calls[network.base]([clip]) for clip in clips]
    found = {}
    for case, call in network.calls.items():
        parity = compare(own, [call([clip]) for clip in clips], network.spec.temperature)
        found[case] = round(parity.agreement, 4), round(parity.probability_difference, 5)
    return found


def times(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each call in each round, after one warm-up call."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            if number:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def matrix_size(device: str) -> int:
    """Return the size of the matrices that measure the speed of a device."""
    return MATRIX if device == "cpu" else MATRIX_ON_GPU


def matrix_product(device: str) -> Callable[[], object]:
    """Return a product of two large bf16 matrices."""
    import torch

    size = matrix_size(device)
    first, second = (torch.rand(size, size).to(device, torch.bfloat16) for _ in range(2))

    def product() -> None:
        torch.mm(first, second)
        if device != "cpu":
            torch.cuda.synchronize()

    return product


def int8_matrix_product() -> Callable[[], object]:
    """Return a product of two int8 matrices of that size on the CPU, by oneDNN."""
    import torch

    first, second = (torch.randint(-127, 128, (MATRIX, MATRIX), dtype=torch.int8) for _ in range(2))
    return lambda: torch._int_mm(first, second)


class Floors:
    """The time of the network's arithmetic at the machine's matrix-product rate."""

    def __init__(self, device: str) -> None:
        self._on_gpu = device != "cpu"
        self.products = {PEAK: matrix_product(device)} | ({} if self._on_gpu else {PEAK_INT8: int8_matrix_product()})
        self._operations = 2 * matrix_size(device) ** 3

    def share(self, case: str, flops: float, medians: dict[str, float]) -> float:
        """Return that time as a share of the time of a case with this number of operations."""
        peak = PEAK_INT8 if "int8" in case else PEAK
        return round(flops / self._operations * medians[peak] / medians[case], 3)

    def rows(self, medians: dict[str, float]) -> list[dict[str, Any]]:
        """Return a row for each matrix product with its rate."""
        return [
            {
                "case": f"cuda-{peak}" if self._on_gpu else peak,
                "median_ms": round(1e3 * medians[peak], 2),
                "note": f"{self._operations / medians[peak] / 1e9:.0f} G operations/s",
            }
            for peak in self.products
        ]


def timing_rows(
    network: Network, batches: Sequence[int], rounds: int, streaming: dict[str, Callable[[], object]] | None = None
) -> list[dict[str, Any]]:
    """Return a row for each case and batch, and for each of `streaming`, a step of streaming mode."""
    from stream_i3d.models.checkpoint import load_checkpoint
    from stream_i3d.models.overview import count_flops

    made = network.spec.preprocessing
    shape = (made.clip_len, made.crop_size, made.crop_size, 3)
    rng, floors, streaming = np.random.default_rng(0), Floors(network.device), streaming or {}
    calls = dict(floors.products)
    for batch in batches:
        clips = [rng.integers(0, 256, shape, np.uint8) for _ in range(batch)]
        calls |= {f"{case} {batch}": partial(call, clips) for case, call in network.calls.items()}
    medians = {name: statistics.median(values) for name, values in times(calls | streaming, rounds).items()}
    model, _ = load_checkpoint(network.checkpoint, network.spec)
    flops = count_flops(model, (1, 3, *shape[:3]))
    rows: list[dict[str, Any]] = []
    for batch in batches:
        base = medians[f"{network.base} {batch}"]
        for case in network.calls:
            median = medians[f"{case} {batch}"]
            rows.append(
                {
                    "case": case if batch == 1 else f"{case}-batch-{batch}",
                    "median_ms": round(1e3 * median, 2),
                    "ms_per_window": round(1e3 * median / batch, 2),
                    "ratio": round(base / median, 2),
                    "floor_share": floors.share(f"{case} {batch}", batch * flops, medians),
                }
            )
    for case in streaming:
        row = {"case": case, "median_ms": round(1e3 * medians[case], 2)}
        row["ratio"] = round(medians[f"{network.base} {batches[0]}"] / batches[0] / medians[case], 2)
        rows.append(row | {"floor_share": floors.share(case, flops / 2, medians)})  # a step is half of a window
    return rows + floors.rows(medians)


def with_accuracy(
    rows: list[dict[str, Any]], found: dict[str, tuple[float, float]], names: tuple[str, str]
) -> list[dict[str, Any]]:
    """Add two columns to the rows, by case whatever the batch."""
    return [
        {**row, **dict(zip(names, found.get(row["case"].partition("-batch-")[0], (None, None)), strict=True))}
        for row in rows
    ]


def gpu_rows(checkpoint: str, folder: Path, rounds: int) -> list[dict[str, Any]]:
    """Return the rows of a GPU, or rows with the note that there is none."""
    from stream_i3d.inference.torch_engine import choose_device

    device = choose_device("auto")
    rows = (
        timing_rows(Network(checkpoint, folder, 0, str(device)), GPU_BATCHES, rounds) if device.type == "cuda" else []
    )
    measured = {row["case"] for row in rows}
    return rows + [{"case": case, "note": "not measured"} for case in (*ON_GPU, GPU_RING) if case not in measured]


@click.command()
@click.option("--rounds", default=20, help="Times that each case runs.")
@click.option("--batch", "batches", multiple=True, type=int, default=(1, 4), show_default=True, help="Clips at once.")
@click.option("--clips", default=400, show_default=True, help="Generated clips for the accuracy.")
@click.option("--streams", default=60, show_default=True, help="Generated streams for the accuracy of streaming mode.")
@click.option("--media", type=click.Path(path_type=Path), help="Folder of real videos, for the accuracy.")
def main(rounds: int, batches: tuple[int, ...], clips: int, streams: int, media: Path | None) -> None:
    """Compare the backends."""
    wait_passively()
    quiet: Any = lambda what, done, total: None  # noqa: E731
    with tempfile.TemporaryDirectory() as folder:
        os.environ["STREAM_I3D_HOME"] = folder  # what is converted here is of no use to anyone
        full = full_checkpoint(Path(folder))
        network = Network(full, Path(folder), 8)
        streaming = StreamingNetwork(full, network.spec, Path(folder), 1)
        rows = timing_rows(network, batches, rounds, streaming.calls())
        measured = {*network.calls, *streaming.models}
        rows += [{"case": case, "note": NOT_HERE} for case in (*ON_CPU, *CASES) if case not in measured]
        motion = Network(CARRIED_CHECKPOINT, Path(folder), QUANTISED_ON)
        found = accuracy(motion, held_out(motion.spec, clips))
        if streams:
            also = StreamingNetwork(CARRIED_CHECKPOINT, motion.spec, Path(folder), QUANTISED_ON_STREAMS)
            found |= also.accuracy(held_out_streams(motion.spec, streams, HELD_OUT_SEED))
        rows = with_accuracy(rows, found, ("agree", "prob_diff"))
        if media is not None:
            found = accuracy(motion, video_clips(media, motion.spec, 100, quiet))
            rows = with_accuracy(rows, found, ("media_agree", "media_prob_diff"))
        rows += gpu_rows(full, Path(folder), rounds)
    report("engine", rows)


if __name__ == "__main__":
    main()
