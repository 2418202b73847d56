"""Faults of cameras and of the network to them."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from _faults.link import SlowLink
from _faults.rig import FPS, Rig
from _faults.service import START_S, Service, pause
from _faults.table import Fault, Outcome
from _faults.watch import Unmet
from stream_i3d.messages import CameraStatus, Recognition
from stream_i3d.transport.wire import Published
from tests.ports import free_port

DELAY_S, LOSS = 0.2, 0.05
STRIDE = 8
_SAID_S = 6.0

Poor = tuple[Service, Callable[[], object], str]
"""A service on a camera far away, what mends the way to it, and how that is made bad."""


def stop_server(rig: Rig) -> Outcome:
    """End camera a's RTSP server for a while, and start it again with another resolution and rate."""
    return _away(rig, size="480x360", fps=15)


def restore_server(rig: Rig) -> Outcome:
    """The same again, back to what it was, so that the faults that follow find it as it was."""
    return _away(rig)


def _away(rig: Rig, **options: str | int) -> Outcome:
    old, start = rig.servers["a"], time.monotonic()
    epoch = rig.main.watch.epoch("a")
    old.stop()
    said = rig.main.watch.first(_not_live, start, START_S, "a status other than live").at - start
    pause(max(0.0, start + (10.0 if rig.short else 30.0) - time.monotonic()))
    again = rig.replace("a", port=old.port, **options)
    there = time.monotonic()
    again.start()
    back = rig.main.watch.prediction("a", there, START_S, not_epoch=epoch).at
    gap = rig.main.watch.longest_gap("b", start, back)
    if said > rig.slack * _SAID_S:
        raise Unmet(f"its loss was published after {said:.1f} s, allowed are {rig.slack * _SAID_S:g}")
    return Outcome(back - there, f"loss published after {said:.1f} s; camera b's longest gap {gap:.2f} s")


def stop_sending(rig: Rig) -> Outcome:
    """SIGSTOP camera a's RTSP server for a while: its connection stays open, and nothing comes."""
    server, start = rig.servers["a"].process, time.monotonic()
    server.send_signal(signal.SIGSTOP)
    try:
        said = rig.main.watch.first(_not_live, start, START_S, "a status other than live")
        pause(max(0.0, start + (8.0 if rig.short else 30.0) - time.monotonic()))
    finally:
        server.send_signal(signal.SIGCONT)
    on = time.monotonic()
    back = rig.main.watch.prediction("a", on, START_S).at
    if said.at - start > rig.slack * _SAID_S:
        raise Unmet(f"the stall was published after {said.at - start:.1f} s, allowed are {rig.slack * _SAID_S:g}")
    assert isinstance(said.message, CameraStatus)
    return Outcome(back - on, f"{said.message.state} published after {said.at - start:.1f} s")


def bad_cameras(rig: Rig) -> Outcome:
    """Start a service on four good cameras, and one on a good camera beside three that cannot be had; compare."""
    url = rig.servers["b"].login_url
    bad = {
        "wrong-password": f"rtsp://viewer:{rig.wrong_password}@127.0.0.1:{rig.servers['b'].port}/cam",
        "unknown-host": f"rtsp://viewer:{rig.password}@camera.invalid/cam",
        "refused-port": f"rtsp://viewer:{rig.password}@127.0.0.1:{free_port()}/cam",
    }
    seconds = 5.0 if rig.short else 20.0
    with rig.service("all-good", {f"other-{number}": url for number in range(3)} | {"good": url}) as service:
        others_s, _, others = _performance(service, seconds)
    with rig.service("three-bad", bad | {"good": url}) as service:
        beside_s, gap, beside = _performance(service, seconds)
        for camera in bad:
            service.watch.first(_tried_again(camera), service.started, START_S, f"when {camera} is tried again")
    if gap > 1.5 * rig.slack or beside < 0.8 * others:
        raise Unmet(f"{beside:.2f} predictions/s, beside good ones {others:.2f}; longest gap {gap:.1f} s")
    note = f"first prediction after {beside_s:.1f} s, beside good ones {others_s:.1f} s; {beside:.2f}/s, {others:.2f}/s"
    return Outcome(max(0.0, beside_s - others_s), note)


def _performance(service: Service, seconds: float) -> tuple[float, float, float]:
    """Return seconds to the good camera's first prediction, then its longest gap and its predictions a second."""
    first = service.steady(["good"])
    pause(seconds)
    now = time.monotonic()
    rate = _count(service, first, now, "good") / (now - first)
    return first - service.started, service.watch.longest_gap("good", first, now), rate


