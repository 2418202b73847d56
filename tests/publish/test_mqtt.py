"""The MQTT sink against a real broker, seen by an independent client (mosquitto_sub)."""

from __future__ import annotations

import gc
import json
import logging
import re
import shutil
import socket
import subprocess
import sys
import threading
import uuid
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from stream_i3d.config import convert
from stream_i3d.errors import ConfigError
from stream_i3d.publish.mqtt import MqttSink
from stream_i3d.publish.mqtt_session import Session
from stream_i3d.publish.outbox import MemoryOutbox, Outbox
from stream_i3d.publish.sinks import make_outlets
from stream_i3d.publish.store_sink import StoreSink
from stream_i3d.sink_settings import MqttSettings, StoreSettings, TlsSettings
from tests.broker import Broker, Listener, requires_broker
from tests.ports import free_port
from tests.publish.hostile import HostileServer
from tests.publish.test_store import action, rows
from tests.samples import event, recognition, status
from tests.waiting import WAIT_S, wait_until

pytestmark = [requires_broker, pytest.mark.system]


@contextmanager
def running(broker: Broker, outbox: Outbox | None = None, **more: Any) -> Iterator[MqttSink]:
    settings = MqttSettings(
        **{"host": "127.0.0.1", "port": broker.port, "backoff_first_s": 0.05, "backoff_limit_s": 0.1, **more}
    )
    sink = MqttSink(settings, "mqtt", outbox or MemoryOutbox(1000))
    try:
        yield sink
    finally:
        sink.close(WAIT_S)


def test_events_arrive_in_order_and_are_marked_once_the_broker_has_them(tmp_path: Path) -> None:
    with Broker(tmp_path) as broker, Listener(broker) as listener:
        listener_is_there(broker, listener)
        with running(broker) as sink:
            told = [one for number in range(60) for one in action(number)]
            for one in told:
                sink.write(one)
            came = listener.wait_for("stream-i3d/door/event", 120)
            assert [(one["id"], one["event"]) for one in map(json.loads, came)] == [(one.id, one.event) for one in told]
            assert json.loads(came[0])["schema"] == "stream-i3d/event/1"
            wait_until(lambda: sink.figures().written == 120)
            assert (sink.figures().queued, sink.figures().detail) == (0, "")


def listener_is_there(broker: Broker, listener: Listener) -> None:
    """Wait until what is published is heard, and all that was before it."""
    topic = f"ready/{uuid.uuid4()}"  # another one each time: of an earlier one the broker would keep the message
    subprocess.run(["mosquitto_pub", "-p", str(broker.port), "-t", topic, "-m", "1", "-r"], check=True, timeout=WAIT_S)
    listener.wait_for(topic)


SERVICE = """
import sys, threading
from stream_i3d.publish.mqtt import MqttSink
from stream_i3d.publish.outbox import MemoryOutbox
from stream_i3d.sink_settings import MqttSettings

sink = MqttSink(MqttSettings(host="127.0.0.1", port=int(sys.argv[1])), "mqtt", MemoryOutbox(9))
threading.Event().wait(60)
"""


def test_availability_is_online_then_offline_at_the_end_and_by_the_will_when_killed(tmp_path: Path) -> None:
    with Broker(tmp_path) as broker, Listener(broker, "#") as listener:
        with running(broker):
            wait_until(lambda: changes(listener) == ["online"])
        wait_until(lambda: changes(listener) == ["online", "offline"])
        with Listener(broker, "stream-i3d/availability") as late:
            late.wait_for("stream-i3d/availability")
            assert late.heard == [("stream-i3d/availability", "offline", True)]
        process = subprocess.Popen([sys.executable, "-c", SERVICE, str(broker.port)], cwd=Path(__file__).parents[2])
        try:
            wait_until(lambda: changes(listener) == ["online", "offline", "online"])
        finally:
            process.kill()
            process.wait(WAIT_S)
        wait_until(lambda: changes(listener) == ["online", "offline"] * 2)


def changes(listener: Listener) -> list[str]:
    """What was said of availability, without repetitions: a goodbye that is cut off has the will say it again."""
    return [word for word, _ in groupby(listener.of("stream-i3d/availability"))]


