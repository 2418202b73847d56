"""The nouns of the flow, in order: Frame -> Clip -> Prediction -> Recognition -> ActionEvent, and CameraStatus.

Types only. The ones that leave the process are msgspec Structs: encoding, validation and the committed JSON Schemas
(docs/schemas) all come from these classes. This module knows no socket, no network and no clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

Image = NDArray[np.uint8]
"""(H, W, 3) uint8 in [0, 255]; each signature says whether it is BGR or RGB."""

# "$(?!\n)": in Python "$" alone would let a trailing newline into the topic; JSON Schema has no "\Z".
CameraName = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9_.-]{1,64}$(?!\n)",
        description="1 to 64 letters, digits, '_', '.' or '-'; part of the topic",
        extra={"expected": "1 to 64 letters, digits, '_', '.' or '-'"},
    ),
]
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Probability = Annotated[float, Meta(ge=0, le=1)]
Milliseconds = Annotated[float, Meta(ge=0)]
CameraState = Literal["connecting", "live", "stalled", "reconnecting", "stopped"]
RecognitionState = Literal["warming", "action", "idle"]
ViewName = Literal["centre", "whole", "squeeze"]
"""What part of a picture the network sees: the centre square, as published; all of it, in its own shape; or all of it,
squeezed into a square."""


class FrameStamp(Struct, frozen=True, kw_only=True):
    """Where a frame stands in its stream.

    Attributes:
        camera: Name of the camera.
        epoch: New at every (re)connection; opaque, only compared for equality. Milliseconds since 1970 at connection.
        seq: Number of the sampled frame within the epoch, from 0.
        capture_ns: When the frame was taken, on the monotonic clock, in nanoseconds (one host): by the stream's own
            time stamps, mapped so that the picture that came with the least delay was taken when it came; where it has
            none to be trusted, when the frame arrived.
        wall_time: The same moment, in seconds since 1970.
        media_time: Seconds since the start of the medium; None for live cameras.
        repeat: True when the camera was slower than sample_fps and this is the previous picture again.
        delay_ns: Nanoseconds for which pictures are held back after capture_ns, to leave at an even pace.
    """

    camera: CameraName
    epoch: Count
    seq: Count
    capture_ns: Count
    wall_time: float
    media_time: float | None = None
    repeat: bool = False
    delay_ns: Count = 0

    @property
    def time(self) -> float:
        """Media time where there is one, else wall time; seconds."""
        return self.wall_time if self.media_time is None else self.media_time

    @property
    def elapsed(self) -> float:
        """Seconds on a clock that never steps: media time where there is one, else the monotonic clock."""
        return self.capture_ns * 1e-9 if self.media_time is None else self.media_time


@dataclass(frozen=True, slots=True)
class Frame:
    """One sampled picture: a stamp and (size, size, 3) uint8 RGB pixels, ready for the model but for normalising."""

    stamp: FrameStamp
    pixels: Image


class Window(Struct, frozen=True, kw_only=True):
    """A clip's place in the stream. Frames are counted by `seq`; times are wall clock, media time for files, in s."""

    first_frame: Count
    last_frame: Count
    start_time: float
    end_time: float


@dataclass(frozen=True, slots=True)
class Clip:
    """The model's input: a whole window, or in streaming mode the next 8 frames of a stream.

    Attributes:
        window: Place in the stream of all frames that the prediction depends on.
        newest: Stamp of the last frame.
        frames: (T, size, size, C) uint8, often a view into the ring. C is 3, RGB, or 5: RGB and the codes of the
            optical flow from the frame before, x and y (`flow.quantise`).
        recent: The newest frames, (n, size, size, C) uint8, that motion is measured on: as many as a window has.
        first_position: Position in the ring of the oldest of these frames.
        device_frames: Where the engine finds the same frames on its own device; None if they are not there.
        run: Number of the unbroken part of the stream; another one after each break.
        phase: Which of the network's states the clip continues; two take turns at stride 4.
        number: How many clips this state was given before in this run. At 0 it begins anew.
        ready: Whether the prediction means anything, which in streaming mode needs a warm state.
    """

    window: Window
    newest: FrameStamp
    frames: NDArray[np.uint8]
    recent: NDArray[np.uint8]
    first_position: int
    device_frames: object = field(default=None, kw_only=True)
    run: int = field(default=0, kw_only=True)
    phase: int = field(default=0, kw_only=True)
    number: int = field(default=0, kw_only=True)
    ready: bool = field(default=True, kw_only=True)


