"""Cameras that come and go by orders while the worker runs."""

from __future__ import annotations

import logging

import pytest
from msgspec import structs

from stream_i3d.config import ControlConfig
from tests.inference.worker.service import MakeService, of_kind, windows_of


def test_a_camera_that_is_added_is_recognised_and_the_batch_it_makes_is_warmed_up(make_service: MakeService) -> None:
    service = make_service(lossless=True).start()
    service.send(0, 11)
    service.order(*service.job.cameras, service.slot("hall"))
    assert service.engine.warmed == [1, 2]
    service.send(0, 11, "hall")
    service.send(12, 15)
    lines = service.end()
    assert windows_of(lines) == [7, 11, 15]
    assert windows_of(lines, "hall") == [7, 11]
    assert service.stage.summary.frames == 28


def test_a_camera_that_is_removed_says_stopped_as_its_last_word_and_its_counts_stay(make_service: MakeService) -> None:
    service = make_service(cameras=("door", "hall"), lossless=True).start()
    service.send(0, 11)
    service.send(0, 11, "hall")
    service.settled(12)
    service.settled(12, "hall")
    door = service.job.cameras[0]
    service.order(door)
    assert service.status("hall", "stopped").detail == "removed"
    service.senders.pop("hall").close()
    service.send(12, 15)
    lines = service.end()
    of_hall = [line for line in lines if line.get("camera") == "hall"]
    assert [line["event"] for line in of_kind(lines, "event", "hall")][-1] == "end"
    assert of_hall[-1]["schema"] == "stream-i3d/status/1" and of_hall[-1]["state"] == "stopped"
    assert windows_of(lines) == [7, 11, 15]
    assert service.stage.summary.frames == 28


def test_a_camera_that_comes_again_has_figures_of_its_own(make_service: MakeService) -> None:
    service = make_service(cameras=("door", "hall"), lossless=True).start()
    door, hall = service.job.cameras
    service.send(0, 11, "hall")
    service.settled(12, "hall")
    service.order(door)  # an action runs, and its end is told
    service.senders.pop("hall").close()
    service.order(door, structs.replace(hall, channel=hall.channel + "-again"))
    service.send(0, 3, "hall")
    service.settled(16, "hall")
    service.end()
    figures = service.stage.summary.cameras["hall"]
    assert (figures.frames, figures.predictions, figures.events) == (4, {"warming": 1}, {})


def test_the_service_goes_on_without_any_camera_until_one_is_added(make_service: MakeService) -> None:
    service = make_service(lossless=True).start()
    service.order()
    service.senders.pop("door").close()
    assert service.goes_on()
    service.order(service.slot("hall"))
    service.send(0, 7, "hall")
    assert windows_of(service.end(), "hall") == [7]


def test_a_worker_may_start_without_a_camera(make_service: MakeService) -> None:
    service = make_service(cameras=(), control=ControlConfig(stay=True)).start()
    assert service.engine.warmed == [1]
    service.order(service.slot("hall"))
    service.send(0, 7, "hall")
    service.settled(8, "hall")
    service.stage.stopping.set()
    assert windows_of(service.join(), "hall") == [7]


def test_why_a_capture_process_gave_up_is_published(make_service: MakeService) -> None:
    service = make_service(cameras=("door", "hall")).start()
    door, hall = service.job.cameras
    service.order(door, structs.replace(hall, failure="no such file: a.mp4"))
    assert service.status("hall", "stopped").detail == "no such file: a.mp4"


def test_a_channel_that_cannot_be_bound_is_told_and_the_others_go_on(
    make_service: MakeService, caplog: pytest.LogCaptureFixture
) -> None:
    service = make_service(lossless=True).start()
    slot = structs.replace(service.slot("hall"), channel=service.job.setup.path + "/no-address", failure="unused")
    with caplog.at_level(logging.ERROR):
        service.order(*service.job.cameras, slot)
    assert "cannot bind" in caplog.text
    service.send(0, 7)
    assert windows_of(service.end()) == [7]
