"""The whole service in real processes, as a user starts it: these runs guard what the other tests take apart."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import psutil
import pytest

from stream_i3d.messages import ActionEvent, CameraStatus, Recognition
from stream_i3d.transport.sockets import Subscriber
from stream_i3d.transport.wire import Published, decode_published
from tests.ports import free_port
from tests.rtsp import RtspServer, requires_rtsp

ROOT = Path(__file__).resolve().parents[1]
SCENE = "synthetic://?seed=2&fps=30&size=160x120"
NEVER_IDLE = ("--min-confidence", 0, "--min-motion", 0)
Cli = Callable[..., subprocess.CompletedProcess[str]]
MakeVideo = Callable[[float, float], Path]


class Service:
    """A running `stream-i3d run` and a subscriber to it."""

    def __init__(self, process: subprocess.Popen[str], address: str) -> None:
        self.process = process
        self.address = address
        self._subscriber = Subscriber(address)

    def messages(self, within_s: float = 60) -> Iterator[Published]:
        """Yield what is published, for at most `within_s` seconds."""
        until = time.monotonic() + within_s
        while time.monotonic() < until and self.process.poll() is None:
            parts = self._subscriber.receive(0.2)
            if parts is not None:
                yield decode_published(parts)

    def wait_for(self, wanted: Callable[[Published], bool], within_s: float = 60) -> Published:
        """Return the first message that is wanted."""
        found = next((message for message in self.messages(within_s) if wanted(message)), None)
        assert found is not None, f"not seen within {within_s} s; exit code {self.process.poll()}"
        return found

    def predictions(self, count: int, camera: str | None = None) -> list[Recognition]:
        """Return the next `count` predictions of recognised windows."""
        seen: list[Recognition] = []
        for message in self.messages():
            if isinstance(message, Recognition) and message.state != "warming" and camera in (None, message.camera):
                seen.append(message)
                if len(seen) == count:
                    return seen
        raise AssertionError(f"only {len(seen)} of {count} predictions; exit code {self.process.poll()}")

    def children(self) -> dict[str, psutil.Process]:
        """Return the service's stage processes by what they have loaded: "worker", "capture" and "publisher"."""
        named = {}
        for child in psutil.Process(self.process.pid).children():
            loaded = {Path(region.path).name for region in child.memory_maps()}
            if any(name.startswith(("libtorch", "libopenvino")) for name in loaded):
                named["worker"] = child
            elif any(name.startswith("cv2") for name in loaded):
                named["capture"] = child
            elif any("zmq" in name for name in loaded):
                named["publisher"] = child
        return named

    def close(self) -> None:
        self._subscriber.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@contextmanager
def running(*arguments: object) -> Iterator[Service]:
    """Run `stream-i3d run ARGUMENTS` until the block ends."""
    address = f"tcp://127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "stream_i3d", "run", "--publish", address, *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    service = Service(process, address)
    try:
        yield service
    finally:
        service.close()


def gone(processes: list[psutil.Process], within_s: float) -> bool:
    """Wait until processes have ended; one that nobody has reaped yet counts as ended."""
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        if not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in processes):
            return True
        threading.Event().wait(0.05)
    return False


def recognised(lines: str) -> dict[int, dict[str, Any]]:
    """Return the predictions with a whole window in JSON lines, by their last frame."""
    messages = [json.loads(line) for line in lines.splitlines()]
    return {message["window"]["last_frame"]: message for message in messages if message.get("top_k")}


STREAMING = ["--mode", "streaming", "--stride", "4", "--averaging", "2"]


@pytest.mark.parametrize(
    ("fps", "flags", "mode", "ends"),
    [
        (19.62, ["--fast"], [], range(15, 100, 8)),
        (25, [], [], range(15, 100, 8)),
        (29.97, ["--fast"], [], range(15, 100, 8)),
        (60, ["--fast"], [], range(15, 100, 8)),
        (29.97, ["--fast"], STREAMING, range(63, 100, 4)),
    ],
)
def test_live_equals_offline_window_by_window(
    fps: float, flags: list[str], mode: list[str], ends: range, cli: Cli, make_video: MakeVideo, tiny_checkpoint: Path
) -> None:
    video = make_video(fps, 4)
    common = ["--checkpoint", tiny_checkpoint, "--precision", "fp32", "--top-k", 10, *NEVER_IDLE, *mode]
    offline = cli("recognize", video, *common)
    live = cli("run", "--source", video, "--publish", "tcp://127.0.0.1:*", "--jsonl", "-", *flags, *common)
    assert (offline.returncode, live.returncode) == (0, 0), offline.stderr + live.stderr
    expected, published = recognised(offline.stdout), recognised(live.stdout)
    assert list(published) == list(expected) == list(ends)
    for last, message in published.items():
        assert message["window"] == expected[last]["window"]
        for key in ("probability", "raw_probability"):
            ours = {score["label"]: score[key] for score in message["top_k"]}
            theirs = {score["label"]: score[key] for score in expected[last]["top_k"]}
            np.testing.assert_allclose([ours[label] for label in theirs], list(theirs.values()), atol=1e-5)


