from __future__ import annotations

import pytest
from PyQt6.QtCore import Qt
from PyQt6.QtTest import QTest
from stream_i3d_gui.state.board import Board
from stream_i3d_gui.state.grid import Layout
from stream_i3d_gui.widgets.grid import CameraGrid

from tests.samples import status


@pytest.fixture
def board():
    made = Board()
    for name in ("a", "b", "c", "d"):
        made.take(status(camera=name), 1.0)
    return made


@pytest.fixture
def grid(application, qtbot, board):
    made = CameraGrid(board, Layout())
    qtbot.addWidget(made)
    made.resize(1000, 700)
    made.settle()
    made.show()
    return made


def visible(grid: CameraGrid) -> list[str]:
    return [name for name in grid.cameras.cameras if grid.tiles[name].isVisible()]


def rows_of(grid: CameraGrid) -> int:
    return len({tile.y() for tile in grid.visible_tiles})


def test_four_cameras_stand_two_by_two_without_overlap(grid):
    places = [tile.geometry() for tile in grid.visible_tiles]
    assert len(places) == 4 and rows_of(grid) == 2
    for number, one in enumerate(places):
        assert grid.rect().contains(one)
        assert not any(one.intersects(other) for other in places[:number])


def test_the_grid_reflows_with_the_room(grid):
    grid.resize(300, 1000)
    assert rows_of(grid) == 4
    grid.resize(2000, 300)
    assert rows_of(grid) == 1


def test_the_grid_follows_the_pictures_shape(grid, board, picture):
    for name in ("c", "d"):
        board.removed(name)
    grid.settle()
    grid.resize(1000, 700)
    assert rows_of(grid) == 2  # wide pictures stand over one another
    grid.show_pictures({name: picture(240, 320) for name in ("a", "b")})
    assert rows_of(grid) == 1  # tall ones beside


def test_a_click_enlarges_and_back_shows_all(grid, qtbot):
    with qtbot.waitSignal(grid.layout_changed):
        QTest.mouseClick(grid.tiles["c"].view, Qt.MouseButton.LeftButton)
    assert visible(grid) == ["c"] and grid.chosen == "c"
    assert grid.tiles["c"].width() > 900
    grid.enlarge(None)
    assert visible(grid) == ["a", "b", "c", "d"]


def test_return_enlarges_the_camera_with_the_focus(grid):
    grid.tiles["b"].setFocus()
    QTest.keyClick(grid.tiles["b"], Qt.Key.Key_Return)
    assert visible(grid) == ["b"]
    grid.step(1)
    assert visible(grid) == ["c"]


def test_the_tab_key_goes_through_the_cameras_in_order(grid, qtbot):
    with qtbot.waitActive(grid):
        grid.activateWindow()
    grid.tiles["a"].setFocus()
    seen = []
    for _ in range(8):
        QTest.keyClick(grid.focusWidget(), Qt.Key.Key_Tab)
        if grid.focusWidget() in grid.tiles.values() and grid.chosen not in seen:
            seen.append(grid.chosen)
    assert seen == ["b", "c", "d", "a"]


def test_the_tab_key_takes_each_strip_after_its_picture(grid, qtbot):
    with qtbot.waitActive(grid):
        grid.activateWindow()
    grid.tiles["a"].setFocus()
    names = [grid.focusWidget().accessibleName()]
    for _ in range(3):
        QTest.keyClick(grid.focusWidget(), Qt.Key.Key_Tab)
        names.append(grid.focusWidget().accessibleName())
    assert names == ["Camera a", "The last two minutes of a", "Camera b", "The last two minutes of b"]


@pytest.mark.parametrize("part", ["tile", "strip"])
@pytest.mark.parametrize("before", ["a", "b", "c", "d"])
@pytest.mark.parametrize("wanted", ["a", "b", "c", "d"])
def test_the_enlarged_camera_is_the_chosen_one_wherever_the_focus_was(grid, qtbot, part, before, wanted):
    with qtbot.waitActive(grid):
        grid.activateWindow()
    (grid.tiles[before] if part == "tile" else grid.tiles[before].strip).setFocus()
    grid.enlarge(wanted)
    tile = grid.tiles[wanted]
    assert grid.chosen == wanted
    assert grid.focusWidget() is (tile.strip if part == "strip" and before == wanted else tile)


def test_one_camera_alone_is_not_enlarged(grid, board):
    for name in ("b", "c", "d"):
        board.removed(name)
    grid.settle()
    grid.enlarge("a")
    assert grid.cameras.enlarged is None and visible(grid) == ["a"]


def test_cameras_that_go_take_their_tile_along_and_another_is_chosen(grid, board, qtbot):
    grid.choose("b")
    board.removed("b")
    with qtbot.waitSignals([grid.layout_changed, grid.chosen_changed]):
        grid.settle()
    assert visible(grid) == ["a", "c", "d"] and grid.chosen == "a"


def test_a_renamed_camera_keeps_its_tile_and_its_picture(grid, board, picture):
    tile = grid.tiles["b"]
    grid.show_pictures({"b": picture()})
    grid.choose("b")
    board.renamed("b", "gate")
    grid.renamed("b", "gate")
    assert grid.tiles["gate"] is tile and tile.view.picture is not None
    assert grid.cameras.cameras == ["a", "gate", "c", "d"] and grid.chosen == "gate"
    grid.refresh(1.0, 5, frozenset())
    assert "Camera gate" in tile.accessibleDescription()


def test_moving_changes_the_places(grid):
    grid.choose("a")
    before = grid.tiles["a"].geometry()
    grid.move_chosen(1)
    assert grid.tiles["b"].geometry() == before and grid.tiles["a"].x() > before.x()


def test_only_what_is_seen_is_refreshed(grid, board):
    grid.enlarge("a")
    board.take(status(camera="b", state="stalled", detail="no new frame", fps=0), 2.0)
    grid.refresh(2.0, 5, frozenset())
    assert not grid.tiles["b"].view.shown.dimmed
    grid.enlarge("b")
    grid.refresh(2.0, 5, frozenset())
    assert grid.tiles["b"].view.shown.dimmed
