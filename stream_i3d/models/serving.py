"""A network as it is served and exported: (B, T, H, W, C) uint8 clips in, (B, num_classes) float32 logits out.

Normalisation is inside, so whoever runs an exported file needs nothing but pixels. This module does not know files.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from stream_i3d.models.folding import inference_form
from stream_i3d.preprocess import Preprocessing

MAX_EXPORTED_BATCH = 1024


class ServingForm(nn.Module):
    """A network behind its normalisation.

    Args:
        network: Takes (B, C, T, H, W) of `dtype`; a module, or a function that calls one.
        preprocessing: Mean and deviation per channel; of flow, the first two are taken.
        channels: Of a clip.
        dtype: What the network takes.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: Callable[[Tensor], Tensor],
        preprocessing: Preprocessing,
        channels: int = 3,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.network, self.dtype = network, dtype
        # As preprocess.normalise, which makes these two anew at each call: neither an export nor a CUDA graph may.
        self.register_buffer("mean", torch.tensor(preprocessing.mean[:channels]).view(1, channels, 1, 1, 1))
        self.register_buffer("std", torch.tensor(preprocessing.std[:channels]).view(1, channels, 1, 1, 1))

    def forward(self, clips: Tensor) -> Tensor:
        """(B, T, H, W, C) uint8 -> (B, num_classes) float32."""
        pixels = clips.permute(0, 4, 1, 2, 3).float()  # (B, C, T, H, W), channels last in memory
        return self.network(((pixels - self.mean) / self.std).to(self.dtype)).float()


def export_program(model: nn.Module, preprocessing: Preprocessing, channels: int = 3) -> torch.export.ExportedProgram:
    """Return a network's graph, folded, float32, for any number of clips at once; of its one size.

    Args:
        model: A network with one input, on the CPU.
        preprocessing: The clips' length and size, which become part of the graph.
        channels: Of a clip.
    """
    serving = ServingForm(inference_form(model), preprocessing, channels).eval()
    size, frames = preprocessing.crop_size, preprocessing.clip_len
    clips = torch.zeros((2, frames, size, size, channels), dtype=torch.uint8)  # of 1 the graph would be of 1 only
    batch = torch.export.Dim("batch", min=1, max=MAX_EXPORTED_BATCH)
    return torch.export.export(serving, (clips,), dynamic_shapes={"clips": {0: batch}})
