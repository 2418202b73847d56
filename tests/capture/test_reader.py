from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from stream_i3d.capture.reader import Clock, FrameReader
from stream_i3d.config import WindowConfig
from stream_i3d.errors import SourceUnavailable
from stream_i3d.inference.feed import Feed
from stream_i3d.messages import Frame
from stream_i3d.preprocess import Image, Preprocessing, prepare_frame
from tests.samples import number_of

SMALL = Preprocessing(short_side=32, crop_size=32)
START_S = 1000.0
WALL_S = 1.7e9


class FakeClock:
    """Time that stands still but for sleeping, and for live pictures, which take their time to come."""

    def __init__(self) -> None:
        self.now = START_S
        self.slept_until: list[float] = []
        self.told_to_stop = False

    def clock(self) -> Clock:
        return Clock(
            monotonic_ns=lambda: round(self.now * 1e9),
            wall=lambda: WALL_S + (self.now - START_S),
            sleep_until=self._sleep_until,
        )

    def _sleep_until(self, until_s: float) -> bool:
        self.slept_until.append(until_s)
        self.now = max(self.now, until_s)
        return not self.told_to_stop


class FakeSource:
    """Pictures that tell their number, at given times: of the medium, or of arrival where live."""

    description = "fake"
    duration_s = None
    intact = True
    pixel_aspect = 1.0

    def __init__(self, times: Sequence[float], live: bool = False, clock: FakeClock | None = None) -> None:
        self.live = live
        self.retrieved: list[int] = []
        self._times = times
        self._clock = clock
        self._index = -1

    def grab(self) -> float | None:
        self._index += 1
        if self._index == len(self._times):
            if self.live:
                raise SourceUnavailable("gone")
            return None
        if not self.live:
            return self._times[self._index]
        assert self._clock is not None
        self._clock.now = START_S + self._times[self._index]
        return 0.0

    @property
    def until(self) -> float | None:
        if self.live:
            return None
        times, index = self._times, self._index
        if index + 1 < len(times):
            return times[index + 1]
        return times[index] + (times[index] - times[index - 1] if index else 0.04)

    def retrieve(self) -> Image:
        self.retrieved.append(self._index)
        low, high = self._index % 256, self._index // 256
        return np.full((48, 64, 3), ((low + high) % 256, high, low), np.uint8)  # BGR

    def close(self) -> None:
        return


def file_reader(times: Sequence[float], time: FakeClock, paced: bool = False) -> tuple[FrameReader, FakeSource]:
    source = FakeSource(times)
    return FrameReader(source, "door", 7, SMALL, time.clock(), paced=paced), source


def live_reader(times: Sequence[float], paced: bool = True) -> tuple[FrameReader, FakeSource, FakeClock]:
    time = FakeClock()
    source = FakeSource(times, live=True, clock=time)
    return FrameReader(source, "door", 7, SMALL, time.clock(), paced=paced), source, time


def all_of(reader: FrameReader) -> list[Frame]:
    frames: list[Frame] = []
    while (more := reader.read()) is not None:
        frames += more
    return frames


def steady(fps: float, count: int) -> list[float]:
    return [index / fps for index in range(count)]


# --- what frames say


def test_frames_are_numbered_from_nought_and_carry_camera_and_epoch():
    frames = all_of(file_reader(steady(25, 30), FakeClock())[0])
    assert [frame.stamp.seq for frame in frames] == list(range(30))
    assert {(frame.stamp.camera, frame.stamp.epoch) for frame in frames} == {("door", 7)}


def test_a_file_has_media_times_and_a_camera_has_none():
    frames = all_of(file_reader(steady(25, 3), FakeClock())[0])
    assert [frame.stamp.media_time for frame in frames] == [0.0, 0.04, 0.08]
    reader, _, _ = live_reader(steady(25, 3))
    assert [frame.stamp.media_time for _ in range(3) for frame in reader.read() or []] == [None] * 3


def test_a_live_frame_is_stamped_with_both_clocks_at_its_arrival():
    reader, _, _ = live_reader([0.5, 0.54])
    (first,), (second,) = reader.read() or [], reader.read() or []
    assert first.stamp.capture_ns == round((START_S + 0.5) * 1e9)
    assert first.stamp.wall_time == pytest.approx(WALL_S + 0.5)
    assert second.stamp.capture_ns - first.stamp.capture_ns == 40_000_000


