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
from numpy.typing import NDArray

from stream_i3d.config import Precision
from stream_i3d.inference.device_ring import DeviceClip, DeviceRing, make_queues
from stream_i3d.inference.engine import TorchEngine
from stream_i3d.models.serving import ServingForm
from stream_i3d.models.spec import ModelSpec

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
    """PyTorch on a GPU, by CUDA graphs; a prepared batch is (B, T, H, W, C) uint8 on the GPU."""

    def __init__(
        self,
        model: torch.nn.Module,
        spec: ModelSpec,
        labels: Sequence[str],
        device: torch.device,
        precision: Precision,
        compiled: bool = False,
        record: Recorder = record_graph,
    ) -> None:
        """Args: as `TorchEngine`; `record`: what records the network."""
        super().__init__(model, spec, labels, device, precision, compiled)
        self._device = device
        self._serving = ServingForm(self._forward, spec.preprocessing, spec.in_channels, self._network.dtype).to(device)
        self._graphs = Graphs(self._serve, record)
        self._queues = make_queues(device)
        self.description += ", CUDA graphs"

    def prepare(self, clips: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
        """Take B clips of (T, H, W, C) uint8 to the GPU; it does not wait for the copy."""
        staged = torch.empty(
            (len(clips), *clips[0].shape), dtype=torch.uint8, pin_memory=self._device.type == "cuda"
        )  # torch keeps pinned memory until its copy is done
        for row, clip in zip(staged, clips, strict=True):
            row.copy_(torch.from_numpy(clip))
        return staged.to(self._device, non_blocking=True)

    def make_ring(self, capacity: int, size: int, channels: int) -> DeviceRing:
        """Return a ring's memory that is on the GPU too; its clips are for `gather`."""
        return DeviceRing(capacity, size, channels, self._queues)

    @torch.inference_mode()
    def gather(self, clips: Sequence[DeviceClip]) -> torch.Tensor:
        """Have the GPU put clips of its rings together, in the memory that the recording for so many reads.

        It does not wait. One batch at a time: the next one of this size overwrites it.
        """
        made, count = self._preprocessing, len(clips)
        shape = torch.Size((count, made.clip_len, made.crop_size, made.crop_size, self._channels))
        batch = self._graphs.inputs(shape)
        if batch is None:
            batch = torch.empty(shape, dtype=torch.uint8, device=self._device)
        for row, clip in zip(batch, clips, strict=True):
            clip.gather(row)
        return batch

    @torch.inference_mode()
    def logits(self, batch: torch.Tensor) -> NDArray[np.float32]:
        """Run a prepared batch; return (B, num_classes) float32."""
        return np.array(self._graphs(batch).cpu().numpy(), dtype=np.float32)

    def features(self, batch: torch.Tensor) -> NDArray[np.float32]:
        """Run a prepared batch; return what the head sees, averaged over time and space: (B, features) float32."""
        return super().features(self._network.inputs(batch, self._preprocessing))

    def _serve(self, clips: torch.Tensor) -> torch.Tensor:
        return self._network.call(self._serving, clips)
