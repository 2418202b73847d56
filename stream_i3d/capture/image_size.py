"""The size of a still picture from the headers of its file. Nothing is decoded.

FFmpeg learns it only by decoding: 16,000 x 16,000 pixels, 1 MB as a PNG, took 2 GB before the size was known.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import BinaryIO, Final

Size = tuple[int, int]
"""Width and height in pixels."""

_HEAD_BYTES: Final = 4096
_JPEG_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_BARE: Final = frozenset({0x01, *range(0xD0, 0xDA)})  # markers without a length
_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_SHORT = 256, 257, 3
_MOST_STEPS: Final = 1000  # segments of a JPEG, or tags of a TIFF, that are looked at


def image_size(file: BinaryIO) -> Size | None:
    """Return the size of a PNG, JPEG, WebP, BMP, TIFF, PNM or JPEG 2000 picture; None where it is none of these.

    Args:
        file: Of the picture, opened for reading; where it stands afterwards is not defined.
    """
    file.seek(0)
    head = file.read(_HEAD_BYTES)
    for magic, read in _READERS:
        if head.startswith(magic):
            try:
                size = read(head, file)
            except (struct.error, IndexError, ValueError, OverflowError):
                return None
            return size if size is not None and min(size) > 0 else None
    return None


def _png(head: bytes, _: BinaryIO) -> Size:
    width, height = struct.unpack_from(">II", head, 16)
    return width, height


def _bmp(head: bytes, _: BinaryIO) -> Size:
    if struct.unpack_from("<I", head, 14)[0] == 12:
        width, height = struct.unpack_from("<HH", head, 18)
    else:
        width, height = struct.unpack_from("<ii", head, 18)
    return width, abs(height)  # negative: from top to bottom


def _jpeg(_: bytes, file: BinaryIO) -> Size | None:
    at = 2
    for _step in range(_MOST_STEPS):
        file.seek(at)
        segment = file.read(9)
        if len(segment) < 4 or segment[0] != 0xFF:
            return None
        marker = segment[1]
        if marker == 0xFF:
            at += 1
        elif marker in _JPEG_BARE:
            at += 2
        elif marker in _JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", segment, 5)
            return width, height
        else:
            at += 2 + struct.unpack_from(">H", segment, 2)[0]
    return None


def _webp(head: bytes, _: BinaryIO) -> Size | None:
    kind = head[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", head, 21)[0]
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", head, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def _tiff(head: bytes, file: BinaryIO) -> Size | None:
    order = "<" if head[:2] == b"II" else ">"
    file.seek(struct.unpack_from(f"{order}I", head, 4)[0])  # often at the end of the file
    found: dict[int, int] = {}
    for _ in range(min(_MOST_STEPS, struct.unpack(f"{order}H", file.read(2))[0])):
        entry = file.read(12)
        tag, kind = struct.unpack_from(f"{order}HH", entry)
        found[tag] = struct.unpack_from(f"{order}{'H' if kind == _TIFF_SHORT else 'I'}", entry, 8)[0]
    if _TIFF_WIDTH in found and _TIFF_HEIGHT in found:
        return found[_TIFF_WIDTH], found[_TIFF_HEIGHT]
    return None


def _pnm(head: bytes, _: BinaryIO) -> Size | None:
    lines = [line.split(b"#")[0] for line in head[:1024].split(b"\n")]
    words = b" ".join(lines).split()
    return (int(words[1]), int(words[2])) if len(words) > 2 else None


def _jpeg2000(head: bytes, _: BinaryIO) -> Size | None:
    at = head.find(b"\xff\x4f\xff\x51")
    if at < 0:
        return None
    right, bottom, left, top = struct.unpack_from(">IIII", head, at + 8)
    return right - left, bottom - top


_READERS: Final[tuple[tuple[bytes, Callable[[bytes, BinaryIO], Size | None]], ...]] = (
    (b"\x89PNG\r\n\x1a\n", _png),
    (b"\xff\xd8", _jpeg),
    (b"RIFF", _webp),
    (b"BM", _bmp),
    (b"II*\0", _tiff),
    (b"MM\0*", _tiff),
    *((b"P%d" % kind, _pnm) for kind in (1, 2, 3, 4, 5, 6)),
    (b"\0\0\0\x0cjP  ", _jpeg2000),
    (b"\xff\x4f\xff\x51", _jpeg2000),
)
