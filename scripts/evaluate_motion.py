"""Measures the packaged model `motion`: on held-out scenes, through H.264 and the live path, and on other clips.

    python scripts/evaluate_motion.py [CHECKPOINT] [--media FOLDER] [--clips 1000]

Prints a table, the confusion tables as Markdown, and one JSON line. Needs `ffmpeg` for H.264; `--media` is a folder
of real videos.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import _moved_patches as patches
import click
import cv2
import numpy as np
from _logits import logits_of
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from stream_i3d.config import Config, IdleConfig, ModelConfig, PublishConfig, SmoothingConfig, WindowConfig
from stream_i3d.inference.backends import load_model
from stream_i3d.inference.engine import LoadedModel
from stream_i3d.inference.offline import recognize_video
from stream_i3d.inference.setup import ModelSetup, settle_model, wait_passively
from stream_i3d.messages import VideoRecognition
from stream_i3d.motion import motion_measure
from stream_i3d.preprocess import prepare_frame
from stream_i3d.scenes import LABELS, SceneRenderer, render_clip

HELD_OUT_SEED = 7_000_000
"""First number of the seeds here; training's begin with 1 and 2."""
SIZE, FPS = (320, 240), 25.0

Clips = NDArray[np.uint8]


class Motion:
    """The checkpoint under test, and the live path around it."""

    def __init__(self, checkpoint: str) -> None:
        self.checkpoint = checkpoint
        self.setup: ModelSetup = settle_model(ModelConfig(checkpoint=checkpoint), WindowConfig())
        self.model: LoadedModel = load_model(self.setup)

    def predict(self, clips: list[Clips]) -> list[str]:
        """Return the first label of each (T, H, W, 3) uint8 BGR clip."""
        labels: list[str] = []
        for first in range(0, len(clips), 16):
            prepared = [
                np.stack([prepare_frame(frame, self.setup.preprocessing) for frame in clip])
                for clip in clips[first : first + 16]
            ]
            labels += [self.model.labels[int(index)] for index in logits_of(self.model, prepared).argmax(1)]
        return labels

    def windows(self, video: Path, stride: int, smoothing: SmoothingConfig | None = None) -> list[VideoRecognition]:
        """Return the live path's predictions for every window of a file."""
        config = Config(
            model=ModelConfig(checkpoint=self.checkpoint),
            window=WindowConfig(stride=stride),
            smoothing=smoothing or SmoothingConfig(method="none"),
            publish=PublishConfig(top_k=1),
        )
        messages = recognize_video(str(video), self.model, self.setup, config)
        return [message for message in messages if isinstance(message, VideoRecognition) and message.top_k]


def write_h264(path: Path, frames: Any, fps: float, quality: int) -> None:
    """Encode (H, W, 3) uint8 BGR frames with x264 at a constant rate factor (23 is its default; more is worse)."""
    size = f"{SIZE[0]}x{SIZE[1]}"
    command = [
        "ffmpeg",
        "-v",
        "error",
        "-y",
        "-f",
        "rawvideo",
        "-pix_fmt",
        "bgr24",
        "-s",
        size,
        "-r",
        f"{fps:g}",
        "-i",
        "-",
    ]
    command += ["-c:v", "libx264", "-preset", "veryfast", "-crf", str(quality), "-pix_fmt", "yuv420p", str(path)]
    encoder = subprocess.Popen(command, stdin=subprocess.PIPE)
    assert encoder.stdin is not None
    for frame in frames:
        encoder.stdin.write(np.ascontiguousarray(frame).tobytes())
    encoder.stdin.close()
    if encoder.wait() != 0:
        raise click.ClickException("ffmpeg could not encode H.264: install it with scripts/system-deps test")


def held_out(count: int) -> tuple[list[Clips], list[str]]:
    """Return clips that training never saw, and their labels."""
    truth = [LABELS[index % len(LABELS)] for index in range(count)]
    return [render_clip((HELD_OUT_SEED, index), label, 16, FPS, SIZE) for index, label in enumerate(truth)], truth


