from __future__ import annotations

import copy
import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from stream_i3d.inference.torch_engine import MixedPrecision, cpu_has_bf16
from stream_i3d.models.folding import inference_form
from stream_i3d.models.i3d import I3D
from stream_i3d.models.registry import ARCHITECTURES, build_model
from stream_i3d.models.streaming_i3d import StreamingI3D
from stream_i3d.models.time_conv import TimeConv3d, gradient_needs_padding, single_step_planes
from tests.convolutions import Convolution, Convolutions, inputs_of, shape_of
from tests.models.conftest import clip

ROOT = Path(__file__).resolve().parents[2]

FRAMES = {
    "c3d": [1, 8, 16, 32],
    "fused-two-stream": [10, 20],
    "two-stream": [10],
    "convnet-lstm": [8],
    "two-stream-i3d": [8],
}
"""Clip lengths of architectures that do not take the usual ones; c3d is built for each."""

USUAL = [8, 9, 16]


def every_network() -> list[tuple[str, int]]:
    """Each architecture of the registry, with the clip lengths to run it at."""
    lengths = {name: [8] if "-nl-" in name else FRAMES.get(name, USUAL) for name in ARCHITECTURES}
    return [*((name, frames) for name in lengths for frames in lengths[name]), ("i3d-r50-heavy", 2)]


def build(name: str, frames: int, width: float = 1 / 64) -> nn.Module:
    torch.manual_seed(0)
    options = {"clip_len": frames, "crop_size": 32} if name == "c3d" else {}
    return build_model(name, num_classes=3, width=width, **options)


