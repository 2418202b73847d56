"""What the capture loop is ordered while it runs: pauses; and the previews it makes."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterable

import numpy as np
import pytest
from msgspec import structs

from stream_i3d.capture import loop, process
from stream_i3d.capture.address import parse_source
from stream_i3d.capture.loop import CaptureJob, CaptureLoop
from stream_i3d.config import CaptureConfig
from stream_i3d.errors import SourceUnavailable
from stream_i3d.preprocess import Image
from stream_i3d.stage import CaptureOrder, Done
from stream_i3d.transport.preview import PreviewReceivers
from stream_i3d.transport.sockets import wait_for_any
from tests.capture.process_rig import SMALL, FakeChannel, Rig
from tests.keys import Ring


class FakePreviewer:
    dropped = 3

    def wants(self, now_s: float) -> bool:
        return False

    def show(self, bgr: Image, capture_ns: int) -> None:
        raise AssertionError("it was not wanted")


class OrdersOnceAsked:
    """A stage's orders that come only after so many looks."""

    def __init__(self, *orders: tuple[int, CaptureOrder]) -> None:
        self._orders = list(orders)
        self._looks = 0

    def pop(self, _: int) -> CaptureOrder | None:
        self._looks += 1
        if self._orders and self._looks >= self._orders[0][0]:
            return self._orders.pop(0)[1]
        return None

    def __bool__(self) -> bool:
        return True


def pause(number: int = 1) -> CaptureOrder:
    return CaptureOrder(number=number, paused=True)


def resume(number: int = 2) -> CaptureOrder:
    return CaptureOrder(number=number, paused=False)


def test_a_paused_camera_is_left_and_opened_anew_when_resumed(rig: Rig) -> None:
    first, second = rig.camera(50), rig.camera(5, then_stop=True)
    rig.openings = [first, second]
    rig.stage.orders = OrdersOnceAsked((10, pause()), (60, resume()))  # type: ignore[assignment]
    rig.run()
    assert first.closed and 5 < first.grabbed < 15
    assert rig.channel.states == ["connecting", "live", "stopped", "live", "stopped"]
    paused = [report for report in rig.channel.reports if report.paused]
    assert {(report.state, report.detail, report.final) for report in paused} == {("stopped", "paused", False)}
    assert rig.stage.said == [Done(number=1), Done(number=2)]
    assert len({frame.stamp.epoch for frame in rig.channel.frames}) == 2


def test_a_paused_file_holds_on_and_loses_no_frame(rig: Rig) -> None:
    rig.openings = [rig.file(20)]
    rig.stage.orders = OrdersOnceAsked((5, pause()), (50, resume()))  # type: ignore[assignment]
    rig.run("clip.mp4")
    assert [frame.stamp.seq for frame in rig.channel.frames] == list(range(20))
    assert rig.channel.states == ["connecting", "live", "stopped", "live", "stopped"]
    assert len(rig.opened_at) == 1
    assert rig.channel.reports[-1].final and not rig.channel.reports[-1].paused


def test_a_file_that_waits_for_a_worker_is_paused_and_resumed_meanwhile(rig: Rig) -> None:
    def connections() -> Iterable[bool]:
        for _ in range(20):
            yield False
        assert rig.stage.said == [Done(number=1), Done(number=2)]
        yield True

    rig.channel = FakeChannel(connections=connections())
    rig.openings = [rig.file(20)]
    rig.stage.orders = OrdersOnceAsked((5, pause()), (10, resume()))  # type: ignore[assignment]
    rig.run("clip.mp4")
    assert rig.channel.states == ["connecting", "stopped", "live", "stopped"]
    assert [frame.stamp.seq for frame in rig.channel.frames] == list(range(20))


def test_a_pause_ends_the_tries_of_a_camera_that_is_down(rig: Rig) -> None:
    rig.openings = [SourceUnavailable("door: refused"), SourceUnavailable("door: refused")]
    rig.stage.orders = OrdersOnceAsked((2, pause()), (80, resume()))  # type: ignore[assignment]
    rig.run()
    assert rig.channel.states[:4] == ["connecting", "stopped", "connecting", "stopped"]


