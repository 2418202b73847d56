"""The capture loop: states, reconnects, epochs, rates, files."""

from __future__ import annotations

import itertools
import random
import socket
from collections.abc import Iterable

import numpy as np
import pytest

from stream_i3d.capture import loop, process
from stream_i3d.capture.address import parse_source
from stream_i3d.capture.loop import CaptureJob, CaptureLoop
from stream_i3d.config import CaptureConfig
from stream_i3d.errors import SourceNotFound, SourceUnavailable
from stream_i3d.messages import CameraReport
from stream_i3d.preprocess import Image
from stream_i3d.stage import SourceNews
from tests.capture.process_rig import SMALL, FakeChannel, FakeStage, FakeStderr, Rig


def test_a_camera_is_connecting_then_live_then_stopped(rig: Rig) -> None:
    source = rig.camera(30, then_stop=True)
    rig.openings = [source]
    rig.run()
    assert rig.channel.states == ["connecting", "live", "stopped"]
    assert rig.channel.reports[0].detail == "opening"
    assert source.closed


def test_every_frame_of_a_camera_is_stamped_in_order(rig: Rig) -> None:
    rig.openings = [rig.camera(30, then_stop=True)]
    rig.run()
    stamps = [frame.stamp for frame in rig.channel.frames]
    assert [stamp.seq for stamp in stamps] == list(range(len(stamps)))
    assert len(stamps) >= 30
    assert {(stamp.camera, stamp.media_time) for stamp in stamps} == {("door", None)}
    assert len({stamp.epoch for stamp in stamps}) == 1
    assert all(frame.pixels.shape == (32, 32, 3) for frame in rig.channel.frames)


def test_a_camera_as_fast_as_the_model_has_only_its_description_as_detail(rig: Rig) -> None:
    rig.openings = [rig.camera(50, fps=25.0, then_stop=True)]
    rig.run()
    assert set(rig.details("live")) == {"64x48, nominally 25 fps"}
    assert rig.channel.reports[-2].fps == pytest.approx(25.0)


def test_a_slow_camera_says_its_true_rate_and_that_pictures_are_repeated(rig: Rig) -> None:
    rig.openings = [rig.camera(40, fps=10.0, then_stop=True)]
    rig.run()
    assert rig.details("live")[-1] == (
        "64x48, nominally 25 fps; delivers 10 fps, fewer than the model's 25: pictures are repeated"
    )
    last = [report for report in rig.channel.reports if report.state == "live"][-1]
    assert last.fps == pytest.approx(10.0)
    assert any(frame.stamp.repeat for frame in rig.channel.frames)


def test_a_camera_too_slow_for_windows_is_said_to_be_too_slow(rig: Rig) -> None:
    rig.openings = [rig.camera(20, fps=2.0, then_stop=True)]
    rig.run()
    assert rig.details("live")[-1].endswith("delivers 2.0 fps, too slow to recognise (at least 3.1)")
    last = [report for report in rig.channel.reports if report.state == "live"][-1]
    assert last.too_slow and last.problem == "delivers 2.0 fps, too slow to recognise (at least 3.1)"


def test_live_is_reported_every_second_and_not_with_every_frame(rig: Rig) -> None:
    rig.openings = [rig.camera(250, then_stop=True)]
    rig.run()
    assert 10 <= len(rig.details("live")) <= 12


def test_a_report_that_found_no_room_is_said_again_with_the_next_frame(rig: Rig) -> None:
    refused = iter([False])
    taken: list[CameraReport] = []

    def report(report: CameraReport, wait_s: float = 0.0) -> bool:
        if report.state == "live" and not next(refused, True):
            return False
        taken.append(report)
        return True

    rig.channel.report = report  # type: ignore[method-assign]
    rig.openings = [rig.camera(3, then_stop=True)]  # far less than the second after which it is repeated anyway
    rig.run()
    assert [report.state for report in taken] == ["connecting", "live", "stopped"]


def test_a_camera_that_fails_is_opened_again_under_a_larger_epoch(rig: Rig) -> None:
    first, second = rig.camera(20), rig.camera(20, then_stop=True)
    rig.openings = [first, SourceUnavailable("door: refused"), second]
    rig.run()
    assert rig.channel.states == ["connecting", "live", "reconnecting", "live", "stopped"]
    epochs = list(dict.fromkeys(frame.stamp.epoch for frame in rig.channel.frames))
    assert len(epochs) == 2
    assert epochs[0] < epochs[1]
    assert first.closed
    assert second.closed


