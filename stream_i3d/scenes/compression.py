"""What codecs that build on the picture before (H.264, MPEG-4 and the like) do to a clip, without one.

An approximation by conditional replenishment (Mounts, "A video encoding system with conditional picture-element
replenishment", Bell System Technical Journal 1969): blocks that hardly changed stay as they were decoded, the others
are taken from a coarsely quantised picture, and a key frame renews all of it now and then, which is seen as a pulse.
Has no motion compensation. Does not know what is in the picture, nor time: only the order of the pictures.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from stream_i3d.scenes.camera import jpeg
from stream_i3d.scenes.noise import Pixels


@dataclass(frozen=True)
class CodecSettings:
    """How badly a clip is compressed.

    Attributes:
        quality: Of the pictures between key frames, as JPEG's, in [1, 100].
        key_quality: Of key frames.
        threshold: Blocks whose mean absolute change is less, in levels, are kept.
        block: Side of a block, in pixels.
        key_every: Pictures from one key frame to the next.
        first_key: Pictures before the second key frame, below `key_every`; the first picture always is one.
    """

    quality: int = 40
    key_quality: int = 60
    threshold: float = 3.0
    block: int = 8
    key_every: int = 12
    first_key: int = 12


class InterFrameCodec:
    """Decodes a clip's pictures, fed one by one in their order; a clip needs a new one.

    Args:
        settings: How badly.
    """

    def __init__(self, settings: CodecSettings) -> None:
        self.settings = settings
        self._fed = 0
        self._decoded: Pixels | None = None

    def feed(self, picture: Pixels) -> Pixels:
        """Return the (H, W, 3) uint8 BGR picture that is seen for the next picture of the clip, of the same shape."""
        settings, before = self.settings, self._decoded
        key = (self._fed - settings.first_key) % settings.key_every == 0
        self._fed += 1
        if before is None or key:
            self._decoded = jpeg(picture, settings.key_quality)
        else:
            changed = changed_blocks(picture, before, settings.block, settings.threshold)
            self._decoded = before.copy()
            if changed.any():
                cv2.copyTo(jpeg(picture, settings.quality), changed, self._decoded)
        return self._decoded


def changed_blocks(picture: Pixels, before: Pixels, block: int, threshold: float) -> Pixels:
    """Return (H, W) uint8: 255 in the blocks whose mean absolute difference is at least `threshold`, else 0."""
    height, width = picture.shape[:2]
    down, right = -height % block, -width % block
    difference = cv2.cvtColor(cv2.absdiff(picture, before), cv2.COLOR_BGR2GRAY)
    padded = cv2.copyMakeBorder(difference, 0, down, 0, right, cv2.BORDER_REFLECT)
    size = ((width + right) // block, (height + down) // block)
    means = cv2.resize(padded.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    chosen = np.where(means >= threshold, 255, 0).astype(np.uint8)
    whole = cv2.resize(chosen, (width + right, height + down), interpolation=cv2.INTER_NEAREST)
    return np.asarray(whole[:height, :width], np.uint8)


def draw_codec(rng: np.random.Generator) -> CodecSettings:
    """Draw a codec at random, from a hardly seen one to a starved one."""
    quality = int(rng.integers(20, 70))
    key_every = int(rng.integers(6, 40))
    return CodecSettings(
        quality=quality,
        key_quality=int(np.clip(quality + rng.integers(-15, 25), 10, 95)),
        threshold=float(rng.uniform(1.0, 5.0)),
        block=8 if rng.random() < 0.75 else 16,
        key_every=key_every,
        first_key=int(rng.integers(1, key_every)),
    )
