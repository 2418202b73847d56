"""The exception tree. Every error a user can cause is one of these, and says what to do.

    StreamI3DError                  catch this to catch all of ours; the command line exits with 2
    +-- ConfigError                 a flag, a YAML key or a value that is not allowed
    +-- SourceError                 a camera, stream or file
    |   +-- SourceNotFound          it does not exist, or can never be read: trying again is pointless
    |   +-- SourceUnavailable       it cannot be reached now: trying again may help
    +-- CheckpointError             weights that cannot be read, or that do not fit the network
    |   +-- DownloadError           published weights that cannot be fetched, or not into the cache
    +-- LabelsError                 a label list that cannot be read, or of another length than the head
    +-- DeviceError                 a device or precision this machine does not have
    +-- EngineError                 a network whose output is not finite here
    +-- TransportError              a socket that cannot be opened
    |   +-- WireError               bytes on a socket that are not a message of ours
    +-- ServiceError                a process of the service that cannot go on
    +-- TrainingError               a training run that cannot start, go on or be resumed

Messages are one line: what was given, what is allowed, what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class StreamI3DError(Exception):
    """Base of every error this package raises on purpose."""


class ConfigError(StreamI3DError):
    """A flag, a YAML key or a value that is not allowed."""


class SourceError(StreamI3DError):
    """A camera, stream or file that cannot be read."""


class SourceNotFound(SourceError):
    """The source does not exist or can never be read; trying again is pointless."""


class SourceUnavailable(SourceError):
    """The source cannot be reached now; trying again may help."""


class CheckpointError(StreamI3DError):
    """Weights that cannot be read, or that do not fit the network."""


class DownloadError(CheckpointError):
    """Published weights that cannot be fetched or stored, or that came as something else."""


class LabelsError(StreamI3DError):
    """A label list that cannot be read, or whose length differs from the network's head."""


class EngineError(StreamI3DError):
    """A network whose output is not finite on this machine, so its input cannot be judged."""


class DeviceError(StreamI3DError):
    """A device or precision that this machine does not have."""


class TransportError(StreamI3DError):
    """A socket that cannot be opened or bound."""


class WireError(TransportError):
    """Bytes from a socket that are not a message of ours; the receiver counts them and goes on."""


class ServiceError(StreamI3DError):
    """A process of the service that cannot go on."""


class TrainingError(StreamI3DError):
    """A training run that cannot start, go on or be resumed."""


def did_you_mean(given: str, allowed: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the closest of `allowed`, or an empty string.

    Example:
        >>> did_you_mean("strid", ["stride", "top_k"])
        " (did you mean 'stride'?)"
    """
    close = difflib.get_close_matches(given, list(allowed), n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""


def cut(text: str, most_bytes: int) -> str:
    """Return a text's beginning, of so many bytes of UTF-8 at most; no character is cut in two.

    Example:
        >>> cut("zwölf", 4)
        "zwö"
    """
    return text.encode(errors="replace")[:most_bytes].decode(errors="ignore")


def brief(error: object) -> str:
    """Return another library's message as a part of one line: its first line, printable, 200 characters at most."""
    lines = str(error).strip().splitlines()
    text = "".join(character if character.isprintable() else "?" for character in (lines[0] if lines else ""))
    return text[:200] or type(error).__name__
