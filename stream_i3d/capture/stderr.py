"""Takes over the process's standard error, because FFmpeg writes there from C: URLs with passwords, and the only
explanation of why a stream failed.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from collections import deque

from stream_i3d.redact import redact

_NOISE = re.compile(r"^\[[^\]]*@ 0x[0-9a-f]+\]\s*")
_REASON = re.compile(r"\b(40[0-9]|5\d\d)\b|failed|error|invalid|unauthori[sz]ed|not found|timed out", re.IGNORECASE)
_DAMAGE = re.compile(
    r"error while decoding|concealing|could not find ref|missing reference|damaged|error at mb|"
    r"reference \d+ >= \d+|rtp: missed|corrupt",
    re.IGNORECASE,
)
_MAX_LINE = 300
_MARK = "stream-i3d: read up to here"
_CATCH_UP_S = 2.0


class CapturedStderr:
    """Redirects file descriptor 2 into a pipe for good; Python's own sys.stderr keeps the old target.

    Keeps the newest few lines, redacted; `reason()` gives the last one that explains a failure.
    """

    def __init__(self) -> None:
        saved = os.dup(2)
        reader, writer = os.pipe()
        os.dup2(writer, 2)
        os.close(writer)
        sys.stderr = os.fdopen(saved, "w", buffering=1, encoding="utf-8", errors="backslashreplace")
        self._lines: deque[str] = deque(maxlen=20)
        self._lock = threading.Lock()
        self._caught_up = threading.Event()
        self._damage = threading.Event()
        threading.Thread(target=self._read, args=(reader,), name="stderr", daemon=True).start()

    def reason(self) -> str | None:
        """Return the newest line that says why something failed, and forget all lines so far.

        Not one of damage, which ends no stream and may be hours old.
        """
        self._caught_up.clear()
        os.write(2, f"\n{_MARK}\n".encode())  # what was written before it has been read once this comes round
        self._caught_up.wait(_CATCH_UP_S)
        with self._lock:
            lines = [line for line in self._lines if _REASON.search(line) and not _DAMAGE.search(line)]
            self._lines.clear()
        return lines[-1] if lines else None

    def damage(self) -> bool:
        """Tell whether the decoder has complained of a damaged picture since this was asked last."""
        if not self._damage.is_set():
            return False
        self._damage.clear()
        return True

    def _read(self, descriptor: int) -> None:
        with os.fdopen(descriptor, "r", encoding="utf-8", errors="backslashreplace") as pipe:
            for line in pipe:
                if line.strip() == _MARK:
                    self._caught_up.set()
                    continue
                if _DAMAGE.search(line):
                    self._damage.set()
                text = _NOISE.sub("", redact(line.strip()))[:_MAX_LINE]
                with self._lock:
                    self._lines.append(text)
