"""The window: puts its parts together, and turns actions into what they do. What they show is their own business."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PyQt6.QtCore import QEvent, QPoint, Qt, QTimer
from PyQt6.QtGui import QCloseEvent, QGuiApplication, QResizeEvent
from PyQt6.QtWidgets import QApplication, QMainWindow, QMenu, QSplitter

from stream_i3d.config import Config

from ..session import Session
from ..settings_store import SettingsStore
from ..sources import FoundCamera, found_cameras
from ..state.history import HistoryEvent
from .actions import Actions
from .dialogs import Dialogs
from .event_list import THUMBNAIL
from .help_sheet import HelpSheet
from .media_saver import MediaSaver
from .picture_area import PictureArea
from .previews import Previews
from .service_notices import ServiceNotices
from .side_panel import CONTROLS, DETAILS, EVENTS, SidePanel
from .source_starter import SourceStarter
from .status_bar import StatusLine
from .theme import Theme, apply_theme, current_theme
from .window_frame import WindowFrame
from .window_settings import WindowSettings

_REFRESH_MS = 200
_SLOW_MS = 1000


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
        self.setWindowTitle(self.tr("stream-i3d"))
        self.window_settings = WindowSettings(store, self)
        self.dialogs = Dialogs(self, session, find_cameras)
        self.source_starter = SourceStarter(self, session, self.dialogs, demo)
        self._make_widgets(store)
        self.media_saver = MediaSaver(self._tile_view, self)
        self.previews = Previews(session, self.pictures, self.media_saver, self)
        self.notices = ServiceNotices(session, self.line, self.pictures, lambda: len(find_cameras()), self)
        self.actions_ = Actions(self, self.grid, self._handlers())
        self.addToolBar(self.actions_.toolbar)
        self.window_frame = WindowFrame(self, self.actions_.toolbar, self.panel)
        self._refresher = self._timer(_REFRESH_MS, self.refresh)
        self._slow = self._timer(_SLOW_MS, self.refresh_slowly)
        self._connect()
        self._show_choices(set())
        self.resize(1280, 720)
        self.window_settings.restore_place(self, self.splitter)
        self.apply_theme()
        self.refresh_slowly()
        self.actions_.set_available(False, False)

    def _make_widgets(self, store: SettingsStore) -> None:
        self.pictures = PictureArea(self.session.board, store.layout())
        self.grid = self.pictures.grid
        self.panel = SidePanel(self.session)
        self.splitter = QSplitter()
        self.splitter.setChildrenCollapsible(False)
        self.splitter.addWidget(self.pictures)
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

    def _timer(self, ms: int, called: Callable[[], None]) -> QTimer:
        timer = QTimer(self)
        timer.setInterval(ms)
        timer.timeout.connect(called)
        timer.start()
        return timer

    def _connect(self) -> None:
        session, panel = self.session, self.panel
        session.cameras_changed.connect(self._cameras_changed)
        for part in (self.grid, self.media_saver, panel.events):
            session.camera_renamed.connect(part.renamed)
        session.pictures_came.connect(self.grid.show_pictures)
        session.event_seen.connect(self._event_seen)
        session.state_changed.connect(self._state_changed)
        self.grid.chosen_changed.connect(self._chosen_changed)
        self.grid.menu_asked.connect(self._show_menu)
        self.grid.painted.connect(self._painted)
        self.pictures.empty.taken.connect(self.source_starter.take_offer)
        self.pictures.banner.taken.connect(self.source_starter.take_offer)
        self.media_saver.notice.connect(self.notices.say)
        self.media_saver.recording_changed.connect(lambda camera: self.actions_.set_checked("record", bool(camera)))
        self.window_settings.changed.connect(self._choices_changed)
        panel.events.notice.connect(lambda words: self.notices.say(words, False))
        panel.controls.top_k_changed.connect(lambda number: self.window_settings.prefer(top_k=number))
        panel.controls.hidden_changed.connect(lambda labels: self.window_settings.prefer(hidden_labels=labels))
        panel.currentChanged.connect(lambda tab: self.window_settings.prefer(panel_tab=tab))
        hints = QGuiApplication.styleHints()
        if hints is not None:
            hints.colorSchemeChanged.connect(lambda _: self.apply_theme())

    def _handlers(self) -> dict[str, Callable[[bool], object]]:
        """Return what each action of `state.shortcuts` does; called with whether it is checked."""
        prefer = self.window_settings.prefer
        return {
            "add": lambda _: self.dialogs.camera(),
            "rename": lambda _: self.dialogs.name(self.grid.chosen),
            "remove": lambda _: self.dialogs.removal(self.grid.chosen),
            "pause": lambda on: self.session.pause_camera(self.grid.chosen, on),
            "enlarge": lambda _: self.grid.enlarge(self.grid.chosen or None),
            "back": lambda _: self.go_back(),
            "next": lambda _: self.grid.step(1),
            "previous": lambda _: self.grid.step(-1),
            "earlier": lambda _: self.grid.move_chosen(-1),
            "later": lambda _: self.grid.move_chosen(1),
            "full_screen": self.set_full_screen,
            "on_top": lambda on: prefer(on_top=on),
            "panel": lambda on: prefer(show_panel=on),
            "bars": lambda on: prefer(show_bars=on),
            "strip": lambda on: prefer(show_strip=on),
            "snapshot": lambda _: self.media_saver.snapshot(self.grid.chosen, self.window_settings.now.folder),
            "record": lambda on: self.media_saver.record(
                self.grid.chosen if on else "", self.window_settings.now.folder
            ),
            "export": lambda _: self.panel.events.ask_and_export(),
            "events": lambda _: self.open_tab(EVENTS),
            "controls": lambda _: self.open_tab(CONTROLS),
            "details": lambda _: self.open_tab(DETAILS),
            "help": lambda _: HelpSheet(self).open(),
            "quit": lambda _: self.close(),
        }

    # What is shown.

    def apply_theme(self, theme: Theme | None = None) -> None:
        """Take over these colours; None: light or dark as the system is."""
        theme = current_theme() if theme is None else theme
        app = QApplication.instance()
        if isinstance(app, QApplication):
            apply_theme(app, theme)
        self.line.set_theme(theme)
        self.grid.set_theme(theme)
        self.panel.details.set_theme(theme)
        self.pictures.banner.set_theme(theme)

    def refresh(self) -> None:
        """Show what changes by the moment, where it can be seen or is recorded."""
        now, top_k, hidden = self.session.clock(), self.window_settings.now.top_k, self.window_settings.hidden
        if self.pictures.shows_cameras and self.isVisible() and not self.isMinimized():
            self.grid.refresh(now, top_k, hidden)
        recorded = self.grid.tiles.get(self.media_saver.camera)
        if recorded is not None:
            recorded.refresh(now, top_k, hidden)

    def refresh_slowly(self) -> None:
        """Show what may be a second old."""
        self.notices.refresh()
        self.panel.refresh(self.grid.chosen, self.window_settings.hidden)

    def _choices_changed(self, names: set[str]) -> None:
        self._show_choices(names)
        self.refresh()

    def _show_choices(self, names: set[str]) -> None:
        """Show what is chosen; `names` of what was just chosen."""
        chosen = self.window_settings.now
        self.window_frame.want_panel(chosen.show_panel, unfold="show_panel" in names)
        self.window_frame.stay_on_top(chosen.on_top)
        self.panel.setCurrentIndex(chosen.panel_tab)
        self.grid.set_parts(chosen.show_strip, chosen.show_bars)
        self.panel.controls.set_top_k(chosen.top_k)
        self.actions_.set_checked("panel", self.window_frame.panel_shown)
        self.actions_.set_checked("bars", chosen.show_bars)
        self.actions_.set_checked("strip", chosen.show_strip)
        self.actions_.set_checked("on_top", chosen.on_top)

    def _state_changed(self, state: str) -> None:
        self.refresh_slowly()
        self.refresh()
        self.panel.refresh_events()
        self._show_available()

    def _cameras_changed(self) -> None:
        self.grid.settle()
        if self.media_saver.camera and self.media_saver.camera not in self.session.board.cameras:
            self.media_saver.record("", "")
        self.panel.refresh_events()
        self.refresh_slowly()
        self.refresh()
        self.previews.ask_soon()
        self._chosen_changed(self.grid.chosen)

    def _chosen_changed(self, camera: str) -> None:
        known = self.session.cameras.get(camera)
        self.actions_.set_checked("pause", known is not None and known.paused)
        self._show_available()

    def _show_available(self) -> None:
        self.actions_.set_available(bool(self.grid.tiles), self.session.can_ask)

    def _painted(self, camera: str, latency_ms: float) -> None:
        board = self.session.board.cameras.get(camera)
        if board is not None and 0 <= latency_ms < 60_000:  # another host's clock says nothing here
            board.figures.take_painted(self.session.clock(), latency_ms)

    def _event_seen(self, event: HistoryEvent) -> None:
        self.panel.refresh_events()
        tile = self.grid.tiles.get(event.camera)
        if tile is not None and event.end_time is None:
            self.panel.events.model.set_thumbnail(event, tile.view.thumbnail(THUMBNAIL * 2))

    def _tile_view(self, camera: str) -> object:
        tile = self.grid.tiles.get(camera)
        return None if tile is None else tile.view

    # What is done.

    def start(self, config: Config) -> None:
        """Start a service of our own."""
        self.source_starter.start(config)

    def open_tab(self, tab: int) -> None:
        """Show the side panel with this tab."""
        self.window_settings.prefer(show_panel=True, panel_tab=tab)
        self.panel.enter()

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
        self.window_frame.fill_screen(on)

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
        if self.window_frame.resized():
            self.actions_.set_checked("panel", self.window_frame.panel_shown)
        self.previews.ask_soon()

    def changeEvent(self, event: QEvent | None) -> None:  # noqa: N802
        """Follow the window into full screen and back, and ask for no pictures while it is minimised."""
        super().changeEvent(event)
        if event is not None and event.type() == QEvent.Type.WindowStateChange:
            self.actions_.set_checked("full_screen", self.window_frame.follow_screen())
            self.actions_.set_checked("panel", self.window_frame.panel_shown)
            self.previews.ask_soon()

    def closeEvent(self, event: QCloseEvent | None) -> None:  # noqa: N802
        """Write down what is remembered, end the recording, let go of the service."""
        self.window_settings.save(self, self.splitter, self.grid.cameras)
        self.media_saver.close()
        self._refresher.stop()
        self._slow.stop()
        self.session.end()
        super().closeEvent(event)