def test_pictures_are_prepared_for_the_model():
    reader, source = file_reader(steady(25, 2), FakeClock())
    (frame,) = reader.read() or []
    assert frame.pixels.shape == (32, 32, 3)
    assert np.array_equal(frame.pixels, prepare_frame(source.retrieve(), SMALL))
    (second,) = reader.read() or []
    assert number_of(second.pixels) == 1  # blue and red changed places


# --- sampling


def test_a_faster_source_is_thinned_and_only_kept_pictures_are_decoded():
    reader, source = file_reader(steady(50, 100), FakeClock())
    frames = all_of(reader)
    assert len(frames) == pytest.approx(50, abs=1)
    assert source.retrieved == [number_of(frame.pixels) for frame in frames]
    assert [frame.stamp.seq for frame in frames] == list(range(len(frames)))
    assert not any(frame.stamp.repeat for frame in frames)


def test_a_slower_source_is_repeated_and_the_repeats_say_so():
    reader, source = file_reader(steady(12.5, 20), FakeClock())
    frames = all_of(reader)
    assert [frame.stamp.repeat for frame in frames] == [False, True] * 20
    assert [frame.stamp.seq for frame in frames] == list(range(40))
    assert [number_of(frame.pixels) for frame in frames] == [number for number in range(20) for _ in range(2)]
    assert source.retrieved == list(range(20))  # decoded and prepared once each


def test_repeats_of_a_files_picture_are_a_tick_apart_in_the_mediums_time():
    reader, _ = file_reader([0.0, 0.12], FakeClock())
    frames = reader.read() or []
    assert [frame.stamp.media_time for frame in frames] == pytest.approx([0.0, 0.04, 0.08])
    assert len({id(frame.pixels) for frame in frames}) == 1
    assert len({frame.stamp.capture_ns for frame in frames}) == 1


def test_repeats_of_a_cameras_picture_came_at_the_same_time():
    reader, _, _ = live_reader([0.0, 0.12])
    reader.read()
    frames = reader.read() or []
    assert [frame.stamp.repeat for frame in frames] == [False, True, True]
    assert len({frame.stamp.capture_ns for frame in frames}) == 1


@pytest.mark.parametrize(("fps", "frames"), [(2, 500), (0.1, 500), (5, 500), (30, 500)])
def test_a_file_gives_as_many_frames_as_its_length_has_ticks_however_slow_it_is(fps, frames):
    reader, _ = file_reader(steady(fps, max(2, round(20 * fps))), FakeClock())
    got = all_of(reader)
    assert len(got) == frames
    assert [frame.stamp.seq for frame in got] == list(range(frames))
    assert reader.pictures == max(2, round(20 * fps))
    assert reader.end_s == pytest.approx(20)


def test_a_still_part_of_a_file_is_filled_with_the_picture_that_stood_there():
    times = [*steady(25, 10), 10.36, 10.40]  # the tenth picture is seen for ten seconds
    frames = all_of(file_reader(times, FakeClock())[0])
    assert [number_of(frame.pixels) for frame in frames] == [*range(9), *[9] * 250, 10, 11]
    assert np.diff([frame.stamp.media_time for frame in frames]) == pytest.approx([0.04] * 260, abs=0.021)


def test_no_window_of_a_file_is_lost_to_a_still_part_of_it():
    feed = Feed(SMALL, WindowConfig(stride=8, max_span_ratio=1.5))
    windows = 0
    for frame in all_of(file_reader([*steady(25, 30), *(11.2 + time for time in steady(25, 30))], FakeClock())[0]):
        feed.push(frame.stamp, frame.pixels)
        windows += feed.take() is not None
    assert windows == (310 - 16) // 8 + 1
    assert not feed.windows_dropped


def test_a_picture_that_stands_for_an_hour_is_given_in_small_lots():
    reader, _ = file_reader([0.0, 3600.0], FakeClock())
    lots = [len(frames) for _ in range(2812) if (frames := reader.read())]
    assert max(lots) == 32
    assert sum(lots) == 2812 * 32


