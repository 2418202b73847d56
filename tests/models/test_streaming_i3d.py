from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from stream_i3d.errors import ConfigError
from stream_i3d.inference.torch_engine import cpu_has_bf16
from stream_i3d.models.folding import lay_out
from stream_i3d.models.head import replace_head
from stream_i3d.models.i3d import I3D, MaxPool3dSame, Unit3D
from stream_i3d.models.streaming_i3d import Emitted, StreamingI3D, StreamState, stack
from stream_i3d.models.streaming_plan import DELAY_STEPS, SEEN_FRAMES, SHIFT_FRAMES, STEP_FRAMES, WARM_UP_STEPS
from tests.models.conftest import clip, ruled

CHUNKINGS = {"all at once": [20], "8 at a time": [1] * 20, "mixed": [1, 3, 2, 5, 4, 5]}


class Whole(NamedTuple):
    """What the whole-clip network gives, as `Emitted`, as far as no later frame could change it."""

    feature_maps: Tensor
    features: Tensor
    logits: Tensor


def whole_clip(network: I3D, frames: Tensor) -> Whole:
    """Run the whole-clip network on the stream without its first frame."""
    shifted = torch.cat((frames[:, :, SHIFT_FRAMES:], frames[:, :, -SHIFT_FRAMES:]), dim=2)  # as long as it was
    good = frames.shape[2] // STEP_FRAMES - DELAY_STEPS
    with torch.inference_mode():
        last = network.end_points(shifted)["Mixed_5c"][:, :, :good]
        features = network.extract_features(shifted)
        logits = network.logits(features)
    feature_maps = (last[:, :, :-1] + last[:, :, 1:]) / 2  # as the average pool takes them over time
    return Whole(feature_maps, features.mean((3, 4))[:, :, : good - 1], logits.mean((3, 4))[:, :, : good - 1])


def streamed(streaming: StreamingI3D, frames: Tensor, chunks: Sequence[int]) -> Emitted:
    """Feed frames in chunks of so many steps; return all that was emitted."""
    state: StreamState | None = None
    emitted = []
    at = 0
    for steps in chunks:
        until = at + steps * STEP_FRAMES
        one, state = streaming(frames[:, :, at:until], state)
        assert one.logits.shape[2] == one.features.shape[2] == one.feature_maps.shape[2] == steps
        emitted.append(one)
        at = until
    assert at == frames.shape[2]
    return Emitted(*(torch.cat(parts, dim=2) for parts in zip(*emitted, strict=True)))


def differences(emitted: Emitted, whole: Whole) -> list[float]:
    """The largest of feature map, features and logits, after checking that there is something to compare."""
    found = []
    for ours, theirs in zip(emitted, whole, strict=True):
        assert ours[:, :, WARM_UP_STEPS:].shape == theirs.shape
        assert theirs.std() > 0.05
        found.append((ours[:, :, WARM_UP_STEPS:] - theirs).abs().max().item())
    return found


@pytest.mark.parametrize("chunks", CHUNKINGS.values(), ids=CHUNKINGS)
@pytest.mark.parametrize("width", [1 / 64, 1 / 8, 1 / 4])
def test_fed_in_any_chunks_it_equals_the_whole_clip_network_one_frame_on_and_six_steps_late(
    width: float, chunks: list[int]
) -> None:
    network = ruled(I3D(num_classes=5, width=width), seed=round(1 / width))
    frames = clip(2, 3, 160, 32, 32)
    emitted = streamed(StreamingI3D(network), frames, chunks)
    assert max(differences(emitted, whole_clip(network, frames))) < 1e-4


@pytest.mark.parametrize("size", [(33, 47), (64, 40), (40, 62), (34, 230)], ids=str)
def test_pictures_of_any_size_are_padded_as_the_whole_clip_network_pads_them(size: tuple[int, int]) -> None:
    network = ruled(I3D(num_classes=5, width=1 / 16))
    frames = clip(1, 3, 72, *size)
    emitted = streamed(StreamingI3D(network), frames, [4, 5])
    assert max(differences(emitted, whole_clip(network, frames))) < 1e-4


def test_optical_flow_streams_too() -> None:
    network = ruled(I3D(num_classes=5, in_channels=2, width=1 / 16))
    frames = clip(1, 2, 72, 32, 32)
    assert max(differences(streamed(StreamingI3D(network), frames, [9]), whole_clip(network, frames))) < 1e-4


@pytest.mark.slow
def test_at_full_width_it_equals_the_whole_clip_network() -> None:
    network = ruled(I3D(num_classes=400))
    frames = clip(1, 3, 112, 64, 64)
    whole = whole_clip(network, frames)
    largest = max(part.abs().max().item() for part in whole)  # some 20: numbers are rounded in proportion to it
    for chunks in ([1] * 14, [3, 1, 10]):
        assert max(differences(streamed(StreamingI3D(network), frames, chunks), whole)) < 1e-5 * largest


