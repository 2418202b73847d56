from __future__ import annotations

import pytest
from stream_i3d_gui.state import formats
from stream_i3d_gui.state.formats import NOTHING


@pytest.mark.parametrize(
    ("function", "value", "text"),
    [
        (formats.percent, 0.874, "87 %"),
        (formats.percent, 1.0, "100 %"),
        (formats.milliseconds, 86.4, "86 ms"),
        (formats.milliseconds, 2.25, "2.2 ms"),
        (formats.milliseconds, 2400.0, "2.4 s"),
        (formats.milliseconds, None, NOTHING),
        (formats.rate, 29.97, "30.0 fps"),
        (formats.rate, None, NOTHING),
        (formats.age, 0.42, "0.4 s"),
        (formats.age, 12.3, "12 s"),
        (formats.age, 180.0, "3 min"),
        (formats.age, 7200.0, "2 h"),
        (formats.age, None, NOTHING),
        (formats.count, 12345, "12\u202f345"),
        (formats.sentence, "cannot open it", "Cannot open it"),
        (formats.sentence, "rtsp://host/cam: refused", "rtsp://host/cam: refused"),
        (formats.sentence, "", ""),
        (formats.duration, 1.25, "1.2 s"),
        (formats.duration, 125.0, "2 min 5 s"),
        (formats.duration, 3780.0, "1 h 3 min"),
    ],
)
def test_values_are_said_as_people_read_them(function, value, text):
    assert function(value) == text


def test_a_time_is_the_clocks_for_cameras_and_the_mediums_for_files():
    assert formats.stream_time(1_795_257_609.0, utc=True) == "10:40:09"
    assert formats.stream_time(62.5) == "1:02.5"
