"""The table of Inception-v1 with BatchNorm: channels, kernels, strides, names and padding. Does not import torch.

Szegedy et al., "Going Deeper with Convolutions" (CVPR 2015), with the BatchNorm of Ioffe & Szegedy (ICML 2015) and
3 x 3 in place of 5 x 5 filters, as Carreira & Zisserman (CVPR 2017) inflate it. The 2D network,
I3D and its OpenVINO graph (inference/graphs/inception.py) use it.
"""

from __future__ import annotations

from stream_i3d.models.arguments import scaled

Triple = tuple[int, int, int]
"""(time, height, width)."""

BN_EPS = 1e-3
BN_MOMENTUM = 0.01
"""In PyTorch's sense, the weight of the new batch; equal to TensorFlow's decay of 0.99."""

MIN_SIDE = 32
"""Pixels. The strides multiply to 32 in space; the last map of a smaller picture would be padding only."""

CONVS: dict[str, tuple[int, int, int]] = {  # channels, kernel, stride
    "Conv3d_1a_7x7": (64, 7, 2),
    "Conv3d_2b_1x1": (64, 1, 1),
    "Conv3d_2c_3x3": (192, 3, 1),
}
POOLS: dict[str, tuple[Triple, Triple]] = {  # kernel, stride; the first two do not pool time
    "MaxPool3d_2a_3x3": ((1, 3, 3), (1, 2, 2)),
    "MaxPool3d_3a_3x3": ((1, 3, 3), (1, 2, 2)),
    "MaxPool3d_4a_3x3": ((3, 3, 3), (2, 2, 2)),
    "MaxPool3d_5a_2x2": ((2, 2, 2), (2, 2, 2)),
}
POOL_SIDES: Triple = (2, 7, 7)
"""Of the average over the last map before the head, at stride 1; less where the map is smaller."""

MIXED: dict[str, tuple[int, int, int, int, int, int]] = {  # b0, b1a, b1b, b2a, b2b, b3b
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
END_POINTS: tuple[str, ...] = (
    "Conv3d_1a_7x7",
    "MaxPool3d_2a_3x3",
    "Conv3d_2b_1x1",
    "Conv3d_2c_3x3",
    "MaxPool3d_3a_3x3",
    "Mixed_3b",
    "Mixed_3c",
    "MaxPool3d_4a_3x3",
    "Mixed_4b",
    "Mixed_4c",
    "Mixed_4d",
    "Mixed_4e",
    "Mixed_4f",
    "MaxPool3d_5a_2x2",
    "Mixed_5b",
    "Mixed_5c",
)
"""The published names in the order of the forward pass; the 2D network has the same names."""


def tensor_shapes(num_classes: int, in_channels: int = 3, width: float = 1.0) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all tensors of an I3D by their published names, without BatchNorm's counters."""
    shapes: dict[str, tuple[int, ...]] = {}

    def unit(name: str, inputs: int, outputs: int, kernel: int) -> int:
        outputs = scaled(outputs, width)
        shapes[f"{name}.conv3d.weight"] = (outputs, inputs, kernel, kernel, kernel)
        shapes.update({f"{name}.bn.{part}": (outputs,) for part in ("weight", "bias", "running_mean", "running_var")})
        return outputs

    channels = in_channels
    for name in END_POINTS:
        if name in CONVS:
            channels = unit(name, channels, CONVS[name][0], CONVS[name][1])
        elif name in MIXED:
            b0, b1a, b1b, b2a, b2b, b3b = MIXED[name]
            channels = (
                unit(f"{name}.b0", channels, b0, 1)
                + unit(f"{name}.b1b", unit(f"{name}.b1a", channels, b1a, 1), b1b, 3)
                + unit(f"{name}.b2b", unit(f"{name}.b2a", channels, b2a, 1), b2b, 3)
                + unit(f"{name}.b3b", channels, b3b, 1)
            )
    shapes["logits.conv3d.weight"], shapes["logits.conv3d.bias"] = (num_classes, channels, 1, 1, 1), (num_classes,)
    return shapes


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return the (front, back) zeros that TensorFlow's "same" padding adds along one axis of `size` elements."""
    total = max(kernel - (size % stride or stride), 0)
    return total // 2, total - total // 2
