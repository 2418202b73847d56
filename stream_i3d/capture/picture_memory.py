"""How much memory it takes to decode pictures of a given size, and whether a capture process may hold that. Pure.

A decoder keeps the pictures that later ones refer to, so memory grows with the resolution, with the bytes per pixel
and with the number of references. Measured values stand in docs/decisions.md.
"""

from __future__ import annotations

from typing import Final, Literal

MemoryLimit = float | Literal["auto"] | None
"""As `capture.max_memory_mb`: MiB, "auto" (grows with the picture), or None (no limit)."""

LARGEST_PIXELS: Final = 8192 * 4352
"""The largest picture of H.264 and H.265 up to level 6.2. More is decoded only where a limit in MiB allows it."""

LEAST_LIMIT_MB: Final = 500.0
"""The automatic limit of small pictures."""

_MIB: Final = 2**20
_PROCESS_MB: Final = 120.0  # a capture process with small pictures: 90 to 100 MB, most of it libraries
_COPIES_BYTES: Final = 6  # per pixel: OpenCV's BGR picture, and ours
_USUAL_PICTURES: Final = 12  # held by a decoder of what encoders make by default: 8 to 12 were measured
_MOST_PICTURES: Final = 24  # 16 references and those on their way in and out; 20 were measured
_UNKNOWN_BYTES: Final = 1.5  # per pixel: 8-bit 4:2:0

_BYTES: Final = {
    "I420": 1.5, "J420": 1.5, "NV12": 1.5, "NV21": 1.5, "GREY": 1.0, "Y800": 1.0,
    "Y42B": 2.0, "422P": 2.0, "J422": 2.0, "YUY2": 2.0, "UYVY": 2.0, "444P": 3.0, "J444": 3.0,
}  # fmt: skip
"""Bytes per pixel of FFmpeg's raw formats, by the FOURCC that OpenCV gives of them."""


def bytes_per_pixel(pixel_format: int) -> float:
    """Return the bytes per pixel of a decoded picture.

    Args:
        pixel_format: OpenCV's `CAP_PROP_CODEC_PIXEL_FORMAT`, a FOURCC; 0 or less where it is not known.

    Returns:
        1.5 for 8-bit 4:2:0 and where nothing is known, 3 for its 10-bit form; 6 for other unknown deep formats.
    """
    if pixel_format <= 0:
        return _UNKNOWN_BYTES
    code = (pixel_format & 0xFFFFFFFF).to_bytes(4, "little")
    known = _BYTES.get(code.decode("latin-1"))
    if known is not None:
        return known
    # FFmpeg's planar YUV codes are 'Y', '3', horizontal and vertical subsampling (or 10 and up), bits per sample.
    if code[:2] == b"Y3" and code[3] > 8:
        return {10: 4.0, 11: 3.0, 0: 6.0}.get(code[2], 3.0)
    if code[3] in (24, 48, 64):  # packed RGB of so many bits a pixel
        return code[3] / 8
    return 6.0 if 8 < code[3] <= 16 else 4.0


def usual_memory_mb(width: int, height: int, pixel_bytes: float = _UNKNOWN_BYTES, pictures: int | None = None) -> float:
    """Return the MiB that a capture process usually holds with a video of this size.

    Args:
        width: Of the picture, in pixels.
        height: Likewise.
        pixel_bytes: As of `bytes_per_pixel`.
        pictures: That the decoder holds at once; 1 for a still picture. None is the usual number for video.
    """
    held = _USUAL_PICTURES if pictures is None else pictures
    return _PROCESS_MB + width * height * (_COPIES_BYTES + held * pixel_bytes) / _MIB


def automatic_limit_mb(width: int, height: int, pixel_bytes: float = _UNKNOWN_BYTES) -> float:
    """Return the MiB above which a capture process holds more than any video of this size needs: a leak."""
    return max(LEAST_LIMIT_MB, usual_memory_mb(width, height, pixel_bytes, _MOST_PICTURES))


def effective_limit_mb(limit: MemoryLimit, width: int, height: int, pixel_bytes: float) -> float | None:
    """Return the limit in force for a process that decodes such pictures; an explicit one holds whatever the size."""
    return automatic_limit_mb(width, height, pixel_bytes) if limit == "auto" else limit


def size_refusal(
    limit: MemoryLimit, width: int, height: int, pixel_bytes: float = _UNKNOWN_BYTES, pictures: int | None = None
) -> str | None:
    """Return why pictures of this size are not decoded under a limit, and what to do; None where they are."""
    needed = usual_memory_mb(width, height, pixel_bytes, pictures)
    if limit == "auto":
        if width * height <= LARGEST_PIXELS:
            return None
        return (
            f"its pictures of {width} x {height} are too large: at most {LARGEST_PIXELS / 1e6:.1f} million pixels "
            f"(8192 x 4352) are decoded; scale it down, or allow capture.max_memory_mb {_rounded(needed)}"
        )
    if limit is None or needed <= limit:
        return None
    return (
        f"its pictures of {width} x {height} take about {needed:.0f} MB to decode, more than capture.max_memory_mb "
        f"{limit:g}; scale it down, or allow {_rounded(needed)}"
    )


def _rounded(megabytes: float) -> int:
    """Return a limit that is enough, in hundreds."""
    return -int(-1.25 * megabytes // 100) * 100
