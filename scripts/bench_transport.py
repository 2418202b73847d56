"""Compares the frame channel with imagezmq's REQ/REP hub in one run: rate, latency and memory.

Each case has a sender process and a receiver in this process, which gets an array for each frame.

    saturation   frames/s at the highest rate of the sender
    paced        median and p95 latency at 30 frames/s, from just before sending to the received array
    asleep       growth of both processes' memory while the receiver does not read and the sender sends 100 frames/s
"""

from __future__ import annotations

import multiprocessing
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.synchronize import Event
from pathlib import Path

import click
import numpy as np
import psutil
from _bench import report

from stream_i3d.inference.ring import FrameRing
from stream_i3d.messages import Frame, FrameStamp
from stream_i3d.transport.frames import FrameReceivers, FrameSender
from stream_i3d.transport.wire import ReceivedFrame, decode_capture

SIZES = {"224x224": (224, 224), "640x480": (480, 640), "1080p": (1080, 1920)}
Receive = Iterator[int]
"""Yields the monotonic time, in ns, at which each frame was handed to the sender."""


def send_ours(address: str, shape: tuple[int, int], fps: float, stop: Event) -> None:
    """Sender process; `fps` 0 is the highest rate."""
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    with FrameSender(address) as sender:
        for seq, now in enumerate(_ticks(fps, stop)):
            stamp = FrameStamp(camera="bench", epoch=1, seq=seq, capture_ns=now, wall_time=0.0)
            if fps:
                sender.send(Frame(stamp, pixels))  # newest wins: never waits
            else:
                sender.send(Frame(stamp, pixels), wait_s=0.1)


def receive_ours(address: str, shape: tuple[int, int]) -> Receive:
    """Receive as the worker does: poll, check, copy into a preallocated ring."""
    ring = _Ring(shape)
    with FrameReceivers([address]) as receivers:
        while True:
            for index in receivers.poll(0.1, [0]):
                parts = receivers.receive(index)
                if parts is not None and isinstance(message := decode_capture(parts), ReceivedFrame):
                    ring.push(message)
                    yield message.stamp.capture_ns


class _Ring:
    """The square ring of the worker, or a plain slot for the other shapes."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self._ring = FrameRing((32, *shape, 3)) if shape[0] == shape[1] else None
        self._slots = np.zeros((4, *shape, 3), np.uint8)
        self._next = 0

    def push(self, message: ReceivedFrame) -> None:
        if self._ring is not None:
            self._ring.push(message.stamp, message.pixels)
        else:
            self._slots[self._next % 4] = message.pixels
            self._next += 1


def send_imagezmq(address: str, shape: tuple[int, int], fps: float, stop: Event) -> None:
    """Sender process with imagezmq, as in its README."""
    import imagezmq

    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    sender = imagezmq.ImageSender(connect_to=address)
    sender.zmq_socket.linger = 0
    sender.zmq_socket.rcvtimeo = 1000
    for now in _ticks(fps, stop):
        try:
            sender.send_image(str(now), pixels)
        except Exception:  # imagezmq lets ZeroMQ's time-out through when the reader has gone: the case is over
            return


def receive_imagezmq(address: str, shape: tuple[int, int]) -> Receive:
    """Receive with imagezmq's hub."""
    import imagezmq

    hub = imagezmq.ImageHub(open_port=address)
    hub.zmq_socket.linger = 0
    try:
        while True:
            text, image = hub.recv_image()
            hub.send_reply(b"OK")
            assert image.shape[:2] == shape
            yield int(text)
    finally:
        hub.close()


def _ticks(fps: float, stop: Event) -> Iterator[int]:
    due = time.monotonic()
    while not stop.is_set():
        if fps:
            due += 1 / fps
            time.sleep(max(0.0, due - time.monotonic()))
        yield time.monotonic_ns()


SIDES: dict[str, tuple[Callable[..., None], Callable[[str, tuple[int, int]], Receive]]] = {
    "ours": (send_ours, receive_ours),
    "imagezmq": (send_imagezmq, receive_imagezmq),
}


class Case:
    """A sender process and the iterator of its receiver."""

    def __init__(self, side: str, shape: tuple[int, int], fps: float, folder: str) -> None:
        send, receive = SIDES[side]
        context = multiprocessing.get_context("spawn")
        address = f"ipc://{Path(folder) / 'bench'}" if side == "ours" else f"tcp://127.0.0.1:{_free_port()}"
        self._stop = context.Event()
        self.process = context.Process(target=send, args=(address, shape, fps, self._stop), daemon=True)
        self.frames = receive(address, shape)
        self.process.start()
        next(self.frames)

    def __enter__(self) -> Case:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self.frames.close()  # type: ignore[attr-defined]
        self.process.join(3)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def saturation(case: Case, seconds: float) -> float:
    """Return frames per second."""
    started, count = time.monotonic(), 0
    while time.monotonic() - started < seconds:
        next(case.frames)
        count += 1
    return count / (time.monotonic() - started)


def latencies_ms(case: Case, count: int) -> list[float]:
    """Return the latencies of `count` frames, without the first ten."""
    values = [(time.monotonic_ns() - sent) * 1e-6 for sent in (next(case.frames) for _ in range(count + 10))]
    return values[10:]


def growth_mb(case: Case, seconds: float) -> float:
    """Return the memory growth of both processes while the receiver did not read."""
    processes = [psutil.Process(), psutil.Process(case.process.pid)]
    for _ in range(200):
        next(case.frames)
    before = sum(process.memory_info().rss for process in processes)
    time.sleep(seconds)
    return (sum(process.memory_info().rss for process in processes) - before) / 1e6


@click.command()
@click.option("--seconds", default=3.0, help="Of each saturation run.")
@click.option("--rounds", default=3, help="Runs per case; the median is reported.")
@click.option("--sleep", "asleep", default=10.0, help="Seconds the reader sleeps.")
def main(seconds: float, rounds: int, asleep: float) -> None:
    """Compare both transports."""
    rows = []
    for name, shape in SIZES.items():
        rates: dict[str, list[float]] = {side: [] for side in SIDES}
        delays: dict[str, list[float]] = {side: [] for side in SIDES}
        for _ in range(rounds):  # both sides in each round, so that noise of the machine meets both
            for side in SIDES:
                with tempfile.TemporaryDirectory() as folder, Case(side, shape, 0, folder) as case:
                    rates[side].append(saturation(case, seconds))
                with tempfile.TemporaryDirectory() as folder, Case(side, shape, 30, folder) as case:
                    delays[side] += latencies_ms(case, 60)
        base_rate, base_delay = statistics.median(rates["imagezmq"]), statistics.median(delays["imagezmq"])
        for side in SIDES:
            rate, delay = statistics.median(rates[side]), statistics.median(delays[side])
            row = {
                "case": f"{side}-{name}",
                "frames_per_s": round(rate, 1),
                "rate_ratio": round(rate / base_rate, 2),
                "median_ms": round(delay, 3),
                "p95_ms": round(float(np.percentile(delays[side], 95)), 3),
                "ratio": round(base_delay / delay, 2),
            }
            if name == "224x224" and side == "ours":
                with tempfile.TemporaryDirectory() as folder, Case(side, shape, 100, folder) as case:
                    row["growth_asleep_mb"] = round(growth_mb(case, asleep), 2)
            rows.append(row)
    report("transport", rows)


if __name__ == "__main__":
    main()
