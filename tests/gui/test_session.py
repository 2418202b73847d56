"""The reader thread and the session against a service of real sockets."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PyQt6.QtCore import QSize
from pytestqt.qtbot import QtBot
from stream_i3d_gui.mailbox import MAX_MESSAGES, Mailbox
from stream_i3d_gui.reader import decode_picture
from stream_i3d_gui.session import Session

from stream_i3d.errors import CheckpointError
from stream_i3d.transport.control import AddCamera, ChangeSettings, PauseCamera
from stream_i3d.transport.wire import Preview
from tests.gui.conftest import jpeg
from tests.gui.service import FakeService
from tests.keys import Ring
from tests.samples import event, recognition, status

SOON_MS = 10_000


def never(config: object) -> object:
    raise AssertionError("no service was to be started")


@pytest.fixture
def session(application: object) -> Iterator[Session]:
    made = Session(never)  # type: ignore[arg-type]
    yield made
    made.end()


@pytest.fixture
def connected(session: Session, service: FakeService, qtbot: QtBot) -> Session:
    session.connect_to(service.control)
    qtbot.waitUntil(lambda: session.state == "up" and "door" in session.board.cameras, timeout=SOON_MS)
    return session


def publish_until(service: FakeService, message: object, arrived: object, qtbot: QtBot) -> None:
    """Publish again and again until it has arrived: a subscription takes a moment to reach the publisher."""

    def once() -> bool:
        service.publish(message)  # type: ignore[arg-type]
        return bool(arrived())  # type: ignore[operator]

    qtbot.waitUntil(once, timeout=SOON_MS)


def test_a_service_is_found_with_its_cameras_its_settings_and_its_labels(connected, service, qtbot):
    qtbot.waitUntil(lambda: connected.settings == service.settings, timeout=SOON_MS)
    assert connected.hello is not None and connected.hello.device == "cpu"
    assert list(connected.board.labels) == ["waving", "left", "right"]
    assert connected.board.cameras["door"].track.shown(0.0).state == "live · 25.0 fps"


def test_predictions_and_events_reach_the_board(connected, service, qtbot):
    board = connected.board
    publish_until(service, recognition(), lambda: board.cameras["door"].track.recognition is not None, qtbot)
    with qtbot.waitSignal(connected.event_seen, timeout=SOON_MS) as seen:
        service.publish(event())
    assert seen.args[0].label == "waving"
    assert len(board.history) == 1


def test_only_wanted_previews_are_asked_for_and_they_come_in_the_size_they_are_shown_in(connected, service, qtbot):
    assert not service.watched.get("door")
    connected.show_previews({"door": QSize(160, 90)})
    qtbot.waitUntil(lambda: service.watched.get("door", False), timeout=SOON_MS)
    with qtbot.waitSignal(connected.pictures_came, timeout=SOON_MS) as came:
        service.preview("door", jpeg(640, 480))
    image = came.args[0]["door"].image
    assert (image.width(), image.height()) == (120, 90)
    connected.show_previews({})
    qtbot.waitUntil(lambda: not service.watched["door"], timeout=SOON_MS)


@pytest.mark.qt_log_ignore("JPEG|marker")
def test_messages_that_are_not_ours_are_counted_and_break_nothing(connected, service, qtbot):
    board = connected.board
    publish_until(service, recognition(), lambda: board.cameras["door"].track.recognition is not None, qtbot)
    service.raw(b"v1/door/prediction", b"{")
    service.raw(b"v1/door/prediction", b"\xff\xfe" * 100)
    service.raw(b"v1/x")
    qtbot.waitUntil(lambda: board.malformed == 3, timeout=SOON_MS)
    connected.show_previews({"door": None})
    qtbot.waitUntil(lambda: service.watched.get("door", False), timeout=SOON_MS)
    service.preview("door", b"no picture")
    qtbot.waitUntil(lambda: board.malformed == 4, timeout=SOON_MS)
    with qtbot.waitSignal(connected.changed, timeout=SOON_MS):
        service.publish(status())
    assert connected.state == "up"


def test_what_is_asked_for_is_done_and_shown(connected, service, qtbot):
    connected.add_camera("rtsp://x/y", "yard")
    qtbot.waitUntil(lambda: "yard" in connected.board.cameras, timeout=SOON_MS)
    assert isinstance(service.asked[0], AddCamera) and service.asked[0].source == "rtsp://x/y"
    connected.pause_camera("yard", True)
    qtbot.waitUntil(lambda: connected.board.cameras["yard"].track.paused, timeout=SOON_MS)
    with qtbot.waitSignal(connected.camera_renamed, timeout=SOON_MS):
        connected.rename_camera("yard", "garden")
    assert list(connected.board.cameras) == ["door", "garden"]
    connected.remove_camera("garden")
    qtbot.waitUntil(lambda: list(connected.board.cameras) == ["door"], timeout=SOON_MS)
    assert isinstance(service.asked[1], PauseCamera)


def test_settings_apply_and_a_refused_one_is_said_and_taken_back(connected, service, qtbot):
    qtbot.waitUntil(lambda: connected.settings == service.settings, timeout=SOON_MS)
    connected.change_settings({"window.stride": 4})
    qtbot.waitUntil(lambda: connected.settings["window.stride"] == 4, timeout=SOON_MS)
    assert isinstance(service.asked[0], ChangeSettings)
    with qtbot.waitSignals([connected.notice, connected.settings_known], timeout=SOON_MS) as seen:
        connected.change_settings({"window.stride": 128})
    said = next(one for one in seen.all_signals_and_args if len(one.args) == 2)
    assert said.args == ("window.stride: too large for this camera", True)
    assert connected.settings["window.stride"] == 4


def test_a_killed_service_is_noticed_within_three_seconds_its_history_is_kept_and_it_goes_on(connected, service, qtbot):
    board = connected.board
    publish_until(service, event(), lambda: len(board.history) == 1, qtbot)
    service.stop()
    gone = connected.clock()
    qtbot.waitUntil(lambda: connected.state == "lost", timeout=SOON_MS)
    assert connected.clock() - gone < 3.0
    assert board.history.shown()[0].cut
    assert board.cameras["door"].track.shown(connected.clock()).state == "no service"
    service.start()
    qtbot.waitUntil(lambda: connected.state == "up", timeout=SOON_MS)
    qtbot.waitUntil(lambda: not board.cameras["door"].track.shown(connected.clock()).dimmed, timeout=SOON_MS)
    publish_until(service, event(id="second"), lambda: len(board.history) == 2, qtbot)


@pytest.fixture
def ring(tmp_path: Path) -> Ring:
    return Ring.make(tmp_path / "keys")


@pytest.fixture
def guarded(tmp_path: Path, ring: Ring) -> Iterator[FakeService]:
    """A service with one camera, "door", that only lets in clients with keys."""
    with FakeService(tmp_path, keys=ring.server()) as running:
        yield running


def test_with_keys_a_guarded_service_is_as_any_other(session, guarded, ring, qtbot):
    session.connect_to(guarded.control, ring.client())
    qtbot.waitUntil(lambda: session.state == "up" and "door" in session.board.cameras, timeout=SOON_MS)
    board = session.board
    publish_until(guarded, recognition(), lambda: board.cameras["door"].track.recognition is not None, qtbot)
    session.show_previews({"door": QSize(160, 90)})
    qtbot.waitUntil(lambda: guarded.watched.get("door", False), timeout=SOON_MS)
    with qtbot.waitSignal(session.pictures_came, timeout=SOON_MS):
        guarded.preview("door", jpeg(640, 480))
    session.change_settings({"window.stride": 4})
    qtbot.waitUntil(lambda: session.settings.get("window.stride") == 4, timeout=SOON_MS)
    assert guarded.settings["window.stride"] == 4


@pytest.mark.parametrize("who", ["unknown key", "no key", "wrong server key"])
def test_without_the_right_keys_the_window_is_told_why_and_gets_nothing(session, guarded, ring, qtbot, who):
    keys, why = ring.refused[who]
    with qtbot.waitSignal(session.notice, timeout=SOON_MS) as said:
        session.connect_to(guarded.control, keys)
    assert why in said.args[0] and said.args[1] is True
    for _ in range(2):  # and it goes on to be said, whatever else is tried
        with qtbot.waitSignal(session.notice, timeout=SOON_MS) as said:
            pass
        assert why in said.args[0]
    assert session.state == "searching" and session.hello is None and not session.board.cameras
    assert guarded.asked == []


def test_a_key_that_is_let_in_later_lets_the_window_in_by_itself(session, guarded, ring, qtbot):
    keys = ring.client("stranger")
    with qtbot.waitSignal(session.notice, timeout=SOON_MS):
        session.connect_to(guarded.control, keys)
    assert session.state != "up"
    ring.let_in("stranger")
    qtbot.waitUntil(lambda: "door" in session.board.cameras, timeout=SOON_MS)
    assert session.state == "up"


def test_what_cannot_be_asked_is_said(session, qtbot):
    with qtbot.waitSignal(session.notice, timeout=SOON_MS) as seen:
        session.add_camera("0", None)
    assert seen.args[1] is True


def test_an_address_that_is_none_is_a_failure_that_is_said(session, qtbot):
    with qtbot.waitSignal(session.state_changed, timeout=SOON_MS, check_params_cb=lambda state: state == "failed"):
        session.connect_to("nonsense")
    assert "nonsense" in session.failure


class Ended:
    """A service of our own that has ended badly."""

    control = "ipc:///nonexistent/control"

    def __init__(self) -> None:
        self.closed = False

    def poll(self) -> int | None:
        return 2

    def failure(self) -> str:
        return "cannot read /x.pt: no such file"

    def close(self) -> None:
        self.closed = True


def test_a_service_of_our_own_that_ends_says_why(application, qtbot):
    ended = Ended()
    session = Session(lambda config: ended)
    session.start(None)  # type: ignore[arg-type]
    session.tick()
    assert (session.state, session.failure) == ("failed", "cannot read /x.pt: no such file")
    session.end()
    assert ended.closed


def test_a_service_that_cannot_be_started_says_why(application):
    def refuse(config: object) -> Ended:
        raise CheckpointError("no such weights")

    session = Session(refuse)
    session.start(None)  # type: ignore[arg-type]
    assert (session.state, session.failure) == ("failed", "no such weights")
    session.end()


def test_the_mailbox_keeps_the_newest_and_counts_what_it_drops(picture):
    mailbox = Mailbox()
    assert mailbox.put_picture("door", picture())
    newest = picture(colour="#ff0000")
    assert not mailbox.put_picture("door", newest)  # told once, until it is emptied
    for number in range(MAX_MESSAGES + 5):
        mailbox.put_message(status(reconnects=number), 1.0)
    taken = mailbox.take()
    assert taken.pictures == {"door": newest} and taken.pictures_dropped == {"door": 1}
    assert taken.lost == 5 and taken.messages[0][0].reconnects == 5
    assert mailbox.put_message(status(), 1.0)
    assert mailbox.take().lost == 0


@pytest.mark.qt_log_ignore("JPEG|marker")
def test_pictures_are_decoded_no_larger_than_needed_and_never_blown_up(application):
    preview = Preview(jpeg(640, 480), 5, 7)
    small = decode_picture(preview, QSize(320, 320))
    assert small is not None and (small.image.width(), small.image.height()) == (320, 240)
    assert (small.capture_ns, small.seq) == (5, 7)
    large = decode_picture(preview, QSize(4000, 4000))
    assert large is not None and large.image.width() == 640
    assert decode_picture(Preview(b"\xff\xd8\xff" + b"x" * 100, 0, 0), None) is None
    assert decode_picture(Preview(b"", 0, 0), None) is None


def test_the_windows_process_imports_neither_opencv_nor_torch():
    code = (
        "import sys, stream_i3d_gui.app, stream_i3d.cli.gui, stream_i3d_gui.widgets.main_window\n"
        "print(*sorted({'cv2', 'torch', 'safetensors'} & sys.modules.keys()))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ})
    assert ran.stdout.strip() == ""
