from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from stream_i3d.capture import collect
from stream_i3d.capture.clip_file import ClipFolder
from stream_i3d.capture.collect import Collected, CollectJob, Collector, Stop, collect_clips
from stream_i3d.capture.collect_schedule import CollectPlan, Cue
from stream_i3d.capture.reader import Clock
from stream_i3d.errors import ConfigError, SourceError, SourceNotFound, SourceUnavailable
from stream_i3d.preprocess import Image

START_S = 1000.0
SHORT = CollectPlan(takes=2, seconds=1, countdown_s=1, pause_s=0.5)


class FakeClock:
    """Time that stands still but for sleeping, and for a camera's pictures, which take their time to come."""

    def __init__(self) -> None:
        self.now = START_S
        self.slept_until: list[float] = []
        self.told_to_stop = False

    def clock(self) -> Clock:
        return Clock(lambda: round(self.now * 1e9), lambda: 1.7e9, self._sleep_until)

    def _sleep_until(self, until_s: float) -> bool:
        self.slept_until.append(until_s)
        self.now = max(self.now, until_s)
        return not self.told_to_stop


class FakeSource:
    """Pictures at given times, grey: thirty levels a second. A camera fails after the last, a file ends."""

    description = "fake"
    duration_s = None
    pixel_aspect = 1.0

    def __init__(self, times: Sequence[float], live: FakeClock | None = None) -> None:
        self.live = live is not None
        self.retrieved: list[float] = []
        self.closed = False
        self.size = (64, 48)
        self._clock = live
        self._times = list(times)
        self._next = 0

    def grab(self) -> float | None:
        if self._next == len(self._times):
            if self.live:
                raise SourceUnavailable("fake: gone")
            return None
        self._next += 1
        if self._clock is None:
            return self._times[self._next - 1]
        self._clock.now = START_S + self._times[self._next - 1]
        return 0.0

    def retrieve(self) -> Image:
        self.retrieved.append(self._times[self._next - 1])
        width, height = self.size
        return np.full((height, width, 3), min(255, round(30 * self.retrieved[-1])), np.uint8)

    def close(self) -> None:
        self.closed = True


class Notes:
    """Keeps what it is told; `on_cue` may do something about it."""

    def __init__(self, on_cue: Callable[[Cue], None] = lambda cue: None) -> None:
        self.cues: list[Cue] = []
        self.clips: list[Path] = []
        self.descriptions: list[str] = []
        self._on_cue = on_cue

    def opened(self, description: str) -> None:
        self.descriptions.append(description)

    def cue(self, cue: Cue) -> None:
        self.cues.append(cue)
        self._on_cue(cue)

    def kept(self, path: Path) -> None:
        assert path.exists()
        self.clips.append(path)


def steady(fps: float, seconds: float) -> list[float]:
    return [index / fps for index in range(round(fps * seconds))]


def collector(
    source: FakeSource,
    clock: FakeClock,
    output: Path,
    *,
    plan: CollectPlan = SHORT,
    notes: Notes | None = None,
    stopped: Callable[[], bool] = lambda: False,
    paced: bool = True,
) -> Collector:
    folder = ClipFolder(output, "wave", "20261101-120000")
    return Collector(source, plan, folder, notes or Notes(), clock.clock(), stopped, side=640, paced=paced)


def levels(path: Path) -> list[float]:
    """Return the mean green of each picture of a video; FFmpeg's conversions move blue and red by some levels."""
    capture, found = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG), []
    while True:
        good, picture = capture.read()
        if not good:
            return found
        found.append(float(np.mean(picture[..., 1])))


def left_in(output: Path) -> list[str]:
    """Return the names of all files, hidden ones too."""
    return sorted(path.name for path in output.rglob("*") if path.is_file())


# --- cameras


def test_a_camera_is_recorded_after_settling_and_countdown_and_for_the_time_it_should(tmp_path: Path) -> None:
    clock = FakeClock()
    one = collector(FakeSource(steady(10, 60), clock), clock, tmp_path)
    assert one.run() == "complete"
    first, second = (levels(path) for path in one.kept)
    assert (len(first), len(second)) == (25, 25)
    assert (first[0], first[-1]) == pytest.approx((45, 75), abs=4)  # 0.5 s settling and 1 s countdown, then 1 s
    assert (second[0], second[-1]) == pytest.approx((120, 150), abs=4)


def test_pictures_that_are_not_recorded_are_grabbed_but_not_decoded(tmp_path: Path) -> None:
    clock = FakeClock()
    source = FakeSource(steady(50, 60), clock)
    collector(source, clock, tmp_path).run()
    assert min(source.retrieved) == pytest.approx(1.5)
    assert len(source.retrieved) == 50  # two clips of a second at 25 a second, of 50 that came


def test_a_camera_is_never_waited_for(tmp_path: Path) -> None:
    clock = FakeClock()
    collector(FakeSource(steady(25, 60), clock), clock, tmp_path).run()
    assert clock.slept_until == []


