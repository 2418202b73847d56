"""Recognises video files at full speed: the live path's own reader, ring, schedule and recognizer, without sockets."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from msgspec import Struct, structs

from stream_i3d.capture.address import SourceAddress, parse_source, parse_synthetic
from stream_i3d.capture.reader import Clock, FrameReader
from stream_i3d.capture.source import Source, open_source
from stream_i3d.config import CaptureConfig, Config
from stream_i3d.errors import ConfigError, EngineError, SourceNotFound
from stream_i3d.inference.engine import LoadedModel
from stream_i3d.inference.feed import Feed
from stream_i3d.inference.flow_frames import make_augment
from stream_i3d.inference.runner import CameraWindows, Runner
from stream_i3d.inference.setup import ModelSetup
from stream_i3d.messages import Frame, Recognition, Segment, VideoRecognition
from stream_i3d.models.streaming_plan import STEP_FRAMES, WARM_UP_STEPS
from stream_i3d.preprocess import Preprocessing
from stream_i3d.recognition.events import merge_segments
from stream_i3d.recognition.postprocess import Postprocessor, PostprocessSettings
from stream_i3d.redact import redact
from stream_i3d.sampling import too_short, too_slow

_EPOCH = 0
_CLOCK = Clock(time.monotonic_ns, time.time, lambda until: True)


def read_frames(source: Source, camera: str, preprocessing: Preprocessing) -> Iterator[Frame]:
    """Yield an opened source's sampled frames as fast as they can be read; raises SourceError."""
    yield from frames_of(offline_reader(source, camera, preprocessing))


def offline_reader(source: Source, camera: str, preprocessing: Preprocessing) -> FrameReader:
    """Return a reader of an opened source that never waits."""
    return FrameReader(source, camera, _EPOCH, preprocessing, _CLOCK, paced=False)


def frames_of(reader: FrameReader) -> Iterator[Frame]:
    """Yield a reader's frames up to the end; raises SourceError."""
    while (frames := reader.read()) is not None:
        yield from frames


class Ending(Struct, frozen=True):
    """What came of a video.

    Attributes:
        predictions: How many it gave.
        problem: One line: why there are none, or why they mean little. None where all is well.
        too_slow: Whether that is because its pictures are too few.
    """

    predictions: int
    problem: str | None = None
    too_slow: bool = False


def recognize_video(
    video: str,
    model: LoadedModel,
    setup: ModelSetup,
    config: Config,
    progress: Callable[[float, float | None], None] = lambda time, duration: None,
    ended: Callable[[Ending], None] = lambda ending: None,
) -> Iterator[VideoRecognition | Segment]:
    """Yield a prediction for every window of a video, then its merged segments.

    Args:
        video: Path of a file, its http(s) URL, or a synthetic:// address with a duration.
        model: The network, loaded for the configuration's mode.
        setup: Which network, and what frames it takes.
        config: Windows, smoothing, thresholds; cameras and publishing are not looked at.
        progress: Called with the media time reached and the whole duration (None where unknown), in seconds.
        ended: Called once, when the video has been read to its end.

    Raises:
        SourceError: The video cannot be read.
        ConfigError: It is a camera.
        EngineError: After everything else: for some windows the network's output was not finite, and these are missing.
    """
    address = offline_address(video)
    camera = CameraWindows(
        Feed(setup.preprocessing, config.window, make_augment(setup)),
        Postprocessor(
            address.default_name, PostprocessSettings.of(config, model.labels, setup.model_name), time.monotonic_ns
        ),
    )
    runner = Runner(model, config)
    results: list[Recognition] = []
    source = open_offline(video, config.capture)
    reader = offline_reader(source, address.default_name, setup.preprocessing)
    shown = redact(video) if address.kind == "url" else video
    try:
        for frame in frames_of(reader):
            if not camera.feed.push(frame.stamp, frame.pixels):
                continue
            progress(frame.stamp.time, source.duration_s)
            for recognition in _step(camera, runner):
                results.append(recognition)
                yield VideoRecognition(**structs.asdict(recognition), video=shown)
    finally:
        source.close()
    yield from merge_segments(shown, results)
    needed = _first_prediction(setup.preprocessing, config)
    ended(_ending(redact(video), results, reader, setup.preprocessing, needed))
    if camera.failed:
        raise EngineError(
            f"{shown}: the network's output was not finite for {camera.failed} windows, which are left out: "
            "give --precision fp32, or another --backend"
        )


def offline_address(video: str) -> SourceAddress:
    """Return what `recognize` may read: a file, its http(s) URL, or a synthetic scene that ends.

    Raises:
        ConfigError: It is a camera or an endless scene.
    """
    address = parse_source(video)
    endless = address.kind == "synthetic" and not parse_synthetic(address.target).duration_s
    if endless or (address.live and not address.may_be_file):
        raise ConfigError(_never_ends(video))
    return address


def open_offline(video: str, config: CaptureConfig) -> Source:
    """Open what `offline_address` allows.

    Raises:
        SourceError: It cannot be opened, or turns out to be a live stream.
        ConfigError: As for `offline_address`.
    """
    source = open_source(offline_address(video), config)
    if source.live:
        source.close()
        raise SourceNotFound(_never_ends(video))
    return source


def _never_ends(video: str) -> str:
    return f"{redact(video)} never ends: give recognize a video file, or use run --source"


def _first_prediction(preprocessing: Preprocessing, config: Config) -> int:
    """Return how many frames the first prediction takes."""
    if config.window.mode == "streaming":
        return STEP_FRAMES * (WARM_UP_STEPS + 1)
    return preprocessing.window_frames


def _ending(
    name: str, results: list[Recognition], reader: FrameReader, preprocessing: Preprocessing, needed: int
) -> Ending:
    predictions = sum(one.state != "warming" for one in results)
    if not predictions:
        reason = too_short(name, reader.pictures, reader.end_s, needed, preprocessing.sample_fps)
        return Ending(0, reason)
    slow = too_slow(name, reader.pictures, reader.end_s, preprocessing)
    return Ending(predictions, slow, slow is not None)


def _step(camera: CameraWindows, runner: Runner) -> Iterator[Recognition]:
    results = camera.warming()
    if (clip := camera.take()) is not None:
        results = [*results, *runner.run([(camera, clip)])]
    for recognition, _ in results:
        if recognition is not None:
            yield recognition
