"""Downloads published weights into the cache, with resuming, retries and a checksum.

The bytes received so far are in .NAME.part beside the file, with the server's validator (ETag or date) in a JSON file,
so that an interrupted download is resumed, in the same run or a later one. A file is renamed to its name only after its
checksum is verified. A lock lets one process at a time download a file; others wait and then use it. Does not import
torch.
"""

from __future__ import annotations

import contextlib
import http.client
import math
import os
import random
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

import filelock
import msgspec
from msgspec import Struct

from stream_i3d import __version__
from stream_i3d.backoff import Backoff
from stream_i3d.deadline import call_within
from stream_i3d.errors import CheckpointError, DownloadError, brief
from stream_i3d.models.zoo import (
    HOME_VARIABLE,
    URL_VARIABLE,
    PublishedWeights,
    check_integrity,
    find_published,
    weights_folder,
)
from stream_i3d.redact import redact

Progress = Callable[[int, int | None], None]
"""Called with the bytes received, including earlier ones, and the size of the file, if the server sends it."""

TRIES = 5
"""Number of failures in a row, without progress between them, after which the download fails."""

_TIMEOUT_S = 30.0  # without receiving a byte
_CHUNK_BYTES = 2**18
_LEAST_BYTES_PER_S = 1000  # least average rate over `_TIMEOUT_S`
_MAX_BYTES = 4 * 2**30  # limit without a Content-Length; the largest published file has less than a quarter
_MAX_RETRY_AFTER_S = 60.0
_BUSY = (408, 425, 429)  # temporary failures besides 5xx


def download_weights(
    name: str,
    *,
    force: bool = False,
    progress: Progress | None = None,
    notice: Callable[[str], None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
    timeout_s: float = _TIMEOUT_S,
) -> bool:
    """Download published weights into the cache, unless they are there and complete.

    Args:
        name: A name in `stream_i3d.models.zoo.PUBLISHED`.
        force: Download even if the file is there.
        progress: Called as bytes are received.
        notice: Called with a line of text about each delay.
        sleep: Waits the given seconds between tries.
        timeout_s: Seconds without a byte after which a connection is closed.

    Returns:
        Whether the file was downloaded.

    Raises:
        CheckpointError: There are no published weights of that name.
        DownloadError: The download or writing the file failed, or the checksum is wrong. The cache is not changed,
            except that a part that can be resumed is kept.
    """
    weights = find_published(name)
    folder = weights_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise not_stored(weights, folder, error) from error
    hooks = _Hooks(progress or _ignore, notice or _ignore, sleep, timeout_s)
    with _locked(weights, folder, hooks):
        if not force and is_complete(weights):
            return False
        partial = _Partial(folder, weights, weights.url)
        _fetch(weights, partial, hooks)
        _install(weights, partial)
    return True


class _Hooks(NamedTuple):
    """The callbacks and the time limit of `download_weights`."""

    progress: Progress
    notice: Callable[[str], None]
    sleep: Callable[[float], None]
    timeout_s: float


class _TryAgain(Exception):
    """A failure after which another try may succeed."""

    def __init__(self, reason: str, after_s: float = 0.0, slow: bool = False) -> None:
        super().__init__(reason)
        self.after_s = after_s
        self.slow = slow


class _PartInfo(Struct, forbid_unknown_fields=True):
    """The file beside a part: the URL and validator of the whole file."""

    url: str
    validator: str


class _Partial:
    """The bytes of one file received so far, and whether they can be resumed."""

    def __init__(self, folder: Path, weights: PublishedWeights, url: str) -> None:
        self.url = url
        self.folder = folder
        self.path = folder / f".{weights.file}.part"
        self._note = folder / f".{weights.file}.part.json"

    def size(self) -> int:
        """Return the number of bytes received."""
        return self.path.stat().st_size if self.path.exists() else 0

    def validator(self) -> str | None:
        """Return the server's validator of the file that these bytes belong to; None if they cannot be resumed."""
        try:
            note = msgspec.json.decode(self._note.read_bytes(), type=_PartInfo)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return None
        return note.validator if note.url == self.url else None

    def begin(self, validator: str | None) -> None:
        """Discard the old bytes and start a part of the file with this validator."""
        self.discard()
        if validator is not None:  # before the bytes: without it they are not resumed
            self._note.write_bytes(msgspec.json.encode(_PartInfo(self.url, validator)))

    def discard(self) -> None:
        """Remove the bytes and their validator."""
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)