def test_repeats_of_a_paced_file_come_at_the_files_own_speed():
    time = FakeClock()
    reader, _ = file_reader([0.0, 0.4], time, paced=True)
    lots = [reader.read() or [] for _ in range(10)]
    assert [len(frames) for frames in lots] == [1] * 10
    assert [frame.stamp.capture_ns * 1e-9 - START_S for frames in lots for frame in frames] == pytest.approx(
        [0.04 * number for number in range(10)]
    )


def test_a_picture_that_is_not_wanted_gives_no_frames_and_is_no_end():
    reader, _ = file_reader([0.0, 0.001, 0.04], FakeClock())
    assert [len(reader.read() or []) for _ in range(3)] == [1, 0, 1]


def test_a_live_camera_is_sampled_by_arrival_and_a_file_by_its_own_times():
    times = steady(60, 120)
    reader, _, _ = live_reader(times)
    live = [frame for _ in times for frame in reader.read() or []]
    offline = all_of(file_reader(times, FakeClock())[0])
    assert [number_of(frame.pixels) for frame in live] == [number_of(frame.pixels) for frame in offline]
    assert 49 <= len(live) <= 51


@pytest.mark.parametrize("fps", [10, 15, 19.62, 24, 25, 29.97, 30, 50, 60])
def test_a_file_gives_the_same_frames_paced_and_at_full_speed(fps):
    times = steady(fps, round(4 * fps))
    paced, fast = (all_of(file_reader(times, FakeClock(), paced)[0]) for paced in (True, False))
    assert [number_of(frame.pixels) for frame in paced] == [number_of(frame.pixels) for frame in fast]
    assert [frame.stamp.seq for frame in paced] == [frame.stamp.seq for frame in fast]


@pytest.mark.parametrize("fps", [10, 19.62, 60])
def test_windows_of_a_file_span_the_same_media_time_whatever_its_rate(fps):
    feed = Feed(SMALL, WindowConfig(stride=1, max_span_ratio=1.5))
    spans = []
    for frame in all_of(file_reader(steady(fps, round(10 * fps)), FakeClock())[0]):
        feed.push(frame.stamp, frame.pixels)
        clip = feed.take()
        spans += [clip.window.end_time - clip.window.start_time] if clip else []
    assert len(spans) > 220 and not feed.windows_dropped
    assert all(abs(span - 0.6) <= 1 / fps + 1e-9 for span in spans)


# --- pacing


def test_a_paced_file_is_read_at_its_own_speed_from_whenever_it_starts():
    time = FakeClock()
    reader, _ = file_reader([5.0, 5.04, 5.5], time, paced=True)
    frames = all_of(reader)
    assert [time.slept_until[place] for place in (0, 1, 13)] == pytest.approx([START_S, START_S + 0.04, START_S + 0.5])
    assert frames[13].stamp.media_time == 5.5
    assert [frame.stamp.capture_ns * 1e-9 for frame in frames][:2] == pytest.approx([START_S, START_S + 0.04])


def test_time_lost_while_decoding_is_caught_up_and_adds_nothing_to_the_schedule():
    time = FakeClock()
    reader, _ = file_reader(steady(25, 4), time, paced=True)
    reader.read()
    time.now += 0.1  # two and a half frames late
    for _ in range(3):
        reader.read()
    assert time.slept_until == pytest.approx([START_S + index * 0.04 for index in range(4)])
    assert time.now == pytest.approx(START_S + 0.12)


def test_a_file_read_fast_never_waits():
    time = FakeClock()
    reader, _ = file_reader(steady(25, 50), time, paced=False)
    assert len(all_of(reader)) == 50
    assert time.slept_until == [] and time.now == START_S


def test_a_live_source_is_never_held_back():
    reader, _, time = live_reader(steady(25, 10), paced=True)
    for _ in range(10):
        reader.read()
    assert time.slept_until == []


# --- the end


def test_the_end_of_a_file_is_the_end():
    reader, _ = file_reader(steady(25, 2), FakeClock())
    assert [len(frames) for _ in range(2) if (frames := reader.read()) is not None] == [1, 1]
    assert reader.read() is None


def test_an_empty_file_ends_at_once():
    assert file_reader([], FakeClock())[0].read() is None


