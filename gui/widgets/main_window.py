"""The window: puts the widgets together and turns actions into what they do. What is shown is decided elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from PyQt6.QtCore import QEvent, QPoint, QSize, Qt, QTimer
from PyQt6.QtGui import QCloseEvent, QGuiApplication, QResizeEvent
from PyQt6.QtWidgets import (
    QApplication,
    QFileDialog,
    QMainWindow,
    QMenu,
    QSplitter,
    QStackedWidget,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from stream_i3d.config import CameraConfig, Config, ModelConfig

from ..session import Session
from ..settings_store import SettingsStore
from ..sources import FoundCamera, found_cameras
from ..state.facts import facts
from ..state.figures import Figure, status_line
from ..state.first_run import emptiness
from ..state.history import HistoryEvent
from ..state.preferences import Preferences
from .actions import Actions
from .asking import Asking
from .banner import Banner
from .controls import ControlPanel
from .details import DetailsPanel
from .empty import EmptyState
from .event_list import THUMBNAIL, EventList
from .grid import CameraGrid
from .help_sheet import HelpSheet
from .keeper import Keeper
from .status_bar import StatusLine
from .theme import Theme, apply_theme, current_theme

_REFRESH_MS = 200
_SLOW_MS = 1000
_SETTLE_MS = 120
_REMARK_MS = 6000
_NARROW = 860


class MainWindow(QMainWindow):
    """Shows one session."""

    def __init__(
        self,
        session: Session,
        store: SettingsStore,
        demo: Callable[[], Config],
        find_cameras: Callable[[], Sequence[FoundCamera]] = found_cameras,
    ) -> None:
        """Args: `demo` makes the demo's configuration; `find_cameras` lists those of this machine."""
        super().__init__()
        self.session = session
        self._store = store
        self._demo = demo
        self.asking = Asking(self, session, find_cameras)
        self.preferences: Preferences = store.preferences()
        self._config: Config | None = None
        self._remark: tuple[str, bool] | None = None
        self._fold_panel = False
        self.setWindowTitle(self.tr("stream-i3d"))
        self._make_widgets()
        self._make_timers()
        self._connect()
        self._apply_preferences()
        self._restore_place()
        self.apply_theme()
        self.refresh_slowly()
        self.actions_.set_available(False, False)

    def _make_widgets(self) -> None:
        self.grid = CameraGrid(self.session.board, self._store.layout())
        self.empty = EmptyState()
        self.banner = Banner()
        self.stack = QStackedWidget()
        self.stack.addWidget(self.empty)
        self.stack.addWidget(self.grid)
        left = QWidget()
        column = QVBoxLayout(left)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.banner)
        column.addWidget(self.stack, 1)
        self.events = EventList(self.session.board.history)
        self.controls = ControlPanel()
        self.details = DetailsPanel()
        self.panel = QTabWidget()
        self.panel.setDocumentMode(True)
        self.panel.setMinimumWidth(280)
        self.panel.setAccessibleName(self.tr("Side panel"))
        for widget, name in (
            (self.events, self.tr("Events")),
            (self.controls, self.tr("Controls")),
            (self.details, self.tr("Details")),
        ):
            self.panel.addTab(widget, name)
        self.splitter = QSplitter()
        self.splitter.setChildrenCollapsible(False)
        self.splitter.addWidget(left)
        self.splitter.addWidget(self.panel)
        self.splitter.setStretchFactor(0, 1)
        self.splitter.setStretchFactor(1, 0)
        self.splitter.setSizes([920, 340])
        self.setCentralWidget(self.splitter)
        self.line = StatusLine()
        bar = self.statusBar()
        assert bar is not None
        bar.setSizeGripEnabled(False)
        bar.addWidget(self.line, 1)
        self.keeper = Keeper(self._tile_view, self)
        self.actions_ = Actions(self, self.grid, self._handlers())
        self.addToolBar(self.actions_.toolbar)

    def _make_timers(self) -> None:
        self._refresher = self._timer(_REFRESH_MS, self.refresh)
        self._slow = self._timer(_SLOW_MS, self.refresh_slowly)
        self._settler = self._timer(_SETTLE_MS, self.ask_for_previews, once=True)
        self._forgetter = self._timer(_REMARK_MS, self._forget_remark, once=True)
        self._refresher.start()
        self._slow.start()

    def _timer(self, ms: int, called: Callable[[], None], once: bool = False) -> QTimer:
        timer = QTimer(self)
        timer.setInterval(ms)
        timer.setSingleShot(once)
        timer.timeout.connect(called)
        return timer

    def _connect(self) -> None:
        session = self.session
        session.cameras_changed.connect(self._cameras_changed)
        session.camera_renamed.connect(self.grid.renamed)
        session.pictures_came.connect(self.grid.show_pictures)
        session.event_seen.connect(self._event_seen)
        session.settings_known.connect(self.controls.set_settings)
        session.state_changed.connect(self._state_changed)
        session.said.connect(self.say)
        self.grid.layout_changed.connect(self._layout_changed)
        self.grid.chosen_changed.connect(self._chosen_changed)
        self.grid.menu_asked.connect(self._show_menu)
        self.grid.painted.connect(self._painted)
        self.asking.source_chosen.connect(lambda source, name: self.watch_source(source, name or None))
        self.empty.taken.connect(self.take_offer)
        self.banner.taken.connect(self.take_offer)
        self.events.said.connect(lambda words: self.say(words, False))
        self.keeper.said.connect(self.say)
        self.keeper.recording_changed.connect(self._recording_changed)
        self.controls.changed.connect(session.change_settings)
        self.controls.top_k_changed.connect(lambda number: self._prefer(top_k=number))
        self.controls.hidden_changed.connect(lambda labels: self._prefer(hidden_labels=labels))
        self.panel.currentChanged.connect(lambda tab: self._prefer(panel_tab=tab))
        hints = QGuiApplication.styleHints()
        if hints is not None:
            hints.colorSchemeChanged.connect(lambda _: self.apply_theme())

    def _handlers(self) -> dict[str, Callable[[bool], object]]:
        """Return what each action of `state.shortcuts` does; called with whether it is checked."""
        return {
            "add": lambda _: self.asking.camera(),
            "rename": lambda _: self.asking.name(self.grid.chosen),
            "remove": lambda _: self.asking.removal(self.grid.chosen),
            "pause": lambda on: self.session.pause_camera(self.grid.chosen, on),
            "enlarge": lambda _: self.grid.enlarge(self.grid.chosen or None),
            "back": lambda _: self.go_back(),
            "next": lambda _: self.grid.step(1),
            "previous": lambda _: self.grid.step(-1),
            "earlier": lambda _: self.grid.move_chosen(-1),
            "later": lambda _: self.grid.move_chosen(1),
            "full_screen": self.set_full_screen,
            "on_top": lambda on: self._prefer(on_top=on),
            "panel": lambda on: self._prefer(show_panel=on),
            "bars": lambda on: self._prefer(show_bars=on),
            "strip": lambda on: self._prefer(show_strip=on),
            "snapshot": lambda _: self.keeper.snapshot(self.grid.chosen, self.preferences.folder),
            "record": lambda on: self.keeper.record(self.grid.chosen if on else "", self.preferences.folder),
            "export": lambda _: self.events.ask_and_export(),
            "events": lambda _: self.open_tab(0),
            "controls": lambda _: self.open_tab(1),
            "details": lambda _: self.open_tab(2),
            "help": lambda _: HelpSheet(self).open(),
            "quit": lambda _: self.close(),
        }

    # What is remembered.

    def _prefer(self, **changed: object) -> None:
        self.preferences = replace(self.preferences, **changed)  # type: ignore[arg-type]
        if "show_panel" in changed:
            self._fold_panel = False
        self._apply_preferences()
        self.refresh()

    def _apply_preferences(self) -> None:
        chosen = self.preferences
        self.panel.setVisible(chosen.show_panel and not self._fold_panel)
        self.panel.setCurrentIndex(chosen.panel_tab)
        self.grid.set_parts(chosen.show_strip, chosen.show_bars)
        self.controls.set_top_k(chosen.top_k)
        self.actions_.set_checked("panel", self.panel.isVisibleTo(self))
        self.actions_.set_checked("bars", chosen.show_bars)
        self.actions_.set_checked("strip", chosen.show_strip)
        self.actions_.set_checked("on_top", chosen.on_top)
        on_top = bool(self.windowFlags() & Qt.WindowType.WindowStaysOnTopHint)
        if on_top != chosen.on_top:
            visible = self.isVisible()
            self.setWindowFlag(Qt.WindowType.WindowStaysOnTopHint, chosen.on_top)
            if visible:
                self.show()  # Qt hides a window whose flags change

    def _restore_place(self) -> None:
        self.resize(1280, 720)
        geometry, state = self._store.place("geometry"), self._store.place("splitter")
        if geometry is not None:
            self.restoreGeometry(geometry)
        if state is not None:
            self.splitter.restoreState(state)

    def save(self) -> None:
        """Write down what is remembered."""
        places = {"geometry": self.saveGeometry(), "splitter": self.splitter.saveState()}
        self._store.save(self.preferences, self.grid.cameras, places)

    # What is shown.

    def apply_theme(self, theme: Theme | None = None) -> None:
        """Take over these colours; None: light or dark as the system is."""
        theme = current_theme() if theme is None else theme
        app = QApplication.instance()
        if isinstance(app, QApplication):
            apply_theme(app, theme)
        self.line.theme = theme
        self.grid.set_theme(theme)
        self.details.set_theme(theme)
        self.banner.set_theme(theme)

    def refresh(self) -> None:
        """Show what changes by the moment, where it can be seen."""
        if self.isMinimized() or not self.isVisible():
            return
        if self.stack.currentWidget() is self.grid:
            hidden = frozenset(self.preferences.hidden_labels)
            self.grid.refresh(self.session.clock(), self.preferences.top_k, hidden)

    def refresh_slowly(self) -> None:
        """Show what may be a second old."""
        session, now = self.session, self.session.clock()
        self._show_emptiness()
        cameras = [camera.figures for camera in session.board.cameras.values()]
        hello = session.hello
        figures = status_line(cameras, now)
        if hello is not None and hello.ready:
            model = session.board.model or (f"{hello.model.name} · {hello.model.checkpoint}" if hello.model else "")
            figures.append(
                Figure(self.tr("Device"), f"{hello.device} · {hello.precision}", self.tr("Device, precision"))
            )
            figures.append(Figure(self.tr("Model"), model, self.tr("Network and weights")))
        self.line.set_figures(figures)
        self._show_line()
        if self.panel.isVisible() and self.panel.currentWidget() is self.details:
            chosen = session.board.cameras.get(self.grid.chosen)
            known = facts(session.board, hello, session.watch.address, None if chosen is None else chosen.figures)
            self.details.refresh(self.grid.chosen, None if chosen is None else chosen.figures, known, now)
        self.controls.set_labels(session.board.labels, frozenset(self.preferences.hidden_labels))
        self.controls.set_available(session.can_ask)

    def _show_emptiness(self) -> None:
        session = self.session
        if session.board.cameras:
            self.stack.setCurrentWidget(self.grid)
        else:
            shown = emptiness(session.state, session.watch.address, session.failure, len(self.asking.find_cameras()))
            self.empty.show_state(shown)
            self.stack.setCurrentWidget(self.empty)
        trouble = bool(session.board.cameras) and session.state in ("lost", "failed")
        self.banner.show_trouble(self._service_words() if trouble else "", session.state == "failed")

    def _service_words(self) -> str:
        session = self.session
        if session.state == "failed":
            return self.tr("The service has ended: {why}").format(why=session.failure)
        if session.state == "none":
            return self.tr("No service")
        if session.state in ("starting", "loading"):
            return self.tr("Starting; the model is being loaded")
        if session.state == "up" and session.own:
            return self.tr("The service of this window runs")
        return session.watch.describe(session.clock())

    def _show_line(self) -> None:
        if self._remark is not None:
            self.line.set_service(*self._remark)
        else:
            self.line.set_service(self._service_words(), self.session.state in ("lost", "failed"))

    def say(self, words: str, bad: bool = False) -> None:
        """Say something for a few seconds in the status bar."""
        self._remark = (words, bad)
        self._forgetter.start()
        self._show_line()

    def _forget_remark(self) -> None:
        self._remark = None
        self._show_line()

    def _state_changed(self, state: str) -> None:
        self.refresh_slowly()
        self.refresh()
        self.events.refresh(list(self.session.board.cameras))
        self.actions_.set_available(bool(self.grid.tiles), self.session.can_ask)

    def _cameras_changed(self) -> None:
        self.grid.settle()
        if self.keeper.camera and self.keeper.camera not in self.session.board.cameras:
            self.keeper.record("", "")
        self.events.refresh(list(self.session.board.cameras))
        self.refresh_slowly()
        self.refresh()
        self._layout_changed()
        self._chosen_changed(self.grid.chosen)

    def _layout_changed(self) -> None:
        self._settler.start()

    def _chosen_changed(self, camera: str) -> None:
        known = self.session.cameras.get(camera)
        self.actions_.set_checked("pause", known is not None and known.paused)
        self.actions_.set_available(bool(self.grid.tiles), self.session.can_ask)

    def _painted(self, camera: str, latency_ms: float) -> None:
        board = self.session.board.cameras.get(camera)
        if board is not None and 0 <= latency_ms < 60_000:  # another host's clock says nothing here
            board.figures.take_painted(self.session.clock(), latency_ms)

    def _event_seen(self, event: HistoryEvent) -> None:
        self.events.refresh(list(self.session.board.cameras))
        tile = self.grid.tiles.get(event.camera)
        if tile is not None and event.end_time is None:
            self.events.model.set_thumbnail(event, tile.view.thumbnail(THUMBNAIL * 2))

    def ask_for_previews(self) -> None:
        """Ask for the pictures that can be seen, in the size in which they are."""
        seen = [] if self.isMinimized() or self.stack.currentWidget() is not self.grid else self.grid.visible_tiles
        wanted: dict[str, QSize | None] = {tile.camera: tile.view.pixels_wanted for tile in seen}
        if self.keeper.camera:
            wanted[self.keeper.camera] = None
        self.session.show_previews(wanted)

    def _recording_changed(self, camera: str) -> None:
        self.actions_.set_checked("record", bool(camera))
        self.ask_for_previews()

    def _tile_view(self, camera: str) -> object:
        tile = self.grid.tiles.get(camera)
        return None if tile is None else tile.view

    # What is done.

    def open_tab(self, tab: int) -> None:
        """Show the side panel with this tab."""
        self._prefer(show_panel=True, panel_tab=tab)
        self.panel.setFocus()
        widget = self.panel.currentWidget()
        if widget is self.events:
            self.events.search.setFocus()

    def go_back(self) -> None:
        """Leave full screen, or else the enlarged camera."""
        if self.isFullScreen():
            self.set_full_screen(False)
        elif self.grid.cameras.enlarged is not None:
            self.grid.enlarge(None)
            tile = self.grid.chosen_tile
            if tile is not None:
                tile.setFocus()

    def set_full_screen(self, on: bool) -> None:
        """Fill the screen with the pictures alone, or go back."""
        bar = self.statusBar()
        if on:
            self.showFullScreen()
        else:
            self.showNormal()
        self.actions_.toolbar.setVisible(not on)
        if bar is not None:
            bar.setVisible(not on)
        self.panel.setVisible(not on and self.preferences.show_panel and not self._fold_panel)
        self.actions_.set_checked("full_screen", on)

    def take_offer(self, offer: str) -> None:
        """Do what a button of an empty state says."""
        if offer == "camera":
            self.asking.camera()
        elif offer == "video":
            path, _ = QFileDialog.getOpenFileName(self, self.tr("Open a video"))
            if path:
                self.watch_source(path, None)
        elif offer == "demo":
            self.start(self._demo())
        elif offer == "carried":
            cameras = [] if self._config is None else self._config.cameras
            self.start(Config(cameras=cameras, model=ModelConfig()))
        elif offer == "again":
            self.start(self._config or Config())
        elif offer == "cancel":
            self.session.close()

    def start(self, config: Config) -> None:
        """Start a service of our own."""
        self._config = config
        self.session.start(config)

    def watch_source(self, source: str, name: str | None) -> None:
        """Add a camera to the service there is, or start one for it."""
        if self.session.can_ask:
            self.session.add_camera(source, name)
        else:
            self.start(Config(cameras=[CameraConfig(source=source, name=name)]))

    def _show_menu(self, camera: str, where: QPoint) -> None:
        menu = QMenu(self)
        for name in ("enlarge", "pause", "rename", "remove", "snapshot", "record", "earlier", "later"):
            menu.addAction(self.actions_.by_id[name])
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        menu.popup(where)

    # What Qt says.

    def resizeEvent(self, event: QResizeEvent | None) -> None:  # noqa: N802
        """Fold the panel away where there is no room for it."""
        super().resizeEvent(event)
        narrow = self.width() < _NARROW
        if narrow != self._fold_panel and not self.isFullScreen():
            self._fold_panel = narrow
            self._apply_preferences()
        self._layout_changed()

    def changeEvent(self, event: QEvent | None) -> None:  # noqa: N802
        """Ask for no pictures while the window is minimised."""
        super().changeEvent(event)
        if event is not None and event.type() == QEvent.Type.WindowStateChange:
            self._layout_changed()

    def closeEvent(self, event: QCloseEvent | None) -> None:  # noqa: N802
        """Write down what is remembered, end the recording, let go of the service."""
        self.save()
        self.keeper.close()
        self._refresher.stop()
        self._slow.stop()
        self.session.end()
        super().closeEvent(event)
