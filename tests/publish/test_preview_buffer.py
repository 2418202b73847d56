from __future__ import annotations

from stream_i3d.publish.preview_buffer import PictureRing


def times(ring: PictureRing, number: int = 0, start: float = 0.0, end: float = 1e9) -> list[float]:
    return [round(one.time, 3) for one in ring.between(number, start, end)]


def test_faster_previews_are_thinned_out_and_slower_ones_kept() -> None:
    fast, slow = PictureRing(10, 100, 10**6), PictureRing(10, 100, 10**6)
    for index in range(60):
        fast.add(100 + index / 30, b"x")
        slow.add(100 + index / 5, b"x")
    assert len(fast) in (20, 21)
    assert len(slow) == 60


def test_the_oldest_go_by_time() -> None:
    ring = PictureRing(10, 2.0, 10**6)
    for index in range(100):
        ring.add(index / 10, b"x")
    assert (len(ring), ring.newest) == (21, 9.9)
    assert times(ring)[0] == 7.9


def test_the_oldest_go_by_bytes_and_one_that_is_too_large_alone_goes_at_once() -> None:
    ring = PictureRing(10, 100, 1000)
    for index in range(10):
        ring.add(index / 10, b"x" * 300)
    assert times(ring) == [0.7, 0.8, 0.9]
    ring.add(2.0, b"x" * 1001)
    assert (len(ring), ring.newest) == (0, float("-inf"))


def test_a_stretch_is_found_and_gone_on_with() -> None:
    ring = PictureRing(10, 100, 10**6)
    for index in range(50):
        ring.add(index / 10, b"x")
    found = ring.between(0, 1.0, 2.05)
    assert (found[0].time, len(found)) == (1.0, 11)
    assert times(ring, found[-1].number + 1, 1.0, 2.25) == [2.1, 2.2]


def test_a_picture_from_before_the_newest_is_left_out() -> None:
    ring = PictureRing(10, 100, 10**6)
    for time in (5.0, 4.0, 5.0, 6.0):
        ring.add(time, b"x")
    assert times(ring) == [5.0, 6.0]
