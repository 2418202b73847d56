"""What the worker makes of frames: windows, predictions and actions, as they are published and written."""

from __future__ import annotations

import json
import logging
from typing import Any

import numpy as np
import pytest
import zmq

from stream_i3d.config import IdleConfig
from stream_i3d.messages import CameraStatus, Recognition
from stream_i3d.transport.sockets import Subscriber
from stream_i3d.transport.wire import decode_published, encode_frame, encode_report
from tests.inference.fakes import FakeEngine
from tests.inference.worker.service import MakeService, of_kind, windows_of
from tests.samples import frame, number_of, report
from tests.stages import WAIT_S


def test_a_prediction_is_published_at_every_stride_in_order(make_service: MakeService) -> None:
    service = make_service(lossless=True).start()
    service.send(0, 39)
    predictions = of_kind(service.end(), "prediction")
    assert [(line["state"], line["seq"]) for line in predictions] == [
        ("warming", 3),
        *(("action", seq) for seq in range(7, 40, 4)),
    ]
    assert [line["window"]["first_frame"] for line in predictions[1:]] == list(range(0, 33, 4))
    assert [line["label"] for line in predictions[1:]] == [("wave", "clap", "jump")[seq % 3] for seq in range(7, 40, 4)]
    assert service.engine.newest == list(range(7, 40, 4))


def test_a_clip_is_the_frames_of_its_window(make_service: MakeService) -> None:
    service = make_service(lossless=True).start()
    service.send(0, 199)  # more than the ring holds, so that it wraps
    service.end()
    for [clip] in service.engine.batches:
        numbers = [number_of(picture) for picture in clip]
        assert numbers == list(range(numbers[-1] - 7, numbers[-1] + 1))


def test_windows_across_a_gap_or_a_reconnect_are_dropped_and_counted(make_service: MakeService) -> None:
    service = make_service(lossless=True).start()
    service.send(0, 11)
    service.send(14, 31)  # two frames are missing
    service.send(0, 15, epoch=2)
    lines = service.end()
    published = [(line["epoch"], line["seq"]) for line in of_kind(lines, "prediction") if line["state"] == "action"]
    assert published == [(1, 7), (1, 11), (1, 23), (1, 27), (1, 31), (2, 7), (2, 11), (2, 15)]
    summary = service.stage.summary
    assert summary.frames_dropped == 2
    assert set(summary.windows_dropped) == {"gap", "epoch"}


def test_windows_that_were_skipped_are_counted_apart(make_service: MakeService) -> None:
    service = make_service(
        lossless=True, idle=IdleConfig(min_confidence=0, min_motion=1.0, skip_inference=True)
    ).start()
    service.send(0, 15)  # flat pictures: nothing moves
    predictions = of_kind(service.end(), "prediction")
    assert [line["skipped"] for line in predictions] == [None, "no motion", "no motion", "no motion"]
    assert (service.stage.summary.windows, service.stage.summary.skipped) == (0, 3)
    assert service.engine.batches == []


def test_an_action_starts_and_ends_with_the_same_id_and_the_last_one_ends_with_the_stream(
    make_service: MakeService,
) -> None:
    def choose(clip: np.ndarray[Any, Any]) -> int:
        return 0 if number_of(clip[-1]) < 20 else 1

    service = make_service(FakeEngine(choose=choose), lossless=True).start()
    service.report(state="live")
    service.settled(1)
    service.send(0, 39)
    lines = service.end()
    events = of_kind(lines, "event")
    assert [(line["event"], line["label"]) for line in events] == [
        ("start", "wave"),
        ("end", "wave"),
        ("start", "clap"),
        ("end", "clap"),
    ]
    assert events[0]["id"] == events[1]["id"] != events[2]["id"] == events[3]["id"]
    predictions = of_kind(lines, "prediction")
    assert events[3]["end_time"] == predictions[-1]["window"]["end_time"]
    assert lines.index(events[2]) == lines.index(next(line for line in predictions if line["label"] == "clap")) + 2


