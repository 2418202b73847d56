"""PyTorch on an NVIDIA GPU: frames go up as uint8, everything else is one recorded launch per batch size.

A batch of one window is some 200 kernels of a few microseconds, so that launching them costs more than running them; a
CUDA graph is launched as a whole. A window whose frames are on the GPU already (device_ring.py) is gathered straight
into what its graph reads, as uint8; normalising, and the rearranging for the stem, are in the graph. Written without a
GPU at hand: its logic is tested on a CPU, with recordings that are plain calls, and no figure of it was measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from stream_i3d.config import ModeName, Precision
from stream_i3d.inference.device_ring import DeviceRing, make_queues
from stream_i3d.inference.engine import Frames, State
from stream_i3d.inference.ring import RingMemory, RingShape
from stream_i3d.inference.setup import StreamName
from stream_i3d.inference.torch_engine import TorchEngine
from stream_i3d.models.backbone import ServingForm
from stream_i3d.models.spec import ModelSpec
from stream_i3d.recognition.head import Features

_WARM_UPS = 3
"""Runs before a recording: cuDNN and cuBLAS choose kernels and take their memory then."""

MAX_GRAPHS = 8
"""Batch sizes that are recorded; each keeps its activations (40 MB a window in half precision). Others run eagerly."""

TensorFunction = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Recording:
    """A function's run on fixed memory: fill `inputs`, call `replay`, read `outputs`."""

    inputs: torch.Tensor
    outputs: torch.Tensor
    replay: Callable[[], Any]


Recorder = Callable[[TensorFunction, torch.Tensor], Recording]


class Graphs:
    """A function of one tensor, recorded once for each of its shapes.

    Args:
        function: Always does the same work for the same shape, and never waits for the GPU.
        record: Makes a recording of it with the shape and dtype of an example.
    """

    def __init__(self, function: TensorFunction, record: Recorder) -> None:
        self._function, self._record = function, record
        self._recordings: dict[torch.Size, Recording] = {}

    def inputs(self, shape: torch.Size) -> torch.Tensor | None:
        """Return the memory that a recording reads, to be filled and called with; None where there is none yet."""
        recording = self._recordings.get(shape)
        return None if recording is None else recording.inputs

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return what the function returns; the next call with this shape overwrites it."""
        recording = self._recordings.get(inputs.shape)
        if recording is None:
            if len(self._recordings) >= MAX_GRAPHS:
                return self._function(inputs)
            recording = self._recordings[inputs.shape] = self._record(self._function, inputs)
        if inputs is not recording.inputs:
            recording.inputs.copy_(inputs, non_blocking=True)
        recording.replay()
        return recording.outputs


def record_graph(function: TensorFunction, example: torch.Tensor) -> Recording:
    """Record a function as a CUDA graph (pytorch.org/docs, "CUDA semantics", "Whole-network capture")."""
    inputs = example.clone()
    side = torch.cuda.Stream(example.device)  # type: ignore[no-untyped-call]
    with torch.cuda.device(example.device):  # else the first GPU's work would be recorded, whichever this one is
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UPS):
                function(inputs)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # The drain thread may be putting frames into its own queue meanwhile: that is no part of this recording.
        with torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"):
            outputs = function(inputs)
    return Recording(inputs, outputs, graph.replay)


class CudaEngine(TorchEngine):
    """PyTorch on a GPU in window mode, by CUDA graphs; a prepared batch is (B, T, H, W, C) uint8 on the GPU."""

    def __init__(
        self,
        model: torch.nn.Module,
        spec: ModelSpec,
        device: torch.device,
        precision: Precision,
        *,
        mode: ModeName = "window",
        compiled: bool = False,
        stream: StreamName = "rgb",
        record: Recorder = record_graph,
    ) -> None:
        """Args: as `TorchEngine`, of window mode only; `record`: what records the network."""
        assert mode == "window"
        super().__init__(model, spec, device, precision, compiled=compiled, stream=stream)
        self._device = device
        serving = ServingForm(self._backbone, spec.preprocessing, spec.in_channels, self.network.dtype)
        self._serving = serving.to(device)
        self._graphs = Graphs(self._serve, record)
        self._queues = make_queues(device)
        self.description += ", CUDA graphs"

    def make_ring(self, shape: RingShape) -> RingMemory:
        """Return a ring's memory that is on the GPU too; its clips are gathered there."""
        return DeviceRing(shape, self._queues)

    @torch.inference_mode()
    def prepare(self, clips: Sequence[Frames], device_frames: Sequence[object] = ()) -> torch.Tensor:
        """Take B clips of (T, H, W, C) uint8 to the GPU, or gather them there; it does not wait.

        Gathered clips are in the memory that the recording for so many reads: the next batch of this size overwrites
        it.
        """
        if device_frames:
            return self._gather(device_frames)
        staged = torch.empty(
            (len(clips), *clips[0].shape), dtype=torch.uint8, pin_memory=self._device.type == "cuda"
        )  # torch keeps pinned memory until its copy is done
        for row, clip in zip(staged, clips, strict=True):
            row.copy_(torch.from_numpy(clip))
        return staged.to(self._device, non_blocking=True)

    @torch.inference_mode()
    def run(self, batch: torch.Tensor, states: Sequence[State]) -> tuple[Features, list[State]]:
        """Run a prepared batch; return (B, h, w, features) float32 maps."""
        maps = np.array(self._graphs(batch).cpu().numpy(), dtype=np.float32)
        return {self._stream: maps}, [None] * len(states)

    def _gather(self, clips: Sequence[Any]) -> torch.Tensor:
        """Have the GPU put clips of its rings together."""
        shape = torch.Size((len(clips), self.clip_shape[0], *clips[0].frame_shape))
        batch = self._graphs.inputs(shape)
        if batch is None:
            batch = torch.empty(shape, dtype=torch.uint8, device=self._device)
        for row, clip in zip(batch, clips, strict=True):
            clip.gather(row)
        return batch

    def _serve(self, clips: torch.Tensor) -> torch.Tensor:
        return self.network.call(self._serving, clips)