def test_a_process_that_starts_paused_opens_nothing_until_it_is_resumed(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[object] = []
    monkeypatch.setattr(loop, "open_source", lambda *_: opened.append(1))
    job = CaptureJob(
        camera="door", source="0", channel="ipc://unused", preprocessing=SMALL, config=CaptureConfig(), paused=True
    )
    sleep_until = rig.time._sleep_until

    def stop_in_the_end(until_s: float) -> bool:
        if rig.time.now_s > 110:
            rig.stage.stopping.set()
        return sleep_until(until_s)

    monkeypatch.setattr(rig.time, "_sleep_until", stop_in_the_end)
    CaptureLoop(rig.stage, job, parse_source("0"), rig.channel, rig.time.clock(), rig.stderr).run()  # type: ignore[arg-type]
    assert opened == []
    assert rig.channel.states == ["connecting", "stopped"]
    assert sum(report.paused for report in rig.channel.reports) == pytest.approx(10, abs=2)  # once a second


def test_a_port_of_previews_that_is_taken_leaves_the_camera_without_them_and_running(caplog) -> None:
    job = CaptureJob(camera="door", source="0", channel="", preprocessing=SMALL, config=CaptureConfig())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with process._previews(structs.replace(job, preview_channel=busy)) as (previewer, address):
            assert (previewer, address) == (None, "")
    assert "door: address tcp://127.0.0.1" in caplog.text and "this camera has no previews" in caplog.text


def test_with_keys_only_their_clients_see_previews(tmp_path) -> None:
    ring = Ring.make(tmp_path)
    job = CaptureJob(
        camera="door",
        source="0",
        channel="",
        preprocessing=SMALL,
        config=CaptureConfig(),
        preview_channel="tcp://127.0.0.1:*",
        security=ring.security,
    )
    with process._previews(job) as (previewer, address), PreviewReceivers(ring.client()) as known:
        assert previewer is not None
        with PreviewReceivers(ring.client("stranger")) as stranger:
            stranger.follow({"door": address})
            assert not wait_for_any([stranger], 0.5) and not previewer.wants(0.0)
        known.follow({"door": address})
        seconds = itertools.count()
        while not previewer.wants(float(next(seconds))):
            assert previewer._thread.is_alive()
        previewer.show(np.zeros((48, 64, 3), np.uint8), 7)
        assert wait_for_any([known], 10.0)
        assert known.receive()[0][1].capture_ns == 7


def test_dropped_previews_are_reported(rig: Rig) -> None:
    job = CaptureJob(camera="door", source="0", channel="", preprocessing=SMALL, config=CaptureConfig())
    loop = CaptureLoop(
        rig.stage,
        job,
        parse_source("0"),
        rig.channel,
        rig.time.clock(),
        rig.stderr,
        FakePreviewer(),  # type: ignore[arg-type]
    )
    rig.stage.stopping.set()
    loop.run()
    assert rig.channel.reports[-1].previews_dropped == 3


def test_an_order_changes_the_view_at_once_and_reports_say_so(rig: Rig) -> None:
    rig.openings = [rig.camera(50, then_stop=True)]
    look = CaptureOrder(number=1, paused=False, view="squeeze")
    rig.stage.orders = OrdersOnceAsked((10, look))  # type: ignore[assignment]
    rig.run()
    assert rig.stage.said == [Done(number=1)]
    assert len({frame.stamp.epoch for frame in rig.channel.frames}) == 2
    views = [(report.view, report.view_share) for report in rig.channel.reports if report.state == "live"]
    assert views[0][0] == "centre" and views[0][1] is not None and views[0][1] < 1
    assert rig.channel.reports[-1].view == "squeeze" and rig.channel.reports[-1].view_share == 1.0