def test_each_cameras_state_is_retained_and_home_assistant_is_told_of_it(tmp_path: Path) -> None:
    with Broker(tmp_path) as broker:
        with running(broker) as sink:
            sink.follow({"door": ""})
            sink.write(status(state="live"))
            sink.write(event(label="waving"))
            with Listener(broker) as listener:
                listener.wait_for("homeassistant/sensor/stream-i3d/door_action/config")
                listener.wait_for("stream-i3d/door/state")
                wait_until(lambda: json.loads(listener.of("stream-i3d/door/state")[-1])["action"] == "waving")
                # What is retained comes in an order of the broker's own.
                wait_until(lambda: sum(one[0].endswith("/config") for one in listener.heard) >= 4)
                assert all(json.loads(one[1])["unique_id"] for one in listener.heard if one[0].endswith("/config"))
                assert sum(one[0].endswith("/config") for one in listener.heard) == 4
        with Listener(broker, "stream-i3d/door/state") as late:  # who comes later is told as well
            late.wait_for("stream-i3d/door/state")
            assert late.heard[0][2] is True


def test_an_action_that_goes_on_is_told_also_by_a_publisher_that_was_started_again(tmp_path: Path) -> None:
    with Broker(tmp_path / "broker") as broker, Listener(broker, "stream-i3d/door/state") as listener:
        data = {
            "sinks": [
                {"type": "store", "path": str(tmp_path / "events.db")},
                {"type": "mqtt", "host": "127.0.0.1", "port": broker.port},
            ]
        }
        for turn in range(2):
            outlets = make_outlets(convert(data), "run")
            for outlet in outlets:
                if turn == 0:
                    outlet.write(event(label="waving"))
                else:
                    outlet.write(status(fps=24.0))
            wait_until(lambda turn=turn: any(json.loads(one)["fps"] == 24.0 * turn for one in listener.of(STATE)))
            for outlet in outlets:
                outlet.close(WAIT_S)
    assert {json.loads(one)["action"] for one in listener.of(STATE)} == {"waving"}


STATE = "stream-i3d/door/state"


def test_states_go_on_for_as_long_as_the_connection_does(tmp_path: Path) -> None:
    with Broker(tmp_path) as broker, Listener(broker, "stream-i3d/door/state") as listener, running(broker) as sink:
        for number in range(1, 301):
            sink.write(status(fps=float(number)))
            assert json.loads(listener.wait_for("stream-i3d/door/state", number)[-1])["fps"] == number


def test_of_a_camera_that_is_removed_nothing_stays(tmp_path: Path) -> None:
    with Broker(tmp_path) as broker:
        with running(broker) as sink, Listener(broker) as listener:
            sink.follow({"door": "", "yard": ""})
            for camera in ("door", "yard"):
                sink.write(status(camera=camera))
                listener.wait_for(f"stream-i3d/{camera}/state")
            sink.follow({"door": ""})
            sink.write(status(camera="yard", state="stopped", detail="removed"))  # its last word comes too late
            wait_until(lambda: "" in listener.of("stream-i3d/yard/state"))
            wait_until(lambda: "" in listener.of("homeassistant/sensor/stream-i3d/yard_action/config"))
        assert retained(broker) == {"door"}


def retained(broker: Broker) -> set[str]:
    """The cameras of which the broker keeps anything."""
    with Listener(broker) as listener:
        listener.wait_for("stream-i3d/availability")
        listener_is_there(broker, listener)
        return {
            topic.split("/")[-2].split("_")[0]
            for topic, payload, _ in listener.heard
            if payload and topic.count("/") > 1
        }


def test_a_camera_that_was_taken_out_while_the_service_was_down_is_forgotten_by_the_broker(tmp_path: Path) -> None:
    with Broker(tmp_path) as broker:
        with running(broker) as sink:
            for camera in ("door", "yard"):
                sink.write(status(camera=camera))
            wait_until(lambda: sink._retained == {"door", "yard"})
        assert retained(broker) == {"door", "yard"}
        with running(broker) as sink:
            sink.follow({"door": ""})
            wait_until(lambda: retained(broker) == {"door"})


def test_predictions_are_published_where_asked_for(tmp_path: Path) -> None:
    with Broker(tmp_path) as broker, Listener(broker) as listener:
        with running(broker) as sink:
            sink.write(recognition(seq=1))
            sink.write(status())
            listener.wait_for("stream-i3d/door/state")
        with running(broker, predictions=True, base_topic="other/base", discovery=None) as sink:
            sink.write(recognition(seq=2))
            listener.wait_for("other/base/door/prediction")
        assert json.loads(listener.of("other/base/door/prediction")[0])["seq"] == 2
        assert listener.of("stream-i3d/door/prediction") == []
        assert not [one for one in listener.heard if one[0].startswith("homeassistant") and "other" in one[0]]


