"""Turns a configuration into the table of processes to run. Opens nothing but the checkpoint's header."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from msgspec import structs

from stream_i3d.capture.address import SourceAddress, parse_source
from stream_i3d.capture.loop import CaptureJob
from stream_i3d.capture.picture_memory import MemoryLimit
from stream_i3d.capture.process import capture_main
from stream_i3d.config import Config, ModelConfig, change_settings
from stream_i3d.errors import ConfigError, did_you_mean
from stream_i3d.inference.cores import allowed_cores
from stream_i3d.inference.setup import check_view, settle_model
from stream_i3d.inference.worker.drain import WorkerJob
from stream_i3d.inference.worker.process import worker_main
from stream_i3d.messages import ViewName
from stream_i3d.publish.process import PublisherJob, publisher_main
from stream_i3d.publish.sinks import check_sinks
from stream_i3d.service.camera_names import capture_stage, ends_without_camera, free_name, name_cameras
from stream_i3d.service.hang import BUSY_STARTUP, HangLimits
from stream_i3d.sink_settings import RecorderSettings
from stream_i3d.stage import CameraSlot, Stage
from stream_i3d.transport.addresses import (
    check_bind,
    control_address,
    frame_channel,
    preview_address,
    preview_channel,
    relay_channel,
)

MAX_CAMERAS = 64
"""Of one service; each is a process of some 100 MB."""

_IDLE_S = 8.0
_STARTUP_SILENCE_S = 120.0
_SILENCE_S = 60.0
_CAPTURE_SLACK_S = 10.0


Role = Literal["publisher", "worker", "capture"]


@dataclass(frozen=True, slots=True)
class StageRow:
    """One process of the service.

    Attributes:
        main: Runs in the child, as `main(stage, job)`.
        silent_limit_s: It is killed and started again when its heartbeat is older than this.
        startup_limit_s: The same, until it says it is ready (imports, loading weights), while it does nothing; ten
            times as long while it works.
        role: What it is for. The run is ready when all workers and the publisher are, and over when all workers have
            finished.
        shutdown_order: Lower ones are stopped first.
        grace_s: Seconds from being asked to end to being killed.
        essential: Whether the run ends where this process cannot go on.
        memory_limit_mb: It is started again, in order, when it holds more resident memory than this; "auto" is what it
            says that its pictures need, None is no limit.
        plays_once: Whether its work must not begin anew once it has begun: a file would be read from its start again.
        idle_limit_s: It is killed and started again when its heartbeat is older than this and it does nothing either,
            unless it has declared a long call (`Stage.long_call`).
    """

    name: str
    main: Callable[[Stage, Any], None]
    job: Any
    silent_limit_s: float
    startup_limit_s: float
    shutdown_order: int
    grace_s: float
    role: Role = "capture"
    essential: bool = True
    memory_limit_mb: MemoryLimit = None
    plays_once: bool = False
    idle_limit_s: float = float("inf")

    def hang_limits(self, started: bool) -> HangLimits:
        """Return how long it may be without a heartbeat, before and after it has started."""
        if started:
            return HangLimits(self.idle_limit_s, self.silent_limit_s)
        return HangLimits(self.startup_limit_s, BUSY_STARTUP * self.startup_limit_s)


@dataclass(frozen=True, slots=True)
class PlannedCamera:
    """One camera of the plan and its capture process.

    Attributes:
        slot: What its worker knows of it.
        row: Its capture process.
        worker: Name of its worker.
        view: What was asked for; None where that is the same as for all.
    """

    slot: CameraSlot
    row: StageRow
    worker: str
    view: ViewName | None = None

    @property
    def job(self) -> CaptureJob:
        """What its capture process is to do."""
        job: CaptureJob = self.row.job
        return job


class Plan:
    """The table of processes: publisher, workers, a capture process per camera; and how it changes at run time.

    Holds what is wanted, and starts nothing. The jobs in it are always what a process started now should do.
    """

    def __init__(self, config: Config, folder: Path, worker: Callable[[Stage, Any], None] = worker_main) -> None:
        """Args:
            config: What to run.
            folder: A private folder for the channels between the processes.
            worker: Entry point of the worker (benchmarks put a slow one in its place).

        Raises:
            StreamI3DError: Something of the configuration cannot be had; all that can be known before starting.
        """
        check_bind(config.publish.address, config.security.keyed)
        check_sinks(config)
        self.config = config
        self._folder = folder
        self._run = secrets.token_hex(8)  # not of a clock, which may be set while the service runs
        self._relay = relay_channel(folder)
        self._worker = worker
        self._setup = settle_model(config.model, config.window)
        self._numbered = 0
        devices = config.model.all_devices
        if not config.control.stay:  # a worker without a camera is of no use where none is expected
            devices = devices[: max(1, len(config.cameras))]
        names = ["worker"] if len(devices) == 1 else [f"worker {number}" for number in range(1, len(devices) + 1)]
        self._devices = dict(zip(names, devices, strict=True))
        self.cameras: dict[str, PlannedCamera] = {}
        essential = ends_without_camera(config)
        for camera, (name, address, source) in zip(config.cameras, name_cameras(config), strict=True):
            self._add(name, address, source, essential, camera.view)
            if camera.paused:
                self.pause(name, True)

    @property
    def rows(self) -> list[StageRow]:
        """All processes, in the order in which they are started."""
        return [self.publisher_row, *self.worker_rows, *(camera.row for camera in self.cameras.values())]

    @property
    def publisher_row(self) -> StageRow:
        """The publisher."""
        config = structs.replace(self.config, cameras=[])  # without passwords
        job = PublisherJob(channel=self._relay, config=config, run=self._run)
        return StageRow(
            "publisher",
            publisher_main,
            job,
            _SILENCE_S,
            _STARTUP_SILENCE_S,
            2,
            grace_s=1.6,
            role="publisher",
            idle_limit_s=_IDLE_S,
            memory_limit_mb=self._publisher_limit_mb,
        )

    @property
    def _publisher_limit_mb(self) -> float | None:
        """Return the publisher's limit of memory; what recorders may keep of all possible cameras comes on top."""
        limit = self.config.publish.max_memory_mb
        rings = sum(sink.ring_mb for sink in self.config.sinks if isinstance(sink, RecorderSettings))
        return None if limit is None else limit + rings * MAX_CAMERAS

    @property
    def worker_rows(self) -> list[StageRow]:
        """The workers as they should be now, one on each device."""
        return [self._worker_row(name) for name in self._devices]

    def _worker_row(self, name: str) -> StageRow:
        job = WorkerJob(
            cameras=[camera.slot for camera in self.cameras.values() if camera.worker == name],
            relay=self._relay,
            setup=structs.replace(self._setup, config=self._model_on(self._devices[name])),
            config=self.config,
            linger=len(self._devices) > 1,
        )
        return StageRow(
            name,
            self._worker,
            job,
            _SILENCE_S,
            _STARTUP_SILENCE_S,
            1,
            grace_s=1.6,
            role="worker",
            memory_limit_mb=self.config.model.max_memory_mb,
            idle_limit_s=_IDLE_S,
        )

    def _model_on(self, device: str) -> ModelConfig:
        """Return the network's settings for one worker; those on the CPU divide its cores."""
        model = structs.replace(self._setup.config, device=device, devices=[])
        sharing = sum(not one.startswith("cuda") for one in self._devices.values())
        if model.threads or sharing < 2 or device.startswith("cuda"):
            return model
        return structs.replace(model, threads=max(1, allowed_cores() // sharing))

    def _least_loaded(self) -> str:
        """Return the worker with the fewest cameras, the first of several."""
        cameras = [camera.worker for camera in self.cameras.values()]
        return min(self._devices, key=cameras.count)

    def change_settings(self, changes: Mapping[str, Any]) -> None:
        """Change some of `config.LIVE_SETTINGS`; ConfigError where one is not allowed."""
        self.config = change_settings(self.config, changes)

    def add(self, source: str, name: str | None = None, view: ViewName | None = None) -> PlannedCamera:
        """Plan one more camera.

        Raises:
            ConfigError: The name is taken, the source means nothing, there are too many cameras, or the network does
                not take frames of the view.
        """
        address = parse_source(source)
        if name in self.cameras:
            raise ConfigError(f"there is a camera named {name!r} already; give another name")
        if len(self.cameras) >= MAX_CAMERAS:
            raise ConfigError(f"there are {MAX_CAMERAS} cameras, the most that one service takes; remove one first")
        name = name or free_name(address.default_name, list(self.cameras))
        return self._add(name, address, source, essential=False, view=view)

    def camera(self, name: str) -> PlannedCamera:
        """Return a camera by its name; ConfigError where there is none of that name."""
        if name not in self.cameras:
            allowed = ", ".join(self.cameras) or "none"
            raise ConfigError(f"no camera {name!r}{did_you_mean(name, self.cameras)}; there are: {allowed}")
        return self.cameras[name]

    def change_source(self, name: str, source: str) -> PlannedCamera:
        """Plan another source under a camera's name; ConfigError where there is none, or the source means nothing."""
        before = self.camera(name)
        camera = self._add(name, parse_source(source), source, essential=False, view=before.view)
        self.cameras[name] = replace(camera, worker=before.worker)  # two workers must not speak of it at once
        if before.job.paused:
            self.pause(name, True)
        return self.cameras[name]

    def remove(self, name: str) -> None:
        """Take a camera out of the plan; its name is free again."""
        del self.cameras[name]

    def pause(self, name: str, paused: bool) -> None:
        """Have a camera's capture process pause, or go on."""
        camera = self.camera(name)
        job = structs.replace(camera.job, paused=paused)
        self.cameras[name] = replace(camera, row=replace(camera.row, job=job))

    def change_view(self, name: str, view: ViewName | None) -> None:
        """Have the network see another part of a camera's picture; None is as `window.view` says.

        Raises:
            ConfigError: There is no such camera, or the network does not take such frames.
        """
        camera = self.camera(name)
        self._check_view(name, view)
        preprocessing = structs.replace(camera.job.preprocessing, view=view or self._setup.preprocessing.view)
        job = structs.replace(camera.job, preprocessing=preprocessing)
        self.cameras[name] = replace(camera, row=replace(camera.row, job=job), view=view)

    def _check_view(self, name: str, view: ViewName | None) -> None:
        if view is None:
            return
        try:
            check_view(self._setup, view)
        except ConfigError as error:
            raise ConfigError(f"camera {name!r}: {error}") from None

    def give_up(self, name: str, failure: str) -> None:
        """Note that a camera's capture process cannot go on, for the worker to publish."""
        camera = self.cameras[name]
        self.cameras[name] = replace(camera, slot=structs.replace(camera.slot, failure=failure))

    def _add(
        self, name: str, address: SourceAddress, source: str, essential: bool, view: ViewName | None = None
    ) -> PlannedCamera:
        self._check_view(name, view)
        config, number = self.config, self._numbered
        self._numbered += 1  # never used again: a channel of a camera that is being removed is not another's
        channel, made = frame_channel(self._folder, number), self._setup.preprocessing
        job = CaptureJob(
            camera=name,
            source=source,
            channel=channel,
            preprocessing=structs.replace(made, view=view or made.view),
            config=config.capture,
            preview=config.preview,
            preview_channel=self._preview_channel(number),
            security=config.security,
        )
        limit = config.capture.open_timeout_s + config.capture.read_timeout_s + _CAPTURE_SLACK_S
        self.cameras[name] = PlannedCamera(
            CameraSlot(name=name, channel=channel, lossless=config.capture.fast and not address.live),
            StageRow(
                capture_stage(name),
                capture_main,
                job,
                max(_SILENCE_S, limit),
                limit,
                0,
                grace_s=0.8,
                essential=essential,
                memory_limit_mb=config.capture.max_memory_mb,
                plays_once=address.kind == "file" and not config.capture.loop,
                idle_limit_s=_IDLE_S,
            ),
            self._least_loaded(),
            view,
        )
        return self.cameras[name]

    def _preview_channel(self, number: int) -> str:
        """Return where a new camera's previews are: private, or beside the published address where keys keep it."""
        config = self.config
        if not config.security.keyed:
            return preview_channel(self._folder, number)
        publish = config.publish.address
        control = control_address(config.control.address, publish, keyed=True)
        taken = {camera.job.preview_channel for camera in self.cameras.values()}
        # Always the same ports, for a firewall has to know them; but one that was just let go of is not another's yet.
        turns = [(number + step) % MAX_CAMERAS for step in range(MAX_CAMERAS)]
        beside = [preview_address(publish, control, turn) for turn in (*turns, number)]
        free = next(address for address in beside if address is None or address.endswith("*") or address not in taken)
        return free or preview_channel(self._folder, number)
