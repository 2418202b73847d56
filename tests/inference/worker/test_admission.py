"""The controller against a simulated worker: cameras at 25 frames/s, an engine that takes so long a window."""

from __future__ import annotations

import pytest

from stream_i3d.inference.worker.admission import Admission, Load, allowed_strides

FPS = 25.0
STRIDES = allowed_strides(8, streaming=False, adaptive=True)


class Machine:
    """One period is a second; what the engine cannot do in it is replaced."""

    def __init__(self, cameras: int, window_ms: float) -> None:
        self.cameras, self.window_ms = cameras, window_ms
        self.admission = Admission(STRIDES)
        self.strides: list[int] = []
        self.replaced: list[int] = []

    def run(self, seconds: int, extra: int = 0) -> Machine:
        for _ in range(seconds):
            due = self.cameras * FPS / self.admission.stride
            done = min(due, 1000 / self.window_ms)
            replaced = round(due - done) + extra
            self.replaced.append(replaced)
            self.admission.update(Load(busy=done * self.window_ms / 1000, windows=round(done), replaced=replaced))
            self.strides.append(self.admission.stride)
        return self

    @property
    def changes(self) -> int:
        return sum(before != after for before, after in zip([8, *self.strides], self.strides, strict=False))


def test_a_machine_that_keeps_up_keeps_its_stride() -> None:
    machine = Machine(cameras=8, window_ms=20).run(600)
    assert set(machine.strides) == {8}


@pytest.mark.parametrize(("window_ms", "settled"), [(45, 10), (55, 12), (75, 16), (110, 24), (150, 32)])
def test_strides_are_raised_until_no_window_is_replaced_and_no_further(window_ms: float, settled: int) -> None:
    machine = Machine(cameras=8, window_ms=window_ms).run(120)
    assert machine.strides[-1] == settled
    assert sum(machine.replaced[-60:]) == 0


def test_a_machine_too_slow_for_the_largest_stride_stays_there() -> None:
    assert Machine(cameras=8, window_ms=1000).run(60).strides[-1] == 32


def test_strides_come_back_once_there_is_room_and_stay() -> None:
    machine = Machine(cameras=8, window_ms=75).run(60)
    assert machine.strides[-1] == 16
    machine.window_ms = 20
    machine.run(60)
    assert machine.strides[-1] == 8
    before = machine.changes
    machine.run(600)
    assert machine.changes == before


@pytest.mark.parametrize("window_ms", range(20, 200, 3))
def test_it_does_not_swing_at_any_speed(window_ms: int) -> None:
    machine = Machine(cameras=8, window_ms=window_ms).run(60)
    settled = machine.changes
    machine.run(3600)
    assert machine.changes - settled <= 2


def test_a_load_that_comes_and_goes_is_followed_ever_more_slowly() -> None:
    machine = Machine(cameras=8, window_ms=20)
    changes = []
    for _ in range(20):
        before = machine.changes
        machine.window_ms = 75
        machine.run(15)
        machine.window_ms = 20
        machine.run(25)
        changes.append(machine.changes - before)
    assert changes[0] > 0
    assert sum(changes[10:]) <= sum(changes[:10]) / 2


def test_one_bad_second_changes_nothing() -> None:
    machine = Machine(cameras=8, window_ms=35).run(10)
    machine.run(1, extra=5).run(10)
    assert set(machine.strides) == {8}


def test_windows_lost_while_the_engine_has_time_are_not_its_fault() -> None:
    machine = Machine(cameras=8, window_ms=10).run(30, extra=3)
    assert set(machine.strides) == {8}


def test_another_stride_that_is_asked_for_is_raised_alike() -> None:
    machine = Machine(cameras=8, window_ms=75).run(60)
    machine.admission.retune(allowed_strides(4, streaming=False, adaptive=True))
    assert machine.admission.stride == 8
    machine.admission.retune((4,))
    assert (machine.admission.stride, machine.admission.raised) == (4, False)


@pytest.mark.parametrize(
    ("asked", "streaming", "adaptive", "strides"),
    [
        (8, False, True, (8, 10, 12, 16, 24, 32)),
        (1, False, True, (1, 2, 3, 4)),
        (3, False, True, (3, 4, 5, 6, 9, 12)),
        (8, False, False, (8,)),
        (4, True, True, (4, 8)),
        (8, True, True, (8,)),
    ],
)
def test_strides_by_level(asked: int, streaming: bool, adaptive: bool, strides: tuple[int, ...]) -> None:
    assert allowed_strides(asked, streaming, adaptive) == strides
