"""Several cameras and one engine: what is one batch, what a slow engine is given, who must wait."""

from __future__ import annotations

from stream_i3d.inference.worker.batch_limit import MAX_BATCH
from tests.inference.fakes import FakeEngine
from tests.inference.worker.service import CLIP_LEN, STRIDE, MakeService, of_kind
from tests.samples import frame


def test_windows_of_cameras_that_are_due_together_are_one_batch(make_service: MakeService) -> None:
    service = make_service(FakeEngine(gated=True), cameras=("a", "b")).start()
    service.send(0, 7, "a")
    assert service.engine.begun() == [7]
    service.send(8, 11, "a")
    service.send(0, 7, "b")
    service.arrived(12, "a")
    service.arrived(8, "b")
    service.engine.release(2)
    assert service.engine.begun() == [7, 11]  # the oldest first
    lines = service.end()
    assert [line["seq"] for line in of_kind(lines, "prediction", "a") if line["state"] == "action"] == [7, 11]
    assert [line["seq"] for line in of_kind(lines, "prediction", "b") if line["state"] == "action"] == [7]


def test_a_batch_has_a_largest_size(make_service: MakeService) -> None:
    names = [f"c{number}" for number in range(MAX_BATCH + 1)]
    service = make_service(FakeEngine(gated=True), cameras=names).start()
    assert service.engine.warmed == list(range(1, MAX_BATCH + 1))
    service.send(0, 7, "c0")
    service.engine.begun()
    service.send(8, 11, "c0")
    for name in names[1:]:
        service.send(0, 7, name)
        service.arrived(8, name)
    service.arrived(12, "c0")
    service.engine.release(3)
    service.end()
    assert [len(batch) for batch in service.engine.batches] == [1, MAX_BATCH, 1]


def newest_due(arrived: int) -> int:
    """The number of the newest frame at which a window is due once frames 0..arrived-1 are there."""
    return max(seq for seq in range(arrived) if seq >= CLIP_LEN - 1 and (seq - (CLIP_LEN - 1)) % STRIDE == 0)


def test_a_slow_engine_is_given_the_newest_window_and_the_stale_ones_are_dropped_and_counted(
    make_service: MakeService,
) -> None:
    service = make_service(FakeEngine(gated=True)).start()
    service.send(0, 7)
    assert service.engine.begun() == [7]
    sent, predicted = 8, 1
    for more in (4, 9, 17, 5, 40, 12, 23):
        service.send(sent, sent + more - 1)
        sent += more
        service.arrived(sent)  # all of it, while the engine is busy
        service.engine.release()
        [newest] = service.engine.begun()
        assert newest == newest_due(sent)
        assert sent - 1 - newest < STRIDE
        predicted += 1
    service.engine.release()
    predictions = [line for line in of_kind(service.end(), "prediction") if line["state"] == "action"]
    due = len(range(CLIP_LEN - 1, sent, STRIDE))
    assert len(predictions) == predicted
    assert service.stage.summary.windows_dropped == {"stale": due - predicted}
    assert service.stage.summary.frames == sent
    assert predictions[-1]["windows_dropped"] == due - predicted


def test_no_frame_is_lost_in_front_of_a_slow_engine(make_service: MakeService) -> None:
    service = make_service(FakeEngine(gated=True)).start()
    service.send(0, 499)  # each finds room at once, though the engine does not answer
    service.arrived(500)
    service.engine.release(2)
    service.end()
    assert service.stage.summary.frames == 500
    assert service.stage.summary.frames_dropped == 0


def test_a_lossless_source_is_held_back_and_loses_no_window(make_service: MakeService) -> None:
    service = make_service(FakeEngine(gated=True), lossless=True).start()
    service.send(0, 7)
    service.engine.begun()
    sent = 8
    while sent < 100 and service.senders["door"].send(frame(sent), 0.5):
        sent += 1
    assert sent < 100  # while the engine is busy with one window and another waits, the source must wait too
    service.engine.release(100)
    service.send(sent, 99)
    predictions = [line for line in of_kind(service.end(), "prediction") if line["state"] == "action"]
    assert [line["seq"] for line in predictions] == list(range(7, 100, 4))
    assert service.stage.summary.windows_dropped == {}


def test_one_camera_held_back_does_not_hold_up_the_others(make_service: MakeService) -> None:
    service = make_service(FakeEngine(gated=True), cameras=("a", "b"), lossless=True).start()
    service.send(0, 7, "a")
    service.engine.begun()
    service.send(8, 11, "a")  # a window of "a" waits now
    service.arrived(12, "a")
    service.send(0, 7, "b")
    service.arrived(8, "b")
    service.engine.release(2)
    assert service.engine.begun() == [7, 11]  # the oldest first
    service.end()
