"""A real service with keys, watched with and without them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from stream_i3d.errors import TransportError
from stream_i3d.messages import Recognition
from stream_i3d.transport.control import CamerasReply, HelloReply, ListCameras, SayHello
from stream_i3d.transport.control_sockets import ControlClient
from stream_i3d.transport.keys import ClientKeys, fingerprint
from stream_i3d.transport.preview import PreviewReceivers
from stream_i3d.transport.sockets import Subscriber, wait_for_any
from stream_i3d.transport.wire import decode_published
from tests.keys import Ring
from tests.ports import free_port
from tests.test_end_to_end import NEVER_IDLE, ROOT, SCENE, Cli, first_lines

WAIT_S = 110.0
REFUSED = ["unknown key", "no key", "wrong server key"]


@dataclass
class Guarded:
    """A running service, and where its sockets are."""

    ring: Ring
    process: subprocess.Popen[str]
    control: str
    hello: HelloReply
    preview: str
    log: Path

    def flags(self, client: str = "clients/friend", server: str = "service") -> list[str]:
        return [
            "--key", str(self.ring.folder / f"{client}.key_secret"),
            "--server-key", str(self.ring.folder / f"{server}.key"),
        ]  # fmt: skip


@contextmanager
def serving(ring: Ring, checkpoint: Path, host: str) -> Iterator[Guarded]:
    """Run a service with keys on any free ports of `host`."""
    control = f"tcp://{host}:{free_port()}"
    log = ring.folder / "log"
    command = [
        sys.executable, "-m", "stream_i3d", "run", "--source", SCENE, "--checkpoint", checkpoint, *NEVER_IDLE,
        "--publish", f"tcp://{host}:*", "--control", control,
        "--key", ring.folder / "service.key_secret", "--clients", ring.clients,
    ]  # fmt: skip
    with (
        log.open("w") as errors,
        subprocess.Popen([str(word) for word in command], stderr=errors, text=True) as process,
        ControlClient(control, ring.client()) as client,
    ):
        try:
            hello, preview = _ready(client, process)
            yield Guarded(ring, process, control, hello, preview, log)
        finally:
            process.terminate()


def _ready(client: ControlClient, process: subprocess.Popen[str]) -> tuple[HelloReply, str]:
    """Wait until predictions are published and previews can be had."""
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until:
        hello, cameras = client.request(SayHello(), WAIT_S), client.request(ListCameras(), WAIT_S)
        assert isinstance(hello, HelloReply) and isinstance(cameras, CamerasReply)
        if hello.ready and cameras.cameras[0].preview:
            return hello, cameras.cameras[0].preview
        assert process.poll() is None
        client.receive(0.1)
    raise AssertionError("the service is not ready")


@pytest.fixture(scope="module")
def guarded(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with serving(Ring.make(tmp_path_factory.mktemp("keys")), tiny_checkpoint, "127.0.0.1") as service:
        yield service


def test_a_client_that_is_let_in_gets_answers_predictions_and_pictures(guarded: Guarded) -> None:
    keys = guarded.ring.client()
    assert guarded.hello.publish.startswith("tcp://127.0.0.1:") and guarded.preview.startswith("tcp://127.0.0.1:")
    with Subscriber(guarded.hello.publish, keys=keys) as subscriber:
        parts = subscriber.receive(WAIT_S)
        while parts is not None and not isinstance(decode_published(parts), Recognition):
            parts = subscriber.receive(WAIT_S)
        assert parts is not None
    with PreviewReceivers(keys) as previews:
        previews.follow({"synthetic": guarded.preview})
        assert wait_for_any([previews], WAIT_S)
        assert previews.receive()[0][0] == "synthetic"


@pytest.mark.parametrize("who", REFUSED)
def test_nobody_else_gets_anything(guarded: Guarded, who: str) -> None:
    keys, why = guarded.ring.refused[who]
    asking: list[Callable[[ClientKeys | None], object]] = [
        lambda keys: Subscriber(guarded.hello.publish, keys=keys),
        lambda keys: ControlClient(guarded.control, keys),
        lambda keys: Subscriber(guarded.preview, [""], keys),
    ]
    for make in asking:
        with make(keys) as stranger, pytest.raises(TransportError, match=why):  # type: ignore[attr-defined]
            if isinstance(stranger, ControlClient):
                stranger.request(SayHello(), WAIT_S)
            else:
                stranger.receive(WAIT_S)


def test_watch_needs_the_key(guarded: Guarded, cli: Cli) -> None:
    address = guarded.hello.publish
    common = ("watch", "--connect", address, "--kind", "prediction", "--count", 3, "--duration", 60)
    known = cli(*common, *guarded.flags())
    assert known.returncode == 0, known.stderr
    assert [json.loads(line)["camera"] for line in known.stdout.splitlines()] == ["synthetic"] * 3
    for flags, why in (
        ([], "lets in clients with keys only"),
        (guarded.flags("stranger"), "does not know your key"),
        (guarded.flags(server="other"), "hangs up"),
    ):
        done = cli(*common, *flags)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"error: {address} ") and why in done.stderr and done.stderr.count("\n") == 1


def test_a_subscriber_in_another_language_needs_a_key_on_the_list(guarded: Guarded) -> None:
    if not (ROOT / "tests" / "node" / "node_modules").exists() and os.environ.get("CI") != "true":
        pytest.skip("tests/node/node_modules is needed: run `make test`")
    folder = guarded.ring.folder
    program = ["node", str(ROOT / "tests" / "node" / "subscriber.mjs"), guarded.hello.publish]
    strangers = [
        [*program, "1"],
        [*program, "1", "v1/", str(folder / "stranger.key_secret"), str(folder / "service.key")],
        [*program, "1", "v1/", str(folder / "clients" / "friend.key_secret"), str(folder / "other.key")],
    ]
    friend = [*program, "8", "v1/synthetic/prediction", *guarded.flags()[1::2]]
    with ExitStack() as stack:
        waiting = [stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE)) for command in strangers]
        for one in waiting:
            stack.callback(one.kill)
        # They were there before, and one message would have been enough for them.
        done = subprocess.run(friend, capture_output=True, text=True, timeout=WAIT_S, check=False)
        assert [one.poll() for one in waiting] == [None] * 3
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["received"] == 8


def test_a_refused_key_stands_in_the_log_and_no_secret_does(guarded: Guarded) -> None:
    stranger = guarded.ring.client("stranger")
    with ControlClient(guarded.control, stranger) as client, pytest.raises(TransportError):
        client.request(SayHello(), WAIT_S)
    said = guarded.log.read_text()
    assert f"refused a client with the unknown key {fingerprint(stranger.public)} " in said
    secrets = [guarded.ring.server().secret, stranger.secret, guarded.ring.client().secret]
    assert not any(secret.decode() in said for secret in secrets)


def test_the_subscriber_of_the_documentation_receives_predictions(guarded: Guarded, tmp_path: Path) -> None:
    """The Python of docs/security.md, as it stands but for the names of files and the address."""
    [code] = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "security.md").read_text(), re.S)
    folder = guarded.ring.folder
    for name, here in {
        "me.key_secret": str(guarded.ring.clients / "friend.key_secret"),
        "service.key": str(folder / "service.key"),
        "tcp://camera-host:5556": guarded.hello.publish,
    }.items():
        assert f'"{name}"' in code
        code = code.replace(name, here)
    (tmp_path / "subscriber.py").write_text(code)
    lines = first_lines([sys.executable, str(tmp_path / "subscriber.py")], 3)
    assert len(lines) == 3 and all("synthetic" in line for line in lines)
