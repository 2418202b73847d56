"""What the whole-clip network says of the frames that a carried network saw: streaming mode's offline counterpart.

Offline a prediction of streaming mode is one step of the published, whole-clip network, on a clip that holds all frames
that the prediction depends on where the step sees them (see `models.streaming_plan`). Frames are read as evaluation
reads them. Does not know the live path.
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
"""Frame of a clip, 62, at which its step 0 has seen all it sees; each further step needs 8 more."""
_WHOLE = 6
"""The first step of a clip that sees none of the padding before it."""
_STEPS_AT_ONCE = 8


class Step(NamedTuple):
    """One prediction, before averaging.

    Attributes:
        first: The oldest frame that it depends on, or the one at which its stream began.
        newest: The newest one.
    """

    first: int
    newest: int

    @property
    def whole(self) -> bool:
        """Whether it sees only frames, and none of the zeros before the stream."""
        return self.newest - self.first == SEEN_FRAMES - 1


class _Clip(NamedTuple):
    """A clip that gives some steps: its first frame's number (which may be before `steps`' own), and its first step."""

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
    """Run the frames of carried predictions through the whole-clip network.

    Args:
        network: The same as live, an Inception I3D on RGB.
        videos: In the order in which they were played.
        windows: What predictions depended on, each within one video, and these videos, in order.
        settings: Stride and averaging.
        progress: Told how many predictions are done, and of how many.

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
    """Check that what a network gave can be compared with anything.

    Raises:
        EngineError: Some of it is not finite.
    """
    if not torch.isfinite(logits).all():
        raise EngineError(
            f"the output of {network.name} is not finite ({network.description}): give run.precision=fp32"
        )


def averaged_steps(window: Window, settings: WindowConfig) -> Iterator[Step]:
    """Yield the steps that a prediction is the average of, the newest first."""
    # A stream began whole chunks before its newest frame, which is never so many frames as a prediction sees.
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
    """Put neighbours of one phase into one clip, since each clip costs the frames that its first step sees."""
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
    """Return (1, T, size, size, 3) uint8, T a number of whole steps; frames that no step sees are repeats."""
    first, newest = clip.steps[0].first, clip.steps[-1].newest
    length = -(-(newest - clip.start + 1) // STEP_FRAMES) * STEP_FRAMES
    numbers = [min(max(clip.start + place, first), newest) - offset for place in range(length)]
    return torch.from_numpy(np.stack([centre_crop(frames[number], size) for number in numbers])[None])
