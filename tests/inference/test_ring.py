from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_i3d.inference.ring import FrameRing
from tests.samples import number_of, pixels, stamp

SIZE = 32


def ring_of(count: int, capacity: int) -> FrameRing:
    ring = FrameRing((capacity, SIZE, SIZE, 3))
    for seq in range(count):
        ring.push(stamp(seq), pixels(seq, SIZE))
    return ring


def numbers(frames: np.ndarray) -> list[int]:
    return [number_of(picture) for picture in frames]


def test_positions_count_the_frames_pushed():
    ring = FrameRing((4, SIZE, SIZE, 3))
    assert [ring.push(stamp(seq), pixels(seq, SIZE)) for seq in range(6)] == [0, 1, 2, 3, 4, 5]
    assert (ring.end, ring.capacity) == (6, 4)


def test_the_ring_copies_what_it_is_given():
    ring = FrameRing((4, SIZE, SIZE, 3))
    picture = pixels(7, SIZE)
    ring.push(stamp(), picture)
    picture[:] = 99
    assert numbers(ring.view(0, 0)) == [7]


def test_a_contiguous_stretch_is_a_view_of_the_rings_own_memory():
    ring = ring_of(10, 16)
    view = ring.view(2, 7)
    assert np.shares_memory(view, ring.view(0, 9))
    assert view.base is not None and view.flags.c_contiguous
    assert numbers(view) == [2, 3, 4, 5, 6, 7]


def test_a_view_shows_what_is_written_over_it():
    ring = ring_of(8, 8)
    view = ring.view(0, 3)
    ring.push(stamp(8), pixels(8, SIZE))
    assert numbers(view) == [8, 1, 2, 3]
    assert not ring.holds(0)


def test_a_stretch_that_wraps_is_a_copy_in_the_right_order():
    ring = ring_of(20, 16)
    wrapped = ring.view(12, 18)
    assert not np.shares_memory(wrapped, ring.view(16, 19))
    assert numbers(wrapped) == [12, 13, 14, 15, 16, 17, 18]


def test_every_interval_th_frame_is_a_view_too():
    ring = ring_of(16, 16)
    view = ring.view(1, 13, 4)
    assert np.shares_memory(view, ring.view(0, 15))
    assert numbers(view) == [1, 5, 9, 13]


def test_every_interval_th_frame_is_right_across_the_wrap():
    assert numbers(ring_of(20, 16).view(10, 19, 3)) == [10, 13, 16, 19]


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 60), st.integers(1, 24), st.integers(1, 5), st.data())
def test_any_stretch_that_is_held_reads_back_as_it_was_pushed(count, capacity, interval, data):
    ring = ring_of(count, capacity)
    oldest = max(0, count - capacity)
    first = data.draw(st.integers(oldest, count - 1))
    last = first + interval * data.draw(st.integers(0, (count - 1 - first) // interval))
    assert numbers(ring.view(first, last, interval)) == list(range(first, last + 1, interval))
    assert [ring.stamp(position).seq for position in range(oldest, count)] == list(range(oldest, count))


def test_the_ring_holds_its_last_frames_and_no_others():
    ring = ring_of(20, 16)
    assert [position for position in range(-5, 30) if ring.holds(position)] == list(range(4, 20))


def test_an_empty_ring_holds_nothing():
    assert not FrameRing((4, SIZE, SIZE, 3)).holds(0)


def test_a_stamp_that_was_overwritten_is_not_given():
    ring = ring_of(20, 16)
    with pytest.raises(AssertionError):
        ring.stamp(3)


def test_a_ring_of_another_shape_goes_on_with_the_positions_and_holds_nothing_of_before() -> None:
    ring = FrameRing((4, SIZE, SIZE, 3))
    for seq in range(6):
        ring.push(stamp(seq), pixels(seq, SIZE))
    wide = ring.reshaped((SIZE, 2 * SIZE, 3))
    assert (wide.end, wide.capacity, wide.frame_shape) == (6, 4, (SIZE, 2 * SIZE, 3))
    assert not any(wide.holds(position) for position in range(8))
    assert wide.push(stamp(0), np.full((SIZE, 2 * SIZE, 3), 9, np.uint8)) == 6
    assert wide.holds(6) and not wide.holds(5)
    grown = wide.grown(8)
    assert grown.holds(6) and not grown.holds(5)
    assert (grown.view(6, 6) == 9).all()
    assert ring.holds(5)  # whoever still reads the old one may
