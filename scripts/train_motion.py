"""Train the carried model `motion` from nothing, on generated clips: no data set, no download.

    nice python scripts/train_motion.py --steps 6000 --out stream_i3d/models/weights/motion.safetensors

Clips are rendered by worker processes a little ahead of the training and seen a few times each, mirrored,
reversed in time (with the label that this makes) and recoloured. Training starts on shrunken clips, where a
step costs a third, and ends at the full 80 x 80. With --steps alone the result depends on the seed only, on
one machine; --minutes ends a run earlier where the machine is slower, and then depends on its speed too.

In fp32: a trial under CPU bf16 autocast with channels_last_3d became NaN within 100 steps. Does not know how
scenes are drawn (stream_i3d.scenes) or how a checkpoint is laid out (stream_i3d.models.checkpoint).
"""

from __future__ import annotations

import os

# Before torch is imported: on a shared machine, threads that spin at a barrier while another process holds
# their core made a step twenty times slower (5 s for 0.25 s).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import copy
import math
import multiprocessing
import time
from collections import deque
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from torch import Tensor
from torch.nn import functional

from stream_i3d.models.checkpoint import load_checkpoint, save_checkpoint
from stream_i3d.models.i3d import I3D
from stream_i3d.models.spec import ModelSpec
from stream_i3d.preprocess import Preprocessing, normalise, prepare_frame
from stream_i3d.scenes import GENERATOR_VERSION, LABELS, SceneRenderer, render_clip

PREPROCESSING = Preprocessing(short_side=80, crop_size=80, clip_len=16, sample_fps=25)
WIDTH = 0.25
BATCH = 16
POOL = 2048
"""Clips kept to draw from: 630 MB."""
REUSE = 3.5
"""How often a clip is seen on average before a new one takes its place."""
CHUNK = 16
EVERY = 300
"""Steps between examinations, and between saved states."""

TRAIN, HELD_OUT = 1, 2
"""First number of every seed: the sets can share no clip."""
LIVE_SEED = 900_000

RENDER_SIZES = [(107, 80)] * 6 + [(142, 80)] + [(160, 120)] * 2 + [(320, 240)]
"""(width, height), each as likely: mostly at the network's own size, as that is cheap, and some as a camera's."""

Clips = NDArray[np.uint8]
"""(N, 16, 80, 80, 3) uint8 RGB."""


def flips(*pairs: tuple[str, str]) -> Tensor:
    """Return the (10,) int64 label that each label becomes when the labels of `pairs` change places."""
    swapped = dict(pairs) | {other: one for one, other in pairs}
    return torch.tensor([LABELS.index(swapped.get(label, label)) for label in LABELS])


LEFT_RIGHT, UP_DOWN = ("left", "right"), ("up", "down")
TURNS, DEPTHS = ("clockwise", "counter-clockwise"), ("nearer", "farther")
MIRRORS = (
    (3, flips(LEFT_RIGHT, TURNS)),  # axis of a (T, H, W, 3) clip, counted from the batch's: W
    (2, flips(UP_DOWN, TURNS)),  # H
    (1, flips(LEFT_RIGHT, UP_DOWN, TURNS, DEPTHS)),  # T: played backwards
)


def make_clips(stream: int, seed: int, first: int) -> Clips:
    """Render clips `first` to `first` + CHUNK of a stream; clip i shows label i % 10. Runs in a worker."""
    cv2.setNumThreads(1)
    clips = []
    for number in range(first, first + CHUNK):
        size = RENDER_SIZES[np.random.default_rng([stream, seed, number, 1]).integers(len(RENDER_SIZES))]
        label = LABELS[number % len(LABELS)]
        frames = render_clip((stream, seed, number), label, PREPROCESSING.clip_len, PREPROCESSING.sample_fps, size)
        clips.append(np.stack([prepare_frame(frame, PREPROCESSING) for frame in frames]))
    return np.stack(clips)


def live_windows(seed: int) -> tuple[Clips, list[int]]:
    """Return the windows of one block of a schedule as the live path sees them, and their labels.

    A 320 x 240 camera at 30 frames per second, sampled to 25 by taking the first frame at or after each
    tick; a window every 8 sampled frames; those across a change of motion are left out. Runs in a worker.
    """
    cv2.setNumThreads(1)
    renderer = SceneRenderer(LIVE_SEED + seed)
    block_s = renderer.schedule.mean_segment_s * len(LABELS)
    ticks = np.arange(0, block_s, 1 / PREPROCESSING.sample_fps)
    times = np.ceil(ticks * 30 - 1e-6) / 30
    frames = [prepare_frame(renderer.render(float(t)), PREPROCESSING) for t in times]
    windows, labels = [], []
    for first in range(0, len(times) - PREPROCESSING.clip_len + 1, 8):
        last = first + PREPROCESSING.clip_len - 1
        label = renderer.schedule.label_during(float(times[first]), float(times[last]))
        if label is not None:
            windows.append(np.stack(frames[first : last + 1]))
            labels.append(LABELS.index(label))
    return np.stack(windows), labels