def test_a_camera_that_fails_leaves_its_whole_clips_and_no_partial_file(tmp_path: Path) -> None:
    clock = FakeClock()
    one = collector(FakeSource(steady(25, 4.4), clock), clock, tmp_path)
    with pytest.raises(SourceUnavailable, match="gone"):
        one.run()
    assert left_in(tmp_path) == ["wave-20261101-120000-001.mp4"]


def test_a_clip_with_a_stall_is_recorded_again(tmp_path: Path) -> None:
    clock, notes = FakeClock(), Notes()
    times = [at if at < 2 else at + 3 for at in steady(25, 60)]
    plan = CollectPlan(takes=1, seconds=1, countdown_s=1)
    one = collector(FakeSource(times, clock), clock, tmp_path, plan=plan, notes=notes)
    one.run()
    assert [cue.gap_s for cue in notes.cues if cue.gap_s] == pytest.approx([3.04])
    assert left_in(tmp_path) == ["wave-20261101-120000-001.mp4"]
    shown = levels(one.kept[0])
    assert len(shown) == 25
    assert shown[0] == pytest.approx(180, abs=4)  # the camera is back at 5 s, then there is another countdown


def test_a_camera_too_slow_to_record_is_told_instead_of_tried_for_ever(tmp_path: Path) -> None:
    clock = FakeClock()
    one = collector(FakeSource(steady(0.5, 600), clock), clock, tmp_path)
    with pytest.raises(SourceUnavailable, match="3 clips in a row had gaps of more than 1 s"):
        one.run()
    assert left_in(tmp_path) == []


def test_a_camera_that_changes_its_resolution_keeps_the_clip_as_it_began(tmp_path: Path) -> None:
    clock = FakeClock()
    source = FakeSource(steady(25, 60), clock)

    def grow(cue: Cue) -> None:
        if cue.take == 1 and cue.phase == "recording" and cue.left_s < 0.5:
            source.size = (128, 96)

    one = collector(source, clock, tmp_path, notes=Notes(grow))
    one.run()
    widths = [cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_WIDTH) for path in one.kept]
    assert widths == [64, 128]
    assert [len(levels(path)) for path in one.kept] == [25, 25]


# --- files


def test_a_file_goes_by_its_own_time_and_is_held_back_to_it(tmp_path: Path) -> None:
    clock, times = FakeClock(), [5 + at for at in steady(30, 60)]
    one = collector(FakeSource(times), clock, tmp_path)
    assert one.run() == "complete"
    assert clock.slept_until == pytest.approx([START_S + at - 5 for at in times[: len(clock.slept_until)]])
    assert levels(one.kept[0])[0] == pytest.approx(180, abs=4)  # no settling: 1 s of countdown


def test_a_file_may_be_read_at_full_speed(tmp_path: Path) -> None:
    clock = FakeClock()
    one = collector(FakeSource(steady(30, 60)), clock, tmp_path, paced=False)
    one.run()
    assert (clock.slept_until, len(one.kept)) == ([], 2)


def test_a_file_that_ends_in_a_clip_keeps_those_before(tmp_path: Path) -> None:
    one = collector(FakeSource(steady(30, 4.2)), FakeClock(), tmp_path)
    assert one.run() == "end of file"
    assert left_in(tmp_path) == ["wave-20261101-120000-001.mp4"]


@pytest.mark.parametrize("fps", [10, 25, 29.97, 30])
def test_a_file_as_long_as_its_clips_gives_them_all(fps: float, tmp_path: Path) -> None:
    plan = CollectPlan(takes=1, seconds=4, split_s=1, countdown_s=0)
    one = collector(FakeSource(steady(fps, 4)), FakeClock(), tmp_path, plan=plan)
    assert one.run() == "complete"
    assert [len(levels(path)) for path in one.kept] == [25, 25, 25, 25]


def test_the_clips_of_a_long_recording_follow_each_other_without_a_gap(tmp_path: Path) -> None:
    plan = CollectPlan(takes=1, seconds=6, split_s=2, countdown_s=0)
    one = collector(FakeSource(steady(25, 60)), FakeClock(), tmp_path, plan=plan)
    one.run()
    assert [levels(path)[0] for path in one.kept] == pytest.approx([0, 60, 120], abs=4)


# --- the end


def test_a_stop_throws_the_clip_under_way_away(tmp_path: Path) -> None:
    clock, notes = FakeClock(), Notes()

    def in_the_second_clip() -> bool:
        return bool(notes.cues) and notes.cues[-1].take == 2 and notes.cues[-1].left_s < 0.5

    one = collector(FakeSource(steady(25, 60), clock), clock, tmp_path, notes=notes, stopped=in_the_second_clip)
    assert one.run() == "stopped"
    assert notes.cues[-1].phase != "recording"
    assert left_in(tmp_path) == ["wave-20261101-120000-001.mp4"]


