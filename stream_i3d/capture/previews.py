"""Previews of one camera: JPEGs of its newest pictures, made in a thread of their own and only while watched.

Capture is never held up: at most one picture is being encoded, and one that is due meanwhile is dropped and counted.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol, Self

import cv2
import numpy as np

from stream_i3d.capture.geometry import square_pixels
from stream_i3d.config import PreviewConfig
from stream_i3d.preprocess import Image
from stream_i3d.sampling import Sampler
from stream_i3d.thread_names import name_background_thread
from stream_i3d.transport.wire import Preview

_LOOK_S = 0.1
"""Seconds after which a thread that waits looks whether it is still wanted, and still watched."""

Encode = Callable[[Image, PreviewConfig], bytes]


class Channel(Protocol):
    """What previews are sent through: a PreviewPublisher."""

    def watched(self, wait_s: float = 0.0) -> bool:
        """Tell whether somebody is subscribed."""

    def send(self, preview: Preview) -> None:
        """Send one picture; never blocks."""

    def close(self) -> None:
        """Close the channel."""


def encode_jpeg(bgr: Image, config: PreviewConfig) -> bytes:
    """(H, W, 3) uint8 BGR -> JPEG, aspect kept, the longer side at most `config.max_side` pixels."""
    height, width = bgr.shape[:2]
    scale = config.max_side / max(height, width)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        bgr = np.asarray(cv2.resize(bgr, size, interpolation=cv2.INTER_AREA), np.uint8)
    good, jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, config.quality])
    assert good, "JPEG takes every picture of 8 bits and 3 channels"
    return jpeg.tobytes()


class Previewer:
    """Takes pictures from the capture loop (`wants`, then `show`) and sends them as previews."""

    def __init__(self, channel: Channel, config: PreviewConfig, encode: Encode = encode_jpeg) -> None:
        """Args: `channel` is used by the previewer's own thread from now on, and closed with it."""
        self._channel = channel
        self._config = config
        self._encode = encode
        self._pace = Sampler(config.fps)
        self._changed = threading.Condition()
        self._waiting: tuple[Image | bytes, float, int, int] | None = None  # stays until sent: one in flight
        self._watched = False
        self._closing = False
        self._seq = 0
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="previews", daemon=True)
        self._thread.start()

    def wants(self, now_s: float) -> bool:
        """Tell whether the picture grabbed at `now_s` (monotonic) should be shown; ask once for each.

        Decoding is paid for by who asks, so the answer is no while nobody watches, between two ticks of the preview's
        own rate, and while the picture before is not done.
        """
        if not self._watched or not self._pace.push(now_s):
            return False
        self._seq += 1
        if self._waiting is not None:
            self.dropped += 1
            return False
        return True

    def wants_later(self, now_s: float) -> bool:
        """Tell whether the picture grabbed at `now_s` should be encoded by the caller, to be shown when it is due."""
        return self._watched and self._pace.push(now_s) > 0

    def encode(self, bgr: Image, pixel_aspect: float = 1.0) -> bytes:
        """Return the JPEG, with square pixels, of a (H, W, 3) uint8 BGR picture."""
        return self._encode(square_pixels(bgr, pixel_aspect), self._config)

    def show(self, bgr: Image, capture_ns: int, pixel_aspect: float = 1.0) -> None:
        """Hand over the (H, W, 3) uint8 BGR picture that was wanted; nobody may write to it afterwards.

        It is sent with square pixels; `pixel_aspect` is the width of its own over their height.
        """
        self._hand_over(bgr, pixel_aspect, capture_ns)

    def show_encoded(self, jpeg: bytes, capture_ns: int) -> None:
        """Hand over a picture that was encoded before; it is dropped and counted while the one before is not sent."""
        self._seq += 1
        if self._waiting is not None:
            self.dropped += 1
            return
        self._hand_over(jpeg, 1.0, capture_ns)

    def _hand_over(self, picture: Image | bytes, pixel_aspect: float, capture_ns: int) -> None:
        with self._changed:
            self._waiting = (picture, pixel_aspect, capture_ns, self._seq - 1)
            self._changed.notify()

    def close(self) -> None:
        """End the thread and close the channel."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()
        self._channel.close()

    def _run(self) -> None:
        name_background_thread("previews")
        while not self._closing:
            if not self._watched:
                self._watched = self._channel.watched(_LOOK_S)
                continue
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._waiting is not None, _LOOK_S)
                waiting = self._waiting
            self._watched = self._channel.watched()
            if waiting is not None:
                if self._watched:
                    picture, pixel_aspect, capture_ns, seq = waiting
                    jpeg = picture if isinstance(picture, bytes) else self.encode(picture, pixel_aspect)
                    self._channel.send(Preview(jpeg, capture_ns, seq))
                self._waiting = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
