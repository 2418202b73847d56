"""The packaged model `motion` has the accuracy of its model card, on fewer clips than scripts/evaluate_motion.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stream_i3d.models.checkpoint import load_checkpoint
from stream_i3d.models.spec import carried_checkpoint, read_spec
from stream_i3d.preprocess import normalise, prepare_frame
from stream_i3d.scenes import GENERATOR_VERSION, LABELS, render_clip

pytestmark = pytest.mark.timeout(300)  # 200 clips are rendered: 15 s alone, two minutes on a busy machine

UNSEEN = 31_000_000
"""First number of the seeds; training and calibration use others."""


@pytest.fixture(scope="module")
def answers() -> tuple[np.ndarray, np.ndarray]:
    """(N, 10) probabilities of held-out clips, and their (N,) labels."""
    model, spec = load_checkpoint("motion")
    logits = []
    labels = np.arange(200) % len(LABELS)
    for index, label in enumerate(labels):
        frames = render_clip((UNSEEN, index), LABELS[label], 16, 25.0, (107, 80))
        clip = np.stack([prepare_frame(frame, spec.preprocessing) for frame in frames])
        with torch.inference_mode():
            logits.append(model(normalise(torch.from_numpy(clip[None]), spec.preprocessing))[0] / spec.temperature)
    return torch.stack(logits).softmax(1).numpy(), labels


def test_the_file_is_small_and_has_a_spec() -> None:
    assert carried_checkpoint().stat().st_size < 3_000_000
    spec = read_spec(carried_checkpoint())
    assert spec is not None
    assert spec.labels == LABELS
    assert spec.provenance["data"] == f"stream_i3d.scenes, generator version {GENERATOR_VERSION}"
    assert sum(tensor.numel() for tensor in load_checkpoint("motion")[0].parameters()) < 900_000


@pytest.mark.slow
def test_it_recognises_the_motions_of_held_out_scenes(answers: tuple[np.ndarray, np.ndarray]) -> None:
    probabilities, labels = answers
    right = probabilities.argmax(1) == labels
    assert right.mean() >= 0.92  # 95.7 % of 2,000 clips; of 200, fewer than this by chance once in a hundred
    assert min(right[labels == label].mean() for label in range(len(LABELS))) >= 0.7


@pytest.mark.slow
def test_its_confidence_is_calibrated(answers: tuple[np.ndarray, np.ndarray]) -> None:
    probabilities, labels = answers
    right = probabilities.argmax(1) == labels
    assert abs(probabilities.max(1).mean() - right.mean()) < 0.05


@pytest.mark.slow
def test_a_motionless_noisy_picture_is_still() -> None:
    model, spec = load_checkpoint("motion")
    still = 0
    for index in range(40):
        rng = np.random.default_rng([UNSEEN, index])
        frame = render_clip((UNSEEN, 1, index), "still", 1, 25.0, (160, 120))[0].astype(np.float32)
        noisy = np.clip(frame + rng.normal(0, rng.uniform(1, 14), (16, *frame.shape)), 0, 255).astype(np.uint8)
        clip = np.stack([prepare_frame(picture, spec.preprocessing) for picture in noisy])
        with torch.inference_mode():
            still += int(model(normalise(torch.from_numpy(clip[None]), spec.preprocessing)).argmax()) == LABELS.index(
                "still"
            )
    assert still >= 37