def test_a_prediction_depends_on_its_last_107_frames_and_on_no_others() -> None:
    network = ruled(I3D(num_classes=5, width=1 / 16))
    streaming, frames = StreamingI3D(network), clip(1, 3, 160, 32, 32)
    plain = streamed(streaming, frames, [20]).logits[0, :, -1]

    def changed(frame: int) -> bool:
        other = frames.clone()
        other[:, :, frame] = -other[:, :, frame]
        return not torch.equal(streamed(streaming, other, [20]).logits[0, :, -1], plain)

    seen = [frame for frame in (0, 160 - SEEN_FRAMES - 1, 160 - SEEN_FRAMES, 120, 159) if changed(frame)]
    assert seen == [160 - SEEN_FRAMES, 120, 159]


# --- weights


def test_the_weights_are_the_networks_own_under_their_published_names(tiny: I3D) -> None:
    streaming = StreamingI3D(tiny)
    assert list(streaming.state_dict()) == list(tiny.state_dict())
    theirs = dict(tiny.named_parameters())
    assert all(parameter is theirs[name] for name, parameter in streaming.named_parameters())


def test_a_network_in_training_is_put_in_eval_mode(tiny: I3D) -> None:
    tiny.train()
    StreamingI3D(tiny)
    assert not any(module.training for name, module in tiny.named_modules() if name)


def test_another_head_is_used(tiny: I3D) -> None:
    streaming = StreamingI3D(replace_head(tiny, 7))
    assert streaming(clip(1, 3, 8, 32, 32))[0].logits.shape == (1, 7, 1)


def folded(network: I3D) -> I3D:
    """A copy whose BatchNorms are folded into their convolutions, in float64."""
    network = copy.deepcopy(network)
    for unit in [module for module in network.modules() if isinstance(module, Unit3D)]:
        norm, conv = unit.bn, unit.conv3d
        scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        conv.bias = nn.Parameter((norm.bias - norm.running_mean * scale).float())
        conv.weight = nn.Parameter((conv.weight * scale.view(-1, 1, 1, 1, 1)).float())
        unit.bn = nn.Identity()
    return network


def test_batchnorms_may_be_folded_into_the_convolutions() -> None:
    network = ruled(I3D(num_classes=5, width=1 / 16))
    frames = clip(1, 3, 72, 32, 32)
    whole = whole_clip(network, frames)
    without = folded(network)
    assert max(differences(streamed(StreamingI3D(without), frames, [9]), whole)) < 2e-4
    for unit in [module for module in without.modules() if isinstance(module, Unit3D)]:
        del unit.bn
    assert max(differences(streamed(StreamingI3D(without), frames, [1] * 9), whole)) < 2e-4


