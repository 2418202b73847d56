"""serve() from start to end: what is warm before it is ready, what it says as it runs, when and how it ends."""

from __future__ import annotations

import pytest
from msgspec import structs

from stream_i3d.config import ControlConfig
from stream_i3d.errors import CheckpointError
from stream_i3d.inference.setup import ModelSetup
from stream_i3d.inference.worker import drain
from stream_i3d.stage import Ready, StageMessage, Summary
from tests.inference.fakes import FakeEngine
from tests.inference.worker.service import MakeService, of_kind, windows_of


def test_the_engine_is_warmed_up_before_the_worker_says_that_it_is_ready(make_service: MakeService) -> None:
    service = make_service(cameras=("a", "b", "c"))
    warmed_when_ready: list[list[int]] = []
    say = service.stage.say

    def note(message: StageMessage) -> None:
        if isinstance(message, Ready):
            warmed_when_ready.append(list(service.engine.warmed))
        say(message)

    service.stage.say = note  # type: ignore[method-assign]
    service.start()
    service.end()
    assert warmed_when_ready == [[1, 2, 3]]
    ready = service.stage.said[0]
    assert isinstance(ready, Ready)
    assert ready.detail == "i3d (fake.safetensors), a fake"


def test_ready_tells_what_runs(make_service: MakeService) -> None:
    service = make_service().start()
    ready = service.stage.said[0]
    assert isinstance(ready, Ready)
    assert (ready.labels, ready.engine) == (["wave", "clap", "jump"], "a fake")
    assert ready.model is not None and ready.model.checkpoint == "fake.safetensors"


def test_a_model_that_cannot_be_loaded_is_the_workers_error(make_service: MakeService) -> None:
    def fail(setup: ModelSetup) -> FakeEngine:
        raise CheckpointError("damaged")

    service = make_service()
    service.load = fail
    service._thread.start()
    with pytest.raises(CheckpointError, match="damaged"):
        service.join()


def test_the_worker_shows_that_it_lives_while_nothing_comes(make_service: MakeService) -> None:
    service = make_service().start()
    assert service.goes_on(turns=4)
    service.end()


def test_the_last_figures_are_of_the_whole_run(make_service: MakeService) -> None:
    service = make_service(cameras=("a", "b"), lossless=True).start()
    service.send(0, 15, "a")
    service.send(0, 23, "b")
    service.end()
    summary = service.stage.said[-1]
    assert isinstance(summary, Summary)
    assert (summary.frames, summary.windows, summary.skipped, summary.rejected_messages) == (40, 3 + 5, 0, 0)
    assert summary.latency_p50_ms is not None
    assert summary.latency_p95_ms is not None
    assert summary.latency_p50_ms <= summary.latency_p95_ms
    assert summary.inference_p50_ms is not None
    assert summary.seconds > 0


def test_the_worker_ends_once_every_camera_has_ended(make_service: MakeService) -> None:
    service = make_service(cameras=("a", "b"), lossless=True).start()
    service.send(0, 7, "a")
    service.report("a", state="stopped", fps=0.0, detail="the end", final=True)
    service.send(0, 31, "b")  # still served
    lines = service.end()
    assert [line["seq"] for line in of_kind(lines, "prediction", "b")][-1] == 31
    for camera in ("a", "b"):
        last = of_kind(lines, "status", camera)[-1]
        assert (last["state"], last["detail"]) == ("stopped", "the end")


def test_with_stay_it_goes_on_when_all_cameras_have_ended(make_service: MakeService) -> None:
    service = make_service(control=ControlConfig(stay=True)).start()
    service.report(state="stopped", fps=0.0, detail="the end", final=True)
    service.settled(1)
    assert service.status("door", "stopped").detail == "the end"
    assert service.goes_on()
    service.stage.stopping.set()
    service.join()


def test_one_of_several_workers_says_that_its_cameras_have_ended_and_takes_others(make_service: MakeService) -> None:
    service = make_service(lossless=True)
    service.job = structs.replace(service.job, linger=True)
    service.start()
    service.report(state="stopped", fps=0.0, detail="the end", final=True)
    service.stage.wait_until(lambda: service.stage.summary.ended)
    service.order(service.slot("hall"))
    service.senders.pop("door").close()
    service.stage.wait_until(
        lambda: not service.stage.summary.ended and list(service.stage.summary.cameras) == ["hall"]
    )
    service.send(0, 7, "hall")
    service.settled(8, "hall")
    service.stage.stopping.set()
    assert windows_of(service.join(), "hall") == [7]


def test_told_to_stop_the_worker_ends_with_its_running_actions_ended_and_its_figures(make_service: MakeService) -> None:
    service = make_service(FakeEngine(choose=lambda clip: 0), lossless=True).start()
    service.report(state="live")
    service.settled(1)
    service.send(0, 11)
    service.settled(13)
    service.stage.stopping.set()
    lines = service.join()
    assert [line["event"] for line in of_kind(lines, "event")] == ["start", "end"]
    assert lines[-1]["schema"] == "stream-i3d/event/1"
    assert isinstance(service.stage.said[-1], Summary)


def test_what_ends_the_thread_that_reads_ends_the_worker(
    make_service: MakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("the device is gone")

    service = make_service().start()
    monkeypatch.setattr(drain, "decode_capture", fail)
    service.send(0, 0)
    with pytest.raises(RuntimeError, match="the device is gone"):
        service.join()
