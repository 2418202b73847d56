"""Whether a source can exist at all, asked before anything else is loaded. Opens no camera and imports no OpenCV."""

from __future__ import annotations

from urllib.parse import urlsplit

from stream_i3d.capture.address import SourceAddress
from stream_i3d.capture.local_file import find_file
from stream_i3d.capture.stream_answers import encoding_hint
from stream_i3d.capture.webcams import check_webcam
from stream_i3d.errors import SourceNotFound
from stream_i3d.redact import redact


def check_present(address: SourceAddress) -> None:
    """Check what can be known of a source at once: that a file or device is there, and that a URL has a host.

    Raises:
        SourceNotFound: It can never be read; trying again is pointless.
    """
    if address.kind == "file":
        find_file(address.target)
    elif address.kind == "webcam":
        check_webcam(address.target)
    elif address.kind == "url":
        _check_url(address.target)


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise SourceNotFound(
            f"{redact(url)}: not a URL, or the port is no number from 0 to 65535{encoding_hint(url)}"
        ) from None
    if not host:
        raise SourceNotFound(f"{redact(url)}: there is no host in it; write {parts.scheme}://HOST/PATH")