def test_a_stop_in_the_middle_of_a_recording_leaves_no_partial_file(tmp_path: Path) -> None:
    notes, seen = Notes(), []

    def while_recording() -> bool:
        seen.append(left_in(tmp_path))
        return bool(notes.cues) and notes.cues[-1].phase == "recording" and notes.cues[-1].left_s < 0.5

    one = collector(FakeSource(steady(25, 60)), FakeClock(), tmp_path, notes=notes, stopped=while_recording)
    assert one.run() == "stopped"
    assert seen[-1] == [".wave-20261101-120000-001.partial.mp4"]
    assert not (tmp_path / "wave").exists()


def test_a_stop_while_a_file_is_held_back_ends_it_too(tmp_path: Path) -> None:
    clock = FakeClock()
    clock.told_to_stop = True
    assert collector(FakeSource(steady(25, 60)), clock, tmp_path).run() == "stopped"


def test_an_error_of_who_watches_leaves_no_partial_file(tmp_path: Path) -> None:
    def close_the_terminal(cue: Cue) -> None:
        if cue.phase == "recording" and cue.left_s < 0.5:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        collector(FakeSource(steady(25, 60)), FakeClock(), tmp_path, notes=Notes(close_the_terminal)).run()
    assert left_in(tmp_path) == []


def test_a_stop_ends_a_sleep() -> None:
    stop = Stop()
    assert stop.clock().sleep_until(time.monotonic() - 1)
    stop.tell()
    assert not stop.clock().sleep_until(time.monotonic() + 3600)


# --- a whole session


def session(output: Path, source: FakeSource, monkeypatch: pytest.MonkeyPatch, **changes: object) -> Collected:
    monkeypatch.setattr(collect, "open_source", lambda address, config: source)
    job = CollectJob("clip.mp4", "wave", output, SHORT, fast=True)
    return collect_clips(
        CollectJob(**{**{name: getattr(job, name) for name in job.__slots__}, **changes}), Notes(), Stop()
    )


def test_a_session_says_what_it_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = session(tmp_path, FakeSource(steady(25, 60)), monkeypatch)
    assert done.describe() == f"2 clips kept in {tmp_path / 'wave'}"
    done = session(tmp_path, FakeSource(steady(25, 3)), monkeypatch)
    assert done.describe() == f"the file ended: 1 clip kept in {tmp_path / 'wave'}"
    assert len(left_in(tmp_path)) == 3


def test_the_names_of_clips_hold_label_time_and_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = session(tmp_path, FakeSource(steady(25, 60)), monkeypatch, label="air drumming")
    stem, number = done.kept[1].stem.rsplit("-", 1)
    assert number == "002"
    assert time.strptime(stem, "air drumming-%Y%m%d-%H%M%S")
    assert done.kept[1].parent == tmp_path / "air drumming"


def test_a_failure_says_how_many_clips_stay_and_the_source_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock()
    monkeypatch.setattr(Stop, "clock", lambda stop: clock.clock())
    source = FakeSource(steady(25, 4.4), clock)
    with pytest.raises(SourceUnavailable) as caught:
        session(tmp_path, source, monkeypatch)
    assert str(caught.value) == f"fake: gone; 1 clip kept in {tmp_path / 'wave'}"
    assert source.closed


def test_a_failure_before_the_first_clip_says_that_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    monkeypatch.setattr(Stop, "clock", lambda stop: clock.clock())
    with pytest.raises(SourceUnavailable, match=r"^fake: gone; no clip kept$"):
        session(tmp_path, FakeSource([0.0], clock), monkeypatch)
    assert list(tmp_path.iterdir()) == []


def test_a_file_too_short_for_a_clip_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SourceError, match=r"^clip\.mp4 ended before a clip was whole; give a longer one"):
        session(tmp_path, FakeSource(steady(25, 1.5)), monkeypatch)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_done_is_told_before_the_source_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(address: object, config: object) -> FakeSource:
        raise AssertionError("opened")

    monkeypatch.setattr(collect, "open_source", opened)
    for label, size in (("../wave", "640x480"), ("wave", "huge")):
        with pytest.raises(ConfigError):
            collect_clips(CollectJob("0", label, tmp_path, SHORT, size), Notes(), Stop())
    assert list(tmp_path.iterdir()) == []


def test_a_source_that_cannot_be_opened_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFound, match="no such file"):
        collect_clips(CollectJob(str(tmp_path / "none.mp4"), "wave", tmp_path / "data", SHORT), Notes(), Stop())
    assert list(tmp_path.iterdir()) == []


def test_a_password_is_shown_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes, source = Notes(), FakeSource(steady(25, 60))
    monkeypatch.setattr(collect, "open_source", lambda address, config: source)
    collect_clips(CollectJob("rtsp://me:s3cret@door/1", "wave", tmp_path, SHORT, fast=True), notes, Stop())
    assert notes.descriptions == ["rtsp://***@door/1: fake"]