def test_being_told_to_stop_while_waiting_ends_the_reading():
    time = FakeClock()
    reader, source = file_reader(steady(25, 10), time, paced=True)
    assert reader.read()
    time.told_to_stop = True
    assert reader.read() is None
    assert source.retrieved == [0]


def test_a_live_source_that_fails_says_so():
    reader, _, _ = live_reader([0.0])
    reader.read()
    with pytest.raises(SourceUnavailable, match="gone"):
        reader.read()


# --- the rate


@pytest.mark.parametrize("fps", [12.5, 25, 59.94])
def test_the_rate_is_the_sources_own_and_not_the_sampled_one(fps):
    reader, _ = file_reader(steady(fps, round(5 * fps)), FakeClock())
    assert reader.fps == 0
    all_of(reader)
    assert reader.fps == pytest.approx(fps, rel=0.01)
    live, _, _ = live_reader(steady(fps, round(5 * fps)))
    for _ in range(round(5 * fps)):
        live.read()
    assert live.fps == pytest.approx(fps, rel=0.01)


class Damaged(FakeSource):
    """A source one of whose pictures cannot be decoded."""

    def retrieve(self) -> Image:
        if self._index == 3:
            raise SourceUnavailable("damaged")
        return super().retrieve()


def test_a_damaged_picture_of_a_file_leaves_a_gap_and_the_file_goes_on():
    source = Damaged(steady(25, 8))
    reader = FrameReader(source, "door", 7, SMALL, FakeClock().clock(), paced=False)
    assert [frame.stamp.seq for frame in all_of(reader)] == [0, 1, 2, 4, 5, 6, 7]


def test_a_camera_that_sends_a_damaged_picture_is_connected_anew():
    time = FakeClock()
    reader = FrameReader(Damaged(steady(25, 8), True, time), "door", 7, SMALL, time.clock(), paced=False)
    with pytest.raises(SourceUnavailable, match="damaged"):
        all_of(reader)


# --- previews


class FakeTap:
    """Wants every `nth` picture, from the first."""

    def __init__(self, nth: int = 1) -> None:
        self.shown: list[tuple[Image, int]] = []
        self.asked: list[float] = []
        self._nth = nth

    def wants(self, now_s: float) -> bool:
        self.asked.append(now_s)
        return self._nth > 0 and (len(self.asked) - 1) % self._nth == 0

    def show(self, bgr: Image, capture_ns: int, pixel_aspect: float) -> None:
        self.shown.append((bgr, capture_ns))


def tapped(times: Sequence[float], tap: FakeTap) -> tuple[FrameReader, FakeSource]:
    time = FakeClock()
    source = FakeSource(times, live=True, clock=time)
    return FrameReader(source, "door", 7, SMALL, time.clock(), paced=True, preview=tap), source


def test_a_preview_is_the_decoded_picture_as_it_came_and_is_decoded_once():
    tap = FakeTap()
    reader, source = tapped(steady(25, 3), tap)
    assert [len(reader.read() or []) for _ in range(3)] == [1, 1, 1]
    assert source.retrieved == [0, 1, 2]
    assert [picture.shape for picture, _ in tap.shown] == [(48, 64, 3)] * 3
    assert [int(picture[0, 0, 2]) for picture, _ in tap.shown] == [0, 1, 2]  # BGR
    assert [ns for _, ns in tap.shown] == [round((START_S + seconds) * 1e9) for seconds in steady(25, 3)]


def test_pictures_that_are_not_sampled_are_shown_where_wanted_and_change_nothing_else():
    times = steady(50, 100)
    tap = FakeTap()
    reader, source = tapped(times, tap)
    plain, plain_source = tapped(times, FakeTap(0))
    shown = [frame for _ in times for frame in reader.read() or []]
    unshown = [frame for _ in times for frame in plain.read() or []]
    assert [(frame.stamp, number_of(frame.pixels)) for frame in shown] == [
        (frame.stamp, number_of(frame.pixels)) for frame in unshown
    ]
    assert len(tap.shown) == len(source.retrieved) == 100
    assert len(plain_source.retrieved) == len(unshown) == pytest.approx(50, abs=1)  # decoding is paid for by watching