@pytest.mark.parametrize(
    ("arguments", "planes"),
    [
        ((3, 1, 1), (1,)),
        ((5, 1, 2), (2,)),
        ((7, 2, 3), (3,)),
        ((3, 2, 1), (1,)),
        ((2, 1, 1), (1, 0)),
        ((4, 1, 2), (2, 1)),
        ((4, 2, 2), (2,)),
        ((3, 1, 2), (2, 1, 0)),
        ((3, 1, 3), (None, 2, 1, 0, None)),
        ((3, 1, 2, 2), (1,)),
        ((3, 1, 3, 2), (None, 1, None)),
        ((1, 1, 0), (0,)),
        ((3, 1, 0), ()),
    ],
)
def test_each_output_meets_the_plane_that_stands_over_the_only_step(
    arguments: tuple[int, ...], planes: tuple[int | None, ...]
) -> None:
    assert single_step_planes(*arguments) == planes


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_it_computes_what_an_ordinary_convolution_does(size: int, bias: bool) -> None:
    for kernel, stride, padding, dilation, groups in itertools.product((1, 2, 3, 4), (1, 2), (0, 1, 3), (1, 2), (1, 2)):
        if size + 2 * padding < dilation * (kernel - 1) + 1:
            continue
        plain = nn.Conv3d(4, 6, (kernel, 3, 3), stride, (padding, 1, 1), dilation, groups, bias)
        ours = TimeConv3d(4, 6, (kernel, 3, 3), stride, (padding, 1, 1), dilation, groups, bias)
        ours.load_state_dict(plain.state_dict())
        x = clip(2, 4, size, 6, 5)
        torch.testing.assert_close(ours(x), plain(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kernel", [2, 3, 4, 5])
@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize(
    ("padding", "mode"), [("same", "zeros"), ("same", "replicate"), (1, "circular"), ("valid", "zeros")]
)
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_padding_by_name_and_other_kinds_of_padding_are_torchs(
    kernel: int, dilation: int, padding: str | int, mode: str
) -> None:
    for size in (1, 4):
        given = (2, 2, (kernel, 1, 1), 1, padding, (dilation, 1, 1), 1, True, mode)
        plain, ours = nn.Conv3d(*given), TimeConv3d(*given)  # type: ignore[arg-type]
        ours.load_state_dict(plain.state_dict())
        x = clip(1, 2, size, 2, 2)
        try:
            expected = plain(x)
        except RuntimeError:
            with pytest.raises(RuntimeError):
                ours(x)
            continue
        torch.testing.assert_close(ours(x), expected, rtol=1e-5, atol=1e-5)


def test_a_kernel_longer_than_an_unpadded_clip_is_refused_as_by_torch() -> None:
    with pytest.raises(RuntimeError, match="Kernel size can't be greater than actual input size"):
        TimeConv3d(1, 1, 3)(torch.ones(1, 1, 1, 3, 3))


def test_one_step_costs_one_plane() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    costs = []
    for kernel in (1, 3, 5):
        with FlopCounterMode(display=False) as counter:
            TimeConv3d(4, 8, (kernel, 3, 3), padding=(kernel // 2, 1, 1))(torch.ones(2, 4, 1, 6, 6))
        costs.append(counter.get_total_flops())
    assert costs == [2 * 8 * 6 * 6 * 4 * 9 * 2] * 3  # clips, channels out, places, channels in, taps; multiply and add


def test_the_planes_that_are_not_run_have_a_gradient_of_zero() -> None:
    plain = nn.Conv3d(2, 3, 3, padding=1)
    ours = TimeConv3d(2, 3, 3, padding=1)
    ours.load_state_dict(plain.state_dict())
    for network in (plain, ours):
        (network(clip(2, 2, 1, 4, 4)) ** 2).sum().backward()
    assert ours.weight.grad is not None
    assert plain.weight.grad is not None
    torch.testing.assert_close(ours.weight.grad, plain.weight.grad, rtol=1e-4, atol=1e-4)
    assert ours.weight.grad[:, :, 1].abs().min() > 0
    assert not ours.weight.grad[:, :, ::2].any()


@pytest.mark.parametrize(("name", "frames"), every_network())
def test_no_network_runs_a_kernel_over_time_on_one_step(name: str, frames: int) -> None:
    network, inputs = build(name, frames), inputs_of(shape_of(ARCHITECTURES[name], frames, 32))
    seen = Convolutions()
    with torch.no_grad():
        plain = network.eval()(*inputs)
        form = inference_form(network)
        with seen:
            found = form(*inputs)
    torch.testing.assert_close(found, plain, rtol=1e-3, atol=1e-4)
    assert seen.wasted == []


@pytest.mark.parametrize(("name", "frames"), [("i3d", 8), ("i3d-r50-8x8", 8), ("c3d", 16), ("fused-two-stream", 10)])
def test_no_network_is_trained_with_a_kernel_over_time_on_one_step(name: str, frames: int) -> None:
    network, inputs = build(name, frames).train(), inputs_of(shape_of(ARCHITECTURES[name], frames, 32))
    with Convolutions() as seen:
        network(*inputs).sum().backward()
    assert seen.wasted == []
    assert seen.backward
    assert all(torch.isfinite(one.grad).all() for one in network.parameters() if one.grad is not None)


@pytest.mark.parametrize(
    ("name", "frames", "layers"), [("i3d", 8, 4), ("i3d-r50-8x8", 8, 6), ("c3d", 16, 2), ("fused-two-stream", 10, 1)]
)
def test_the_networks_do_have_layers_that_see_one_step(name: str, frames: int, layers: int) -> None:
    network, inputs = build(name, frames).eval(), inputs_of(shape_of(ARCHITECTURES[name], frames, 32))
    single: list[nn.Module] = []

    def note(module: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        if isinstance(module, TimeConv3d) and module.kernel_size[0] > 1 and given[0].shape[2] == 1:
            single.append(module)

    for module in network.modules():
        module.register_forward_pre_hook(note)
    with torch.no_grad():
        network(*inputs)
    assert len(single) >= layers


def test_no_step_of_a_carried_network_meets_padding_along_time() -> None:
    network = StreamingI3D(inference_form(build("i3d", 8)))  # type: ignore[arg-type]
    with Convolutions() as seen:
        state = None
        for number in range(3):
            _, state = network(clip(1, 3, 8, 32, 32, seed=number), state)
    assert seen.wasted == []
    assert all(one.padding == 0 for one in seen.forward)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "wrong"),
    [
        (1, 3, 1, 1, False),
        (2, 3, 1, 1, True),
        (3, 3, 1, 1, True),
        (4, 3, 1, 1, False),
        (2, 3, 2, 1, False),
        (2, 1, 1, 0, False),
        (4, 5, 1, 2, True),
        (3, 5, 2, 2, True),
        (2, 5, 2, 2, False),
        (8, 7, 2, 3, False),
        (7, 7, 2, 3, True),
        (7, 7, 2, 0, False),
    ],
)
def test_a_kernel_as_long_as_its_input_and_put_twice_needs_padding(
    size: int, kernel: int, stride: int, padding: int, wrong: bool
) -> None:
    assert gradient_needs_padding(size, kernel, stride, padding) is wrong


@pytest.mark.parametrize(("size", "seen"), [(1, (1, 1, 0)), (2, (4, 3, 0)), (3, (5, 3, 0)), (4, (4, 3, 1))])
def test_only_what_is_learnt_in_half_precision_is_padded(size: int, seen: tuple[int, int, int]) -> None:
    network, x = TimeConv3d(2, 2, 3, padding=1), clip(1, 2, size, 3, 3)
    with Convolutions() as learnt, torch.autocast("cpu", torch.bfloat16):
        found = network(x)
    assert learnt.forward == [Convolution(*seen)]
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), network(x), rtol=0.05, atol=0.05)
    with Convolutions() as single, torch.no_grad():
        network(x)
    assert single.forward == [Convolution(1, 1, 0) if size == 1 else Convolution(size, 3, 1)]


def test_the_gradient_of_a_convolution_over_two_time_steps_is_right_in_bf16() -> None:
    # All ones: a tap's gradient is 8 clips times the time steps that it meets. Small integers are exact in bf16.
    # Unguarded, what is wrong depends on what the memory held: wrong 299 times of 300.
    for _ in range(10):
        network = TimeConv3d(16, 16, (3, 1, 1), padding=(1, 0, 0), bias=False)
        nn.init.ones_(network.weight)
        with torch.autocast("cpu", torch.bfloat16):
            outputs = network(torch.ones(8, 16, 2, 1, 1))
        outputs.float().sum().backward()
        assert network.weight.grad is not None
        expected = torch.tensor([8.0, 16.0, 8.0]).view(1, 1, 3, 1, 1).expand_as(network.weight)
        assert torch.equal(network.weight.grad, expected)


@pytest.mark.parametrize("steps", [1, 2])
def test_the_gradients_of_the_last_stages_are_right_in_bf16(steps: int) -> None:
    torch.manual_seed(0)
    exact = I3D(10, width=0.25).get_submodule("Mixed_5b")
    fast = copy.deepcopy(exact)
    maps, target = torch.rand(4, 208, steps, 3, 3), torch.randn(4, 208, steps, 3, 3)
    (exact(maps) * target).sum().backward()
    with torch.autocast("cpu", torch.bfloat16):
        outputs = fast(maps)
    (outputs.float() * target).sum().backward()
    for (name, one), other in zip(exact.named_parameters(), fast.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        alike = torch.cosine_similarity(one.grad.flatten(), other.grad.flatten(), 0)
        assert alike > 0.98, name  # 0.993 at worst; a NaN is not above either


STALE = """
import torch
from stream_i3d.inference.torch_engine import MixedPrecision
from stream_i3d.models.registry import build_model
from stream_i3d.preprocess import Preprocessing
from tests.golden_rule import INCEPTION_GAIN, RESNET_GAIN
from tests.models.conftest import ruled

torch.manual_seed(0)
torch.set_num_threads(1)
for name, width, gain in (
    ("i3d", 1 / 64, INCEPTION_GAIN), ("i3d", 1 / 16, INCEPTION_GAIN), ("i3d", 3 / 16, INCEPTION_GAIN),
    ("i3d-r50-8x8", 1 / 16, RESNET_GAIN),
):
    model = ruled(build_model(name, num_classes=4, width=width), gain=gain)
    clips = torch.randint(0, 256, (3, 8, 32, 32, 3), dtype=torch.uint8)
    pixels = clips.permute(0, 4, 1, 2, 3) / 127.5 - 1
    with torch.no_grad():
        wanted = model(pixels)
    network = MixedPrecision(model, torch.device("cpu"), "bf16")
    for _ in range(2):
        found = network.run(network.model, network.inputs(clips, Preprocessing(clip_len=8, crop_size=32)))
        apart = 0.1 * float(wanted.std()) + 0.05 * float(wanted.abs().max())
        torch.testing.assert_close(torch.from_numpy(found), wanted, rtol=0, atol=apart)
    if width > 1 / 16:
        continue
    model.train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = torch.nn.functional.cross_entropy(model(pixels).float(), torch.tensor([0, 1, 2]))
    loss.backward()
    assert torch.isfinite(loss), name
    assert all(torch.isfinite(one.grad).all() for one in model.parameters()), name
"""


def test_no_stale_memory_is_read_in_bf16_at_eight_frames() -> None:
    """Run with this CPU's instructions, and with fewer, as other machines have."""
    sets = {"ALL"} | ({"AVX512_CORE_BF16", "AVX512_CORE"} if cpu_has_bf16() else set())
    for isa in sorted(sets):
        dirty = {**os.environ, "MALLOC_PERTURB_": "128", "ONEDNN_MAX_CPU_ISA": isa}  # glibc fills what is freed
        ended = subprocess.run(
            [sys.executable, "-c", STALE], env=dirty, cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, f"{isa}: {ended.stderr}"


def test_the_engines_form_has_no_kernel_over_time_on_one_step_in_either_order_of_memory() -> None:
    for width in (1 / 64, 1 / 16, 3 / 16):
        network = MixedPrecision(build("i3d", 8, width), torch.device("cpu"), "bf16")
        x = torch.zeros((1, 3, 8, 32, 32), dtype=network.dtype)
        with Convolutions() as seen:
            network.run(network.model, x)
            network.run(network.model, x.contiguous(memory_format=torch.channels_last_3d))
        assert seen.wasted == []
