from __future__ import annotations

import subprocess
import sys

import torch
from torch import nn

from stream_i3d.models.i3d import I3D
from stream_i3d.models.initialisation import without_weights

BUILD = """
import sys
from stream_i3d.models.registry import ARCHITECTURES, build_model
from stream_i3d.models.initialisation import without_weights

with without_weights():
    for name in ARCHITECTURES:
        network = build_model(name)
        assert {tensor.device.type for tensor in network.state_dict().values()} == {"meta"}, name
print(*({"sympy", "torch._dynamo"} & set(sys.modules)))
"""


def test_a_network_without_weights_has_the_names_and_shapes_of_one_with() -> None:
    with without_weights():
        empty = I3D(10, width=1 / 16)
    full = I3D(10, width=1 / 16)
    assert {key: tensor.shape for key, tensor in empty.state_dict().items()} == {
        key: tensor.shape for key, tensor in full.state_dict().items()
    }


def test_afterwards_weights_are_drawn_again() -> None:
    with without_weights():
        nn.Linear(3, 3)
    assert float(nn.Linear(30, 30).weight.detach().std()) > 0.01
    assert torch.zeros(2).normal_(5.0, 0.1).min() > 3.0


def test_building_any_network_without_weights_imports_neither_sympy_nor_the_compiler() -> None:
    built = subprocess.run([sys.executable, "-c", BUILD], capture_output=True, text=True, check=False)
    assert (built.returncode, built.stdout.strip()) == (0, ""), built.stderr