class Opaque(nn.Module):
    """A layer of an unknown type."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self._layer = [layer]  # not a child: its parts are not to be found

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self._layer[0](x)
        return y


@pytest.mark.parametrize("chunks", [[9], [1] * 9])
def test_other_layers_may_stand_in_the_place_of_convolutions_and_pools(chunks: list[int]) -> None:
    network = ruled(I3D(num_classes=5, width=1 / 16))
    frames = clip(1, 3, 72, 40, 33)
    whole = whole_clip(network, frames)
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Unit3D | MaxPool3dSame):
                setattr(parent, name, Opaque(child))
    assert max(differences(streamed(StreamingI3D(network), frames, chunks), whole)) < 1e-4


@pytest.mark.parametrize("chunks", [[9], [1] * 9])
def test_folded_in_bf16_and_channels_last_it_is_near_fp32(chunks: list[int]) -> None:
    network = ruled(I3D(num_classes=5, width=1 / 8))
    frames = clip(2, 3, 72, 48, 40)
    expected = whole_clip(network, frames).logits
    rough = folded(network).bfloat16()
    assert lay_out(rough) == torch.channels_last_3d
    inputs = frames.bfloat16().contiguous(memory_format=torch.channels_last_3d)
    logits = streamed(StreamingI3D(rough), inputs, chunks).logits
    assert logits.dtype == torch.bfloat16
    assert (logits[:, :, WARM_UP_STEPS:] - expected).abs().max() < 0.05 * expected.std()


@pytest.mark.skipif(not cpu_has_bf16(), reason="without bf16, torch may take another kernel, in another order")
def test_contexts_keep_the_order_in_memory_of_the_layers_that_use_them() -> None:
    network = ruled(I3D(num_classes=5, width=1 / 8)).bfloat16()
    assert lay_out(network) == torch.channels_last_3d
    frames = clip(2, 3, 8, 64, 64).bfloat16().contiguous(memory_format=torch.channels_last_3d)
    state: StreamState | None = None
    for _ in range(3):
        _, state = StreamingI3D(network)(frames, state)
    assert state is not None
    for one in (state, *state.split(), stack(state.split())):
        assert all(context.is_contiguous(memory_format=torch.channels_last_3d) for context in one.contexts)


# --- state


def test_contexts_are_few_and_small() -> None:
    with torch.device("meta"):
        streaming = StreamingI3D(I3D(num_classes=400)).bfloat16()
        _, state = streaming(torch.zeros(1, 3, 8, 224, 224, dtype=torch.bfloat16))
    assert len(state.contexts) == 31
    assert state.nbytes == 8_426_432
    assert {context.shape[2] for context in state.contexts} == {1, 2, 5}


def test_a_context_holds_no_more_memory_than_its_own(tiny: I3D) -> None:
    _, state = StreamingI3D(tiny)(clip(2, 3, 16, 32, 32))
    for one in (state, *state.split()):
        assert all(context.untyped_storage().nbytes() == context.nbytes for context in one.contexts)


def test_one_cameras_state_is_neither_split_nor_copied(tiny: I3D) -> None:
    _, state = StreamingI3D(tiny)(clip(1, 3, 8, 32, 32))
    [alone] = state.split()
    assert alone is state
    assert stack([alone]) is state


def test_the_state_that_was_given_stays_as_it_was(tiny: I3D) -> None:
    streaming, frames = StreamingI3D(tiny), clip(1, 3, 32, 32, 32)
    _, state = streaming(frames[:, :, :16])
    before = [context.clone() for context in state.contexts]
    first, after = streaming(frames[:, :, 16:], state)
    assert all(map(torch.equal, state.contexts, before))
    assert (state.steps, after.steps) == ((2,), (4,))
    again, _ = streaming(frames[:, :, 16:], state)
    assert torch.equal(first.feature_maps, again.feature_maps)


def test_the_frames_that_were_given_stay_as_they_were(tiny: I3D) -> None:
    frames = clip(1, 3, 8, 32, 32)
    before = frames.clone()
    StreamingI3D(tiny)(frames)
    assert torch.equal(frames, before)


def test_two_cameras_in_one_batch_equal_each_alone_in_any_order() -> None:
    streaming = StreamingI3D(ruled(I3D(num_classes=5, width=1 / 16)))
    cameras = [clip(1, 3, 96, 32, 32, seed=seed) for seed in (1, 2)]
    alone = [streamed(streaming, frames, [12]).logits for frames in cameras]
    states: list[StreamState] = []
    together: list[list[Tensor]] = [[], []]
    for step in range(12):
        order = [0, 1] if step % 3 else [1, 0]
        chunk = torch.cat([cameras[number][:, :, 8 * step : 8 * step + 8] for number in order])
        state = stack([states[number] for number in order]) if states else None
        emitted, state = streaming(chunk, state)
        states = [one for _, one in sorted(zip(order, state.split(), strict=True), key=lambda pair: pair[0])]
        for row, number in enumerate(order):
            together[number].append(emitted.logits[row : row + 1])
    for number in (0, 1):
        found = torch.cat(together[number], dim=2)[:, :, WARM_UP_STEPS:]
        assert (found - alone[number][:, :, WARM_UP_STEPS:]).abs().max() < 1e-4
    assert (alone[0] - alone[1]).abs().max() > 0.1


def test_a_camera_that_is_reset_begins_anew_and_the_others_go_on() -> None:
    streaming = StreamingI3D(ruled(I3D(num_classes=5, width=1 / 16)))
    frames = clip(3, 3, 160, 32, 32)
    _, state = streaming(frames[:, :, :80])
    state = state.reset(1)
    assert state.steps == (10, 0, 10)
    emitted, _ = streaming(frames[:, :, 80:], state)
    fresh = streamed(streaming, frames[1:2, :, 80:], [10]).logits
    unbroken = streamed(streaming, frames, [20]).logits[:, :, 10:]
    assert (emitted.logits[1] - fresh[0])[:, WARM_UP_STEPS:].abs().max() < 1e-4
    for camera in (0, 2):
        assert (emitted.logits[camera] - unbroken[camera]).abs().max() < 1e-4
    assert (emitted.logits[1] - unbroken[1])[:, WARM_UP_STEPS].abs().max() > 1e-2


def test_a_blank_state_is_that_of_no_state(tiny: I3D) -> None:
    streaming, frames = StreamingI3D(tiny), clip(2, 3, 80, 32, 32)
    _, used = streaming(frames[:, :, :16])
    anew, _ = streaming(frames, used.blank())
    fresh, _ = streaming(frames)
    assert torch.equal(anew.feature_maps, fresh.feature_maps)


# --- what does not fit


@pytest.mark.parametrize("count", [0, 4, 9, 12])
def test_frames_that_are_no_whole_steps_are_refused(tiny: I3D, count: int) -> None:
    with pytest.raises(ConfigError, match="frames") as caught:
        StreamingI3D(tiny)(torch.zeros(1, 3, count, 32, 32))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(2, 3, 8, 32, 32), (1, 3, 8, 32, 40)])
def test_frames_that_do_not_go_on_with_the_state_are_refused(tiny: I3D, shape: tuple[int, ...]) -> None:
    streaming = StreamingI3D(tiny)
    _, state = streaming(torch.zeros(1, 3, 8, 32, 32))
    with pytest.raises(ConfigError, match="do not go on with the state of 1 cameras of 32 x 32 pixels"):
        streaming(torch.zeros(shape), state)
