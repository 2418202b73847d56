from __future__ import annotations

import cv2
import pytest

from stream_i3d.capture.picture_memory import (
    automatic_limit_mb,
    bytes_per_pixel,
    effective_limit_mb,
    size_refusal,
    usual_memory_mb,
)

MEASURED_MB = [  # resident memory that decoding took beyond that of the process, by OpenCV 5.0 with one thread
    ("H.264, x264 medium", 1280, 720, 1.5, 24),
    ("H.264, 16 references", 1280, 720, 1.5, 46),
    ("H.264, 4 references", 3840, 2160, 1.5, 140),
    ("H.264, 16 references", 3840, 2160, 1.5, 287),
    ("H.265", 3840, 2160, 1.5, 193),
    ("VP9", 3840, 2160, 1.5, 109),
    ("H.265, 10 bit", 5312, 2988, 3.0, 445),
    ("H.264", 7680, 4320, 1.5, 534),
    ("H.265, 10 bit", 7680, 4320, 3.0, 915),
]


@pytest.mark.parametrize(("codec", "width", "height", "pixel_bytes", "measured"), MEASURED_MB)
def test_the_automatic_limit_holds_what_decoders_were_measured_to_need(
    codec: str, width: int, height: int, pixel_bytes: float, measured: float
) -> None:
    limit = automatic_limit_mb(width, height, pixel_bytes)
    assert measured + 120 < limit <= max(500, 5 * measured)
    if "16" not in codec:
        assert measured <= usual_memory_mb(width, height, pixel_bytes) <= 3 * measured + 130


def test_the_limit_grows_with_the_picture_and_with_its_depth() -> None:
    sizes = [(1280, 720), (3840, 2160), (5312, 2988), (7680, 4320)]
    limits = [automatic_limit_mb(*size) for size in sizes]
    assert limits[:2] == [500, 500]
    assert 500 < limits[2] < limits[3] < automatic_limit_mb(7680, 4320, 3.0)


def test_an_explicit_limit_holds_whatever_the_size() -> None:
    assert effective_limit_mb(700, 7680, 4320, 3.0) == 700
    assert effective_limit_mb(None, 7680, 4320, 3.0) is None
    assert effective_limit_mb("auto", 640, 480, 1.5) == 500


def test_what_cannot_be_held_is_refused_with_what_would_do() -> None:
    refusal = size_refusal(500, 7680, 4320)
    assert refusal == (
        "its pictures of 7680 x 4320 take about 879 MB to decode, more than capture.max_memory_mb 500; scale it down, "
        "or allow 1100"
    )
    assert size_refusal(1100, 7680, 4320) is None
    assert size_refusal("auto", 7680, 4320) is None
    assert size_refusal("auto", 4320, 8192) is None
    assert "16000 x 16000 are too large: at most 35.7 million pixels" in str(size_refusal("auto", 16000, 16000, 3.0, 1))
    assert size_refusal(None, 60000, 60000) is None


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (b"I420", 1.5),
        (b"Y42B", 2.0),
        (b"444P", 3.0),
        (b"Y3\x0b\x0a", 3.0),
        (b"Y3\x0a\x0a", 4.0),
        (b"Y3\x00\x0a", 6.0),
        (b"Y3\x0b\x0c", 3.0),
        (b"RGB\x18", 3.0),
        (b"RGB\x30", 6.0),
    ],
)
def test_a_format_tells_the_bytes_of_a_pixel(code: bytes, expected: float) -> None:
    assert bytes_per_pixel(int.from_bytes(code, "little")) == expected
    assert bytes_per_pixel(-1) == 1.5


def test_the_codes_are_those_of_this_opencv(make_video) -> None:
    capture = cv2.VideoCapture(str(make_video(25.0, 0.4)), cv2.CAP_FFMPEG)
    assert bytes_per_pixel(round(capture.get(cv2.CAP_PROP_CODEC_PIXEL_FORMAT))) == 1.5
    capture.release()