class _Pace:
    """Detects a server that sends too slowly to ever finish."""

    def __init__(self, period_s: float, size: int, now: float) -> None:
        self._period_s = period_s
        self._size, self._since = size, now

    def check(self, size: int, now: float) -> None:
        """Check the bytes received by `now` (monotonic, s); raises _TryAgain if they are too few."""
        if (passed := now - self._since) < self._period_s:
            return
        if size - self._size < _LEAST_BYTES_PER_S * passed:
            raise _TryAgain(f"only {size - self._size} bytes came in {passed:.0f} s", slow=True)
        self._size, self._since = size, now


class _NoDowngrade(urllib.request.HTTPRedirectHandler):
    """Follows redirections to http and https, but not from https to plain http."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:  # fmt: skip
        if req.type == "https" and not newurl.startswith("https://"):
            raise urllib.error.HTTPError(req.full_url, code, "redirected to plain http", headers, fp)
        if not newurl.startswith(("http://", "https://")):  # urllib would follow to ftp
            raise urllib.error.HTTPError(req.full_url, code, "redirected to what is not http", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@contextlib.contextmanager
def _locked(weights: PublishedWeights, folder: Path, hooks: _Hooks) -> Iterator[None]:
    """Hold the lock of a file; the system releases it if the process dies."""
    lock = filelock.FileLock(folder / f".{weights.file}.lock")
    try:
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            hooks.notice(f"{weights.name}: another process is downloading it; waiting for it")
            lock.acquire()
    except (OSError, NotImplementedError) as error:  # NotImplementedError: a file system without locks
        raise not_stored(weights, folder, error) from error
    try:
        yield
    finally:
        lock.release()


def is_complete(weights: PublishedWeights) -> bool:
    """Tell whether published weights are in the cache, and whole."""
    if not weights.is_downloaded:
        return False
    try:
        check_integrity(weights, weights.path)
    except CheckpointError:
        return False
    return True


def _fetch(weights: PublishedWeights, partial: _Partial, hooks: _Hooks) -> None:
    """Transfer until the part is complete; retry until `TRIES` failures in a row made no progress."""
    backoff = Backoff(random.Random(), first_s=0.5)
    try:
        longest = partial.size()
        while True:
            try:
                return _transfer(weights, partial, hooks)
            except _TryAgain as failure:
                if partial.size() > longest and not failure.slow:
                    longest = partial.size()
                    backoff.healthy_for(math.inf)
                delay = max(backoff.failed(), failure.after_s)
                if backoff.failures >= TRIES:
                    remedy = "check the network and the proxy, and try again"
                    if partial.size() and partial.validator():
                        remedy += ": what has come so far is kept"
                    raise _not_fetched(weights, partial.url, f"{failure}, {TRIES} times", remedy) from failure
                hooks.notice(f"{weights.name}: {failure}; trying again in {delay:.1f} s")
                hooks.sleep(delay)
    except OSError as error:  # network errors are converted above; this is a disk error
        raise not_stored(weights, partial.folder, error) from error


def _transfer(weights: PublishedWeights, partial: _Partial, hooks: _Hooks) -> None:
    """Request the missing bytes once, and append what is received.

    Raises:
        _TryAgain: The server is busy or cannot be reached, or the transfer was cut.
        DownloadError: Trying again is pointless.
        OSError: The part cannot be written.
    """
    size, validator = partial.size(), partial.validator()
    headers = {"User-Agent": f"stream-i3d/{__version__}", "Accept-Encoding": "identity"}
    if size and validator:
        # If-Range: a server whose file has changed since sends the whole new one.
        headers |= {"Range": f"bytes={size}-", "If-Range": validator}
    with _open(weights, partial, headers, hooks.timeout_s) as response:
        if response.status != 206:
            partial.begin(_validator_of(response))
            size = 0
        elif not (size and validator) or _first_byte(response) != size:
            partial.discard()
            raise _TryAgain("it sent another part than the one asked for")
        total = None if response.length is None else size + response.length
        _check_space(weights, partial, 0 if total is None else total - size)
        hooks.progress(size, total)
        pace = _Pace(hooks.timeout_s, size, time.monotonic())
        with partial.path.open("ab") as file:
            while chunk := _read(response, None if total is None else total - size):
                file.write(chunk)
                size += len(chunk)
                hooks.progress(size, total)
                pace.check(size, time.monotonic())
                if size > _MAX_BYTES:
                    partial.discard()
                    raise _TryAgain(f"it sent more than {_MAX_BYTES:,} bytes")
    if total is not None and size < total:
        raise _TryAgain(f"the connection ended after {size} of {total} bytes")


def _open(
    weights: PublishedWeights, partial: _Partial, headers: dict[str, str], timeout_s: float
) -> http.client.HTTPResponse:
    """Send the request; return a response with status 200 or 206."""
    url = partial.url
    if not url.startswith(("http://", "https://")):
        raise _not_fetched(weights, url, "not an http:// or https:// URL", f"correct or unset {URL_VARIABLE}")
    try:
        opener = urllib.request.build_opener(_NoDowngrade)
        request = urllib.request.Request(url, headers=headers)
        # A deadline for all of it, because the head may arrive byte by byte.
        response = call_within(2 * timeout_s, lambda: opener.open(request, timeout=timeout_s), name="download")
    except urllib.error.HTTPError as error:
        error.close()
        raise _status_error(weights, partial, error) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            remedy = "check this machine's clock and its certificates (SSL_CERT_FILE)"
            raise _not_fetched(weights, url, brief(reason), remedy) from error
        # A reason that is a string is urllib's, about the URL, and may contain its password.
        if isinstance(error, ValueError | http.client.InvalidURL) or isinstance(reason, str):
            raise _not_fetched(weights, url, "not a usable URL", f"correct or unset {URL_VARIABLE}") from error
        raise _TryAgain(brief(reason)) from error
    assert isinstance(response, http.client.HTTPResponse)
    return response


def _status_error(
    weights: PublishedWeights, partial: _Partial, error: urllib.error.HTTPError
) -> _TryAgain | DownloadError:
    """Return the error for a status other than 200 and 206."""
    status = f"{error.code} {brief(Exception(error.msg))}"
    if error.code == 416:  # the part belongs to a longer file, or is complete but was not installed
        partial.discard()
        return _TryAgain(status)
    if error.code >= 500 or error.code in _BUSY:
        return _TryAgain(status, _retry_after(error))
    remedy = f"set {URL_VARIABLE} to a mirror that has {weights.file}"
    if os.environ.get(URL_VARIABLE):
        remedy += ", or unset it to ask where it was published"
    return _not_fetched(weights, partial.url, status, remedy)


def _retry_after(error: urllib.error.HTTPError) -> float:
    """Return the Retry-After seconds of a busy server, at most `_MAX_RETRY_AFTER_S`; a date is ignored."""
    given = "" if error.headers is None else error.headers.get("Retry-After", "")
    return min(float(given), _MAX_RETRY_AFTER_S) if re.fullmatch(r"[0-9]{1,6}", given) else 0.0


def _read(response: http.client.HTTPResponse, left: int | None) -> bytes:
    """Return the next bytes as soon as there are any; empty at the end."""
    try:
        return response.read1(_CHUNK_BYTES if left is None else min(left, _CHUNK_BYTES)) if left != 0 else b""
    except (OSError, http.client.HTTPException) as error:
        raise _TryAgain(f"the transfer was cut: {brief(error)}") from error


def _validator_of(response: http.client.HTTPResponse) -> str | None:
    """Return a validator for If-Range: a strong ETag, else the date of the last change."""
    etag: str = response.headers.get("ETag", "")
    validator = etag if etag.startswith('"') else response.headers.get("Last-Modified", "")
    return validator or None


def _first_byte(response: http.client.HTTPResponse) -> int | None:
    match = re.match(r"bytes ([0-9]+)-", response.headers.get("Content-Range", ""))
    return int(match[1]) if match else None


def _check_space(weights: PublishedWeights, partial: _Partial, needed: int) -> None:
    free = shutil.disk_usage(partial.folder).free
    if needed > free:
        reason = f"{needed / 1e6:.0f} MB are needed, {free / 1e6:.0f} MB are free"
        raise not_stored(weights, partial.folder, OSError(reason))


def _install(weights: PublishedWeights, partial: _Partial) -> None:
    """Rename a complete part to its name in the cache if its checksum is right; else remove it."""
    try:
        found = weights.integrity.measure(partial.path)
        if found != weights.integrity.value:
            size = partial.size()
            partial.discard()
            reason = f"what came, {size} bytes, has the {weights.integrity.kind} {found} and not the published"
            remedy = "nothing was kept; try again, and see whether a proxy or a login page answers in its place"
            raise _not_fetched(weights, partial.url, f"{reason} {weights.integrity.value}", remedy)
        with partial.path.open("rb+") as file:
            os.fsync(file.fileno())
        partial.path.replace(weights.path)
        partial.discard()
    except OSError as error:
        raise not_stored(weights, partial.folder, error) from error


def _not_fetched(weights: PublishedWeights, url: str, reason: str, remedy: str) -> DownloadError:
    return DownloadError(f"{weights.name} cannot be downloaded from {redact(url)} ({reason}): {remedy}")


def not_stored(weights: PublishedWeights, folder: Path, error: BaseException) -> DownloadError:
    """Return the error for weights that cannot be written into a folder."""
    return DownloadError(
        f"{weights.name} cannot be stored in {str(folder)!r} ({brief(error)}): "
        f"free some space there, or set {HOME_VARIABLE} to another folder"
    )


def _ignore(*_: object) -> None:
    """Do nothing."""
