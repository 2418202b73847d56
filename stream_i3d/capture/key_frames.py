"""Which decoded pictures can be trusted: those from a key picture on, up to damage.

Measured with OpenCV 5.0 (FFmpeg 8): who joins an H.264 or H.265 stream between two key pictures is given nothing until
the next one, but of MPEG-4 part 2 grey pictures come (all 30). What is damaged on the way is concealed and handed out,
and stays damaged until the next key picture (36 to 40 pictures of a group of 50).
"""

from __future__ import annotations

from stream_i3d.capture.source import Source
from stream_i3d.capture.stderr import CapturedStderr

KEY = ord("I")
_WITH_A_KIND = (KEY, ord("P"), ord("B"))
_MOST = 300  # pictures: 12 s at 25 fps; some cameras refresh the picture bit by bit and never send a key picture


class KeyFrameGate:
    """Follows the kinds of one connection's pictures."""

    def __init__(self) -> None:
        self.open = False
        """Whether the newest picture can be trusted."""
        self._waited = 0
        self._never = False

    def picture(self, kind: int) -> None:
        """Record a decoded picture; `kind` is FFmpeg's letter for it, anything else where it is not known."""
        if kind == KEY or kind not in _WITH_A_KIND:
            self.open, self._never, self._waited = True, False, 0
        elif not self.open:
            self._waited += 1
            if self._waited > _MOST:
                self.open = self._never = True

    def damage(self) -> None:
        """Trust no picture until the next key picture; not where none ever comes."""
        if not self._never:
            self.open = False


class DamageWatch:
    """Tells a source when the decoder reports damage, from its first intact picture on."""

    def __init__(self, source: Source, stderr: CapturedStderr) -> None:
        self._source = source
        self._stderr = stderr
        self._joined = False

    def look(self) -> None:
        """Check for new damage; call it after each picture."""
        if self._stderr.damage() and self._joined:  # else of what came before the first key picture, or connection
            self._source.doubt()
        self._joined = self._joined or self._source.intact