class ClipPool:
    """The newest `POOL` clips of the endless training stream; which ones depends on the step alone.

    Args:
        workers: Processes that render.
        seed: Of the stream.
        step: To start from.
    """

    def __init__(self, workers: ProcessPoolExecutor, seed: int, step: int) -> None:
        side = PREPROCESSING.crop_size
        self.clips: Clips = np.empty((POOL, PREPROCESSING.clip_len, side, side, 3), np.uint8)
        self.workers, self.seed = workers, seed
        self.filled = self.asked = (self.newest(step) - POOL) // CHUNK * CHUNK
        self.pending: deque[Future[Clips]] = deque()

    @staticmethod
    def newest(step: int) -> int:
        """Return how many clips of the stream exist at `step`, a multiple of CHUNK."""
        return (POOL + int(step * BATCH / REUSE)) // CHUNK * CHUNK

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return ((16, 16, 80, 80, 3) uint8 clips, (16,) int64 labels) for `step`; waits for the workers."""
        newest = self.newest(step)
        while self.filled < newest:
            while len(self.pending) < 12:
                self.pending.append(self.workers.submit(make_clips, TRAIN, self.seed, self.asked))
                self.asked += CHUNK
            slot = self.filled % POOL
            self.clips[slot : slot + CHUNK] = self.pending.popleft().result()
            self.filled += CHUNK
        rng = np.random.default_rng([self.seed, step])
        numbers = rng.choice(np.arange(newest - POOL, newest), BATCH, replace=False)
        return torch.from_numpy(self.clips[numbers % POOL]), torch.from_numpy(numbers % len(LABELS))


def augment(clips: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Mirror (B, T, H, W, 3) uint8 clips in space and time, with the (B,) labels that makes, and recolour them."""
    clips, labels = clips.clone(), labels.clone()
    for axis, becomes in MIRRORS:
        chosen = torch.rand(len(clips)) < 0.5
        clips[chosen] = clips[chosen].flip(axis)
        labels[chosen] = becomes[labels[chosen]]
    for i in range(len(clips)):
        if torch.rand(()) < 0.5:
            clips[i] = clips[i][..., torch.randperm(3)]
        if torch.rand(()) < 0.15:
            clips[i] = 255 - clips[i]
    return clips, labels


def side_at(progress: float) -> int:
    """Return the training clips' side in pixels; progress in [0, 1]."""
    return 48 if progress < 0.4 else 64 if progress < 0.6 else PREPROCESSING.crop_size


def rate_at(progress: float) -> float:
    """Return the learning rate as a share of its peak: a short warm-up, then linear to zero."""
    warm_up = 0.04
    return min(1.0, (progress + 1e-3) / warm_up, (1.0 - progress) / (1.0 - warm_up))


def train_step(model: I3D, optimiser: torch.optim.Optimizer, clips: Tensor, labels: Tensor, side: int) -> float:
    """Make one step and return its loss; a loss that is no number ends the run."""
    inputs = normalise(clips, PREPROCESSING)  # (B, 3, T, 80, 80)
    if side != inputs.shape[-1]:
        inputs = functional.interpolate(inputs, size=(inputs.shape[2], side, side), mode="area")
    loss = functional.cross_entropy(model(inputs), labels, label_smoothing=0.05)
    if not math.isfinite(loss.item()):
        raise click.ClickException(
            f"the loss became {loss.item()}: lower the learning rate or resume with another seed"
        )
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimiser.step()
    return loss.item()


def confusion(model: torch.nn.Module, clips: Clips, labels: list[int]) -> NDArray[np.int64]:
    """Return the (10, 10) counts of (true label, predicted label) over clips."""
    model.eval()
    table = np.zeros((len(LABELS), len(LABELS)), np.int64)
    with torch.inference_mode():
        for i in range(0, len(clips), 32):
            logits = model(normalise(torch.from_numpy(clips[i : i + 32]), PREPROCESSING))
            np.add.at(table, (labels[i : i + 32], logits.argmax(1).numpy()), 1)
    model.train()
    return table


