"""The wire, version 1: messages to bytes and back. Pure; every byte that comes in is checked before it is used.

Frame channel (capture -> worker): `[header JSON, raw pixels]` for a frame, `[report JSON]` for a camera's state.
Published (worker -> world): `[topic, JSON]` with topic `v1/<camera>/prediction|event|status`.
Previews (capture -> who watches): one part, 24 bytes of time stamp before a JPEG.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream_i3d.errors import WireError, brief
from stream_i3d.messages import (
    ActionEvent,
    CameraReport,
    CameraStatus,
    Frame,
    FrameHeader,
    FrameStamp,
    Recognition,
)

MAX_HEADER_BYTES = 4096
MAX_FRAME_BYTES = 64 * 1024 * 1024
MAX_PUBLISHED_BYTES = 1024 * 1024
MAX_PREVIEW_BYTES = 16 * 1024 * 1024
PREVIEW_MAGIC = b"SI3P"
TOPICS = {Recognition: "prediction", ActionEvent: "event", CameraStatus: "status"}

Published = Recognition | ActionEvent | CameraStatus

_PREVIEW_VERSION = 1
_PREVIEW_PREFIX = struct.Struct("<4sIqq")  # magic, version, capture_ns, seq
_JPEG_START = b"\xff\xd8"

_T = TypeVar("_T")

_encoder = msgspec.json.Encoder()
_decode_header = msgspec.json.Decoder(FrameHeader | CameraReport).decode
_decode_published = {name: msgspec.json.Decoder(kind).decode for kind, name in TOPICS.items()}


@dataclass(frozen=True, slots=True)
class ReceivedFrame:
    """A checked frame message: `pixels` is a read-only (H, W, 3) uint8 view of the received bytes."""

    stamp: FrameStamp
    pixels: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Preview:
    """A picture for people, in the camera's own aspect.

    Attributes:
        jpeg: The encoded picture.
        capture_ns: Monotonic clock when it was captured, in nanoseconds (one host).
        seq: Number of the picture among those that were due as previews; a step above 1 is a drop, or CONFLATE.
    """

    jpeg: bytes
    capture_ns: int
    seq: int


def encode_frame(frame: Frame) -> tuple[bytes, memoryview]:
    """Return a frame's two parts; the second is a view of the pixels, not a copy."""
    stamp, pixels = frame.stamp, np.ascontiguousarray(frame.pixels)
    header = FrameHeader(
        camera=stamp.camera,
        epoch=stamp.epoch,
        seq=stamp.seq,
        capture_ns=stamp.capture_ns,
        wall_time=stamp.wall_time,
        media_time=stamp.media_time,
        repeat=stamp.repeat,
        delay_ns=stamp.delay_ns,
        shape=(pixels.shape[0], pixels.shape[1], pixels.shape[2]),
    )
    return _encoder.encode(header), pixels.data


def encode_report(report: CameraReport) -> bytes:
    """Return a camera report's only part."""
    return _encoder.encode(report)


def decode_capture(parts: Sequence[memoryview | bytes]) -> ReceivedFrame | CameraReport:
    """Decode a message of the frame channel.

    Raises:
        WireError: It has other parts, sizes, types or values than the wire allows.
    """
    if len(parts) not in (1, 2):
        raise WireError(f"a message of {len(parts)} parts; allowed are 2 (a frame) and 1 (a report)")
    header = decode_json(_decode_header, parts[0], MAX_HEADER_BYTES, "a header", "version 1")
    if isinstance(header, CameraReport):
        if len(parts) != 1:
            raise WireError("a report with a second part; allowed is one part")
        return header
    if len(parts) != 2:
        raise WireError("a frame header without pixels; allowed are two parts")
    height, width, channels = header.shape
    if channels != 3 or not (0 < height <= 8192 and 0 < width <= 8192):
        raise WireError(f"a frame of shape {header.shape}; allowed is (H, W, 3) with H, W from 1 to 8192")
    expected = height * width * channels
    if len(parts[1]) != expected:
        raise WireError(f"{len(parts[1])} bytes of pixels; shape {header.shape} needs {expected}")
    return ReceivedFrame(header, np.frombuffer(parts[1], np.uint8).reshape(header.shape))


def encode_published(message: Published) -> tuple[bytes, bytes]:
    """Return topic and JSON of what the worker publishes."""
    return f"v1/{message.camera}/{TOPICS[type(message)]}".encode(), _encoder.encode(message)


def decode_published(parts: Sequence[bytes]) -> Published:
    """Decode a message of the prediction channel.

    Raises:
        WireError: It is not one of ours.
    """
    if len(parts) != 2:
        raise WireError(f"a message of {len(parts)} parts; allowed is [topic, JSON]")
    topic, body = parts
    pieces = topic.decode("utf-8", errors="replace").split("/")
    if len(pieces) != 3 or pieces[0] != "v1" or pieces[2] not in _decode_published:
        raise WireError(f"topic {topic[:80]!r}; allowed is v1/<camera>/{'|'.join(_decode_published)}")
    decode: Callable[[bytes | memoryview], Published] = _decode_published[pieces[2]]
    message = decode_json(decode, body, MAX_PUBLISHED_BYTES, f"a {pieces[2]} message", "version 1")
    if message.camera != pieces[1]:
        raise WireError(f"a message of camera {message.camera!r} under the topic of {pieces[1][:64]!r}")
    return message


def encode_preview(preview: Preview) -> bytes:
    """Return a preview's only part."""
    return _PREVIEW_PREFIX.pack(PREVIEW_MAGIC, _PREVIEW_VERSION, preview.capture_ns, preview.seq) + preview.jpeg


def decode_preview(message: bytes) -> Preview:
    """Decode a message of a preview channel; the JPEG itself is only looked at by its first bytes.

    Raises:
        WireError: It is not one of ours.
    """
    if not _PREVIEW_PREFIX.size < len(message) <= MAX_PREVIEW_BYTES:
        raise WireError(f"a preview of {len(message)} bytes; allowed are 25 to {MAX_PREVIEW_BYTES}")
    magic, version, capture_ns, seq = _PREVIEW_PREFIX.unpack_from(message)
    jpeg = message[_PREVIEW_PREFIX.size :]
    if magic != PREVIEW_MAGIC or version != _PREVIEW_VERSION:
        raise WireError(f"no preview of version {_PREVIEW_VERSION}: it begins with {message[:8]!r}")
    if capture_ns < 0 or seq < 0 or not jpeg.startswith(_JPEG_START):
        raise WireError("a preview whose time or number is below 0, or whose picture is no JPEG")
    return Preview(jpeg, capture_ns, seq)


def decode_json(
    decode: Callable[[bytes | memoryview], _T], part: bytes | memoryview, limit: int, what: str, version: str
) -> _T:
    """Decode a JSON part received on any channel.

    Args:
        decode: Of a msgspec.json.Decoder.
        part: The part.
        limit: Greatest allowed number of bytes.
        what: Its name in messages, with its article.
        version: The version that is expected.

    Raises:
        WireError: It is too long, or no such message.
    """
    if len(part) > limit:
        raise WireError(f"{what} of {len(part)} bytes; at most {limit} are allowed")
    try:
        return decode(part)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"not {what} of {version}: {brief(error)}") from None


def to_json_line(message: msgspec.Struct) -> bytes:
    """Return a message as one line of JSON, newline included."""
    return _encoder.encode(message) + b"\n"
