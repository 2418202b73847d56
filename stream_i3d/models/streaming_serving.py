"""One step of a carried I3D as it is served and exported: pixels and contexts in, logits and contexts out.

What `serving.ServingForm` is to windows. A graph cannot ask how many steps a stream has had, so it is told: `steps` is
an input, and what comes before a layer's first output is multiplied by zero. In a stream's long rest these factors are
ones; with `steps` held at `DELAY_STEPS` or more, whoever runs the graph may leave them out.

Of one camera: its contexts belong to it alone. This module does not know files, nor what runs them.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from stream_i3d.models.folding import inference_form
from stream_i3d.models.i3d import I3D
from stream_i3d.models.serving import ServingForm
from stream_i3d.models.streaming_i3d import Pass, StreamingI3D
from stream_i3d.models.streaming_plan import STEP_FRAMES
from stream_i3d.preprocess import Preprocessing


class CarriedForm(nn.Module):
    """One step of one camera behind its normalisation.

    Args:
        network: In the form in which it runs; see `StreamingI3D`.
        preprocessing: Mean and deviation per channel.
    """

    def __init__(self, network: I3D, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.streaming = StreamingI3D(network)
        self.serving = ServingForm(lambda pixels: pixels, preprocessing)

    def forward(self, frames: Tensor, steps: Tensor, *contexts: Tensor) -> tuple[Tensor, ...]:
        """Feed the next frames.

        Args:
            frames: (1, 8, H, W, 3) uint8.
            steps: (1,) int64, how many steps the stream had before.
            contexts: As in `StreamState`; zeros before the first step.

        Returns:
            (1, num_classes) float32 logits, and the contexts after this step.
        """
        pass_ = _MaskedPass(contexts, steps)
        pixels = pass_.silence(self.serving(frames))  # nothing but the first frame comes too early
        emitted = self.streaming.emit(pixels, pass_)
        return emitted.logits.flatten(1).float(), *pass_.contexts  # one step's


class _MaskedPass(Pass):
    """A pass whose number of steps is data."""

    def __init__(self, contexts: tuple[Tensor, ...], steps: Tensor) -> None:
        super().__init__(contexts, ())
        self._steps = steps

    def silence(self, x: Tensor) -> Tensor:
        """(1, C, T, H, W) -> the same, zeros where it comes before the layer's first output."""
        numbers = torch.arange(x.shape[2]) + self._steps * self.late.outputs
        return x * (numbers >= self.late.delay).to(x.dtype).view(1, 1, -1, 1, 1)


def export_step(model: I3D, preprocessing: Preprocessing) -> torch.export.ExportedProgram:
    """Return the graph of one step of one camera, folded, float32.

    Args:
        model: An Inception I3D on RGB, on the CPU.
        preprocessing: The frames' size, which becomes part of the graph.
    """
    form = CarriedForm(cast(I3D, inference_form(model)), preprocessing).eval()
    size = preprocessing.crop_size
    frames = torch.zeros((1, STEP_FRAMES, size, size, 3), dtype=torch.uint8)
    contexts = form.streaming.blank(size).contexts
    return torch.export.export(form, (frames, torch.zeros(1, dtype=torch.int64), *contexts))