def test_frames_are_numbered_from_nought_again_after_a_reconnect(rig: Rig) -> None:
    rig.openings = [rig.camera(20), rig.camera(20, then_stop=True)]
    rig.run()
    for _, frames in itertools.groupby(rig.channel.frames, key=lambda frame: frame.stamp.epoch):
        numbers = [frame.stamp.seq for frame in frames]
        assert numbers == list(range(len(numbers)))


def test_the_epoch_grows_even_where_the_wall_clock_steps_back(rig: Rig) -> None:
    first = rig.camera(5)

    def step_back() -> None:
        rig.time.wall_s -= 3600
        raise SourceUnavailable("gone")

    first._at_end = step_back
    rig.openings = [first, rig.camera(5, then_stop=True)]
    rig.run()
    epochs = list(dict.fromkeys(frame.stamp.epoch for frame in rig.channel.frames))
    assert len(epochs) == 2
    assert epochs[0] < epochs[1]


def test_reconnects_are_counted(rig: Rig) -> None:
    rig.openings = [rig.camera(5), rig.camera(5), rig.camera(5, then_stop=True)]
    rig.run()
    counts = [report.reconnects for report in rig.channel.reports if report.state == "live"]
    assert sorted(set(counts)) == [0, 1, 2]
    assert counts == sorted(counts)


def test_a_failed_try_to_reconnect_is_no_reconnect(rig: Rig) -> None:
    refused = SourceUnavailable("door: refused")
    rig.openings = [rig.camera(5), refused, refused, rig.camera(5, then_stop=True)]
    rig.run()
    assert rig.channel.reports[-1].reconnects == 1


def test_while_waiting_the_reason_and_the_seconds_to_the_next_try_are_told(rig: Rig) -> None:
    rig.openings = [rig.camera(5), rig.camera(5, then_stop=True)]
    rig.run(backoff_first_s=4.0)
    details = rig.details("reconnecting")
    assert all(detail.startswith("webcam 0: the stream ended; next try in ") for detail in details)
    seconds = [int(detail.split()[-2]) for detail in details]
    assert len(seconds) >= 3
    assert seconds == sorted(seconds, reverse=True)
    assert seconds[-1] == 1
    reports = [report for report in rig.channel.reports if report.state == "reconnecting"]
    assert [report.retry_in_s for report in reports] == seconds
    assert {report.problem for report in reports} == {"webcam 0: the stream ended"}


def test_a_camera_that_was_never_there_is_connecting_and_says_when_it_is_tried_again(rig: Rig) -> None:
    rig.openings = [SourceUnavailable("door: refused"), rig.camera(5, then_stop=True)]
    rig.run()
    assert rig.channel.states == ["connecting", "live", "stopped"]
    assert rig.details("connecting")[:2] == ["opening", "door: refused; next try in 1 s"]
    assert rig.channel.reports[-1].reconnects == 0


def test_pauses_between_tries_double_up_to_the_limit(rig: Rig) -> None:
    rig.openings = [SourceUnavailable("door: refused")] * 6
    rig.run(backoff_first_s=1.0, backoff_limit_s=5.0)
    pauses = np.diff(rig.opened_at)
    for pause, wanted in zip(pauses, [1, 2, 4, 5, 5, 5], strict=True):
        assert 0.79 * wanted < pause <= min(1.21 * wanted, 5.001)


