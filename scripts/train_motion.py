"""Trains the packaged model `motion` from scratch on generated scenes, calibrates, converts to half, and measures it.

    nice python scripts/train_motion.py --output runs/motion
    cp runs/motion/motion.safetensors stream_i3d/models/weights/

It runs `stream-i3d train` with configs/train/motion.yaml, and then twice with motion-further.yaml from its result. The
same seeds give the same network on one machine. The same command resumes an interrupted run. It takes about 95 minutes
on two idle cores.
"""

from __future__ import annotations

import copy
from pathlib import Path

import click
import torch
from msgspec import structs
from torch import Tensor, nn

from stream_i3d.api.training import train
from stream_i3d.inference.setup import wait_passively
from stream_i3d.models.checkpoint import load_checkpoint, save_checkpoint
from stream_i3d.preprocess import Preprocessing, normalise
from stream_i3d.scenes import GENERATOR_VERSION
from stream_i3d.settings import parse_overrides
from stream_i3d.training.calibration import calibrate
from stream_i3d.training.config import SceneConfig, load_train_config
from stream_i3d.training.console import ConsoleWatcher
from stream_i3d.training.loading import SampleKey
from stream_i3d.training.run import CONFIG_NAME, LAST
from stream_i3d.training.run_files import STATE_NAME
from stream_i3d.training.scene_dataset import SceneDataset

CONFIGS = Path(__file__).parent.parent / "configs" / "train"
LEGS: dict[str, tuple[str, list[str]]] = {
    "first": ("motion", []),
    "second": ("motion-further", []),
    "third": ("motion-further", ["run.seed=2", "run.epochs=36"]),
}
"""By folder: a configuration, and settings over it. Each leg starts from the last network of the one before."""
CALIBRATION_FIRST, CALIBRATION_CLIPS = 1_000_000, 2000
"""Held-out clips that the temperature is fitted on; validation looks at those from 0 on."""


def halved(model: nn.Module) -> nn.Module:
    """Return a copy whose convolutions are fp16, for a file of half the size; reading makes them fp32 again.

    BatchNorm's statistics keep their precision: a small variance would become zero.
    """
    copied = copy.deepcopy(model)
    for module in copied.modules():
        if isinstance(module, nn.Conv3d):
            module.half()
    return copied


@torch.inference_mode()
def held_out_logits(model: nn.Module, dataset: SceneDataset, make: Preprocessing) -> tuple[Tensor, Tensor]:
    """Return (N, 10) float32 logits of all clips of a set, and their (N,) int64 classes."""
    logits = []
    for index in range(len(dataset)):
        clip = dataset[SampleKey(0, index)]["clips"]["rgb"]  # (1, T, H, W, 3)
        logits.append(model(normalise(clip, make)))
    return torch.cat(logits), torch.tensor(dataset.targets)


def finish(legs: list[Path], out: Path) -> None:
    """Calibrate and halve what the last leg ended with, and write it as the package carries it: without the day."""
    made = [(load_train_config(leg / CONFIG_NAME), load_checkpoint(leg / LAST)) for leg in legs]
    model, spec = made[-1][1]
    held_out = SceneDataset(
        SceneConfig(held_out=CALIBRATION_CLIPS), spec.preprocessing, held_out=True, first=CALIBRATION_FIRST
    )
    logits, labels = held_out_logits(model, held_out, spec.preprocessing)
    found = calibrate(logits, labels)
    assert found is not None, "2,000 clips are enough"
    accuracy = float((logits.argmax(1) == labels).float().mean())
    click.echo(
        f"on {len(labels)} held-out clips: acc@1 {accuracy:.4f}; temperature {found.temperature:.3f}, "
        f"expected calibration error {found.ece_before:.4f} -> {found.ece:.4f}"
    )
    provenance = {
        "trained_by": "scripts/train_motion.py",
        "data": f"stream_i3d.scenes, generator version {GENERATOR_VERSION}",
        "seeds": ", ".join(str(config.run.seed) for config, _ in made),
        "steps": str(sum(int(one.provenance["step"]) for _, (_, one) in made)),
        "acc@1_held_out_clips": f"{accuracy:.4f}",
    }
    save_checkpoint(out, halved(model), structs.replace(spec, temperature=found.temperature, provenance=provenance))
    click.echo(f"wrote {out} ({out.stat().st_size / 1e6:.2f} MB); measure it: scripts/evaluate_motion.py {out}")


def train_leg(name: str, folder: Path, settings: list[str]) -> None:
    """Train one leg, or go on with it where it was interrupted."""
    resume = (folder / STATE_NAME).is_file()
    start = None if resume else CONFIGS / f"{name}.yaml"
    overrides = {**parse_overrides(settings), "output": str(folder)}
    with ConsoleWatcher() as watcher:
        outcome = train(start, overrides, resume=folder if resume else None, watcher=watcher)
        watcher.ended(outcome, folder)


@click.command()
@click.argument("settings", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--output", type=click.Path(path_type=Path), default=Path("runs/motion"), show_default=True)
def main(settings: tuple[str, ...], output: Path) -> None:
    """Train `motion`, or go on with it, and write OUTPUT/motion.safetensors. KEY=VALUE as for `stream-i3d train`."""
    wait_passively()
    start: list[str] = []
    for leg, (name, own) in LEGS.items():
        train_leg(name, output / leg, [*start, *own, *settings])
        # The last network, not the best on the small set: its rate has gone to zero, and picking would flatter it.
        start = [f"model.weights={output / leg / LAST}"]
    finish([output / leg for leg in LEGS], output / "motion.safetensors")


if __name__ == "__main__":
    main()
