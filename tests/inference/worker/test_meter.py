"""The worker's figures."""

from __future__ import annotations

from stream_i3d.inference.worker.meter import _Newest


def test_of_a_series_the_newest_values_are_kept() -> None:
    newest = _Newest(4)
    assert list(newest.values()) == []
    for value in range(3):
        newest.add(value)
    assert sorted(newest.values()) == [0, 1, 2]
    for value in range(3, 10):
        newest.add(value)
    assert sorted(newest.values()) == [6, 7, 8, 9]
