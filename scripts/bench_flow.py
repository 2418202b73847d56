"""Measures optical flow methods on single pairs of pictures: frames per second, and error on known shifts.

Pictures are 224 x 224 gray with a texture like photographs, shifted by 0.25 to 12 pixels. Every round times each method
once on each pair, in turn, so that disturbances affect all methods equally; medians are reported.

    frames_per_s   of consecutive calls, as in `FlowSequence`
    ratio          frames_per_s to that of scikit-image's TV-L1 with the same parameters, or of ours without it
    cpu_ms         median processor time of a call, over all threads
    epe            mean end-point error in pixels, 24 pixels and more from the border; worst_epe: of the worst pair
    batch_8        frames_per_s of TV-L1 on batches of 8 pairs
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import click
import cv2
import numpy as np
import torch
from _bench import report

from stream_i3d.flow import Field, FlowMethod, Gray, make_flow
from stream_i3d.flow.opencv import DISFlow
from stream_i3d.flow.tvl1 import DEFAULT, TVL1Flow, tvl1

SIZE, BORDER = 224, 24
SHIFTS = [(0.25, -0.5), (1.0, 0.75), (-2.5, 1.25), (4.0, -3.5), (-8.0, 6.25), (12.0, 2.0)]
QUICK = dataclasses.replace(DEFAULT, warps=3, iterations=10, epsilon=0.0)
"""At most a third of the work, always the same amount, for live use."""
PEER = "scikit-image-tvl1"
Pair = tuple[Gray, Gray]


def shifted(by_x: float, by_y: float, seed: int) -> Pair:
    """Return two crops of one picture, drawn at four times the size so that quarters of a pixel are exact."""
    side, margin = 4 * SIZE, 4 * 16
    wide = side + 2 * margin
    random = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(wide)[:, None], np.fft.rfftfreq(wide)[None])
    spectrum = np.fft.rfft2(random.standard_normal((wide, wide)))
    spectrum[frequency > 0] /= frequency[frequency > 0] ** 1.2  # photographs fall off with about 1 / frequency
    picture = np.fft.irfft2(spectrum)
    picture = np.clip(127 + 45 * (picture - picture.mean()) / picture.std(), 0, 255).astype(np.float32)
    crops = []
    for x, y in ((0.0, 0.0), (by_x, by_y)):
        left, top = margin - round(4 * x), margin - round(4 * y)
        crop = cv2.resize(picture[top : top + side, left : left + side], (SIZE, SIZE), interpolation=cv2.INTER_AREA)
        crops.append(np.rint(crop).astype(np.uint8))
    return crops[0], crops[1]


def scikit_image() -> FlowMethod | None:
    """Return scikit-image's TV-L1 with the same parameters, or None if it is not installed."""
    try:
        from skimage.registration import optical_flow_tvl1
    except ImportError:
        return None

    def flow(previous: Gray, current: Gray) -> Field:
        rows_columns = optical_flow_tvl1(  # type: ignore[no-untyped-call]
            np.float32(previous) / 255,
            np.float32(current) / 255,
            attachment=DEFAULT.attachment * 255,
            tightness=DEFAULT.theta,
            num_warp=DEFAULT.warps,
            num_iter=DEFAULT.iterations,
            prefilter=DEFAULT.median,
        )
        return np.stack([rows_columns[1], rows_columns[0]], axis=-1).astype(np.float32)

    return flow


def methods() -> dict[str, FlowMethod]:
    """Return the methods by name."""
    found: dict[str, FlowMethod] = {"tvl1-cpu": make_flow("tvl1")}
    if torch.cuda.is_available():
        found["tvl1-cuda"] = make_flow("tvl1", "cuda")
    found["tvl1-cpu-quick"] = TVL1Flow(settings=QUICK)
    found["dis-medium"] = make_flow("dis")
    found |= {"dis-fast": DISFlow("fast"), "dis-ultrafast": DISFlow("ultrafast")}
    found["farneback"] = make_flow("farneback")
    peer = scikit_image()
    return found if peer is None else {**found, PEER: peer}


def seconds(call: Callable[[], object]) -> tuple[float, float]:
    """Return the wall time and the processor time of a call.

    Flow comes back as an array, so CUDA has finished by then.
    """
    started, began = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - started, time.process_time() - began


def errors(method: FlowMethod, pairs: list[Pair]) -> list[float]:
    """Return the mean end-point error of each pair."""
    inner = slice(BORDER, -BORDER)
    fields = (method(*pair)[inner, inner] for pair in pairs)
    return [
        float(np.linalg.norm(field - np.array(by), axis=-1).mean()) for field, by in zip(fields, SHIFTS, strict=True)
    ]


def batch_rate(device: str, pairs: list[Pair], rounds: int) -> float:
    """Return pairs per second of TV-L1 on batches of 8."""
    sides = zip(*(pairs * 2)[:8], strict=True)
    previous, current = (torch.from_numpy(np.stack(side)).to(device)[:, None].float() for side in sides)
    times = [seconds(lambda: tvl1(previous, current).cpu())[0] for _ in range(rounds + 1)][1:]
    return 8 / statistics.median(times)


def figures(name: str, times: list[tuple[float, float]], wrong: list[float], base: float) -> dict[str, Any]:
    """Return the row of a method; `base` is the time in s with ratio 1."""
    walls, processors = (list(side) for side in zip(*times, strict=True))
    median = statistics.median(walls)
    return {
        "case": name,
        "frames_per_s": round(1 / median, 1),
        "ratio": round(base / median, 2),
        "median_ms": round(median * 1e3, 2),
        "p95_ms": round(float(np.percentile(walls, 95)) * 1e3, 2),
        "cpu_ms": round(statistics.median(processors) * 1e3, 2),
        "epe": round(statistics.mean(wrong), 3),
        "worst_epe": round(max(wrong), 3),
    }


@click.command()
@click.option("--rounds", default=5, help="Times that each method does each pair.")
@click.option("--threads", default=0, help="Threads of torch and OpenCV; 0 leaves their defaults.")
def main(rounds: int, threads: int) -> None:
    """Compare the flow methods."""
    if threads:
        torch.set_num_threads(threads)
        cv2.setNumThreads(threads)
    pairs = [shifted(*by, seed) for seed, by in enumerate(SHIFTS)]
    compared = methods()
    wrong = {name: errors(method, pairs) for name, method in compared.items()}  # and warms up
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in compared}
    for _ in range(rounds):
        for name, method in compared.items():
            times[name] += [seconds(partial(method, *pair)) for pair in pairs]
    base = statistics.median(wall for wall, _ in times[PEER if PEER in times else "tvl1-cpu"])
    rows = [figures(name, times[name], wrong[name], base) for name in compared]
    for row in rows:
        if row["case"] in ("tvl1-cpu", "tvl1-cuda"):
            row["batch_8"] = round(batch_rate(row["case"].removeprefix("tvl1-"), pairs, rounds), 1)
    report("flow", rows)


if __name__ == "__main__":
    main()
