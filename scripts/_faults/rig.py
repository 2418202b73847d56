"""The world that faults happen in: cameras with passwords, a service on them, a broker, folders for what they write.

`public` is what the whole suite writes and is searched for passwords at the end; `private` holds what must know them.
"""

from __future__ import annotations

import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self
from urllib.error import HTTPError
from urllib.request import urlopen

import cv2
import numpy as np

from _faults.broker import USER as USER_AT_BROKER
from _faults.broker import HeardBroker
from _faults.service import Service, pause
from _faults.watch import Unmet
from stream_i3d.scenes import SceneRenderer
from tests.broker import why_not as why_no_broker
from tests.ports import free_port
from tests.rtsp import RtspServer

SIZE = (320, 240)
FPS = 25
USER = "viewer"
CALM_S = 11.0
"""A process that was well for longer than this is started again after one second (backoff.Backoff)."""

EAGER: dict[str, Any] = {
    "idle": {"min_confidence": 0.0, "min_motion": 0.0},
    "smoothing": {"time_constant_s": 0.2},
    "events": {"on_threshold": 0.3, "off_threshold": 0.2, "min_on_s": 0, "min_off_s": 0},
    "capture": {"backoff_limit_s": 4.0},
}
"""Settings of all services of the suite: the carried model never idle, events often, and a camera tried again at least
every four seconds (the default is sixty, which a suite does not wait for)."""


def make_clip(path: Path, size: tuple[int, int] = SIZE, seconds: float = 20.0, seed: int = 3) -> Path:
    """Write a video of synthetic scenes, which the carried model knows."""
    renderer = SceneRenderer(seed, size)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), FPS, size)
    for index in range(round(FPS * seconds)):
        writer.write(np.asarray(renderer.render(index / FPS)))
    writer.release()
    return path


