"""Looks whether a configuration can run here, and go on running: what `stream-i3d doctor --config FILE` says.

Starts no service. Every check gives findings instead of errors, and none shows a secret.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from msgspec import structs

from stream_i3d.capture.address import SourceAddress
from stream_i3d.config import Config
from stream_i3d.errors import SourceError, StreamI3DError
from stream_i3d.redact import redact, redact_data
from stream_i3d.service.camera_names import name_cameras
from stream_i3d.service.doctor import host, probes
from stream_i3d.service.doctor.engine import check_findings
from stream_i3d.service.doctor.finding import Finding
from stream_i3d.service.doctor.sinks import examine_sinks
from stream_i3d.service.plan import MAX_CAMERAS
from stream_i3d.transport.addresses import control_address, leaves_host, preview_address
from stream_i3d.transport.keys import load_server_keys
from stream_i3d.yaml_text import parse_yaml

_CAMERA_S = 5.0
_VARIABLES = re.compile(r"(?:[^/:@\s]*:)?\$\{\w+\}@?")
_CACHE_MB = 1000.0  # a converted network and its compiled form have some 100 MB each


def examine_deployment(
    config: Config, path: Path | None = None, cameras: bool = False, running: bool = False
) -> Iterator[Finding]:
    """Look at all that a configuration needs; gives each finding when it is known.

    Args:
        config: What would run.
        path: The file that it is from, whose mode is looked at.
        cameras: Also open every camera, which takes up to 5 s each.
        running: Whether the service runs now, so that its addresses are in use.
    """
    if path is not None:
        yield _file(path)
    yield _cameras(config)
    yield from _model(config)
    yield _keys(config)
    yield from _addresses(config, running)
    yield _monitoring(config, running)
    yield from _places(config)
    yield from examine_sinks(config)
    if cameras:
        yield from _opened(config)
    yield host.open_files(len(config.cameras))
    yield host.clock()


def _file(path: Path) -> Finding:
    """Look whether a file that has secrets in it can be read by others."""
    what = "configuration"
    try:
        mode = path.stat().st_mode & 0o777
        text = _VARIABLES.sub("", path.read_text(encoding="utf-8"))  # what the environment gives is not in the file
        data = parse_yaml(text, str(path))
    except (OSError, StreamI3DError) as error:
        return Finding(what=what, state="warn", found=redact(str(error)), remedy="give a file that can be read twice")
    if os.name != "posix" or mode & 0o077 == 0 or redact_data(data) == data:
        return Finding(what=what, state="ok", found=str(path))
    remedy = "chmod 600 it, or put ${NAME} in their place and set NAME in the environment"
    found = f"{path} has passwords in it and can be read by others (mode {mode:03o})"
    return Finding(what=what, state="warn", found=found, remedy=remedy)


def _cameras(config: Config) -> Finding:
    try:
        named = name_cameras(config)
    except StreamI3DError as error:
        return _failure("cameras", error, "mend `cameras:`")
    if len(named) > MAX_CAMERAS:
        remedy = f"at most {MAX_CAMERAS} a service: start a second one"
        return Finding(what="cameras", state="fail", found=f"{len(named)}", remedy=remedy)
    if not named:
        return Finding(what="cameras", state="ok", found="none yet (control.stay: they are added while it runs)")
    return Finding(what="cameras", state="ok", found=f"{len(named)}: {', '.join(name for name, _, _ in named)}")


def _model(config: Config) -> Iterator[Finding]:
    """Load the network as the worker would; with another backend than torch it is converted, and kept, at this."""
    from stream_i3d.inference.backends import load_model
    from stream_i3d.inference.setup import settle_model

    try:
        setup = settle_model(config.model, config.window)
    except StreamI3DError as error:
        yield _failure("checkpoint", error, "mend `model:` or `window:`")
        return
    checkpoint = setup.model_name.checkpoint
    try:
        began = time.monotonic()
        model = load_model(setup, config.window.mode)
        took = time.monotonic() - began
    except StreamI3DError as error:
        yield _failure("checkpoint", error, "mend `model:`")
        return
    found = f"{checkpoint}: {model.engine.description}, {len(model.labels)} classes, loaded in {took:.1f} s"
    yield Finding(what="checkpoint", state="ok", found=found)
    yield from check_findings(model)


def _keys(config: Config) -> Finding:
    try:
        keys = load_server_keys(config.security)
    except StreamI3DError as error:
        return _failure("keys", error, "docs/security.md says how keys are made and where they lie")
    if keys is None:
        return Finding(what="keys", state="ok", found="none: only this machine can connect")
    if not len(keys.clients):
        places = ", ".join(map(str, keys.clients.places))
        remedy = "put public keys (NAME.key) there; no restart is needed"
        return Finding(what="keys", state="warn", found=f"no client has a key in {places}", remedy=remedy)
    return Finding(what="keys", state="ok", found=f"the service's, and {len(keys.clients)} clients'")


def _addresses(config: Config, running: bool) -> Iterator[Finding]:
    """Bind every address that the service would bind, one after another, and let go of it."""
    from stream_i3d.transport.control_sockets import ControlServer
    from stream_i3d.transport.sockets import Publisher

    publish, keyed = config.publish.address, config.security.keyed
    try:
        keys = load_server_keys(config.security)
    except StreamI3DError:
        return  # reported above

    def binds(address: str, kind: type[Publisher] | type[ControlServer]) -> Callable[[], str]:
        def bind() -> str:
            with kind(address, keys) as bound:
                return bound.address

        return bind

    yield probes.binds("publish.address", binds(publish, Publisher), running)
    try:
        control = control_address(config.control.address, publish, keyed)
    except StreamI3DError as error:
        yield _failure("control.address", error, "mend it")
        return
    if control is not None:
        yield probes.binds("control.address", binds(control, ControlServer), running)
    if keyed and config.preview.enabled and (first := preview_address(publish, control, 0)):
        yield probes.binds("previews", binds(first, Publisher), running)
        if leaves_host(first) and not first.endswith("*"):
            remedy = "open these in the firewall where others should watch"
            yield Finding(what="ports", state="ok", found=f"{publish}, {control}, {first} and on", remedy=remedy)


def _monitoring(config: Config, running: bool) -> Finding:
    """Look at the address and the token of the HTTP endpoint."""
    from stream_i3d.service.monitoring.endpoint import monitor_address, monitor_token

    what = "monitoring"
    try:
        address, token = monitor_address(config.monitoring), monitor_token(config.monitoring)
    except StreamI3DError as error:
        return _failure(what, error, "mend `monitoring:`")
    if address is None:
        return Finding(what=what, state="ok", found="off: no metrics and no health over HTTP")
    return probes.binds(
        what, lambda: probes.bind_tcp(*address, "with a token" if token else "without a token"), running
    )


def _places(config: Config) -> Iterator[Finding]:
    """Look at the folders that are written to."""
    from stream_i3d.models.zoo import home_folder

    yield probes.writable("cache", home_folder(), _CACHE_MB)
    if config.publish.jsonl not in (None, "-"):
        folder = Path(str(config.publish.jsonl)).expanduser().absolute().parent
        yield probes.writable("publish.jsonl", folder, made=False)


def _opened(config: Config) -> Iterator[Finding]:
    """Open every camera and take one picture."""
    try:
        named = name_cameras(config)
    except StreamI3DError:
        return  # reported above
    for name, address, _ in named:
        yield _opens(f"camera {name}", address, config)


def _opens(what: str, address: SourceAddress, config: Config) -> Finding:
    from stream_i3d.capture.source import open_source

    capture = structs.replace(config.capture, open_timeout_s=_CAMERA_S, read_timeout_s=_CAMERA_S)
    try:
        with closing(open_source(address, capture)) as source:
            if source.grab() is None:
                return Finding(what=what, state="fail", found="no picture in it", remedy="give another file")
            height, width = source.retrieve().shape[:2]
            return Finding(what=what, state="ok", found=f"{source.description}; a picture of {width} x {height}")
    except SourceError as error:
        return _failure(what, error, "it is tried again while the service runs (capture.retry)")


def _failure(what: str, error: StreamI3DError, remedy: str) -> Finding:
    return Finding(what=what, state="fail", found=redact(str(error)), remedy=remedy)
