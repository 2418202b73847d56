from __future__ import annotations

from stream_i3d_gui.state.board import MAX_CAMERAS, Board
from stream_i3d_gui.state.formats import NOTHING
from stream_i3d_gui.state.statistics import status_line

from stream_i3d.messages import Latency
from tests.samples import event, recognition, status


def test_messages_find_their_camera():
    board = Board()
    board.take(recognition(), 1.0)
    board.take(status(camera="yard"), 1.0)
    seen = board.take(event(), 1.1)
    assert seen is not None and seen.label == "waving"
    assert set(board.cameras) == {"door", "yard"}
    assert board.model == "i3d · motion" and list(board.labels) == ["waving"]
    assert board.cameras["door"].timeline.spans(1.2)[0].label == "waving"


def test_cameras_are_bounded_and_one_too_many_is_counted():
    board = Board()
    for number in range(MAX_CAMERAS + 3):
        board.take(status(camera=f"c{number}"), 1.0)
    assert len(board.cameras) == MAX_CAMERAS and board.refused_cameras == 3


def test_a_lost_service_leaves_the_history_and_says_so_everywhere():
    board = Board()
    board.take(recognition(), 1.0)
    board.take(event(), 1.0)
    board.service_lost("it does not answer", 2.0)
    assert board.cameras["door"].track.shown(2.0).reason == "it does not answer"
    assert board.history.shown()[0].cut
    assert board.cameras["door"].timeline.events(2.0)[0].end == 2.0


def test_a_removed_cameras_last_words_do_not_bring_it_back():
    board = Board()
    board.take(recognition(), 1.0)
    board.take(event(), 1.0)
    board.removed("door")
    board.take(status(state="stopped", fps=0.0), 1.1)
    assert board.cameras == {} and len(board.history) == 1
    board.added("door")
    board.take(status(), 2.0)
    assert set(board.cameras) == {"door"}


def test_a_renamed_camera_keeps_what_is_known_of_it():
    board = Board()
    board.take(recognition(), 1.0)
    board.take(event(), 1.0)
    board.renamed("door", "gate")
    board.take(status(state="stopped", fps=0.0), 1.1)  # the old name's last word
    assert set(board.cameras) == {"gate"}
    assert board.cameras["gate"].track.shown(1.2).camera == "gate"
    assert board.history.shown()[0].camera == "gate"


def test_the_status_line_has_units_and_a_dash_for_what_is_unknown():
    board = Board()
    assert [one.value for one in status_line([], 0.0)] == [NOTHING, NOTHING, NOTHING, "0 / 0"]
    board.take(recognition(latency_ms=Latency(queue=1, inference=84, total=96), windows_dropped=2), 1.0)
    board.take(status(frames_dropped=3), 1.0)
    figures = board.cameras["door"].figures
    for number in range(60):
        figures.take_painted(1.0 + number / 30, 20.0)
    assert [one.value for one in status_line([figures], 3.0)] == ["29.5 fps", "84 ms", "96 ms", "3 / 2"]


def test_a_skipped_window_has_no_inference_time():
    board = Board()
    board.take(recognition(state="idle", label=None, skipped="no motion", top_k=[]), 1.0)
    assert status_line([board.cameras["door"].figures], 1.0)[1].value == NOTHING