class Rig:
    """Cameras, a broker, and the service `main` with all its sinks, for as long as the context lasts.

    Attributes:
        short: Whether waits are those of the short form.
        password: Of every camera; a search for it at the end must find nothing, nor the wrong one that is tried.
        disk: A small file system of its own for what the sinks write, or None where none could be mounted.
    """

    def __init__(
        self,
        short: bool,
        names: Sequence[str] = ("a", "b"),
        size: tuple[int, int] = SIZE,
        keep: Path | None = None,
        slack: float = 1.0,
    ) -> None:
        """Args: `names` are those of the cameras; `keep` gets a copy of what was written; `slack` stretches bounds."""
        self.short, self.slack = short, slack
        self.password, self.wrong_password, self.mqtt_password = (f"s3cret-{secrets.token_hex(8)}" for _ in range(3))
        self._names, self._size, self._keep = names, size, keep
        self.folder = Path(tempfile.mkdtemp(prefix="faults-"))
        self.private, self.public = self.folder / "private", self.folder / "public"
        self.private.mkdir(mode=0o700)
        self.public.mkdir()
        self.disk: Path | None = None
        self.broker: HeardBroker | None = None
        self.monitor = f"127.0.0.1:{free_port()}"
        self._open = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._open.callback(shutil.rmtree, self.folder, ignore_errors=True)
            self.disk = self._mount()  # the broker and the service are ended before it goes
            self._open.callback(self._copy)
            self.clip = make_clip(self.folder / "clip.mp4", self._size)
            self.servers = {name: self._open.enter_context(self.camera()) for name in self._names}
            if why_no_broker() is None:
                self.broker = self._open.enter_context(HeardBroker(self.private, self.public, self.mqtt_password))
            sources = {name: server.login_url for name, server in self.servers.items()}
            settings = {"sinks": self._sinks(), "monitoring": {"address": self.monitor}}
            self.main = self._open.enter_context(self.service("main", sources, settings))
            self.main.steady()
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    @property
    def jsonl(self) -> Path:
        """Where the main service writes JSON lines: on the small disk where there is one."""
        return (self.disk or self.public) / "main.jsonl"

    @property
    def store(self) -> Path:
        """Where the main service has its event store, likewise."""
        return (self.disk or self.public) / "events.sqlite"

    @property
    def clips(self) -> Path:
        """Where the main service records clips, likewise."""
        return (self.disk or self.public) / "clips"

    def scrape(self) -> None:
        """Add what the main service says over HTTP now to what is searched for passwords."""
        with (self.public / "http").open("ab") as file:
            for route in ("metrics", "healthz", "readyz", "status"):
                try:
                    with urlopen(f"http://{self.monitor}/{route}", timeout=10) as answer:
                        file.write(answer.read())
                except HTTPError as error:  # not well just now
                    file.write(error.read())

    def _sinks(self) -> list[dict[str, Any]]:
        sinks: list[dict[str, Any]] = [
            {"type": "jsonl", "path": str(self.jsonl), "max_bytes": 4_000_000, "keep": 1},
            {"type": "store", "path": str(self.store)},
            {"type": "recorder", "folder": str(self.clips), "quota_mb": 8, "min_free_mb": 1, "max_side": 160, "fps": 5},
        ]
        if self.broker is not None:
            login = {"username": USER_AT_BROKER, "password": self.mqtt_password}
            sinks.append({"type": "mqtt", "host": "127.0.0.1", "port": self.broker.port, "backoff_limit_s": 4, **login})
        return sinks

    def _copy(self) -> None:
        """Keep a copy of what was written, where that is asked for."""
        for folder in (self.public, self.disk):
            if self._keep is not None and folder is not None:
                shutil.copytree(folder, self._keep, dirs_exist_ok=True)

    def camera(self, prefix: Sequence[str] = (), **options: Any) -> RtspServer:
        """Return a camera that is not started yet; `options` are those of RtspServer."""
        return RtspServer(self.clip, user=USER, password=self.password, prefix=prefix, **options)

    def replace(self, name: str, **options: Any) -> RtspServer:
        """Return another camera in place of one that was stopped; it is not started yet, and ended with the rig."""
        self.servers[name] = self.camera(**options)
        self._open.callback(self.servers[name].stop)
        return self.servers[name]

    def service(
        self, name: str, sources: Mapping[str, str], settings: Mapping[str, Any] | None = None, **options: Any
    ) -> Service:
        """Return a service on cameras (names to sources) that is not started yet; `options` are those of Service."""
        cameras = [{"name": camera, "source": source} for camera, source in sources.items()]
        home = {"STREAM_I3D_HOME": str(self.folder / "home"), "OMP_NUM_THREADS": "1", **options.pop("env", {})}
        whole = {**EAGER, **(settings or {}), "cameras": cameras}
        return Service(name, self.private, self.public, whole, env=home, **options)

    def calm(self, name: str) -> None:
        """Wait until a process of the main service has lived so long that its next restart is a first one."""
        process = self.main.stage(name)
        while time.time() - process.create_time() < CALM_S and not self._first(name):
            pause(0.1)
        self.main.steady()

    def _first(self, name: str) -> bool:
        """Tell whether a process was never started again: then no pause has grown."""
        return self.main.said(f"{name} ended with") + self.main.said(f"{name} was s") == 0  # silent, or stopped

    def _mount(self) -> Path | None:
        """Mount a file system of a few MB; None where this user may not."""
        place = self.folder / "disk"
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", "size=64m,mode=700", "tmpfs", str(place)]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
            return None
        # Lazily: whoever still has a file open there must not keep the suite from ending.
        self._open.callback(subprocess.run, ["umount", "-l", str(place)], check=False)
        return place


def until(wanted: Callable[[], bool], within_s: float, what: str) -> float:
    """Wait until something holds; return the seconds that took.

    Raises:
        Unmet: It did not come to hold; `what` names it.
    """
    start = time.monotonic()
    while not wanted():
        if time.monotonic() - start > within_s:
            raise Unmet(f"{what}: not within {within_s:g} s")
        pause()
    return time.monotonic() - start