def accuracy(table: NDArray[np.int64]) -> float:
    """Return acc@1 of a confusion table, in [0, 1]."""
    return float(np.trace(table) / table.sum())


class Examiner:
    """Holds clips and live-like windows that training never sees, and measures on them.

    Args:
        workers: Processes that render.
        clips: How many held-out clips, a multiple of CHUNK.
        blocks: How many 35 s blocks of live-like windows.
        offset: First held-out clip and block: those looked at during training and the final ones differ.
    """

    def __init__(self, workers: ProcessPoolExecutor, clips: int, blocks: int, offset: int = 0) -> None:
        chunks = [workers.submit(make_clips, HELD_OUT, 0, offset + i) for i in range(0, clips, CHUNK)]
        lives = [workers.submit(live_windows, offset + i) for i in range(blocks)]
        self.clips = np.concatenate([chunk.result() for chunk in chunks])
        self.clip_labels = [(offset + i) % len(LABELS) for i in range(clips)]
        self.windows = np.concatenate([live.result()[0] for live in lives])
        self.window_labels = [label for live in lives for label in live.result()[1]]

    def measure(self, model: torch.nn.Module) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the confusion tables on held-out clips and on live-like windows."""
        return confusion(model, self.clips, self.clip_labels), confusion(model, self.windows, self.window_labels)


def halved(model: I3D) -> I3D:
    """Return a copy whose convolutions are fp16, for a file of half the size; reading makes them fp32 again.

    BatchNorm's statistics keep their precision: a small variance would become zero.
    """
    copied = copy.deepcopy(model)
    for module in copied.modules():
        if isinstance(module, torch.nn.Conv3d):
            module.half()
    return copied


def save(
    model: I3D, path: Path, seed: int, step: int, on_clips: float = math.nan, on_windows: float = math.nan
) -> None:
    """Write the checkpoint that the package carries; nothing in it depends on the day."""
    provenance = {
        "trained_by": "scripts/train_motion.py",
        "data": f"stream_i3d.scenes, generator version {GENERATOR_VERSION}",
        "seed": str(seed),
        "steps": str(step),
        "acc@1_held_out_clips": f"{on_clips:.4f}",
        "acc@1_live_windows": f"{on_windows:.4f}",
    }
    spec = ModelSpec(
        num_classes=len(LABELS), width=WIDTH, labels=LABELS, preprocessing=PREPROCESSING, provenance=provenance
    )
    save_checkpoint(path, halved(model), spec)


def table_text(table: NDArray[np.int64]) -> str:
    """Return a confusion table as Markdown: rows are the truth, in percent."""
    lines = ["| truth \\ said | " + " | ".join(LABELS) + " |", "|---" * (len(LABELS) + 1) + "|"]
    for label, row in zip(LABELS, 100 * table / np.maximum(table.sum(1, keepdims=True), 1), strict=True):
        lines.append(f"| {label} | " + " | ".join(f"{value:.1f}" if value else "." for value in row) + " |")
    return "\n".join(lines)


class Trainer:
    """One training, step by step, and what it needs to be continued.

    Args:
        workers: Processes that render.
        seed: Of weights, clips, order and augmentation.
        steps: Whole length of the training, which sets the learning rate.
        minutes: Wall time after which it ends in any case.
        resume: File of an interrupted run, or None.
    """

    def __init__(
        self, workers: ProcessPoolExecutor, seed: int, steps: int, minutes: float | None, resume: Path | None
    ) -> None:
        torch.manual_seed(seed)
        self.seed, self.steps, self.minutes = seed, steps, minutes
        self.model = I3D(len(LABELS), width=WIDTH, dropout_keep_prob=0.7)
        for module in self.model.modules():
            if isinstance(module, torch.nn.BatchNorm3d):
                module.momentum = 0.03  # the published 0.01 is too slow for a run this short
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=1e-3, weight_decay=1e-3)
        self.step, self.elapsed_s = 0, 0.0
        if resume is not None:
            state: dict[str, Any] = torch.load(resume, weights_only=True)
            self.model.load_state_dict(state["model"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.step, self.elapsed_s, self.seed = state["step"], state["elapsed_s"], state["seed"]
        self.pool = ClipPool(workers, self.seed, self.step)
        self.loss = math.log(len(LABELS))

    @property
    def progress(self) -> float:
        """How much of the training is done, in [0, 1]."""
        by_time = self.elapsed_s / (60 * self.minutes) if self.minutes else 0.0
        return min(1.0, max(self.step / self.steps, by_time))

    def advance(self) -> None:
        """Make one step."""
        began = time.monotonic()
        # Seeded anew each step, so that a resumed run draws the same dropout and mirrors as an unbroken one.
        torch.manual_seed(self.seed * 1_000_003 + self.step)
        clips, labels = augment(*self.pool.batch(self.step))
        for group in self.optimiser.param_groups:
            group["lr"] = 1e-3 * rate_at(self.progress)
        loss = train_step(self.model, self.optimiser, clips, labels, side_at(self.progress))
        self.loss += 0.02 * (loss - self.loss)
        self.step += 1
        self.elapsed_s += time.monotonic() - began

    def save_state(self, path: Path) -> None:
        """Write what --resume reads, at once or not at all."""
        state = {"model": self.model.state_dict(), "optimiser": self.optimiser.state_dict()}
        partial = path.with_suffix(".partial")
        torch.save(state | {"step": self.step, "elapsed_s": self.elapsed_s, "seed": self.seed}, partial)
        partial.replace(path)


def run(trainer: Trainer, examiner: Examiner, out: Path, console: Console) -> None:
    """Train to the end, examining now and then; `out` holds the best so far, so that a broken run is of use."""
    best = 0.0
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("training", total=1.0)
        while trainer.progress < 1.0:
            trainer.advance()
            bar.update(task, completed=trainer.progress, description=f"step {trainer.step} loss {trainer.loss:.3f}")
            if trainer.step % 50 == 0 and not console.is_terminal:  # a log file
                console.print(f"step {trainer.step} loss {trainer.loss:.3f} after {trainer.elapsed_s:.0f} s")
            if trainer.step % EVERY == 0 or trainer.progress >= 1.0:
                trainer.save_state(out.with_suffix(".state.pt"))
            if trainer.progress >= 1.0 or (
                trainer.step % EVERY == 0 and side_at(trainer.progress) == PREPROCESSING.crop_size
            ):
                clips, windows = (accuracy(table) for table in examiner.measure(trainer.model))
                console.print(f"step {trainer.step}: acc@1 {clips:.4f} on held-out clips, {windows:.4f} live-like")
                if clips + windows > best:
                    best = clips + windows
                    save(trainer.model, out, trainer.seed, trainer.step, clips, windows)


def report(path: Path, workers: ProcessPoolExecutor, console: Console) -> tuple[float, float]:
    """Measure a checkpoint, as read back, on the large final set; print the tables.

    Returns acc@1 on held-out clips and on live-like windows, in [0, 1].
    """
    model, _ = load_checkpoint(path)
    tables = Examiner(workers, clips=2000, blocks=40, offset=1_000_000).measure(model)
    for name, table in zip(("held-out clips", "live-like windows"), tables, strict=True):
        console.print(f"\n{accuracy(table):.4f} acc@1 on {table.sum()} {name}\n{table_text(table)}", soft_wrap=True)
    return accuracy(tables[0]), accuracy(tables[1])


@click.command()
@click.option("--steps", default=6000, show_default=True, help="Length of the training.")
@click.option("--minutes", type=float, help="End after this wall time in any case; the learning rate follows.")
@click.option("--seed", default=0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/motion.safetensors"), show_default=True)
@click.option("--resume", type=click.Path(path_type=Path, exists=True), help="A .state.pt file of an earlier run.")
@click.option("--threads", default=2, show_default=True, help="Threads that train.")
@click.option("--measure", type=click.Path(path_type=Path, exists=True), help="Only measure this checkpoint.")
def main(
    steps: int,
    minutes: float | None,
    seed: int,
    out: Path,
    resume: Path | None,
    threads: int,
    measure: Path | None,
) -> None:
    """Train the carried model `motion`; writes the checkpoint to --out and the state for --resume beside it."""
    torch.set_num_threads(threads)
    console = Console()
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        if measure is not None:
            report(measure, pool, console)
            return
        trainer = Trainer(pool, seed, steps, minutes, resume)
        run(trainer, Examiner(pool, clips=320, blocks=3), out, console)
        # The last network, not the best on the small set: its rate has gone to zero, and picking would flatter it.
        save(trainer.model, out, trainer.seed, trainer.step)
        clips, windows = report(out, pool, console)
        save(trainer.model, out, trainer.seed, trainer.step, clips, windows)


if __name__ == "__main__":
    main()