@dataclass(frozen=True, slots=True)
class Prediction:
    """The model's output for one clip: (num_classes,) float32 softmax probabilities, and the time it took.

    `streams` has each network's own (num_classes,) probabilities by its name, where several were fused.
    """

    probabilities: NDArray[np.float32]
    inference_ms: float
    streams: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


class LabelScore(Struct, frozen=True, kw_only=True):
    """One line of a top-k list: the smoothed probability, and the one of this window alone."""

    index: Count
    label: str
    probability: Probability
    raw_probability: Probability


class StreamTop(Struct, frozen=True, kw_only=True):
    """The likeliest label of one network of several, of this window alone: not fused, not smoothed."""

    stream: str
    index: Count
    label: str
    probability: Probability


class Latency(Struct, frozen=True, kw_only=True):
    """Milliseconds; `queue` from the newest frame's capture to inference, `total` from its capture to publishing."""

    queue: Milliseconds
    inference: Milliseconds
    total: Milliseconds


class ModelName(Struct, frozen=True, kw_only=True):
    """Which network, with which weights (a file's name, never its path)."""

    name: str
    checkpoint: str


class Recognition(Struct, frozen=True, kw_only=True):
    """What is published at every stride.

    Attributes:
        state: "warming" while the window is not full yet, "idle" when nothing is recognised, else "action".
        label: The recognised action; None unless state is "action".
        confidence: Smoothed probability of the likeliest label, in [0, 1].
        top_k: Likeliest labels, best first; empty while warming or where inference was skipped.
        streams: Of a model of several networks, what each says by itself ("rgb", "flow"); empty for one network, while
            warming, and where inference was skipped.
        skipped: Why no inference was run for this window ("no motion"), else None.
        frames_dropped: Sampled frames that never reached the worker, since it started.
        windows_dropped: Due windows that were not recognised (stale, gap, epoch, span, overrun, not_finite), since it
            started.
    """

    schema: Literal["stream-i3d/prediction/1"] = "stream-i3d/prediction/1"
    camera: CameraName
    epoch: Count
    seq: Count
    window: Window
    state: RecognitionState
    label: str | None
    confidence: Probability
    top_k: list[LabelScore]
    streams: list[StreamTop] = []
    skipped: str | None = None
    latency_ms: Latency
    frames_dropped: Count
    windows_dropped: Count
    model: ModelName


class ActionEvent(Struct, frozen=True, kw_only=True):
    """An action started or ended; both messages of one action share `id`. Times as in Window."""

    schema: Literal["stream-i3d/event/1"] = "stream-i3d/event/1"
    camera: CameraName
    id: str
    event: Literal["start", "end"]
    label: str
    start_time: float
    end_time: float | None
    peak_confidence: Probability


