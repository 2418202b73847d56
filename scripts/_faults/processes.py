"""Faults of processes: killed, and hung."""

from __future__ import annotations

import signal
import time

import psutil

from _faults.rig import Rig, until
from _faults.service import START_S, ended, gone
from _faults.table import Fault, Outcome
from _faults.watch import Unmet
from stream_i3d.messages import CameraStatus
from stream_i3d.transport.wire import Published

_DISTURBED_S = 1.5
"""Of two cores that also decode and recognise: what another camera may miss while a process starts beside it."""


def kill_capture(rig: Rig) -> Outcome:
    """Kill -9 the capture process of camera a; b must go on."""
    rig.calm("capture a")
    epoch, victim = rig.main.watch.epoch("a"), rig.main.stage("capture a")
    start = time.monotonic()
    victim.kill()
    back = rig.main.watch.frames("a", start, START_S, not_epoch=epoch).at
    whole = rig.main.watch.prediction("a", start, START_S, not_epoch=epoch).at
    gap = rig.main.watch.longest_gap("b", start, whole)
    _reaped(victim)
    if gap > rig.slack * _DISTURBED_S:
        raise Unmet(f"camera b was without a prediction for {gap:.1f} s")
    return Outcome(back - start, f"first whole window after {whole - start:.1f} s; camera b's longest gap {gap:.2f} s")


def kill_worker(rig: Rig) -> Outcome:
    """Kill -9 the worker."""
    rig.calm("worker")
    victim = rig.main.stage("worker")
    start = time.monotonic()
    victim.kill()
    _reaped(victim)
    rig.main.stage("worker")  # what the old one had sent has come by then
    return Outcome(rig.main.steady(within_s=START_S) - start)


def kill_publisher(rig: Rig) -> Outcome:
    """Kill -9 the publisher."""
    rig.calm("publisher")
    worker, victim = rig.main.stage("worker"), rig.main.stage("publisher")
    start = time.monotonic()
    victim.kill()
    _reaped(victim)
    rig.main.stage("publisher")
    back = rig.main.steady(within_s=START_S)
    if not worker.is_running():
        raise Unmet("the worker went with it")
    return Outcome(back - start, "the worker went on")


def kill_supervisor(rig: Rig) -> Outcome:
    """Kill -9 the supervisor: all others must end by themselves, and a new service runs on the same addresses."""
    family, start = rig.main.family(), time.monotonic()
    rig.main.supervisor.kill()
    rig.main.reap()
    if not ended(family, 5.0):
        left = [one.name() for one in family if one.is_running()]
        raise Unmet(f"still there after 5 s: {', '.join(left)}")
    took = time.monotonic() - start
    rig.main.start()
    back = rig.main.steady()
    return Outcome(back - start, f"all gone after {took:.2f} s, then started by hand")


def hang_capture(rig: Rig) -> Outcome:
    """SIGSTOP the capture process of camera a: a stall is published, and the process replaced."""
    rig.calm("capture a")
    epoch, victim, start = rig.main.watch.epoch("a"), rig.main.stage("capture a"), time.monotonic()
    victim.suspend()
    stalled = rig.main.watch.first(_stalled_a, start, START_S, "a status other than live").at - start
    back = rig.main.watch.prediction("a", start, START_S, not_epoch=epoch).at
    _reaped(victim)
    if stalled > 6.0 * rig.slack:
        raise Unmet(f"the stall was published after {stalled:.1f} s, allowed are 6")
    return Outcome(back - start, f"stall published after {stalled:.1f} s")


def hang_worker(rig: Rig) -> Outcome:
    """SIGSTOP the worker: it is replaced."""
    return _hang(rig, "worker")


def hang_publisher(rig: Rig) -> Outcome:
    """SIGSTOP the publisher: it is replaced."""
    return _hang(rig, "publisher")


def _hang(rig: Rig, name: str) -> Outcome:
    rig.calm(name)
    victim, start = rig.main.stage(name), time.monotonic()
    victim.suspend()
    until(lambda: not victim.is_running(), 90.0, f"the hung {name} is replaced")
    rig.main.stage(name)
    return Outcome(rig.main.steady() - start)


def end_in_order(rig: Rig) -> Outcome:
    """SIGTERM the supervisor: everything ends, with exit code 0, and is reaped."""
    family, start = rig.main.family(), time.monotonic()
    rig.main.supervisor.send_signal(signal.SIGTERM)
    code = rig.main.reap()
    took = time.monotonic() - start
    all_gone = ended(family, 1.0)
    rig.main.start()
    rig.main.steady()
    if code or not all_gone:
        raise Unmet(f"exit code {code}; all processes gone: {all_gone}")
    return Outcome(took)


def _stalled_a(message: Published) -> bool:
    return isinstance(message, CameraStatus) and message.camera == "a" and message.state != "live"


def _reaped(victim: psutil.Process) -> None:
    """Wait until a killed process is no zombie; Unmet where it stays one."""
    if not gone([victim], 5.0):
        raise Unmet(f"process {victim.pid} is {victim.status()} after 5 s")


FAULTS = [
    Fault("kill-capture", "kill -9 of a capture process", "it is back; the other camera goes on", 3.0, kill_capture),
    Fault("kill-worker", "kill -9 of the worker", "predictions of all cameras again", 10.0, kill_worker),
    Fault("kill-publisher", "kill -9 of the publisher", "predictions; the worker goes on", 10.0, kill_publisher),
    Fault("kill-supervisor", "kill -9 of the supervisor", "no orphan; starts again by hand", 20.0, kill_supervisor),
    Fault("end", "SIGTERM to the supervisor", "all ended, exit code 0", 5.0, end_in_order),
    Fault("hang-capture", "SIGSTOP of a capture process", "said within 6 s, replaced", 15.0, hang_capture, short=False),
    Fault("hang-worker", "SIGSTOP of the worker", "replaced", 15.0, hang_worker, short=False),
    Fault("hang-publisher", "SIGSTOP of the publisher", "replaced", 15.0, hang_publisher, short=False),
]