def test_every_live_message_fits_the_committed_schemas(tiny_checkpoint: Path) -> None:
    schemas = {
        kind: json.loads((ROOT / "docs" / "schemas" / f"{name}.json").read_text())
        for kind, name in ((Recognition, "prediction"), (ActionEvent, "event"), (CameraStatus, "status"))
    }
    address = f"tcp://127.0.0.1:{free_port()}"
    seen: set[str] = set()
    command = [
        "run",
        "--source",
        SCENE,
        "--checkpoint",
        str(tiny_checkpoint),
        "--publish",
        address,
        "--min-confidence",
        "0",
    ]
    config = ["--config", str(ROOT / "tests" / "eager-events.yaml")]
    process = subprocess.Popen([sys.executable, "-m", "stream_i3d", *command, *config], stderr=subprocess.PIPE)
    try:
        with Subscriber(address) as subscriber:
            until = time.monotonic() + 60
            while len(seen) < 3 and time.monotonic() < until:
                if (parts := subscriber.receive(0.2)) is not None:
                    kind = type(decode_published(parts))
                    jsonschema.validate(json.loads(parts[1]), schemas[kind])
                    seen.add(kind.__name__)
    finally:
        process.terminate()
        process.communicate(timeout=60)
    assert seen == {"Recognition", "ActionEvent", "CameraStatus"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ends_cleanly_on_a_signal_with_a_summary_and_no_process_left(number: int, tiny_checkpoint: Path) -> None:
    with running("--source", SCENE, "--checkpoint", tiny_checkpoint, *NEVER_IDLE) as service:
        service.predictions(3)
        children = psutil.Process(service.process.pid).children(recursive=True)
        service.process.send_signal(number)
        _, errors = service.process.communicate(timeout=60)
        assert service.process.returncode == 0
        assert gone(children, 5)
    summary = errors.strip().splitlines()[-1]
    assert re.search(r"summary: \d+ frames, \d+ windows, [\d.]+ fps, latency p50 .* p95 .*, dropped 0 frames", summary)
    assert "Traceback" not in errors


def test_no_process_outlives_a_supervisor_that_was_killed(tiny_checkpoint: Path) -> None:
    with running("--source", SCENE, "--checkpoint", tiny_checkpoint, *NEVER_IDLE) as service:
        service.predictions(1)
        children = list(service.children().values())
        assert len(children) == 3
        service.process.kill()
        assert gone(children, 10)


@pytest.mark.parametrize("victim", ["capture", "worker"])
def test_a_killed_process_is_started_again(victim: str, tiny_checkpoint: Path) -> None:
    with running("--source", SCENE, "--checkpoint", tiny_checkpoint, *NEVER_IDLE) as service:
        before = service.predictions(1)[0]
        service.children()[victim].kill()
        after = service.wait_for(
            lambda message: (
                isinstance(message, Recognition)
                and message.state != "warming"
                and (message.epoch != before.epoch if victim == "capture" else message.frames_dropped == 0)
                and message.seq != before.seq
            )
        )
        assert isinstance(after, Recognition)
        service.process.terminate()
        _, errors = service.process.communicate(timeout=60)
        assert f"{victim}" in errors and "starting it again" in errors


def test_a_killed_publisher_is_started_again_at_its_address_and_no_event_is_lost(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.jsonl"
    eager = ("--config", ROOT / "tests" / "eager-events.yaml", "--jsonl", output)
    with running("--source", SCENE, "--checkpoint", tiny_checkpoint, *NEVER_IDLE, *eager) as service:
        service.predictions(3)
        for _ in range(2):
            service.children()["publisher"].kill()
            service.predictions(10)
        service.process.terminate()
        _, errors = service.process.communicate(timeout=60)
        assert "publisher ended with code -9; starting it again" in errors
    events = [line for line in map(json.loads, output.read_text().splitlines()) if line["schema"].endswith("event/1")]
    seen = list(dict.fromkeys((line["id"], line["event"]) for line in events))
    ids = list(dict.fromkeys(identity for identity, _ in seen))
    assert ids and seen == [(identity, what) for identity in ids for what in ("start", "end")]


def test_subscribers_are_told_of_cameras_whose_worker_was_killed(tiny_checkpoint: Path) -> None:
    with running("--source", SCENE, "--checkpoint", tiny_checkpoint, *NEVER_IDLE) as service:
        service.predictions(1)
        service.children()["worker"].kill()
        status = service.wait_for(lambda message: isinstance(message, CameraStatus) and message.state == "stalled")
        assert isinstance(status, CameraStatus) and status.detail == "the worker is starting again"
        service.wait_for(lambda message: isinstance(message, CameraStatus) and message.state == "live")
        assert service.predictions(2)


def test_capture_process_is_small_and_has_no_torch(tiny_checkpoint: Path, make_video: MakeVideo) -> None:
    with running("--source", make_video(25, 8), "--checkpoint", tiny_checkpoint, *NEVER_IDLE) as service:
        service.predictions(3)
        capture = service.children()["capture"]
        assert not any("torch" in region.path for region in capture.memory_maps())
        assert capture.memory_info().rss < 150e6


def test_duration_ends_a_run_of_two_cameras(cli: Cli, tiny_checkpoint: Path) -> None:
    done = cli(
        "run", "--source", SCENE, "--source", SCENE, "--checkpoint", tiny_checkpoint, "--duration", 3,
        "--publish", "tcp://127.0.0.1:*", "--jsonl", "-", *NEVER_IDLE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert {message["camera"] for message in recognised_messages(done.stdout)} == {"synthetic", "synthetic-2"}


def test_cameras_are_shared_by_the_workers_of_several_devices_and_the_run_ends_with_them(
    cli: Cli, make_video: MakeVideo, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    config, video = tmp_path / "two.yaml", make_video(25, 3)
    config.write_text("model:\n  devices: [cpu, cpu]\n")
    done = cli(
        "run", "--config", config, "--source", video, "--source", video, "--source", video, "--fast",
        "--checkpoint", tiny_checkpoint, "--publish", "tcp://127.0.0.1:*", "--jsonl", "-", *NEVER_IDLE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    windows: dict[str, list[int]] = {}
    for message in recognised_messages(done.stdout):
        windows.setdefault(message["camera"], []).append(message["window"]["last_frame"])
    assert list(windows.values()) == [list(range(15, 75, 8))] * 3


def recognised_messages(lines: str) -> list[dict[str, Any]]:
    return [message for message in map(json.loads, lines.splitlines()) if message.get("top_k")]


@requires_rtsp
def test_rtsp_camera_is_recognised_at_every_stride(make_video: MakeVideo, tiny_checkpoint: Path) -> None:
    with (
        RtspServer(make_video(25, 8)) as server,
        running("--source", server.url, "--checkpoint", tiny_checkpoint, *NEVER_IDLE) as service,
    ):
        seen = service.predictions(12)
        steps = np.diff([message.window.last_frame for message in seen])
        # A window may be rejected while the stream settles; never is one out of step.
        assert (steps % 8 == 0).all() and np.median(steps) == 8
        spans = [message.window.end_time - message.window.start_time for message in seen]
        assert np.median(spans) == pytest.approx(15 / 25, abs=1 / 25)


@requires_rtsp
def test_camera_down_at_the_start_is_said_and_tried_again_while_others_run(
    make_video: MakeVideo, tiny_checkpoint: Path
) -> None:
    port = free_port()
    down = f"rtsp://user:secret@127.0.0.1:{port}/cam"
    with running("--source", down, "--source", SCENE, "--checkpoint", tiny_checkpoint, *NEVER_IDLE) as service:
        service.predictions(2, "synthetic")
        status = service.wait_for(lambda message: isinstance(message, CameraStatus) and message.camera == "127.0.0.1")
        assert isinstance(status, CameraStatus)
        assert status.state == "connecting"
        assert "connection refused" in status.detail and "next try in" in status.detail
        with RtspServer(make_video(25, 8), port=port, user="user", password="secret"):
            assert service.predictions(2, "127.0.0.1")
        service.process.terminate()
        output, errors = service.process.communicate(timeout=60)
        assert "connection refused" in errors
        assert "secret" not in errors + output + status.detail


@requires_rtsp
@pytest.mark.parametrize("flaw", ["refused", "unknown host", "wrong password"])
def test_no_retry_ends_with_one_clear_line(flaw: str, cli: Cli, make_video: MakeVideo, tiny_checkpoint: Path) -> None:
    with RtspServer(make_video(25, 8), user="user", password="right") as server:
        host = {"refused": f"127.0.0.1:{free_port()}", "unknown host": "camera.invalid"}.get(
            flaw, f"127.0.0.1:{server.port}"
        )
        done = cli("run", "--source", f"rtsp://user:wr0ng@{host}/cam", "--checkpoint", tiny_checkpoint, "--no-retry")
    assert done.returncode == 2
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith("error: rtsp://***@")
    assert {"refused": "refused", "unknown host": "is unknown", "wrong password": "401"}[flaw] in line
    assert "wr0ng" not in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--source", "98"], "/dev/video98 does not exist"),
        (["--source", "{tmp}/none.mp4"], "no such file"),
        (["--source", "{tmp}/noise.mp4"], "not a video"),
        (["--source", SCENE, "--labels", "{tmp}/two.txt"], "2 labels do not fit a network of 10"),
        (["--source", SCENE, "--checkpoint", "{tmp}/noise.mp4"], "damaged"),
        (["--source", SCENE, "--device", "cuda:9"], "device 'cuda:9'"),
        (["--source", SCENE, "--publish", "tcp://127.0.0.1:{busy}"], "in use"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: list[str], said: str, cli: Cli, tmp_path: Path, tiny_checkpoint: Path
) -> None:
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(1).bytes(4000))
    (tmp_path / "two.txt").write_text("one\ntwo\n")
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        filled = [text.format(tmp=tmp_path, busy=busy.getsockname()[1]) for text in arguments]
        checkpoint = [] if "--checkpoint" in filled else ["--checkpoint", tiny_checkpoint]
        publish = [] if "--publish" in filled else ["--publish", "tcp://127.0.0.1:*"]
        done = cli("run", "--quiet", *filled, *checkpoint, *publish)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_watch_in_a_pipe_prints_json_lines(cli: Cli, tiny_checkpoint: Path) -> None:
    with running("--source", SCENE, "--checkpoint", tiny_checkpoint, *NEVER_IDLE) as service:
        service.predictions(1)
        done = cli("watch", "--connect", service.address, "--kind", "prediction", "--count", 3, "--duration", 60)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["schema"] for line in done.stdout.splitlines()] == ["stream-i3d/prediction/1"] * 3


def test_subscribers_of_the_documentation_receive_predictions(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """The code blocks of docs/subscribing.md, run as they stand but for the address."""
    blocks = dict(re.findall(r"```(python|js)\n(.*?)```", (ROOT / "docs" / "subscribing.md").read_text(), re.S))
    modules = ROOT / "tests" / "node" / "node_modules"
    if (shutil.which("node") is None or not modules.exists()) and os.environ.get("CI") != "true":
        pytest.skip("node and tests/node/node_modules are needed: run `make test`")
    commands = {"python": [sys.executable, str(tmp_path / "s.py")], "js": ["node", str(tmp_path / "s.mjs")]}
    (tmp_path / "node_modules").symlink_to(modules)
    with running("--source", SCENE, "--checkpoint", tiny_checkpoint, *NEVER_IDLE) as service:
        service.predictions(1)
        for language, command in commands.items():
            Path(command[-1]).write_text(blocks[language].replace("tcp://127.0.0.1:5556", service.address))
            lines = first_lines(command, 3)
            assert len(lines) == 3 and all("synthetic" in line for line in lines), (language, lines)


def test_node_subscriber_parses_every_stride(tiny_checkpoint: Path) -> None:
    if not (ROOT / "tests" / "node" / "node_modules").exists() and os.environ.get("CI") != "true":
        pytest.skip("tests/node/node_modules is needed: run `make test`")
    with running("--source", SCENE, "--checkpoint", tiny_checkpoint, *NEVER_IDLE) as service:
        service.predictions(1)
        command = [
            "node",
            str(ROOT / "tests" / "node" / "subscriber.mjs"),
            service.address,
            "8",
            "v1/synthetic/prediction",
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["received"] == 8


def first_lines(command: list[str], count: int) -> list[str]:
    """Return the first lines a program prints, and end it."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    watchdog = threading.Timer(60, process.kill)
    watchdog.start()
    try:
        assert process.stdout is not None
        return [line for line, _ in zip(process.stdout, range(count), strict=False)]
    finally:
        watchdog.cancel()
        process.kill()
        process.communicate()