class CameraStatus(Struct, frozen=True, kw_only=True):
    """State of a camera: sent at every change and every few seconds.

    Attributes:
        fps: New pictures per second that the camera really delivers (not the sampled rate).
        last_frame_age_s: Seconds since its last new frame; None before the first.
        reconnects: Times the connection was opened again.
        detail: One line for people: the reason, and what happens next. Never holds a password.
        problem: One line for people: what is wrong, without what happens next; "" where nothing is.
        retry_in_s: Seconds until the next attempt to connect; null where none is planned.
        too_slow: Whether the camera delivers too few pictures to be recognised.
        paused: Whether it is "stopped" because somebody paused it.
        previews_dropped: Pictures that were due for those who watch, and not made for want of time.
        stride: Frames between windows now; larger than was asked for where the machine cannot keep up. None where
            nobody recognises.
        overloaded: Whether the machine cannot keep up, so that the camera is recognised less often than was asked for.
        waiting_since: In streaming mode on such a machine cameras take turns: since when this one waits for its turn
            and is not recognised, in seconds since 1970. None while it is recognised.
        windows_failed: Windows for which the network's output was not finite, since the worker started. Nothing is
            published for them.
        delay_s: Seconds for which pictures are held back, because they come in bursts (HLS); 0 for a steady stream.
        view: What the network sees of the picture: its centre, all of it, or all of it squeezed into a square. None
            before its capture process has reported.
        view_share: Share of the picture's area that this is, in (0, 1]; None before the first picture.
    """

    schema: Literal["stream-i3d/status/1"] = "stream-i3d/status/1"
    camera: CameraName
    state: CameraState
    fps: Annotated[float, Meta(ge=0)]
    last_frame_age_s: Annotated[float, Meta(ge=0)] | None
    reconnects: Count
    frames_dropped: Count
    detail: str
    paused: bool = False
    previews_dropped: Count = 0
    stride: Annotated[int, Meta(ge=1)] | None = None
    overloaded: bool = False
    waiting_since: float | None = None
    windows_failed: Count = 0
    delay_s: Annotated[float, Meta(ge=0)] = 0.0
    problem: str = ""
    retry_in_s: Annotated[float, Meta(ge=0)] | None = None
    too_slow: bool = False
    view: ViewName | None = None
    view_share: Annotated[float, Meta(gt=0, le=1)] | None = None


class EngineFacts(Struct, frozen=True, kw_only=True):
    """What runs the network.

    Attributes:
        backend: "torch", "openvino", "onnxruntime" or "tensorrt".
        device: Such as "cpu" or "cuda:0".
        precision: "fp32", "bf16" or "fp16"; "int8 and fp32" (or "int8 and bf16") for a quantised graph.
        compiled: Whether torch.compile runs it.
        int8: Whether layers of it are int8.
    """

    backend: str
    device: str
    precision: str
    compiled: bool = False
    int8: bool = False


class Segment(Struct, frozen=True, kw_only=True):
    """A stretch of a video in which one action was recognised; seconds of media time."""

    schema: Literal["stream-i3d/segment/1"] = "stream-i3d/segment/1"
    video: str
    label: str
    start_time: float
    end_time: float
    mean_confidence: Probability
    peak_confidence: Probability
    windows: Annotated[int, Meta(ge=1)]


class VideoRecognition(Recognition, frozen=True, kw_only=True):
    """A prediction message of `recognize`, with the video it is about beside it."""

    video: str


class FrameHeader(FrameStamp, frozen=True, kw_only=True, tag_field="kind", tag="frame", forbid_unknown_fields=True):
    """First part of a frame message, capture -> worker; the second part is the raw pixels."""

    version: Literal[1] = 1
    shape: tuple[int, int, int]
    dtype: Literal["uint8"] = "uint8"


class CameraReport(Struct, frozen=True, kw_only=True, tag_field="kind", tag="report", forbid_unknown_fields=True):
    """A capture process's report of its camera, on the frame channel, with no second part.

    Attributes:
        final: True when no frame will follow: the file ended, or the process stops.
        lossless: True when frames wait for room on the channel instead of being dropped, so the worker must hold back.
        delay_s, problem, retry_in_s, too_slow, view, view_share: As in CameraStatus.
    """

    version: Literal[1] = 1
    camera: CameraName
    state: CameraState
    fps: Annotated[float, Meta(ge=0)]
    reconnects: Count
    detail: str
    final: bool = False
    paused: bool = False
    previews_dropped: Count = 0
    lossless: bool = False
    delay_s: Annotated[float, Meta(ge=0)] = 0.0
    problem: str = ""
    retry_in_s: Annotated[float, Meta(ge=0)] | None = None
    too_slow: bool = False
    view: ViewName | None = None
    view_share: Annotated[float, Meta(gt=0, le=1)] | None = None


PUBLISHED = (Recognition, ActionEvent, CameraStatus, Segment)
"""The classes whose JSON Schemas are committed in docs/schemas."""


def schema_name(message: type[Struct] | Struct) -> str:
    """Return the value of a published message's `schema` field, such as "stream-i3d/event/1"."""
    kind = message if isinstance(message, type) else type(message)
    return str(dict(zip(reversed(kind.__struct_fields__), reversed(kind.__struct_defaults__), strict=False))["schema"])
