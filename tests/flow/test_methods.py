"""Common behaviour of all flow methods, `make_flow`, and flow along sequences."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from stream_i3d.errors import ConfigError, DeviceError
from stream_i3d.flow import METHODS, FlowSequence, flow_stack, make_flow
from stream_i3d.flow.opencv import DISFlow

from .pictures import mean_error, pair, shift


class Difference:
    """A flow method whose flow is the change of brightness, which identifies the pair of each field."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, previous, current):
        self.calls += 1
        return np.stack([current.astype(np.float32) - previous, current], axis=-1).astype(np.float32)


def gray(value: int, shape: tuple[int, int] = (16, 16)) -> np.ndarray:
    return np.full(shape, value, np.uint8)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_finds_a_shift_in_bytes_and_in_floats(name):
    previous, current, truth = pair(shift(2.0, -1.0))
    method = make_flow(name)
    for kind in (np.uint8, np.float32):
        flow = method(np.rint(previous).astype(kind), np.rint(current).astype(kind))
        assert flow.shape == truth.shape and flow.dtype == np.float32
        assert mean_error(flow, truth) < 0.3


@pytest.mark.parametrize("name", METHODS)
def test_every_method_finds_none_where_nothing_moves(name):
    previous, _, truth = pair(shift(0, 0))
    assert mean_error(make_flow(name)(previous, previous), truth) < 0.01


@pytest.mark.parametrize("name", METHODS)
def test_no_method_remembers_the_last_pair(name):
    previous, current, _ = pair(shift(1, 2), size=64)
    method = make_flow(name)
    first = method(previous, current).copy()
    kept = method(current, previous)
    assert np.array_equal(method(previous, current), first)
    assert not np.array_equal(kept, first)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_takes_views_and_frozen_pictures(name):
    previous, current, _ = pair(shift(1, 1), size=64)
    method = make_flow(name)
    turned, whole = [], []
    for picture in (previous, current):
        whole.append(np.ascontiguousarray(picture[::-1, ::2]))
        turned.append(picture[::-1, ::2])
        turned[-1].flags.writeable = False
    assert np.array_equal(method(*turned), method(*whole))


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("shapes", [((32, 32), (32, 40)), ((32, 32, 3), (32, 32, 3)), ((8, 32), (8, 32))])
def test_every_method_refuses_other_shapes(name, shapes):
    with pytest.raises(ValueError, match="pictures of"):
        make_flow(name)(*(np.zeros(shape, np.uint8) for shape in shapes))


def test_an_unknown_method_is_refused_with_a_suggestion():
    with pytest.raises(ConfigError, match=r"'tvl2' is not one of tvl1, dis, farneback \(did you mean 'tvl1'\?\)"):
        make_flow("tvl2")


@pytest.mark.parametrize("device", ["cuda:99", "nonsense"])
def test_tvl1_on_a_device_that_is_not_there_is_refused(device):
    with pytest.raises(DeviceError, match=f"'{device}' is not on this machine"):
        make_flow("tvl1", device)


def test_an_unknown_preset_is_refused_with_a_suggestion():
    with pytest.raises(ConfigError, match=r"'quick' is not one of ultrafast, fast, medium"):
        DISFlow("quick")


def test_the_presets_differ():
    previous, current, _ = pair(shift(1, 2))
    assert not np.array_equal(DISFlow("ultrafast")(previous, current), DISFlow("medium")(previous, current))


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import stream_i3d.flow", {"torch", "cv2"}),
        ("from stream_i3d.flow import make_flow; make_flow('tvl1')", {"cv2"}),
        ("from stream_i3d.flow import make_flow; make_flow('dis')", {"torch"}),
        ("from stream_i3d.flow import make_flow; make_flow('farneback')", {"torch"}),
    ],
)
def test_a_method_loads_only_what_it_needs(statement, absent):
    code = f"import sys\n{statement}\nprint(*(sys.modules.keys() & {absent!r}))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []


def test_a_frames_flow_is_from_the_frame_before_and_the_first_is_zero():
    stack = flow_stack([gray(10), gray(13), gray(20)], Difference())
    assert stack.shape == (3, 16, 16, 2) and stack.dtype == np.float32
    assert stack[:, 0, 0].tolist() == [[0, 0], [3, 13], [7, 20]]


def test_with_the_picture_before_a_stack_has_no_zero_field():
    stack = flow_stack([gray(13), gray(20)], Difference(), before=gray(10))
    assert stack[:, 0, 0].tolist() == [[3, 13], [7, 20]]


def test_a_sequence_computes_each_flow_once():
    method = Difference()
    sequence = FlowSequence(method)
    for value in range(5):
        sequence.push(gray(value))
    assert method.calls == 4


def test_after_a_reset_the_next_flow_is_zero():
    sequence = FlowSequence(Difference())
    sequence.push(gray(10))
    sequence.reset()
    assert not sequence.push(gray(20)).any()
    assert sequence.push(gray(25))[0, 0].tolist() == [5, 25]


def test_pictures_of_another_size_begin_anew():
    sequence = FlowSequence(Difference())
    sequence.push(gray(10))
    field = sequence.push(gray(20, (16, 24)))
    assert field.shape == (16, 24, 2) and not field.any()


def test_a_sequence_gives_what_the_method_gives():
    previous, current, _ = pair(shift(1, 0), size=64)
    method = make_flow("dis")
    stack = flow_stack([previous, current], method)
    assert np.array_equal(stack[1], method(previous, current))
