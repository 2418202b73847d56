from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from stream_i3d.inference.engine import cpu_has_bf16
from stream_i3d.models.i3d import I3D
from stream_i3d.models.memory_format import lay_out


def test_a_network_is_laid_out_channels_last() -> None:
    model = I3D(3, width=1 / 8)
    assert lay_out(model) == torch.channels_last_3d
    stem = next(module for module in model.modules() if isinstance(module, nn.Conv3d))
    assert stem.weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert not stem.weight.is_contiguous()


@pytest.mark.parametrize("model", [I3D(3, width=1 / 64), nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv3d(3, 4, 3))])
def test_one_input_channel_or_a_2d_layer_keeps_the_plain_order(model: nn.Module) -> None:
    assert lay_out(model) == torch.contiguous_format
    assert all(weight.is_contiguous() for weight in model.parameters())


SMALLEST = """
import torch
from stream_i3d.inference.engine import MixedPrecision
from stream_i3d.models.i3d import I3D
from stream_i3d.preprocess import Preprocessing

torch.manual_seed(0)
torch.set_num_threads(1)
model = I3D(2, width=1 / 64).eval()
clips = torch.randint(0, 256, (3, 8, 32, 32, 3), dtype=torch.uint8)
with torch.no_grad():
    wanted = model(clips.permute(0, 4, 1, 2, 3) / 127.5 - 1)
network = MixedPrecision(model, torch.device("cpu"), "bf16")
found = network.run(network.model, network.inputs(clips, Preprocessing(clip_len=8, crop_size=32)))
torch.testing.assert_close(torch.from_numpy(found), wanted, rtol=0, atol=0.05)
"""


@pytest.mark.skipif(not cpu_has_bf16(), reason="this CPU has no bf16")
def test_the_smallest_network_reads_no_stale_memory_in_bf16() -> None:
    dirty = {**os.environ, "MALLOC_PERTURB_": "128"}  # glibc fills what is freed, so that stale reads show
    ended = subprocess.run([sys.executable, "-c", SMALLEST], env=dirty, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