def poor_network(rig: Rig) -> Outcome:
    """Watch a camera over a link that loses packets and delays all of them, until it is mended."""
    seconds = 10.0 if rig.short else 40.0
    place = _poor_namespace if _netem() else _poor_link
    with place(rig) as (service, heal, how):
        service.watch.first(_of("far", "live"), service.started, START_S, "the far camera live")
        start, stages = time.monotonic(), service.stages()
        pause(seconds)
        during = _count(service, start, time.monotonic(), "far")
        heal()
        healed = time.monotonic()
        back = service.steady(["far"])
        pause(5.0)
        after = _count(service, back, time.monotonic(), "far") / (time.monotonic() - back)
        if service.stages() != stages or after < 0.8 * FPS / STRIDE:
            raise Unmet(f"processes started again, or only {after:.1f} predictions/s after it ({how})")
        return Outcome(back - healed, f"{how}; meanwhile {during / seconds:.2f} predictions/s, then {after:.2f}")


def _count(service: Service, start: float, end: float, camera: str) -> int:
    """Return how many whole windows of a camera were recognised."""
    seen = (one.message for one in service.watch.between(start, end) if isinstance(one.message, Recognition))
    return sum(one.camera == camera and one.state != "warming" for one in seen)


def _netem() -> bool:
    """Tell whether this kernel, and this user, may make a bad network in a namespace."""
    if shutil.which("unshare") is None or shutil.which("tc") is None:
        return False
    command = ["unshare", "-n", "tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@contextmanager
def _poor_namespace(rig: Rig) -> Iterator[Poor]:
    """Camera and service in a network of their own; the subscriber is reached by a file."""
    qdisc = f"tc qdisc add dev lo root netem loss {LOSS:.0%} delay {DELAY_S * 1000:.0f}ms"
    script = f"ip link set lo up && {qdisc} && echo ready && exec cat"
    with subprocess.Popen(
        ["unshare", "-n", "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        if holder.stdout.readline() != b"ready\n":
            raise Unmet("no network namespace with netem")
        prefix = ["nsenter", "-t", str(holder.pid), "-n"]
        with (
            rig.camera(prefix) as camera,
            rig.service(
                "poor-network", {"far": camera.login_url}, address=f"ipc://{rig.folder}/far", prefix=prefix
            ) as service,
        ):
            mended = [*prefix, "tc", "qdisc", "del", "dev", "lo", "root"]
            yield service, lambda: subprocess.run(mended, check=True), "tc netem"
        holder.terminate()


@contextmanager
def _poor_link(rig: Rig) -> Iterator[Poor]:
    """Camera b behind a relay that does to its stream what loss and delay do to TCP."""
    with SlowLink(rig.servers["b"].port, DELAY_S, LOSS) as link:
        url = rig.servers["b"].login_url.replace(f":{rig.servers['b'].port}/", f":{link.port}/")
        with rig.service("poor-network", {"far": url}) as service:
            yield service, link.heal, "no netem in this kernel, so a relay that delays"


def _of(camera: str, state: str) -> Callable[[Published], bool]:
    return lambda message: isinstance(message, CameraStatus) and message.camera == camera and message.state == state


def _tried_again(camera: str) -> Callable[[Published], bool]:
    return lambda message: (
        isinstance(message, CameraStatus) and message.camera == camera and message.retry_in_s is not None
    )


def _not_live(message: Published) -> bool:
    return isinstance(message, CameraStatus) and message.camera == "a" and message.state != "live"


FAULTS = [
    Fault(
        "stop-server",
        "RTSP server ended for 30 s (10 s), restarted with another resolution and rate",
        "loss said within 6 s; predictions again; the other camera goes on",
        10.0,
        stop_server,
    ),
    Fault(
        "restore-server",
        "the same, back to the first resolution and rate",
        "loss said within 6 s; predictions again",
        10.0,
        restore_server,
        short=False,
    ),
    Fault(
        "half-open",
        "RTSP server stopped (SIGSTOP): the connection stays open",
        "stall said within 6 s; predictions again when it goes on",
        15.0,
        stop_sending,
    ),
    Fault(
        "bad-cameras",
        "wrong password, unknown host, refused port beside a good camera",
        "the good one starts as soon as beside good ones, and misses nothing",
        1.0,
        bad_cameras,
        short=False,
    ),
    Fault(
        "poor-network",
        "5 % of packets lost, 200 ms delay on the way to a camera",
        "nothing is started again; when it is mended, predictions as before",
        10.0,
        poor_network,
        short=False,
    ),
]
