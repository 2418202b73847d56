from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_i3d.errors import ConfigError, TransportError
from stream_i3d.transport.addresses import (
    CONTROL,
    FRAMES,
    PREDICTIONS,
    PREVIEWS,
    RELAY,
    Purpose,
    bind_refusal,
    check_address,
    check_bind,
    control_address,
    frame_channel,
    leaves_host,
    preview_address,
    preview_channel,
    reachable,
)
from stream_i3d.transport.control_sockets import ControlServer
from stream_i3d.transport.frames import FrameReceivers, FrameSender
from stream_i3d.transport.preview import PreviewPublisher
from stream_i3d.transport.relay import RelayReceiver
from stream_i3d.transport.sockets import Publisher

LOOPBACK = [
    "tcp://127.0.0.1:5556",
    "tcp://127.0.0.1:0",
    "tcp://127.0.0.1:*",
    "tcp://127.8.9.1:65535",
    "tcp://localhost:5556",
    "tcp://[::1]:5556",
    "ipc:///tmp/x",
    "ipc://relative",
]
BEYOND = [
    "tcp://0.0.0.0:5556",
    "tcp://*:5556",
    "tcp://10.0.0.1:5556",
    "tcp://192.168.1.7:*",
    "tcp://8.8.8.8:5556",
    "tcp://[::]:5556",
    "tcp://[fe80::1]:5556",
    "tcp://eth0:5556",
    "tcp://lo:5556",
    "tcp://example.org:5556",
    "tcp://localhost.example.org:5556",
    "tcp://127.0.0.1.example.org:5556",
    "tcp://127.0.0.1@example.org:5556",
    "tcp://10.0.0.1;127.0.0.1:5556",
    "tcp://127.0.0.1;10.0.0.1:5556",
    "tcp://0:5556",
    "tcp://2130706433:5556",
]
GARBAGE = [
    "",
    "5556",
    "127.0.0.1:5556",
    "tcp://",
    "tcp://127.0.0.1",
    "tcp://127.0.0.1:",
    "tcp://127.0.0.1:65536",
    "tcp://127.0.0.1:-1",
    "tcp://127.0.0.1:http",
    "tcp://127.0.0.1:5556/x",
    "tcp://127.0.0.1:5556 ",
    " tcp://127.0.0.1:5556",
    "tcp://:5556",
    "tcp://::1:5556",
    "tcp://[::1:5556",
    "udp://127.0.0.1:5556",
    "http://127.0.0.1:5556",
    "inproc://x",
    "pgm://127.0.0.1:5556",
    "ipc://",
    "ipc:/tmp/x",
    "TCP://127.0.0.1:5556",
]


@pytest.mark.parametrize("address", LOOPBACK)
def test_loopback_and_ipc_may_be_bound(address):
    assert check_bind(address) == address


@pytest.mark.parametrize("address", BEYOND)
def test_what_others_could_reach_may_be_connected_to_but_not_bound_without_keys(address):
    assert check_address(address) == address
    assert check_bind(address, keyed=True) == address
    with pytest.raises(ConfigError, match="refusing to bind") as caught:
        check_bind(address)
    message = str(caught.value)
    assert address in message
    assert "tcp://127.0.0.1:PORT" in message and "ipc://PATH" in message
    assert "stream-i3d keys new" in message and "--key and --clients" in message


@pytest.mark.parametrize("address", GARBAGE)
@pytest.mark.parametrize("check", [check_address, check_bind])
def test_what_is_no_address_is_refused_with_what_is_allowed(check, address):
    with pytest.raises(ConfigError, match=r"allowed is tcp://HOST:PORT \(port 0 to 65535\) or ipc://PATH") as caught:
        check(address)
    with pytest.raises(ConfigError):
        check_bind(address, keyed=True)
    assert repr(address) in str(caught.value)


@settings(deadline=None, max_examples=300)
@given(
    st.text(max_size=40)
    | st.from_regex(r"(tcp|ipc)://[\[\]0-9a-f.:*;@ ]{0,30}", fullmatch=True)
    | st.from_regex(r"tcp://[0-9.]{1,15}:[0-9*]{1,5}\n?", fullmatch=True)
)
def test_any_text_is_bindable_or_refused_and_what_is_bindable_stays_on_this_machine(text):
    try:
        address = check_bind(text)
    except ConfigError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert address == text
        assert text.startswith(("ipc://", "tcp://127.", "tcp://[127.", "tcp://[::1]", "tcp://[0", "tcp://localhost:"))
        assert not leaves_host(address)


def test_an_address_with_a_newline_behind_it_is_refused():
    with pytest.raises(ConfigError):
        check_address("tcp://127.0.0.1:5556\n")


def test_digits_of_other_scripts_are_no_port():
    with pytest.raises(ConfigError):
        check_address("tcp://127.0.0.1:٥٥٥٦")


def test_cameras_have_channels_of_their_own_that_may_be_bound(tmp_path):
    channels = [frame_channel(tmp_path, index) for index in range(3)]
    assert len(set(channels)) == 3
    assert all(check_bind(channel) == channel for channel in channels)


@pytest.mark.skipif(os.name != "posix", reason="ipc is for POSIX")
def test_on_posix_a_frame_channel_is_a_file_in_the_given_folder(tmp_path):
    path = Path(frame_channel(tmp_path, 2).removeprefix("ipc://"))
    assert path.parent == tmp_path


