"""The offline counterpart of streaming mode: the predictions of the whole-clip network on the same frames.

A prediction of streaming mode equals one time step of the published whole-clip network, on a clip that has all frames
that the prediction depends on, at the positions where that step uses them (see `models.streaming_plan`). Frames are
read as in an evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stream_i3d.config import WindowConfig
from stream_i3d.errors import EngineError
from stream_i3d.messages import Window
from stream_i3d.models.streaming_plan import SEEN_FRAMES, SHIFT_FRAMES, STEP_FRAMES, WARM_UP_STEPS
from stream_i3d.preprocess import Image, centre_crop
from stream_i3d.training.stream_videos import StreamVideo
from stream_i3d.training.streaming_report import Span

if TYPE_CHECKING:
    from stream_i3d.training.evaluation import Network

_LATE = STEP_FRAMES * (WARM_UP_STEPS + 1) - SHIFT_FRAMES - 1
"""The last frame of a clip, 62, that step 0 depends on; each further step depends on 8 more."""
_WHOLE = 6
"""The first step of a clip that does not depend on the padding before it."""
_STEPS_AT_ONCE = 8


class Step(NamedTuple):
    """One prediction, before averaging.

    Attributes:
        first: Number of the oldest frame that it depends on, or of the first frame of its stream.
        newest: Number of the newest frame that it depends on.
    """

    first: int
    newest: int

    @property
    def whole(self) -> bool:
        """Whether it depends on frames only, not on the zero padding before the stream."""
        return self.newest - self.first == SEEN_FRAMES - 1


class _Clip(NamedTuple):
    """A clip for some steps: number of its first frame (may be before the steps' own), index of the first step."""

    start: int
    number: int
    steps: tuple[Step, ...]


def carried_probabilities(
    network: Network,
    videos: Sequence[StreamVideo],
    windows: Sequence[tuple[Window, Span]],
    settings: WindowConfig,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> NDArray[np.float32]:
    """Run the frames of streaming predictions through the whole-clip network.

    Args:
        network: The network that ran live, an Inception I3D on RGB.
        videos: The videos in the order in which they were played.
        windows: The frames that predictions depended on, each within one video, and the spans of these videos.
        settings: Stride and averaging.
        progress: Called with the number of predictions done and the number in all.

    Returns:
        (predictions, classes) float32.
    """
    rows: list[Tensor] = []
    for span, group in groupby(windows, key=lambda pair: pair[1]):
        averaged = [list(averaged_steps(window, settings)) for window, _ in group]
        logits = _logits(network, videos[span.video], span.first, {step for steps in averaged for step in steps})
        rows += [torch.stack([logits[step] for step in steps]).mean(dim=0) for steps in averaged]
        progress(len(rows), len(windows))
    check_finite(torch.stack(rows), network)
    return np.asarray((torch.stack(rows) / network.spec.temperature).softmax(dim=1).numpy(), np.float32)


def check_finite(logits: Tensor, network: Network) -> None:
    """Check that all logits are finite.

    Raises:
        EngineError: Some are not.
    """
    if not torch.isfinite(logits).all():
        raise EngineError(
            f"the output of {network.name} is not finite ({network.description}): give run.precision=fp32"
        )


def averaged_steps(window: Window, settings: WindowConfig) -> Iterator[Step]:
    """Yield the steps whose average is a prediction, newest first."""
    # A stream that began later has fewer frames: whole chunks before the newest frame.
    reach = SEEN_FRAMES + settings.stride * (settings.averaging - 1)
    cut_short = window.last_frame - window.first_frame + 1 < reach
    for back in range(settings.averaging):
        newest = window.last_frame - back * settings.stride
        first = newest - SEEN_FRAMES + 1
        if cut_short:
            began = window.first_frame + (newest + 1 - window.first_frame) % STEP_FRAMES  # of this step's phase
            if newest - began + 1 < STEP_FRAMES * (WARM_UP_STEPS + 1):
                return
            first = max(first, began)
        yield Step(first, newest)


def _logits(network: Network, video: StreamVideo, offset: int, steps: Iterable[Step]) -> Mapping[Step, Tensor]:
    """Return each step's (num_classes,) float32 logits; the video's first frame is number `offset`."""
    wanted = sorted(steps, key=lambda step: (step.newest % STEP_FRAMES, step.newest))
    numbers = range(min(step.first for step in wanted) - offset, max(step.newest for step in wanted) - offset + 1)
    frames = video.frames(numbers)
    logits: dict[Step, Tensor] = {}
    for clip in _clips(wanted):
        given = network.temporal_logits(_cut(clip, frames, offset, network.preprocessing.crop_size))[0]
        for place, step in enumerate(clip.steps):
            logits[step] = given[:, clip.number + place]
    return logits


def _clips(steps: Sequence[Step]) -> Iterator[_Clip]:
    """Group consecutive steps of one phase into clips, because each clip needs all frames of its first step."""
    for phase_and_whole, group in groupby(steps, key=lambda step: (step.newest % STEP_FRAMES, step.whole)):
        several = list(group)
        if not phase_and_whole[1]:
            for step in several:
                start = step.first + SHIFT_FRAMES
                yield _Clip(start, (step.newest - start - _LATE) // STEP_FRAMES, (step,))
            continue
        while several:
            count = 1
            while count < min(_STEPS_AT_ONCE, len(several)) and (
                several[count].newest == several[0].newest + STEP_FRAMES * count
            ):
                count += 1
            yield _Clip(several[0].newest - _LATE - STEP_FRAMES * _WHOLE, _WHOLE, tuple(several[:count]))
            del several[:count]


def _cut(clip: _Clip, frames: Mapping[int, Image], offset: int, size: int) -> Tensor:
    """Return (1, T, size, size, 3) uint8, T in whole steps; frames that no step depends on are repeated ones."""
    first, newest = clip.steps[0].first, clip.steps[-1].newest
    length = -(-(newest - clip.start + 1) // STEP_FRAMES) * STEP_FRAMES
    numbers = [min(max(clip.start + place, first), newest) - offset for place in range(length)]
    return torch.from_numpy(np.stack([centre_crop(frames[number], size) for number in numbers])[None])