def test_a_damaged_picture_that_only_a_watcher_wanted_does_not_end_a_cameras_connection():
    time, tap = FakeClock(), FakeTap()
    source = Damaged([0.0, 0.04, 0.08, 0.081, 0.12], True, time)  # the fourth is damaged, and not sampled
    reader = FrameReader(source, "door", 7, SMALL, time.clock(), paced=False, preview=tap)
    frames = [frame for _ in range(5) for frame in reader.read() or []]
    assert [frame.stamp.seq for frame in frames] == [0, 1, 2, 3]
    assert len(tap.shown) == 4


def test_after_a_pause_a_paced_file_goes_on_from_where_it_stood_at_its_own_speed():
    time = FakeClock()
    reader, _ = file_reader(steady(25, 4), time, paced=True)
    reader.read()
    reader.read()
    time.now += 100
    reader.resume()
    frames = [*(reader.read() or []), *(reader.read() or [])]
    assert [frame.stamp.media_time for frame in frames] == [0.08, 0.12]
    assert time.slept_until[-2:] == pytest.approx([START_S + 100.04, START_S + 100.08])


class Joined(FakeSource):
    """Was joined between two key pictures, or damaged: these pictures are not whole."""

    def __init__(self, times: Sequence[float], clock: FakeClock, broken: Sequence[int]) -> None:
        super().__init__(times, live=True, clock=clock)
        self._broken = broken

    @property
    def intact(self) -> bool:  # type: ignore[override]
        return self._index not in self._broken


def test_pictures_that_are_not_whole_are_left_out_and_leave_a_gap() -> None:
    clock = FakeClock()
    source = Joined([START_S + number / 25 for number in range(10)], clock, broken=[0, 1, 6])
    reader = FrameReader(source, "door", 1, SMALL, clock.clock(), paced=False)
    frames = [frame for _ in range(10) for frame in reader.read() or []]
    assert [frame.stamp.seq for frame in frames] == [2, 3, 4, 5, 7, 8, 9]
    assert source.retrieved == [2, 3, 4, 5, 7, 8, 9]


class Resized(FakeSource):
    """Pictures of another size from the fifth on."""

    def retrieve(self) -> Image:
        picture = super().retrieve()
        return picture if self._index < 5 else np.repeat(picture, 2, axis=1)


def test_another_size_in_mid_stream_begins_another_epoch() -> None:
    clock = FakeClock()
    source = Resized([START_S + number / 25 for number in range(10)], live=True, clock=clock)
    reader = FrameReader(source, "door", 7, SMALL, clock.clock(), paced=False)
    frames = [frame for _ in range(10) for frame in reader.read() or []]
    assert [frame.stamp.seq for frame in frames] == [0, 1, 2, 3, 4] * 2
    epochs = [frame.stamp.epoch for frame in frames]
    assert set(epochs[:5]) == {7}
    assert set(epochs[5:]) == {reader.epoch}
    assert reader.epoch > 7


# --- views


def test_another_view_begins_an_epoch_with_the_next_picture_and_tells_its_share() -> None:
    reader, _, _ = live_reader(steady(25, 6))
    assert (reader.view, reader.view_share) == ("centre", None)
    frames = [reader.read() for _ in range(3)]
    assert reader.view_share == pytest.approx(48 / 64)
    reader.set_view("squeeze")
    frames += [reader.read() for _ in range(3)]
    made = [frame for some in frames for frame in some or []]
    epochs = [frame.stamp.epoch for frame in made]
    assert len(set(epochs)) == 2 and epochs == sorted(epochs)
    assert [frame.stamp.seq for frame in made][-1] == epochs.count(epochs[-1]) - 1
    assert (reader.view, reader.view_share) == ("squeeze", 1.0)


def test_a_view_that_is_set_again_changes_nothing() -> None:
    reader, _, _ = live_reader(steady(25, 6))
    reader.read()
    reader.set_view("centre")
    frames = [frame for _ in range(3) for frame in reader.read() or []]
    assert {frame.stamp.epoch for frame in frames} == {7}


def test_the_share_of_a_very_long_picture_is_small_and_not_nothing() -> None:
    """A status with a share of 0 would be refused by whoever reads it."""
    reader, source = file_reader(steady(25, 2), FakeClock())
    source.retrieve = lambda: np.zeros((2, 8000, 3), np.uint8)  # type: ignore[method-assign]
    reader.read()
    assert reader.view_share == 0.001