# --- control and previews


@pytest.mark.parametrize(
    ("publish", "control"),
    [
        ("tcp://127.0.0.1:5556", "tcp://127.0.0.1:5557"),
        ("tcp://[::1]:9", "tcp://[::1]:10"),
        ("tcp://127.0.0.1:*", "tcp://127.0.0.1:*"),
        ("tcp://127.0.0.1:0", "tcp://127.0.0.1:*"),
        ("tcp://127.0.0.1:65535", "tcp://127.0.0.1:*"),
        ("ipc:///run/pub", "ipc:///run/pub-control"),
    ],
)
def test_the_control_channel_stands_beside_the_published_one(publish, control):
    assert control_address("auto", publish) == control


def test_the_control_channel_may_be_elsewhere_or_nowhere():
    assert control_address("tcp://127.0.0.1:7000", "tcp://127.0.0.1:5556") == "tcp://127.0.0.1:7000"
    assert control_address("off", "tcp://127.0.0.1:5556") is control_address(None, "tcp://127.0.0.1:5556") is None


@pytest.mark.parametrize("address", BEYOND)
def test_the_control_channel_is_refused_beyond_this_machine_without_keys(address):
    with pytest.raises(ConfigError):
        control_address(address, "tcp://127.0.0.1:5556")
    assert control_address(address, "tcp://127.0.0.1:5556", keyed=True) == address


def test_each_camera_has_its_own_preview_channel(tmp_path):
    channels = [preview_channel(tmp_path, index) for index in range(3)]
    assert all(check_bind(channel) == channel for channel in channels)
    if os.name == "posix":
        assert len({*channels, frame_channel(tmp_path, 0)}) == 4


@pytest.mark.parametrize(
    ("publish", "control", "previews"),
    [
        ("tcp://127.0.0.1:5556", "tcp://127.0.0.1:5557", ["tcp://127.0.0.1:5558", "tcp://127.0.0.1:5559"]),
        ("tcp://*:5556", None, ["tcp://*:5558", "tcp://*:5559"]),
        ("tcp://10.0.0.1:5556", "ipc:///run/control", ["tcp://10.0.0.1:5558", "tcp://10.0.0.1:5559"]),
        ("tcp://[::]:5556", "tcp://127.0.0.1:5550", ["tcp://[::]:5558", "tcp://[::]:5559"]),
        ("tcp://*:5556", "tcp://127.0.0.1:5558", ["tcp://*:5559", "tcp://*:5560"]),
        ("tcp://*:5556", "tcp://127.0.0.1:*", ["tcp://*:5558", "tcp://*:5559"]),
        ("tcp://*:65533", "tcp://*:65534", ["tcp://*:65535", "tcp://*:*"]),
        ("tcp://127.0.0.1:*", "tcp://127.0.0.1:5557", ["tcp://127.0.0.1:*"] * 2),
        ("tcp://127.0.0.1:0", "tcp://127.0.0.1:*", ["tcp://127.0.0.1:*"] * 2),
        ("ipc:///run/publish", "tcp://127.0.0.1:5557", [None, None]),
    ],
)
def test_previews_stand_beside_the_published_address_after_the_control_channel(publish, control, previews):
    assert [preview_address(publish, control, number) for number in range(2)] == previews


@pytest.mark.parametrize(
    ("told", "asked", "usable"),
    [
        ("tcp://0.0.0.0:5556", "tcp://192.168.1.7:5557", "tcp://192.168.1.7:5556"),
        ("tcp://*:5556", "tcp://camera-host:5557", "tcp://camera-host:5556"),
        ("tcp://[::]:5556", "tcp://[fe80::1]:5557", "tcp://[fe80::1]:5556"),
        ("tcp://[0:0:0:0:0:0:0:0]:5556", "tcp://127.0.0.1:5557", "tcp://127.0.0.1:5556"),
        ("tcp://0.0.0.0:5556", "ipc:///run/control", "tcp://127.0.0.1:5556"),
        ("tcp://127.0.0.1:5556", "tcp://127.0.0.1:7000", "tcp://127.0.0.1:5556"),
        ("tcp://10.0.0.1:5556", "tcp://192.168.1.7:5557", "tcp://10.0.0.1:5556"),
        ("tcp://camera-host:5556", "tcp://192.168.1.7:5557", "tcp://camera-host:5556"),
        ("ipc:///run/publish", "tcp://192.168.1.7:5557", "ipc:///run/publish"),
        ("", "tcp://192.168.1.7:5557", ""),
        ("nonsense", "tcp://192.168.1.7:5557", "nonsense"),
    ],
)
def test_an_address_of_all_interfaces_is_the_host_at_which_it_was_asked_for(told, asked, usable):
    assert reachable(told, asked) == usable


@settings(deadline=None)
@given(st.text(max_size=30) | st.from_regex(r"(tcp|ipc)://[\[\]0-9a-f.:*;@ ]{0,30}", fullmatch=True))
def test_whatever_a_service_tells_is_never_made_to_lead_elsewhere(told):
    usable = reachable(told, "tcp://192.168.1.7:5557")
    assert usable == told or usable.startswith("tcp://192.168.1.7:")


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
