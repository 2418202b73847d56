from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_i3d.capture.image_size import image_size


@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "bmp", "tiff", "ppm", "pgm", "jp2"])
def test_the_size_stands_in_the_header(kind: str) -> None:
    picture = np.random.default_rng(1).integers(0, 255, (120, 334, 1 if kind == "pgm" else 3), np.uint8)
    good, data = cv2.imencode(f".{kind}", picture)
    assert good
    assert image_size(io.BytesIO(data.tobytes())) == (334, 120)


def test_a_lossy_webp_and_a_jpeg_with_large_metadata_are_read_too() -> None:
    picture = np.zeros((120, 334, 3), np.uint8)
    _, webp = cv2.imencode(".webp", picture, [cv2.IMWRITE_WEBP_QUALITY, 40])
    assert image_size(io.BytesIO(webp.tobytes())) == (334, 120)
    _, encoded = cv2.imencode(".jpg", picture)
    jpeg = encoded.tobytes()
    large = jpeg[:2] + (b"\xff\xe1\xff\xff" + b"x" * 65533) * 3 + jpeg[2:]
    assert image_size(io.BytesIO(large)) == (334, 120)


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0\xff\xff\xff\xff", b"\xff\xd8\xff", b"P6\n"])
def test_a_header_that_is_cut_short_tells_nothing(data: bytes) -> None:
    assert image_size(io.BytesIO(data)) is None


@given(
    st.sampled_from([b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0", b"MM\0*", b"\xff\xd8", b"RIFF", b"P6", b""]), st.binary()
)
def test_any_bytes_give_a_size_or_none(magic: bytes, rest: bytes) -> None:
    size = image_size(io.BytesIO(magic + rest))
    assert size is None or min(size) > 0
