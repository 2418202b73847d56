"""The worker in streaming mode: serve() in a thread, with a fake engine behind real channels, sockets and files."""

from __future__ import annotations

from typing import Any

import pytest

from stream_i3d.config import WindowConfig
from stream_i3d.inference.worker.turns import Turns, _Turn
from tests.inference.fakes import FakeStreamEngine
from tests.inference.worker.service import MakeService, of_kind, windows_of

WARMING = list(range(7, 63, 8))


@pytest.fixture
def engine() -> FakeStreamEngine:
    return FakeStreamEngine()


def streaming(make_service: MakeService, engine: FakeStreamEngine, **given: Any) -> Any:
    stride = given.pop("stride", 8)
    return make_service(engine, lossless=True, window=WindowConfig(mode="streaming", stride=stride), **given).start()


def hold_up_once(engine: FakeStreamEngine, service: Any, first: int, last: int) -> None:
    """Have the network's next run last until frames first..last wait behind it."""

    def hold() -> None:
        engine.while_running = lambda: None
        service.send(first, last)
        service.arrived(last + 1)

    engine.while_running = hold


def send_slowly(service: Any, first: int, last: int) -> None:
    """Send frames first..last, as many at a time as the network takes; a worker that is busy elsewhere loses none."""
    for start in range(first, last + 1, 8):
        service.send(start, min(start + 7, last))
        service.settled(min(start + 7, last) + 1)


def test_a_prediction_is_published_at_every_stride_once_the_network_is_warm(
    make_service: MakeService, engine: FakeStreamEngine
) -> None:
    service = streaming(make_service, engine)
    service.send(0, 199)
    predictions = of_kind(service.end(), "prediction")
    assert [line["seq"] for line in predictions if line["state"] == "warming"] == WARMING
    assert [line["seq"] for line in predictions if line["state"] == "action"] == list(range(63, 200, 8))
    assert predictions[-1]["window"]["first_frame"] == 199 - 106
    assert engine.fed[-1] == tuple(range(200))
    assert service.stage.summary.windows == len(range(63, 200, 8))


def test_the_engine_is_warmed_up_for_the_cameras(make_service: MakeService, engine: FakeStreamEngine) -> None:
    service = streaming(make_service, engine, cameras=("a", "b", "c"))
    assert engine.warmed[-3:] == [1, 2, 3]
    service.end()


def test_cameras_do_not_touch_each_others_memory(make_service: MakeService, engine: FakeStreamEngine) -> None:
    service = streaming(make_service, engine, cameras=("a", "b"))
    service.send(0, 71, "a")
    service.send(3, 90, "b")
    lines = service.end()
    assert windows_of(lines, "a") == [63, 71]
    assert windows_of(lines, "b") == [71, 79, 87]
    assert tuple(range(72)) in engine.fed
    assert tuple(range(8, 88)) in engine.fed


def test_a_slow_engine_is_given_every_frame_that_still_waits(
    make_service: MakeService, engine: FakeStreamEngine
) -> None:
    service = make_service(engine, window=WindowConfig(mode="streaming")).start()
    hold_up_once(engine, service, 8, 39)
    service.send(0, 7)
    service.settled(40)
    service.end()
    assert engine.fed == [tuple(range(end + 1)) for end in (7, 15, 23, 31, 39)]
    assert service.stage.summary.windows_dropped == {}


def test_an_engine_that_is_too_slow_loses_the_stream_and_it_is_counted(
    make_service: MakeService, engine: FakeStreamEngine
) -> None:
    service = make_service(engine, window=WindowConfig(mode="streaming")).start()
    send_slowly(service, 0, 79)
    hold_up_once(engine, service, 88, 127)
    service.send(80, 87)
    service.settled(128)
    send_slowly(service, 128, 199)
    lines = service.end()
    assert engine.fed[11:] == [tuple(range(128, end + 1)) for end in range(135, 200, 8)]
    assert windows_of(lines) == [63, 71, 79, 87, 191, 199]
    assert service.stage.summary.windows_dropped == {"stale": len(range(95, 191, 8))}


def test_an_order_changes_the_stride_and_what_is_warm_stays_warm(
    make_service: MakeService, engine: FakeStreamEngine
) -> None:
    service = streaming(make_service, engine)
    service.send(0, 79)
    service.settled(80)
    service.order(*service.job.cameras, **{"window.stride": 4})
    service.send(80, 159)
    assert windows_of(service.end()) == [*range(63, 136, 8), *range(139, 160, 4)]


def test_a_camera_that_is_added_is_carried_from_its_first_frame(
    make_service: MakeService, engine: FakeStreamEngine
) -> None:
    service = streaming(make_service, engine)
    service.send(0, 11)
    service.order(*service.job.cameras, service.slot("hall"))
    service.send(0, 71, "hall")
    service.send(12, 71)
    lines = service.end()
    assert windows_of(lines) == [63, 71]
    assert windows_of(lines, "hall") == [63, 71]


def test_an_action_ends_when_its_camera_must_wait_for_its_turn_and_the_wait_is_no_part_of_it(
    make_service: MakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = FakeStreamEngine(choose=lambda numbers: 0)
    made: list[Turns] = []

    class Ordered(Turns):
        """Has the camera wait as the test says."""

        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            self.wait = False
            made.append(self)

        def update(self, cameras: Any, now: float) -> None:
            numbers = [one.camera for one in cameras]
            self.overloaded_since = now if self.wait else None
            self._waiting = dict.fromkeys(numbers, now) if self.wait else {}
            self._turns = {} if self.wait else dict.fromkeys(numbers, _Turn(now))

    monkeypatch.setattr("stream_i3d.inference.worker.pace.Turns", Ordered)
    service = make_service(engine, window=WindowConfig(mode="streaming")).start()
    service.report(state="live")
    send_slowly(service, 0, 79)
    made[0].wait = True  # type: ignore[attr-defined]
    service.publisher.wait_until(lambda: service.status("door", "live").waiting_since is not None)
    assert service.status("door", "live").overloaded
    send_slowly(service, 80, 151)
    made[0].wait = False  # type: ignore[attr-defined]
    service.publisher.wait_until(lambda: service.status("door", "live").waiting_since is None)
    send_slowly(service, 152, 231)
    lines = service.end()
    assert windows_of(lines) == [63, 71, 79, *range(215, 232, 8)]
    assert engine.fed[10][0] == 152
    events = of_kind(lines, "event")
    times = {line["seq"]: line["window"]["end_time"] for line in of_kind(lines, "prediction")}
    assert [(one["event"], one["start_time"], one["end_time"]) for one in events] == [
        ("start", times[63], None),
        ("end", times[63], times[79]),
        ("start", times[215], None),
        ("end", times[215], times[231]),
    ]
    assert service.stage.summary.windows_dropped == {"overload": len(range(87, 215, 8))}
