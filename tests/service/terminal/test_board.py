from __future__ import annotations

from stream_i3d.service.terminal.board import COLUMNS, Board, BoardRow
from tests.samples import event, recognition, status


def shown(row: BoardRow) -> dict[str, str]:
    return dict(zip(COLUMNS, row.cells(), strict=True))


def board_of(*messages: object) -> Board:
    board = Board()
    for message in messages:
        board.take(message)  # type: ignore[arg-type]
    return board


def test_cameras_stand_in_the_order_of_their_names() -> None:
    board = board_of(status(camera="hall"), recognition(camera="door"), event(camera="attic"))
    assert [row.camera for row in board.rows()] == ["attic", "door", "hall"]


def test_an_empty_board_has_no_rows() -> None:
    assert Board().rows() == []


def test_a_live_camera_is_shown_with_its_rate_and_what_is_recognised() -> None:
    [row] = board_of(status(fps=24.6), recognition(frames_dropped=3, windows_dropped=2)).rows()
    assert shown(row) == {
        "camera": "door",
        "state": "live 25 fps",
        "action": "waving",
        "confidence": "0.80",
        "latency": "22 ms",
        "lost frames/windows": "3/2",
        "last event": "",
        "detail": "640x480",
    }


def test_a_camera_that_is_not_live_is_shown_without_a_rate_and_with_its_reason() -> None:
    [row] = board_of(status(state="reconnecting", fps=0.0, detail="refused; next try in 4 s")).rows()
    cells = shown(row)
    assert (cells["state"], cells["detail"]) == ("reconnecting", "refused; next try in 4 s")
    assert (cells["action"], cells["confidence"], cells["latency"]) == ("", "", "")


def test_a_camera_known_by_its_predictions_alone_is_shown() -> None:
    [row] = board_of(recognition()).rows()
    assert (shown(row)["state"], shown(row)["action"], shown(row)["detail"]) == ("", "waving", "")


def test_a_camera_known_by_an_event_alone_is_shown() -> None:
    [row] = board_of(event()).rows()
    assert shown(row)["last event"] == "waving, going on"


def test_idle_warming_and_skipped_stand_in_the_place_of_an_action() -> None:
    [idle] = board_of(recognition(state="idle", label=None)).rows()
    [warming] = board_of(recognition(state="warming", label=None, top_k=[], confidence=0.0)).rows()
    [skipped] = board_of(recognition(state="idle", label=None, top_k=[], skipped="no motion")).rows()
    assert [shown(row)["action"] for row in (idle, warming, skipped)] == ["idle", "warming", "no motion"]
    assert [shown(row)["confidence"] for row in (idle, warming, skipped)] == ["0.80", "", ""]


def test_the_newest_of_each_kind_is_shown() -> None:
    [row] = board_of(
        recognition(label="left"),
        status(detail="old"),
        event(label="left"),
        recognition(label="right"),
        status(detail="new"),
        event(label="right", event="end", end_time=3.5),
    ).rows()
    cells = shown(row)
    assert (cells["action"], cells["detail"], cells["last event"]) == ("right", "new", "right for 1.5 s")


def test_what_one_camera_says_does_not_show_at_another() -> None:
    door, hall = board_of(status(camera="door", detail="a"), status(camera="hall", detail="b")).rows()
    assert (shown(door)["detail"], shown(hall)["detail"]) == ("a", "b")


def test_a_camera_that_waits_for_its_turn_says_so() -> None:
    [row] = board_of(status(fps=24.6, overloaded=True, waiting_since=5.0)).rows()
    assert shown(row)["state"] == "live 25 fps, waits its turn"