def through_h264(motion: Motion, clips: list[Clips], truth: list[str], folder: Path) -> tuple[list[str], list[str]]:
    """Send the clips as one H.264 file through the live path; return the truth and what it says of each.

    The clips stand one after another, so with a stride of their length every window is exactly one of them.
    """
    path = folder / "held-out.mp4"
    write_h264(path, (frame for clip in clips for frame in clip), FPS, quality=28)
    said = {window.window.first_frame // 16: window.top_k[0].label for window in motion.windows(path, stride=16)}
    return [truth[index] for index in sorted(said)], [said[index] for index in sorted(said)]


def scenes_through_h264(motion: Motion, seed: int, seconds: float, folder: Path) -> tuple[int, int]:
    """Play a schedule of scenes, 30 frames/s, as H.264; return (right, all) of published labels, idle read as still."""
    renderer = SceneRenderer(HELD_OUT_SEED + seed, SIZE)
    path = folder / f"scenes-{seed}.mp4"
    write_h264(path, (renderer.render(index / 30) for index in range(int(seconds * 30))), 30, quality=28)
    right = total = 0
    for window in motion.windows(path, stride=8, smoothing=SmoothingConfig()):
        label = renderer.schedule.label_during(max(0.0, window.window.start_time - 0.5), window.window.end_time)
        if label is not None:  # the half second before counts too: smoothing looks back on it
            total += 1
            right += (window.label or "still") == label
    return right, total


def motionless(motion: Motion, count: int, pictures: list[Clips]) -> tuple[int, int]:
    """Show frozen pictures through a noisy camera; return (still or idle, all)."""
    min_motion = IdleConfig().min_motion
    clips: list[Clips] = []
    for index in range(count):
        rng = np.random.default_rng([HELD_OUT_SEED, 3, index])
        picture: NDArray[np.float32] = pictures[int(rng.integers(len(pictures)))].astype(np.float32)
        sigma, drift = rng.uniform(1, 14), rng.uniform(0, 0.04)
        shown = [
            np.clip(picture * (1 + drift * np.sin(0.3 * t + index)) + rng.normal(0, sigma, picture.shape), 0, 255)
            for t in range(16)
        ]
        clips.append(np.stack(shown).astype(np.uint8))
    quiet = 0
    for clip, label in zip(clips, motion.predict(clips), strict=True):
        prepared = np.stack([prepare_frame(frame, motion.setup.preprocessing) for frame in clip])
        quiet += label == "still" or motion_measure(prepared) < min_motion
    return quiet, count


def on_patches(motion: Motion, count: int, videos: list[list[Clips]]) -> tuple[list[str], list[str]]:
    """Return truth and answers for patches moved over frozen frames (`_moved_patches`)."""
    truth = [LABELS[index % len(LABELS)] for index in range(count)]
    said: list[str] = []
    for first in range(0, count, 50):
        part = [
            patches.moved_patch(np.random.default_rng([HELD_OUT_SEED, 4, index]), truth[index], videos, 16, FPS)
            for index in range(first, min(first + 50, count))
        ]
        said += motion.predict(part)
    return truth, said


def table_text(truth: list[str], said: list[str]) -> str:
    """Return a confusion table as Markdown: rows are the truth, in percent."""
    pairs, totals = Counter(zip(truth, said, strict=True)), Counter(truth)
    lines = ["| truth \\ said | " + " | ".join(LABELS) + " |", "|---" * (len(LABELS) + 1) + "|"]
    for label in LABELS:
        row = [100 * pairs[label, other] / max(totals[label], 1) for other in LABELS]
        lines.append(f"| {label} | " + " | ".join(f"{value:.1f}" if value else "." for value in row) + " |")
    return "\n".join(lines)


def share(truth: list[str], said: list[str]) -> float:
    """Return how many are right, in [0, 1]."""
    return sum(one == other for one, other in zip(truth, said, strict=True)) / max(1, len(truth))


def measure(motion: Motion, clips: int, media: Path | None, console: Console) -> list[dict[str, Any]]:
    """Run everything; return the rows of the table."""
    rows: list[dict[str, Any]] = []

    def note(case: str, value: float, count: int, bar: float | None) -> None:
        rows.append({"case": case, "acc@1": round(value, 4), "count": count, "bar": bar})
        console.print(f"{case}: {value:.4f} of {count}", soft_wrap=True)

    pictures, truth = held_out(clips)
    said = motion.predict(pictures)
    note("held-out clips", share(truth, said), clips, 0.95)
    console.print(table_text(truth, said), soft_wrap=True)
    with tempfile.TemporaryDirectory() as folder:
        coded_truth, coded = through_h264(motion, pictures, truth, Path(folder))
        note("the same clips as H.264 (crf 28) through the live path", share(coded_truth, coded), len(coded), 0.90)
        played = [scenes_through_h264(motion, seed, 70.0, Path(folder)) for seed in range(5)]
        right, total = (sum(part) for part in zip(*played, strict=True))
        note("scenes as H.264 at 30 frames/s, smoothed", right / total, total, 0.90)
    frozen = [clip[0] for clip in pictures[:200]]
    quiet, total = motionless(motion, 400, frozen)
    note("frozen scenes, noisy camera: still or idle", quiet / total, total, 0.95)
    if media is not None:
        _measure_on_media(motion, media, clips, note, console)
    return rows


def _measure_on_media(motion: Motion, media: Path, clips: int, note: Any, console: Console) -> None:
    paths = sorted(path for path in media.iterdir() if path.suffix in (".mp4", ".avi", ".mov", ".mkv"))
    videos = [patches.read_frames(path) for path in paths]
    truth, said = on_patches(motion, clips, videos)
    note("patches of real frames moved over others", share(truth, said), clips, 0.85)
    console.print(table_text(truth, said), soft_wrap=True)
    frozen = [np.asarray(cv2.resize(frame, SIZE), np.uint8) for video in videos for frame in video[::20]]
    quiet, total = motionless(motion, 400, frozen)
    note("frozen real frames, noisy camera: still or idle", quiet / total, total, 0.95)
    for path in paths:
        counts = Counter(window.label or "idle" for window in motion.windows(path, 8, SmoothingConfig()))
        console.print(f"{path.name}: {', '.join(f'{label} {count}' for label, count in counts.most_common())}")


@click.command()
@click.argument("checkpoint", default="motion")
@click.option("--media", type=click.Path(path_type=Path, exists=True, file_okay=False), help="A folder of real videos.")
@click.option("--clips", default=1000, show_default=True, help="Held-out clips.")
def main(checkpoint: str, media: Path | None, clips: int) -> None:
    """Measure the carried model, or another checkpoint of it."""
    wait_passively()
    console, began = Console(), time.monotonic()
    rows = measure(Motion(checkpoint), clips, media, console)
    table = Table("case", "acc@1", "of", "bar")
    for row in rows:
        table.add_row(row["case"], f"{row['acc@1']:.4f}", str(row["count"]), f"{row['bar']:.2f}")
    console.print(table)
    console.print(f"{time.monotonic() - began:.0f} s")
    print(json.dumps({"bench": "evaluate_motion", "checkpoint": checkpoint, "rows": rows}))


if __name__ == "__main__":
    main()
