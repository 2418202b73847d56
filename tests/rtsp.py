"""A real RTSP camera for tests: scripts/rtsp-server in a process of its own, on a free port of loopback."""

from __future__ import annotations

import os
import queue
import subprocess
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from urllib.parse import quote

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "rtsp-server"


@cache
def why_not() -> str | None:
    """Say in one line why no RTSP server can be started here; None when one can."""
    try:
        check = subprocess.run([SCRIPT, "--check"], capture_output=True, text=True, timeout=60, check=False)
    except OSError as error:
        return f"{SCRIPT.name}: {error.strerror}; run scripts/system-deps test"
    return None if check.returncode == 0 else check.stderr.strip()


# In CI nothing may be skipped for want of a package: there the server's own error fails the test.
_MISSING = None if os.environ.get("CI") == "true" else why_not()
requires_rtsp = pytest.mark.skipif(_MISSING is not None, reason=str(_MISSING))


class RtspServer:
    """Streams a video file, or a test pattern, in a loop for as long as the context lasts.

        with RtspServer(clip) as server:
            cv2.VideoCapture(server.url, cv2.CAP_FFMPEG)

    Args:
        file: The video to stream; None for a test pattern.
        pattern: Name of GStreamer's test pattern, where there is no file.
        port: 0 for a free one. A camera that comes back needs the port it had: `RtspServer(port=gone.port)`.
        user: With `password`, the name that clients must give.
        password: See `user`.
        prefix: What the command line begins with, such as `nsenter`.
        timeout_s: How long the server may take until it listens.
        **options: Other options of scripts/rtsp-server, such as fps="29.97", size="320x240", codec="mjpeg".

    Attributes:
        url: Address without a password; set once the server listens.
        port: The port it listens on.
    """

    def __init__(
        self,
        file: Path | str | None = None,
        *,
        pattern: str = "ball",
        port: int = 0,
        user: str | None = None,
        password: str | None = None,
        prefix: Sequence[str] = (),
        timeout_s: float = 30.0,
        **options: str | int | float,
    ) -> None:
        self.url = ""
        self.port = port
        self._login = None if user is None or password is None else (user, password)
        self._timeout_s = timeout_s
        self._process: subprocess.Popen[str] | None = None
        if user is not None and password is not None:
            options |= {"user": user, "password": password}
        source = ["--pattern", pattern] if file is None else [str(file)]
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        self._command = [*prefix, str(SCRIPT), *source, f"--port={port}", *flags, "--exit-with-parent"]

    @property
    def login_url(self) -> str:
        """The address with user name and password in it."""
        if self._login is None:
            return self.url
        return self.url.replace("://", "://{}:{}@".format(*(quote(part, safe="") for part in self._login)), 1)

    @property
    def process(self) -> subprocess.Popen[str]:
        """The running server, for tests that stop it for a while (SIGSTOP) or kill it."""
        assert self._process is not None, "the server runs only inside its `with` block"
        return self._process

    def start(self) -> None:
        """Start the server and wait until it listens; `stop` first if it runs."""
        assert self._process is None, "already started"
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(self._command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        line = self._first_line()
        if not line.startswith("rtsp://"):
            raise RuntimeError(f"{SCRIPT.name} did not start: {self.stop() or line or 'no address came'}")
        self.url = line
        self.port = int(line.split(":")[2].split("/")[0])

    def stop(self) -> str:
        """End the server; return what it wrote to stderr. Does nothing when it does not run."""
        process, self._process = self._process, None
        if process is None:
            return ""
        process.terminate()
        try:
            _, errors = process.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            # Perhaps a test has stopped it (SIGSTOP): that ends only so.
            process.kill()
            _, errors = process.communicate()
        return errors.strip()

    def _first_line(self) -> str:
        lines: queue.Queue[str] = queue.Queue()
        stdout = self.process.stdout
        assert stdout is not None
        # A pipe's readline knows no timeout, a queue's get does.
        reader = threading.Thread(target=lambda: lines.put(stdout.readline()), daemon=True)
        reader.start()
        try:
            line = lines.get(timeout=self._timeout_s)
        except queue.Empty:
            self.process.kill()
            line = ""
        reader.join()
        return line.strip()

    def __enter__(self) -> RtspServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
