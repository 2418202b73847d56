"""Standard error that nobody reads holds up nobody: real pipes, of which the test fills one."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import TextIO

import pytest

from stream_i3d import stderr_writer
from stream_i3d.stderr_writer import StderrWriter
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(os.name != "posix", reason="Windows cannot tell whether a pipe has room")

MANY = 20_000  # bytes; more than the pipe below holds


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, TextIO]]:
    monkeypatch.setattr(stderr_writer, "_WAIT_S", 0.0)
    reader, writer = os.pipe()
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    with os.fdopen(writer, "w") as stream:
        yield reader, stream
    os.close(reader)


def test_lines_arrive_whole(pipe: tuple[int, TextIO]) -> None:
    writer = StderrWriter(pipe[1])
    writer.write("one\n")
    writer.write("zwölf\n")
    assert os.read(pipe[0], 100) == "one\nzwölf\n".encode()
    writer.close()


def test_lines_that_nobody_reads_are_dropped_and_counted_when_somebody_does(pipe: tuple[int, TextIO]) -> None:
    writer = StderrWriter(pipe[1])
    lines = [f"line {number:04} {'x' * 90}\n" for number in range(100)]
    for line in lines:
        writer.write(line)  # would never return
    lost = writer.dropped
    assert 50 < lost < 100
    first = os.read(pipe[0], MANY)
    writer.write("again\n")
    rest = os.read(pipe[0], MANY)
    assert writer.dropped == 0
    said = (first + rest).decode()
    assert said.startswith(lines[0])
    assert f"({lost} lines of the log were lost: standard error was not read)\nagain\n" in said


def test_the_pipe_of_others_stays_as_it_was(pipe: tuple[int, TextIO]) -> None:
    StderrWriter(pipe[1]).write("one\n")
    assert os.get_blocking(pipe[1].fileno())


def test_a_socket_that_nobody_reads_holds_up_nobody_either(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard error of a service of systemd."""
    monkeypatch.setattr(stderr_writer, "_WAIT_S", 0.0)
    reader, end = socket.socketpair()
    with reader, end, os.fdopen(os.dup(end.fileno()), "w") as stream:
        writer = StderrWriter(stream)
        for _ in range(20_000):
            writer.write("x" * 100 + "\n")
        assert writer.dropped > 100
        assert reader.recv(101) == b"x" * 100 + b"\n"


def test_a_process_whose_log_nobody_reads_goes_on_and_ends_when_told_to() -> None:
    code = (
        "import logging, signal, sys\n"
        "from stream_i3d.config import LoggingConfig\n"
        "from stream_i3d.logs import configure_logging\n"
        "told = []\n"
        "signal.signal(signal.SIGTERM, lambda *_: told.append(1))\n"
        "configure_logging(LoggingConfig())\n"
        "log = logging.getLogger('stream_i3d.test')\n"
        "for number in range(150):\n"
        "    log.warning('%d %s', number, 'x' * 1000)\n"
        "print('went on', flush=True)\n"
        "while not told: signal.pause()\n"
        "print('ended', flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        try:
            assert running.stdout.readline() == b"went on\n"
            running.send_signal(signal.SIGTERM)
            assert running.stdout.readline() == b"ended\n"
            wait_until(lambda: running.poll() is not None)
        finally:
            running.kill()
            running.communicate()