def test_200_events_while_the_broker_is_down_all_arrive_in_order_and_are_once_in_the_store(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told = [one for number in range(50) for camera in ("door", "yard") for one in action(number, camera)]
    store = StoreSink(StoreSettings(path=str(tmp_path / "events.db")), "store", ["mqtt"], "run")
    broker = Broker(tmp_path / "broker")
    broker.start()
    with caplog.at_level(logging.INFO), running(broker, store.outboxes["mqtt"]) as sink:
        before = action(1000, "before")
        store.write(before[0])
        wait_until(lambda: sink.figures().written == 1)
        broker.stop()
        for one in told:
            store.write(one)
        wait_until(lambda: sink.figures().queued == 200 and sink.figures().detail)
        broker.start()
        try:
            with Listener(broker, "stream-i3d/+/event") as listener:
                wait_until(lambda: sink.figures().queued == 0)
                heard = [(json.loads(payload)["id"], json.loads(payload)["event"]) for _, payload, _ in listener.heard]
            sink.close(WAIT_S)
        finally:
            broker.stop()
    store.close(WAIT_S)
    # The listener may have come after the first of them: what it heard is in order and whole to the end.
    for camera in ("door", "yard"):
        mine = [(one.id, one.event) for one in told if one.camera == camera]
        came = [one for one in heard if one[0].startswith(camera)]
        assert came == mine[len(mine) - len(came) :]
    log = (tmp_path / "broker" / "mosquitto.log").read_text()
    assert log.count("/event', ... (") >= 201
    assert len(rows(tmp_path)) == len(set(rows(tmp_path))) == 201
    assert sum("no connection to" in message for message in caplog.messages) == 1
    assert sum("connected to" in message for message in caplog.messages) == 2


def test_what_a_killed_process_had_not_delivered_is_delivered_by_the_next(tmp_path: Path) -> None:
    port, told = free_port(), [one for number in range(20) for one in action(number)]
    store = StoreSink(StoreSettings(path=str(tmp_path / "events.db")), "store", ["mqtt"], "run")
    for one in told:
        store.write(one)
    store.close(WAIT_S)
    again = StoreSink(StoreSettings(path=str(tmp_path / "events.db")), "store", ["mqtt"], "run")
    with Broker(tmp_path / "broker", port) as broker, Listener(broker, "stream-i3d/door/event") as listener:
        assert again.outboxes["mqtt"].waiting == 40
        with Listener(broker, "ready/+") as other:
            listener_is_there(broker, other)
        with running(broker, again.outboxes["mqtt"]):
            came = [json.loads(one) for one in listener.wait_for("stream-i3d/door/event", 40)]
    again.close(WAIT_S)
    assert [(one["id"], one["event"]) for one in came] == [(one.id, one.event) for one in told]


def test_a_wrong_password_is_said_once_without_it_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    users = tmp_path / "users"
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(users), "me", "right"], check=True, timeout=WAIT_S)
    with Broker(tmp_path, more=f"allow_anonymous false\npassword_file {users}") as broker:
        with running(broker, username="me", password="hush-wrong") as sink:
            wait_until(lambda: "ot authorized" in sink.figures().detail)
            wait_until(lambda: sink._backoff.failures >= 3)
        assert sum("no connection to" in message for message in caplog.messages) == 1
        with running(broker, username="me", password="right") as sink:
            sink.write(event())
            wait_until(lambda: sink.figures().written == 1)
    assert "hush" not in caplog.text


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl")
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run([*command, *names, *files], check=True, timeout=WAIT_S, capture_output=True)
    return folder


# WORKAROUND paho-mqtt 2.2 leaves the socket of a failed handshake to the garbage collector, which says so.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_tls_is_used_and_a_broker_that_cannot_show_who_it_is_gets_nothing(tmp_path: Path, certificates: Path) -> None:
    more = f"allow_anonymous true\ncertfile {certificates}/cert.pem\nkeyfile {certificates}/key.pem"
    with Broker(tmp_path, more=more) as broker:
        with running(broker, tls=TlsSettings(ca=str(certificates / "cert.pem"))) as sink:
            sink.write(event())
            wait_until(lambda: sink.figures().written == 1)
        with running(broker, tls=TlsSettings()) as sink:
            sink.write(event())
            wait_until(lambda: "CERTIFICATE_VERIFY_FAILED" in sink.figures().detail)
            assert sink.figures().written == 0


