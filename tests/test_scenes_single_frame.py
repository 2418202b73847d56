"""No single frame gives a clip's motion away: a classifier that learns from three frames learns nothing from one."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stream_i3d.scenes import LABELS, render_clip

CLIPS, TRAINING = 4000, 3000
MIDDLE = 8
MIRRORED = {
    3: torch.tensor([LABELS.index({"left": "right", "right": "left"}.get(label, label)) for label in LABELS]),
    2: torch.tensor([LABELS.index({"up": "down", "down": "up"}.get(label, label)) for label in LABELS]),
}
TURNED = torch.tensor(
    [
        LABELS.index({"clockwise": "counter-clockwise", "counter-clockwise": "clockwise"}.get(label, label))
        for label in LABELS
    ]
)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    before = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    yield
    cv2.setNumThreads(before[0])
    torch.set_num_threads(before[1])


@pytest.fixture(scope="module")
def frames(one_thread: None) -> Tensor:
    """(4000, 3, 3, 40, 40) float32: the frames 5, 8 and 11 of clips, clip i of label i % 10, as 40 x 40 squares."""
    clips = [
        render_clip((5, i), LABELS[i % len(LABELS)], size=(54, 40))[MIDDLE - 3 : MIDDLE + 4 : 3, :, 7:47]
        for i in range(CLIPS)
    ]
    return torch.from_numpy(np.stack(clips)).permute(0, 1, 4, 2, 3).float()


def block(inputs: int, outputs: int, kernel: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, kernel, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]


def accuracy_on_new_clips(pictures: Tensor) -> float:
    """Train a small network on the first clips' (N, C, 40, 40) pictures and return acc@1 on the others, in percent."""
    torch.manual_seed(0)
    labels = torch.arange(len(pictures)) % len(LABELS)
    layers = [*block(pictures.shape[1], 16, 5), *block(16, 32, 3), *block(32, 64, 3)]
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, len(LABELS)))
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=0.05)
    epochs = 10
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 5e-3, total_steps=epochs * TRAINING // 50)
    for _ in range(epochs):
        for chosen in torch.randperm(TRAINING).split(50):
            x, y = pictures[chosen], labels[chosen]
            for axis, becomes in MIRRORED.items():
                if torch.rand(()) < 0.5:
                    x, y = x.flip(axis), TURNED[becomes[y]]
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(x), y).backward()
            optimiser.step()
            schedule.step()
    network.eval()
    with torch.inference_mode():
        right = network(pictures[TRAINING:]).argmax(1) == labels[TRAINING:]
    return 100 * float(right.float().mean())


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_one_frame_does_not_tell_the_motion(frames: Tensor) -> None:
    assert accuracy_on_new_clips(frames[:, 1] / 64 - 2) <= 15  # chance is 10; four standard errors are 3.8


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_same_classifier_learns_the_motion_from_the_differences_of_three_frames(frames: Tensor) -> None:
    grey = frames.mean(dim=2)
    differences = torch.stack([grey[:, 1] - grey[:, 0], grey[:, 2] - grey[:, 1]], dim=1) / 32
    assert accuracy_on_new_clips(differences) >= 35


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_same_classifier_finds_a_leak_of_one_class_in_single_frames(frames: Tensor) -> None:
    """Three labels' pictures are smeared sideways by 5 of 40 pixels, as by an exposure that is far too long."""
    leaky = frames[:, 1].clone()
    for label in (1, 2, 3):
        leaky[label :: len(LABELS)] = torch.from_numpy(
            np.stack([cv2.blur(p.permute(1, 2, 0).numpy(), (5, 1)) for p in leaky[label :: len(LABELS)]])
        ).permute(0, 3, 1, 2)
    assert accuracy_on_new_clips(leaky / 64 - 2) > 15