def test_pauses_of_several_cameras_differ_so_that_they_do_not_come_back_in_step(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds = iter([1, 2])
    monkeypatch.setattr(loop.random, "Random", lambda: random_of(next(seeds)))
    rig.openings = [SourceUnavailable("refused")]
    rig.run()
    other = Rig(monkeypatch)
    other.openings = [SourceUnavailable("refused")]
    other.run()
    assert np.diff(rig.opened_at)[0] != np.diff(other.opened_at)[0]


_Random = random.Random


def random_of(seed: int) -> random.Random:
    return _Random(seed)


def test_a_camera_that_drops_at_once_is_tried_ever_more_rarely(rig: Rig) -> None:
    rig.openings = [rig.camera(2), rig.camera(2), rig.camera(2)]
    rig.run()
    pauses = np.diff(rig.opened_at)
    assert pauses[0] < 1.5 < pauses[1] < 3 < pauses[2]


def test_a_camera_that_was_well_for_long_is_tried_again_soon(rig: Rig) -> None:
    refused = SourceUnavailable("refused")
    rig.openings = [refused, refused, refused, rig.camera(25 * 20)]  # 20 s of frames, then it fails
    rig.run()
    failed_at = rig.opened_at[3] + 20
    assert rig.opened_at[4] - failed_at < 1.5


def test_without_retry_a_camera_that_cannot_be_reached_is_an_error(rig: Rig) -> None:
    rig.stderr = FakeStderr("method DESCRIBE failed: 401 Unauthorized")
    rig.openings = [SourceUnavailable("door: no video")]
    with pytest.raises(
        SourceUnavailable, match=r"^door: no video \(FFmpeg: method DESCRIBE failed: 401 Unauthorized\)$"
    ):
        rig.run(retry=False)
    assert len(rig.opened_at) == 1


def test_without_retry_a_camera_that_fails_later_is_an_error_too(rig: Rig) -> None:
    source = rig.camera(5)
    rig.openings = [source]
    with pytest.raises(SourceUnavailable, match="the stream ended"):
        rig.run(retry=False)
    assert source.closed


def test_a_source_that_does_not_exist_is_not_tried_again(rig: Rig) -> None:
    rig.openings = [SourceNotFound("webcam 9: no such device")]
    with pytest.raises(SourceNotFound, match="webcam 9"):
        rig.run()
    assert len(rig.opened_at) == 1


def test_a_webcam_that_was_live_and_is_unplugged_is_awaited(rig: Rig) -> None:
    unplugged = SourceNotFound("webcam 0: /dev/video0 does not exist")
    rig.openings = [rig.camera(5), unplugged, unplugged, rig.camera(5, then_stop=True)]
    rig.run()
    assert rig.channel.states == ["connecting", "live", "reconnecting", "live", "stopped"]
    assert any("/dev/video0 does not exist; next try in" in detail for detail in rig.details("reconnecting"))


def test_a_webcam_that_is_unplugged_while_its_process_is_started_again_is_awaited(rig: Rig) -> None:
    rig.stage.again = True
    rig.openings = [SourceNotFound("webcam 0: /dev/video0 does not exist"), rig.camera(5, then_stop=True)]
    rig.run()
    assert rig.channel.states == ["connecting", "live", "stopped"]
    assert rig.details("connecting")[1] == "webcam 0: /dev/video0 does not exist; next try in 1 s"


def test_what_a_source_says_of_itself_is_cleaned_before_it_leaves_the_process(rig: Rig) -> None:
    rig.openings = [SourceUnavailable("rtsp://admin:geheim@camera: refused"), rig.camera(5, then_stop=True)]
    rig.run()
    assert "rtsp://***@camera: refused; next try in 1 s" in rig.details("connecting")
    assert all("geheim" not in report.detail for report in rig.channel.reports)


def test_the_end_of_a_file_is_the_last_word(rig: Rig) -> None:
    source = rig.file(10)
    rig.openings = [source]
    rig.run("clip.mp4")
    last = rig.channel.reports[-1]
    assert (last.state, last.detail, last.final) == ("stopped", "the end", True)
    assert [report.final for report in rig.channel.reports].count(True) == 1
    assert source.closed
    assert len(rig.opened_at) == 1


def test_the_end_of_a_file_is_said_until_there_is_room_for_it(rig: Rig) -> None:
    rig.channel = FakeChannel(final_room=[False] * 50)
    rig.openings = [rig.file(10)]
    rig.run("clip.mp4")
    assert rig.channel.reports[-1].final
    assert len(rig.channel.final_waits) == 51
    assert all(rig.channel.final_waits)
    assert rig.stage.beats >= 50  # it lives while it waits


def test_being_told_to_stop_ends_the_wait_for_room_at_the_end_of_a_file(rig: Rig) -> None:
    def final_room() -> Iterable[bool]:
        yield False
        rig.stage.stopping.set()
        yield from itertools.repeat(False)

    rig.channel = FakeChannel(final_room=final_room())
    rig.openings = [rig.file(10)]
    rig.run("clip.mp4")
    assert not rig.channel.reports[-1].final


def test_being_told_to_stop_is_the_last_word_but_not_the_cameras_end(rig: Rig) -> None:
    rig.openings = [rig.camera(10, then_stop=True)]
    rig.run()
    last = rig.channel.reports[-1]
    assert (last.state, last.detail, last.final) == ("stopped", "stopped", False)
    assert [report.state for report in rig.channel.reports].count("stopped") == 1


def test_a_file_that_turns_out_to_hold_no_picture_is_an_error_and_not_opened_again(rig: Rig) -> None:
    source = rig.file(10)

    def nothing() -> float | None:
        raise SourceNotFound("cut.mp4 holds no picture")

    source.grab = nothing  # type: ignore[method-assign]
    rig.openings = [source]
    with pytest.raises(SourceNotFound, match="holds no picture"):
        rig.run("cut.mp4")
    assert source.closed


def test_being_told_to_stop_ends_the_wait_for_a_camera(rig: Rig) -> None:
    rig.openings = []  # the first try says stop, and fails
    rig.run(backoff_first_s=3600.0, backoff_limit_s=3600.0)
    assert rig.channel.reports[-1].detail == "stopped"
    assert len(rig.opened_at) == 1
    assert rig.time.now_s < 110


def test_a_file_is_held_back_until_a_worker_reads(rig: Rig) -> None:
    source = rig.file(10)
    rig.openings = [source]
    grabbed_at_connection: list[int] = []

    def connections() -> Iterable[bool]:
        for connected in (False, False, False, True):
            grabbed_at_connection.append(source.grabbed)
            yield connected

    rig.channel = FakeChannel(connections=connections())
    rig.run("clip.mp4")
    assert grabbed_at_connection == [0, 0, 0, 0]
    assert [frame.stamp.seq for frame in rig.channel.frames] == list(range(10))
    assert rig.stage.beats >= 3 + 10  # it lives while it waits


def test_being_told_to_stop_ends_a_files_wait_for_a_worker(rig: Rig) -> None:
    def connections() -> Iterable[bool]:
        yield False
        rig.stage.stopping.set()
        yield False

    source = rig.file(10)
    rig.openings = [source]
    rig.channel = FakeChannel(connections=connections())
    rig.run("clip.mp4")
    assert source.grabbed == 0
    assert source.closed
    assert rig.channel.reports[-1].detail == "stopped"


def test_a_live_camera_does_not_wait_for_a_worker(rig: Rig) -> None:
    rig.channel = FakeChannel(connections=itertools.repeat(False))
    rig.openings = [rig.camera(10, then_stop=True)]
    rig.run()
    assert len(rig.channel.frames) >= 10


def test_a_file_waits_for_room_and_loses_no_frame(rig: Rig) -> None:
    rig.channel = FakeChannel(room=itertools.cycle([False, False, True]))
    rig.openings = [rig.file(10)]
    rig.run("clip.mp4")
    assert [frame.stamp.seq for frame in rig.channel.frames] == list(range(10))
    assert [frame.stamp.media_time for frame in rig.channel.frames] == pytest.approx([n / 25 for n in range(10)])
    assert all(rig.channel.waits)
    assert rig.stage.beats >= 30  # it lives while it waits


def test_being_told_to_stop_ends_a_files_wait_for_room(rig: Rig) -> None:
    def room() -> Iterable[bool]:
        yield True
        rig.stage.stopping.set()
        yield from itertools.repeat(False)

    rig.channel = FakeChannel(room=room())
    rig.openings = [rig.file(10)]
    rig.run("clip.mp4")
    assert len(rig.channel.frames) == 1
    assert rig.channel.reports[-1].detail == "stopped"


def test_a_live_frame_that_finds_no_room_is_dropped_and_leaves_a_gap(rig: Rig) -> None:
    rig.channel = FakeChannel(room=[True, True, False, False, True])
    source = rig.camera(10, then_stop=True)
    rig.openings = [source]
    rig.run()
    assert [frame.stamp.seq for frame in rig.channel.frames][:4] == [0, 1, 4, 5]
    assert not any(rig.channel.waits)
    assert source.grabbed == 10


def test_a_file_is_paced_at_its_own_rate(rig: Rig) -> None:
    rig.openings = [rig.file(50, fps=25.0)]
    rig.run("clip.mp4")
    assert rig.time.now_s == pytest.approx(100 + 49 / 25)


def test_fast_reads_a_file_without_pauses(rig: Rig) -> None:
    rig.openings = [rig.file(50, fps=25.0)]
    rig.run("clip.mp4", fast=True)
    assert rig.time.now_s == pytest.approx(100)
    assert len(rig.channel.frames) == 50


def test_ffmpegs_reason_is_told_with_each_failure_it_explains(rig: Rig) -> None:
    rig.stderr = FakeStderr("Server returned 404 Not Found", "Connection timed out")
    rig.openings = [SourceUnavailable("door: no video"), rig.camera(5), rig.camera(5, then_stop=True)]
    rig.run()
    assert any(
        detail.startswith("door: no video (FFmpeg: Server returned 404 Not Found); next try")
        for detail in rig.details("connecting")
    )
    assert all("(FFmpeg: Connection timed out)" in detail for detail in rig.details("reconnecting"))
    assert all("FFmpeg" not in detail for detail in rig.details("live"))


def test_no_report_and_no_log_line_holds_the_password(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> socket.socket:
        rig.stage.stopping.set()
        raise ConnectionRefusedError(111, "Connection refused")

    url = "rtsp://admin:s3cret@127.0.0.1:8554/live?token=t0ken"
    job = CaptureJob(
        camera="door", source=url, channel="ipc://unused", preprocessing=SMALL, config=CaptureConfig(retry=True)
    )
    monkeypatch.setattr(socket, "create_connection", refuse)
    loop = CaptureLoop(
        rig.stage,  # type: ignore[arg-type]
        job,
        parse_source(url),
        rig.channel,
        rig.time.clock(),
        rig.stderr,  # type: ignore[arg-type]
    )
    with caplog.at_level("DEBUG"):
        loop.run()
    said = [report.detail for report in rig.channel.reports] + [record.getMessage() for record in caplog.records]
    assert any("connection refused" in line for line in said)
    assert caplog.records
    for line in said:
        assert "s3cret" not in line
        assert "admin" not in line
        assert "t0ken" not in line


def test_the_loop_shows_that_it_lives_at_every_picture(rig: Rig) -> None:
    rig.openings = [rig.camera(40, then_stop=True)]
    rig.run()
    assert rig.stage.beats >= 40


def test_a_pause_between_two_tries_is_ended_by_a_stop_and_by_its_own_end() -> None:
    stage = FakeStage()
    assert process._sleep_until(stage, 0.0)  # type: ignore[arg-type]
    stage.stopping.set()
    assert not process._sleep_until(stage, float("inf"))  # type: ignore[arg-type]
    assert stage.beats


def test_a_frozen_camera_is_stalled_says_why_and_sends_nothing_of_it(rig: Rig) -> None:
    camera = rig.camera(25 * 50, then_stop=True)
    camera.frozen_from = 25
    rig.openings = [camera]
    rig.run(frozen_timeout_s=30.0)
    assert rig.channel.states == ["connecting", "live", "stalled", "stopped"]
    assert rig.details("stalled")[0].startswith("the same picture for over 30 s")
    assert len(rig.channel.frames) == pytest.approx(25 * 31, abs=3)


def test_a_camera_that_stays_frozen_is_opened_anew_without_a_pause_and_is_live_when_it_moves(rig: Rig) -> None:
    frozen, moving = rig.camera(25 * 100), rig.camera(50, then_stop=True)
    frozen.frozen_from = 25
    rig.openings = [frozen, moving]
    rig.run(frozen_timeout_s=30.0)
    assert frozen.closed
    assert rig.opened_at[1] - rig.opened_at[0] == pytest.approx(61, abs=0.5)
    assert rig.channel.states == ["connecting", "live", "stalled", "live", "stopped"]
    assert rig.channel.reports[-1].reconnects == 1


def test_without_retry_or_without_a_limit_a_frozen_camera_stays_open(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    for one, settings in ((rig, {"retry": False}), (Rig(monkeypatch), {"frozen_timeout_s": None})):
        camera = one.camera(25 * 200, then_stop=True)
        camera.frozen_from = 25
        one.openings = [camera]
        one.run(**settings)
        assert len(one.opened_at) == 1
    assert one.channel.states == ["connecting", "live", "stopped"]


def test_a_file_that_shows_the_same_picture_is_not_frozen(rig: Rig) -> None:
    still = rig.file(25 * 60)
    still.frozen_from = 1
    rig.openings = [still]
    rig.run("clip.mp4", fast=False)
    assert rig.channel.states == ["connecting", "live", "stopped"]


def test_a_stream_that_is_joined_between_key_pictures_is_live_from_the_first_one_on(rig: Rig) -> None:
    camera = rig.camera(60, then_stop=True)
    camera.whole_from = 30
    rig.openings = [rig.camera(5), camera]
    rig.run()
    assert rig.channel.states == ["connecting", "live", "reconnecting", "live", "stopped"]
    assert "connected; waiting for a key picture" in rig.details("reconnecting")
    newest = rig.channel.frames[-1].stamp.epoch
    assert [frame.stamp.seq for frame in rig.channel.frames if frame.stamp.epoch == newest] == [*range(30, 61)]


def test_damage_from_before_a_connection_does_not_close_it(rig: Rig) -> None:
    """FFmpeg complains while it looks at a stream, up to the first key picture, and of the end of the one before."""
    rig.stderr = FakeStderr(damage_at=1)
    rig.openings = [rig.camera(60, then_stop=True)]
    rig.run()
    assert [frame.stamp.seq for frame in rig.channel.frames] == list(range(61))
    assert rig.channel.states == ["connecting", "live", "stopped"]


def test_a_camera_that_waits_for_a_key_picture_for_long_is_not_said_to_be_frozen(rig: Rig) -> None:
    rig.stderr = FakeStderr(damage_at=20)
    camera = rig.camera(25 * 50, then_stop=True)
    camera.doubt = lambda: setattr(camera, "whole_from", 25 * 45)  # type: ignore[method-assign]
    rig.openings = [camera]
    rig.run(frozen_timeout_s=30.0)
    assert rig.channel.states == ["connecting", "live", "stopped"]
    assert rig.details("live")[-1] == "64x48, nominally 25 fps"
    assert len(rig.opened_at) == 1


def test_a_camera_that_failed_is_let_go_before_it_is_waited_for(rig: Rig) -> None:
    """A webcam that is held while it is unplugged comes back under another number."""
    failed = rig.camera(20)
    rig.openings = [failed, rig.camera(5, then_stop=True)]
    sleep_until, held = rig.time._sleep_until, []

    def note(until_s: float) -> bool:
        held.append(not failed.closed)
        return sleep_until(until_s)

    rig.time._sleep_until = note  # type: ignore[method-assign]
    rig.run()
    assert held and not any(held)


def test_after_damage_nothing_is_sent_until_the_next_key_picture(rig: Rig) -> None:
    rig.stderr = FakeStderr(damage_at=20)
    rig.openings = [rig.camera(60, then_stop=True)]
    rig.run()
    numbers = [frame.stamp.seq for frame in rig.channel.frames]
    assert numbers == [*range(20), *range(30, 61)]
    assert rig.channel.states == ["connecting", "live", "stopped"]
    assert "the stream was damaged; waiting for the next key picture" in rig.details("live")


# --- files that begin again


def test_a_looped_file_begins_again_in_a_new_epoch_with_its_time_going_on(rig: Rig) -> None:
    last = rig.file(50)
    rig.openings = [rig.file(50), rig.file(50), last]
    closed = last.close

    def then_stop() -> None:
        rig.stage.stopping.set()
        closed()

    last.close = then_stop  # type: ignore[method-assign]
    rig.run("clip.mp4", loop=True)
    stamps = [frame.stamp for frame in rig.channel.frames]
    assert len({stamp.epoch for stamp in stamps}) == 3
    assert [stamp.seq for stamp in stamps] == [*range(50)] * 3
    assert [stamp.media_time for stamp in stamps] == pytest.approx([number / 25 for number in range(150)])
    assert {report.reconnects for report in rig.channel.reports} == {0}


def test_a_looped_file_is_paced_over_its_seam_too(rig: Rig) -> None:
    rig.openings = [rig.file(50), rig.file(50)]
    rig.run("clip.mp4", loop=True)
    assert rig.opened_at[1] - rig.opened_at[0] == pytest.approx(49 / 25, abs=0.05)


@pytest.mark.parametrize("fast", [False, True])
def test_a_looped_file_of_one_picture_is_not_opened_more_than_once_a_second(rig: Rig, fast: bool) -> None:
    rig.openings = [rig.file(1) for _ in range(5)]
    rig.run("picture.mp4", loop=True, fast=fast)
    assert np.diff(rig.opened_at) == pytest.approx(1.0, abs=0.01)


def test_a_looped_file_that_is_gone_ends_with_its_reason(rig: Rig) -> None:
    rig.openings = [rig.file(50), SourceNotFound("no such file: clip.mp4")]
    with pytest.raises(SourceNotFound, match="no such file"):
        rig.run("clip.mp4", loop=True)
    assert len(rig.opened_at) == 2


def test_without_loop_a_file_is_read_once_and_a_camera_is_never_looped(rig: Rig) -> None:
    rig.openings = [rig.file(50)]
    rig.run("clip.mp4")
    assert len(rig.opened_at) == 1


# --- files behind URLs, known once they are opened


def test_a_url_that_is_a_file_is_read_once_with_media_times_and_waits_for_room(rig: Rig) -> None:
    rig.channel = FakeChannel(room=itertools.cycle([False, True]))
    rig.openings = [rig.file(30)]
    rig.run("http://127.0.0.1/clip.mp4", frozen_timeout_s=0.1)
    assert [frame.stamp.media_time for frame in rig.channel.frames] == pytest.approx([n / 25 for n in range(30)])
    assert all(rig.channel.waits)
    assert rig.channel.reports[-1].final and len(rig.opened_at) == 1
    assert "stalled" not in rig.channel.states


@pytest.mark.parametrize(
    ("url", "fast", "lossless"), [("http://h/a.mp4", True, True), ("http://h/a.mp4", False, False)]
)
def test_that_a_url_is_read_without_loss_is_told_before_its_first_frame(
    rig: Rig, url: str, fast: bool, lossless: bool
) -> None:
    frames_at: list[tuple[bool, int]] = []
    report = rig.channel.report

    def reported(message: CameraReport, wait_s: float = 0.0) -> bool:
        frames_at.append((message.lossless, len(rig.channel.frames)))
        return report(message, wait_s)

    rig.channel.report = reported  # type: ignore[method-assign]
    rig.openings = [rig.file(30)]
    rig.run(url, fast=fast)
    assert any(told for told, _ in frames_at) == lossless
    if lossless:
        assert min(frames for told, frames in frames_at if told) == 0


def test_a_url_that_breaks_off_is_an_error_and_not_opened_again(rig: Rig) -> None:
    source = rig.file(10)

    def broken() -> float | None:
        raise SourceNotFound("http://h/a.mp4 broke off at 5.6 s of 12.0 s")

    source.grab = broken  # type: ignore[method-assign]
    rig.openings = [source]
    with pytest.raises(SourceNotFound, match="broke off"):
        rig.run("http://h/a.mp4")
    assert len(rig.opened_at) == 1


# --- what the supervisor is told of the source


def test_a_file_says_when_it_is_read_what_it_may_hold_and_when_all_was_sent(rig: Rig) -> None:
    source = rig.file(30)
    source.memory_limit_mb = 1200.0
    rig.openings = [source]
    rig.run("a.mp4")
    assert rig.stage.news == [
        SourceNews(memory_limit_mb=1200.0, ended=False),
        SourceNews(memory_limit_mb=1200.0, ended=True),
    ]
    assert rig.channel.reports[-1].final


def test_a_url_that_is_a_file_plays_once_also_after_its_end(rig: Rig) -> None:
    rig.openings = [rig.file(30)]
    rig.run("http://h/a.mp4")
    assert [(news.plays_once, news.ended) for news in rig.stage.news] == [(True, False), (True, True)]


def test_a_file_that_is_stopped_in_the_middle_does_not_say_that_all_was_sent(rig: Rig) -> None:
    source = rig.file(30)
    rig.openings = [source]
    rig.channel.room = ()
    rig.stage.beat = lambda: rig.stage.stopping.set() if source.grabbed > 10 else None  # type: ignore[method-assign]
    rig.run("a.mp4")
    assert [news.ended for news in rig.stage.news] == [False]
    assert not any(report.final for report in rig.channel.reports)


def test_a_size_that_cannot_be_held_on_the_way_ends_a_file_for_good(rig: Rig) -> None:
    source = rig.file(30)

    def too_large() -> Image:
        raise SourceNotFound("a.mp4: its pictures of 16000 x 16000 are too large")

    source.retrieve = too_large  # type: ignore[method-assign]
    rig.openings = [source]
    with pytest.raises(SourceNotFound, match="too large"):
        rig.run("a.mp4")
    assert source.closed
