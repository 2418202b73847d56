"""Measures the cost of the publisher process: latency from worker to subscriber with it and without it.

direct     the worker binds the PUB socket itself
relayed    the worker -> the publisher process -> the subscriber, as the service does

Both run at 25 messages/s in turn within each round, so that disturbances affect both equally.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
from _bench import report

from stream_i3d.config import Config, PublishConfig
from stream_i3d.logs import current_logging
from stream_i3d.messages import Latency, ModelName, Recognition, Window
from stream_i3d.publish.process import PublisherJob, publisher_main
from stream_i3d.stage import StageLink
from stream_i3d.stage_entry import enter_stage
from stream_i3d.transport.relay import RelaySender
from stream_i3d.transport.sockets import Publisher, Subscriber
from stream_i3d.transport.wire import Published, decode_published, encode_published

_PERIOD_S = 0.04


def message(seq: int) -> Recognition:
    """A prediction with its creation time."""
    window = Window(first_frame=seq, last_frame=seq + 15, start_time=0.0, end_time=time.monotonic())
    return Recognition(
        camera="bench",
        epoch=1,
        seq=seq,
        window=window,
        state="idle",
        label=None,
        confidence=0.5,
        top_k=[],
        latency_ms=Latency(queue=0.0, inference=0.0, total=0.0),
        frames_dropped=0,
        windows_dropped=0,
        model=ModelName(name="i3d", checkpoint="none"),
    )


def measure(write: Callable[[Published], object], subscriber: Subscriber, count: int) -> list[float]:
    """Return the latencies in ms of `count` messages, after the first ones."""
    while subscriber.receive(_PERIOD_S) is None:
        write(message(0))
    while subscriber.receive(0.2) is not None:
        pass
    took, due = [], time.monotonic()
    for seq in range(count):
        due += _PERIOD_S
        time.sleep(max(0.0, due - time.monotonic()))
        write(message(seq))
        if (parts := subscriber.receive(1.0)) is not None and isinstance(got := decode_published(parts), Recognition):
            took.append(1000 * (time.monotonic() - got.window.end_time))
    return took


def direct(folder: str, count: int) -> list[float]:
    """Measure without the publisher process."""
    with Publisher(f"ipc://{folder}/pub") as publisher, Subscriber(publisher.address) as subscriber:
        return measure(lambda said: publisher.send(encode_published(said)), subscriber, count)


def relayed(folder: str, count: int) -> list[float]:
    """Measure with the publisher process."""
    context = multiprocessing.get_context("spawn")
    link = StageLink(context)
    address = f"ipc://{Path(folder) / 'pub'}"
    config = Config(publish=PublishConfig(address=address))
    job = PublisherJob(channel=f"ipc://{folder}/relay", config=config, run="bench")
    process = context.Process(
        target=enter_stage, args=("publisher", publisher_main, job, link.child_side(), current_logging())
    )
    process.start()
    try:
        with RelaySender(job.channel, "bench", ["bench"]) as sender, Subscriber(address) as subscriber:
            sender.arrive(30.0)

            def write(said: Published) -> None:
                sender.process_answers()
                sender.write(said)

            return measure(write, subscriber, count)
    finally:
        process.terminate()
        process.join()


@click.command()
@click.option("--count", default=250, help="Messages a round.")
@click.option("--rounds", default=3, help="Rounds of both.")
def main(count: int, rounds: int) -> None:
    """Compare both ways."""
    took: dict[str, list[float]] = {"direct": [], "relayed": []}
    for _ in range(rounds):
        for case, way in (("direct", direct), ("relayed", relayed)):
            with tempfile.TemporaryDirectory() as folder:
                took[case] += way(folder, count)
    base = float(np.median(took["direct"]))
    report(
        "publish",
        [
            {
                "case": case,
                "median_ms": round(float(np.median(values)), 3),
                "p95_ms": round(float(np.percentile(values, 95)), 3),
                "ratio": round(base / float(np.median(values)), 2),
                "messages": len(values),
            }
            for case, values in took.items()
        ],
    )


if __name__ == "__main__":
    main()
