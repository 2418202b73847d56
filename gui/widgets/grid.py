"""All cameras: a grid that reflows with the room, or one of them alone."""

from __future__ import annotations

from PyQt6.QtCore import QRect, pyqtSignal
from PyQt6.QtGui import QResizeEvent
from PyQt6.QtWidgets import QApplication, QWidget

from ..picture import Picture
from ..state.board import Board
from ..state.grid import Layout, best_columns
from .theme import Theme, current_theme
from .tile import CameraTile

_GAP = 4


class CameraGrid(QWidget):
    """Places a tile for each camera of the layout.

    Signals:
        chosen_changed: Another camera is the chosen one; its name, empty when there is none.
        layout_changed: Cameras came, went or moved, or one was enlarged.
        menu_asked: A camera's menu was asked for; its name and where on the screen.
        painted: A new picture was painted; camera, milliseconds since its capture.
    """

    chosen_changed = pyqtSignal(str)
    layout_changed = pyqtSignal()
    menu_asked = pyqtSignal(str, object)
    painted = pyqtSignal(str, float)

    def __init__(self, board: Board, layout: Layout, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._board = board
        self.cameras = layout
        self.tiles: dict[str, CameraTile] = {}
        self._chosen = ""
        self._show_strip = True
        self._show_bars = True
        self.theme: Theme = current_theme()

    @property
    def chosen(self) -> str:
        """The camera that actions are about, or an empty string."""
        return self._chosen

    @property
    def chosen_tile(self) -> CameraTile | None:
        """Its tile."""
        return self.tiles.get(self._chosen)

    @property
    def visible_tiles(self) -> list[CameraTile]:
        """The tiles that are seen now."""
        return [self.tiles[name] for name in self.cameras.visible if name in self.tiles]

    def show_pictures(self, pictures: dict[str, Picture]) -> None:
        """Show newer pictures."""
        first = False
        for camera, picture in pictures.items():
            tile = self.tiles.get(camera)
            if tile is not None:
                first = first or tile.view.picture is None
                tile.view.set_picture(picture)
        if first:
            self.place()

    def settle(self) -> None:
        """Make the tiles those of the board's cameras."""
        names = list(self._board.cameras)
        changed = self.cameras.settle(names)
        known = {
            tile.board.track.name: tile for tile in self.tiles.values() if tile.board in self._board.cameras.values()
        }
        for tile in list(self.tiles.values()):
            if known.get(tile.camera) is not tile:
                tile.hide()
                tile.deleteLater()
        self.tiles = {name: known.get(name) or self._new_tile(name) for name in names}
        if changed or self._chosen not in self.tiles:
            self.choose(self._chosen if self._chosen in self.tiles else next(iter(self.cameras.visible), ""))
        self.place()
        if changed:
            self.layout_changed.emit()

    def renamed(self, old: str, new: str) -> None:
        """A camera has a new name."""
        self.cameras.rename(old, new)
        if self._chosen == old:
            self._chosen = new
        for tile in self.tiles.values():
            tile.refresh_names()
        self.settle()

    def _new_tile(self, name: str) -> CameraTile:
        tile = CameraTile(self._board.cameras[name], self)
        tile.set_theme(self.theme)
        tile.chosen.connect(self.choose)
        tile.enlarge_asked.connect(self.enlarge)
        tile.menu_asked.connect(self.menu_asked)
        tile.view.painted.connect(lambda latency, tile=tile: self.painted.emit(tile.camera, latency))
        tile.view.show_bars = self._show_bars
        tile.strip.setVisible(self._show_strip)
        return tile

    def choose(self, camera: str) -> None:
        """Make a camera the one that actions are about."""
        before, self._chosen = self._chosen, camera
        for name, tile in self.tiles.items():
            tile.set_chosen(name == camera and len(self.tiles) > 1 and self.cameras.enlarged is None)
        if before != camera:
            self.chosen_changed.emit(camera)

    def enlarge(self, camera: str | None) -> None:
        """Let one camera fill the room; None shows all again."""
        if len(self.tiles) < 2 and camera is not None:
            return
        focus = QApplication.focusWidget()
        had_focus = focus is not None and self.isAncestorOf(focus)
        self.cameras.enlarge(camera)
        self.place()
        if camera in self.tiles:
            tile = self.tiles[camera]
            if had_focus and focus not in (tile, tile.strip):
                tile.setFocus()  # Qt gives that of a tile that is hidden to any other
            self.choose(camera)
        self.layout_changed.emit()

    def step(self, by: int) -> None:
        """Enlarge the next or previous camera."""
        if len(self.tiles) > 1:
            self.cameras.step(by)
            self.enlarge(self.cameras.enlarged)

    def move_chosen(self, by: int) -> None:
        """Move the chosen camera forwards or backwards."""
        if self._chosen in self.tiles:
            self.cameras.move(self._chosen, by)
            self.place()
            self.layout_changed.emit()

    def set_parts(self, strip: bool, bars: bool) -> None:
        """Show or hide the strips and the bars of all cameras."""
        self._show_strip, self._show_bars = strip, bars
        for tile in self.tiles.values():
            tile.strip.setVisible(strip)
            tile.view.show_bars = bars
            tile.view.update()
        self.place()

    def set_theme(self, theme: Theme) -> None:
        """Take over the window's colours."""
        self.theme = theme
        for tile in self.tiles.values():
            tile.set_theme(theme)

    def refresh(self, now: float, top_k: int, hidden: frozenset[str]) -> None:
        """Show what is known at `now`, where it can be seen."""
        for tile in self.visible_tiles:
            tile.refresh(now, top_k, hidden)

    def place(self) -> None:
        """Give every visible tile its place, and hide the others."""
        visible = self.cameras.visible
        for name, tile in self.tiles.items():
            tile.setVisible(name in visible)
            tile.set_chosen(name == self._chosen and len(visible) > 1)
        if not visible:
            return
        below = 60.0 if self._show_strip else 6.0
        columns = best_columns(len(visible), self.width(), self.height(), self._aspect(visible), below)
        rows = -(-len(visible) // columns)
        previous: QWidget | None = None
        for number, name in enumerate(visible):
            row, column = divmod(number, columns)
            in_row = columns if row < rows - 1 else len(visible) - columns * (rows - 1)
            width, height = self.width() / columns, self.height() / rows
            left = (self.width() - in_row * width) / 2 + column * width  # the last row stands in the middle
            gap = _GAP / 2 if len(visible) > 1 else 0
            self.tiles[name].setGeometry(
                QRect(round(left + gap), round(row * height + gap), round(width - 2 * gap), round(height - 2 * gap))
            )
            tile = self.tiles[name]
            if previous is not None:
                self.setTabOrder(previous, tile)
            self.setTabOrder(tile, tile.strip)
            previous = tile.strip

    def _aspect(self, cameras: list[str]) -> float:
        """Return width to height of the pictures, their middle one where they differ; 16:9 before the first."""
        pictures = [picture for name in cameras if (picture := self.tiles[name].view.picture) is not None]
        aspects = sorted(round(one.image.width() / one.image.height(), 1) for one in pictures)
        return aspects[len(aspects) // 2] if aspects else 1.8

    def resizeEvent(self, event: QResizeEvent | None) -> None:  # noqa: N802
        """Reflow."""
        super().resizeEvent(event)
        self.place()
