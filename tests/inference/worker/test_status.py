"""What the worker publishes of each camera's state, and what a lost camera means for its action."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream_i3d.config import CaptureConfig
from stream_i3d.messages import CameraStatus
from stream_i3d.transport.sockets import Subscriber
from stream_i3d.transport.wire import decode_published
from tests.inference.fakes import FakeEngine
from tests.inference.worker.service import STRIDE, MakeService, of_kind
from tests.samples import frame
from tests.stages import WAIT_S


def test_a_camera_is_connecting_from_the_first_then_as_it_reports(make_service: MakeService) -> None:
    service = make_service(lossless=True).start()
    service.settled(0)
    service.report(state="live", fps=25.0, detail="640x480")
    service.send(0, 11)
    service.settled(13)
    service.report(state="reconnecting", fps=0.0, detail="refused; next try in 2 s", reconnects=1)
    service.settled(14)
    service.send(0, 11, epoch=2)
    service.report(state="live", fps=24.5, reconnects=1, detail="640x480")
    service.settled(27)
    statuses = of_kind(service.end(), "status")
    assert [line["state"] for line in statuses] == ["connecting", "live", "reconnecting", "live", "stopped"]
    assert [line["reconnects"] for line in statuses] == [0, 0, 1, 1, 0]
    assert statuses[0]["detail"] == "starting"
    assert statuses[0]["last_frame_age_s"] is None
    assert statuses[2]["detail"] == "refused; next try in 2 s"
    assert statuses[3]["last_frame_age_s"] >= 0
    assert statuses[3]["fps"] == 24.5


def test_a_camera_that_sends_nothing_new_is_stalled(make_service: MakeService) -> None:
    service = make_service(capture=CaptureConfig(stall_timeout_s=0.2), publish={"status_interval_s": 0.05})
    service.start()
    with Subscriber(service.address, ["v1/door/status"]) as subscriber:
        assert subscriber.receive(WAIT_S) is not None
        service.report(state="live")

        def wait_for(state: str) -> CameraStatus:
            while True:
                parts = subscriber.receive(WAIT_S)
                assert parts is not None
                message = decode_published(parts)
                assert isinstance(message, CameraStatus)
                if message.state == state:
                    return message

        wait_for("live")
        service.send(0, 3)
        message = wait_for("stalled")
    assert message.fps == 0.0
    assert message.last_frame_age_s is not None
    assert message.last_frame_age_s > 0.2


def test_repeated_pictures_are_no_sign_of_life(make_service: MakeService) -> None:
    service = make_service().start()
    assert service.senders["door"].send(frame(0, repeat=True), WAIT_S)
    service.report(state="live")
    service.settled(2)
    live = [line for line in of_kind(service.end(), "status") if line["state"] == "live"]
    assert [line["last_frame_age_s"] for line in live] == [None]


def test_the_stride_in_force_is_published_at_once_when_it_changes(make_service: MakeService) -> None:
    service = make_service(lossless=True).start()
    service.report(state="live")
    assert service.status("door", "live").stride == STRIDE
    service.order(*service.job.cameras, **{"window.stride": 7})
    service.publisher.wait_until(lambda: service.status("door", "live").stride == 7)
    service.end()
    assert service.stage.summary.stride == service.stage.summary.cameras["door"].stride == 7


def test_an_action_ends_when_its_camera_is_lost(make_service: MakeService) -> None:
    service = make_service(FakeEngine(choose=lambda clip: 0), lossless=True).start()
    service.report(state="live")
    service.settled(1)
    service.send(0, 15)
    service.settled(17)
    service.report(state="reconnecting", fps=0.0, detail="gone")
    service.settled(18)
    lines = service.end()
    [lost] = [line for line in of_kind(lines, "status") if line["state"] == "reconnecting"]
    [ended] = [line for line in of_kind(lines, "event") if line["event"] == "end"]
    assert lines.index(ended) == lines.index(lost) + 1


class NotFinite(FakeEngine):
    """Its output is not finite until `healed`."""

    healed = False

    def logits(self, batch: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
        rows = super().logits(batch)
        return rows if self.healed else rows * np.float32("nan")


def test_output_that_is_not_finite_shows_in_the_status_and_is_counted(make_service: MakeService) -> None:
    engine = NotFinite()
    service = make_service(lossless=True, engine=engine).start()
    service.report(state="live", fps=25.0, detail="640x480")
    service.send(0, 7 + STRIDE)
    service.settled(9 + STRIDE)
    engine.healed = True
    service.send(8 + STRIDE, 7 + 2 * STRIDE)
    service.settled(9 + 2 * STRIDE)
    lines = service.end()
    assert [line["seq"] for line in of_kind(lines, "prediction") if line["state"] != "warming"] == [7 + 2 * STRIDE]
    live = [line for line in of_kind(lines, "status") if line["state"] == "live"]
    failing = [line for line in live if line["detail"].startswith("nothing is recognised")]
    assert failing[0]["windows_failed"] >= 1
    assert "the network's output is not finite" in failing[0]["detail"]
    assert (live[-1]["windows_failed"], live[-1]["detail"]) == (2, "640x480")