def test_subscribers_receive_what_the_wire_promises(make_service: MakeService) -> None:
    service = make_service(lossless=True, publish={"status_interval_s": 0.05})
    service.start()
    with Subscriber(service.address) as subscriber:
        first = subscriber.receive(WAIT_S)  # once a status comes, the subscription stands
        assert first is not None
        assert first[0] == b"v1/door/status"
        assert isinstance(decode_published(first), CameraStatus)
        service.send(0, 19)
        seen: list[Recognition] = []
        while len(seen) < 5:
            parts = subscriber.receive(WAIT_S)
            assert parts is not None
            message = decode_published(parts)
            if isinstance(message, Recognition):
                assert parts[0] == b"v1/door/prediction"
                seen.append(message)
    assert [message.seq for message in seen] == [3, 7, 11, 15, 19]
    assert {message.model.checkpoint for message in seen} == {"fake.safetensors"}


def test_json_lines_hold_what_the_socket_publishes_one_object_a_line(make_service: MakeService) -> None:
    service = make_service(lossless=True).start()
    service.send(0, 11)
    service.end()
    text = service.output.read_text()
    assert text.endswith("\n")
    schemas = {json.loads(line)["schema"] for line in text.splitlines()}
    assert schemas == {"stream-i3d/prediction/1", "stream-i3d/event/1", "stream-i3d/status/1"}


def test_an_order_changes_the_stride_from_then_on(make_service: MakeService) -> None:
    service = make_service(lossless=True).start()
    service.send(0, 19)
    service.settled(20)
    service.order(*service.job.cameras, **{"window.stride": 7})
    service.send(20, 49)
    assert windows_of(service.end()) == [7, 11, 15, 19, 21, 28, 35, 42, 49]


def test_an_order_changes_what_is_recognised_and_how_many_labels_are_listed(make_service: MakeService) -> None:
    service = make_service(lossless=True).start()
    service.send(0, 11)
    service.settled(12)
    service.order(*service.job.cameras, **{"idle.min_confidence": 1.0, "publish.top_k": 1})
    service.send(12, 19)
    predictions = of_kind(service.end(), "prediction")[1:]
    assert [(line["state"], len(line["top_k"])) for line in predictions] == [("action", 3)] * 2 + [("idle", 1)] * 2


def test_an_order_to_spare_the_network_takes_effect(make_service: MakeService) -> None:
    service = make_service(lossless=True).start()
    service.order(*service.job.cameras, **{"idle.min_motion": 255, "idle.skip_inference": True})
    service.send(0, 19)
    predictions = of_kind(service.end(), "prediction")[1:]
    assert [line["skipped"] for line in predictions] == ["no motion"] * 4
    assert service.engine.batches == []


class Stranger:
    """Somebody else's PUSH socket on a camera's channel."""

    def __init__(self, channel: str) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUSH)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.SNDTIMEO, int(WAIT_S * 1000))
        self._socket.connect(channel)

    def push(self, *parts: bytes | memoryview) -> None:
        self._socket.send_multipart(parts)

    def __enter__(self) -> Stranger:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._context.term()


def test_messages_that_are_not_ours_are_counted_and_do_no_harm(
    make_service: MakeService, caplog: pytest.LogCaptureFixture
) -> None:
    service = make_service(lossless=True).start()
    header, body = encode_frame(frame(0))
    other_size, other_body = encode_frame(frame(0, size=64))
    junk: list[tuple[bytes | memoryview, ...]] = [
        (b"",),
        (b"not json",),
        (b"{}", b""),
        (b"\xff\xfe", b"\x00"),
        (b"x" * 5000,),
        (b"[" * 4000,),
        (header,),
        (header, b"short"),
        (header, body, b"a third part"),
        (encode_report(report()), b"a second part"),
        (other_size, other_body),
        encode_frame(frame(0, camera="window")),
        (encode_report(report(camera="window")),),
        (encode_report(report(camera="window", state="stopped", final=True)),),
    ]
    with caplog.at_level(logging.WARNING), Stranger(service.job.cameras[0].channel) as stranger:
        for parts in junk:
            stranger.push(*parts)
        service.send(0, 11)
        # The stranger's are read in turn with ours; what the worker counts is told every second, and at its end.
        service.stage.wait_until(lambda: service.stage.summary.rejected_messages == len(junk))
    predictions = of_kind(service.end(), "prediction")
    assert [line["seq"] for line in predictions] == [3, 7, 11]
    assert service.stage.summary.rejected_messages == len(junk)
    assert [record.getMessage().startswith("door: rejected") for record in caplog.records] == [True]