def test_files_of_tls_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("no certificate")
    for file in ("no.pem", "missing.pem"):
        settings = MqttSettings(host="a", tls=TlsSettings(ca=str(tmp_path / file)))
        with pytest.raises(ConfigError, match="mqtt a: cannot use the files of tls"):
            MqttSink(settings, "mqtt", MemoryOutbox(1))


def test_a_broker_that_takes_the_connection_and_says_nothing_stalls_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream_i3d.publish.mqtt_session._CONNECT_S", 0.2)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        settings = MqttSettings(host="127.0.0.1", port=server.getsockname()[1], backoff_first_s=0.05)
        sink = MqttSink(settings, "mqtt", MemoryOutbox(5))
        for number in range(100):
            sink.write(event(id=str(number)))
            sink.write(recognition())
        wait_until(lambda: "no answer" in sink.figures().detail)
        assert (sink.figures().queued, sink.figures().dropped) == (5, 95)
        sink.close(1.0)
        assert not sink._thread.is_alive()


WELCOME = b"\x20\x02\x00\x00"


@contextmanager
def liar(says: bytes) -> Iterator[int]:
    """Something that welcomes everybody as a broker does, and then says this; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    client, _ = server.accept()
                    with client, suppress(OSError):
                        client.settimeout(WAIT_S)
                        client.recv(4096)
                        client.sendall(WELCOME + says)
                        while client.recv(4096):
                            pass

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(WAIT_S)


@pytest.mark.parametrize("says", [b"\x90\x01\x00", b"\x30\x04\x00\x02\xff\xfe"], ids=["cut off", "not UTF-8"])
def test_what_is_not_mqtt_ends_the_connection_and_not_the_sink(says: bytes) -> None:
    with liar(says) as port:
        sink = MqttSink(MqttSettings(host="127.0.0.1", port=port, backoff_first_s=0.01), "mqtt", MemoryOutbox(5))
        wait_until(lambda: sink._backoff.failures >= 2)
        assert sink._thread.is_alive()
        sink.close(WAIT_S)


def test_a_connection_that_is_over_holds_no_sockets_until_the_garbage_collector_comes() -> None:
    gc.disable()
    try:
        with liar(b"") as port, Session(MqttSettings(host="127.0.0.1", port=port), "mqtt", None, ("a", b"")) as session:
            session.connect()
            client = weakref.ref(session._client)
        del session
        assert client() is None
    finally:
        gc.enable()


def connack_then(packet: bytes) -> Any:
    def talk(end: socket.socket, ended: threading.Event) -> None:
        end.recv(4096)
        end.sendall(b"\x20\x02\x00\x00" + packet)
        while not ended.is_set():
            end.sendall(bytes(65536))

    return talk


@pytest.mark.parametrize(
    ("packet", "said"),
    [
        (b"\x30\xff\xff\xff\x7f", r"a packet of 268,435,4\d\d bytes; allowed are 65,536"),
        (b"\x34\x07\x00\x01t\x00\x01xx", "a higher QoS than was asked for"),
    ],
    ids=["256-MB", "qos-2"],
)
def test_a_broker_that_sends_what_was_not_asked_for_is_left_and_said(packet: bytes, said: str) -> None:
    with HostileServer(connack_then(packet)) as server:
        settings = MqttSettings(host="127.0.0.1", port=server.port, backoff_first_s=0.05, backoff_limit_s=0.1)
        sink = MqttSink(settings, "mqtt", MemoryOutbox(9))
        details: set[str] = set()

        def seen() -> bool:
            details.add(sink.figures().detail)
            return any(re.search(said, detail) for detail in details) and server.connections >= 2

        wait_until(seen)
        sink.close(WAIT_S)


def test_a_broker_that_never_shakes_hands_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream_i3d.publish.mqtt_session._CONNECT_S", 0.2)

    def drip_tls(end: socket.socket, ended: threading.Event) -> None:
        end.sendall(b"\x16\x03\x03\x3f\xff\x02\x00\x3f\xfb")  # a server's hello of 16 KB follows
        while not ended.wait(0.02):
            end.sendall(b"\x03")

    with HostileServer(drip_tls) as server:
        settings = MqttSettings(
            host="127.0.0.1", port=server.port, tls=TlsSettings(), backoff_first_s=0.01, backoff_limit_s=0.02
        )
        sink = MqttSink(settings, "mqtt", MemoryOutbox(9))
        wait_until(lambda: server.connections >= 2)
        assert sink.figures().failing
        sink.close(WAIT_S)
