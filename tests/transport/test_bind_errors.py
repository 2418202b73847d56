from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest

from stream_i3d.errors import TransportError
from stream_i3d.transport.bind_errors import CONTROL, FRAMES, PREDICTIONS, PREVIEWS, RELAY, Purpose, bind_refusal
from stream_i3d.transport.control_sockets import ControlServer
from stream_i3d.transport.frames import FrameReceivers, FrameSender
from stream_i3d.transport.preview import PreviewPublisher
from stream_i3d.transport.relay import RelayReceiver
from stream_i3d.transport.sockets import Publisher

LONG = f"ipc://{tempfile.gettempdir()}/{'x' * 120}"


@pytest.mark.parametrize("purpose", [FRAMES, RELAY])
@pytest.mark.parametrize("code", [errno.EADDRINUSE, errno.ENAMETOOLONG, errno.ENOENT, errno.EACCES])
def test_a_private_socket_does_not_blame_a_flag(purpose: Purpose, code: int) -> None:
    line = bind_refusal(purpose, "ipc:///tmp/stream-i3d-1/frames-0", code)
    assert purpose.what in line and "TMPDIR" in line
    assert "--publish" not in line and "--control" not in line


@pytest.mark.parametrize(
    ("purpose", "address", "code", "words"),
    [
        (
            PREDICTIONS,
            "tcp://127.0.0.1:80",
            errno.EACCES,
            "Permission denied; choose a port from 1024 on with --publish",
        ),
        (
            PREDICTIONS,
            "tcp://10.9.9.9:5556",
            errno.ENODEV,
            "no network interface of this address; choose an address of",
        ),
        (CONTROL, "ipc:///none/x", errno.ENOENT, "make the folder /none, or choose another path with --control"),
        (CONTROL, "tcp://127.0.0.1:5557", errno.EADDRINUSE, "stop it or choose another port with --control"),
        (PREDICTIONS, "ipc:///tmp/x", errno.EADDRINUSE, "stop it or choose another path with --publish"),
        (PREVIEWS, "tcp://0.0.0.0:5558", errno.EADDRINUSE, "choose other ports with --publish, which previews follow"),
        (PREVIEWS, "ipc:///tmp/p", errno.EADDRINUSE, "set TMPDIR to another folder"),
        (FRAMES, "ipc:///tmp/p", errno.EMFILE, "raise the limit of open files (`ulimit -n`)"),
    ],
)
def test_each_cause_has_its_own_remedy(purpose: Purpose, address: str, code: int, words: str) -> None:
    line = bind_refusal(purpose, address, code)
    assert words in line and address in line and len(line.splitlines()) == 1


@pytest.mark.skipif(os.name != "posix", reason="paths of sockets are POSIX's")
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: FrameReceivers([LONG]), r"\(a camera's frames, private\): its path has 12\d bytes.* 107; set TMPDIR"),
        (lambda: RelayReceiver(LONG), r"\(results of the workers, private\): its path has .*; set TMPDIR"),
        (lambda: PreviewPublisher(LONG), r"\(a camera's previews\): its path has .*; set TMPDIR"),
        (lambda: Publisher(LONG), r"\(predictions\): its path has .*; choose a shorter path with --publish"),
        (lambda: ControlServer(LONG), r"\(control channel\): its path has .*; choose a shorter path with --control"),
        (lambda: FrameSender(LONG), "cannot connect to ipc://.*: File name too long"),
    ],
    ids=["frames", "relay", "previews", "predictions", "control", "sender"],
)
def test_a_path_that_is_too_long_names_the_socket_and_the_remedy(make, words: str) -> None:
    with pytest.raises(TransportError, match=words):
        make()


@pytest.mark.skipif(os.name != "posix", reason="paths of sockets are POSIX's")
def test_a_private_channel_in_use_does_not_blame_publish(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        address = f"ipc://{folder}/frames-0"
        first = FrameReceivers([address])
        try:
            with pytest.raises(TransportError, match=r"frames, private\) is in use") as caught:
                FrameReceivers([address])
        finally:
            first.close()
    assert "--publish" not in str(caught.value)
