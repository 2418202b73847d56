"""The list of events: thumbnails, a filter, copy and export."""

from __future__ import annotations

from pathlib import Path

from PyQt6.QtCore import QAbstractListModel, QModelIndex, QObject, QPointF, QSize, QSizeF, Qt, pyqtSignal
from PyQt6.QtGui import QColor, QGuiApplication, QKeySequence, QPainter, QPixmap, QShortcut
from PyQt6.QtWidgets import (
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QListView,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from ..state.colours import label_style
from ..state.formats import duration, percent, stream_time
from ..state.history import Filter, History, HistoryEvent, to_csv, to_json
from .theme import colour, pattern_brush

THUMBNAIL = QSize(80, 46)
_MAX_THUMBNAILS = 300


class EventModel(QAbstractListModel):
    """The filtered history, newest first; text, thumbnail and everything a screen reader needs."""

    def __init__(self, history: History, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._history = history
        self._filter = Filter()
        self._thumbnails: dict[tuple[str, str], QPixmap] = {}
        self._bare: dict[str, QPixmap] = {}
        self.rows: list[HistoryEvent] = []

    def set_filter(self, chosen: Filter) -> None:
        """Show other events."""
        self._filter = chosen
        self.refresh()

    def refresh(self) -> None:
        """Take over what changed in the history."""
        rows = self._history.shown(self._filter)
        if not self._shift_to(rows):
            self.beginResetModel()
            self.rows = rows
            self.endResetModel()
            return
        changed = [number for number, (old, new) in enumerate(zip(self.rows, rows, strict=True)) if old != new]
        self.rows = rows
        if changed:
            self.dataChanged.emit(self.index(changed[0]), self.index(changed[-1]))

    def _shift_to(self, rows: list[HistoryEvent]) -> bool:
        """Put what is new on top and take away what was forgotten below, which keeps the selection and the place.

        Returns:
            Whether the same events stand there now; False where something else happened.
        """
        old, new = [(row.camera, row.id) for row in self.rows], [(row.camera, row.id) for row in rows]
        added = new.index(old[0]) if old and old[0] in new else len(new)
        kept = len(new) - added
        if new[added:] != old[:kept] or (old and not kept):
            return False
        if kept < len(old):
            self.beginRemoveRows(QModelIndex(), kept, len(old) - 1)
            self.rows = self.rows[:kept]
            self.endRemoveRows()
        if added:
            self.beginInsertRows(QModelIndex(), 0, added - 1)
            self.rows = rows[:added] + self.rows
            self.endInsertRows()
        return True

    def renamed(self, old: str, new: str) -> None:
        """A camera has a new name; its events keep their pictures."""
        self._thumbnails = {
            (new if camera == old else camera, identity): picture
            for (camera, identity), picture in self._thumbnails.items()
        }

    def set_thumbnail(self, event: HistoryEvent, picture: QPixmap) -> None:
        """Give an event its picture; the first one stays. Drop policy: beyond 300 the oldest go."""
        key = (event.camera, event.id)
        if key in self._thumbnails:
            return
        self._thumbnails[key] = _framed(picture, event.label)
        while len(self._thumbnails) > _MAX_THUMBNAILS:
            del self._thumbnails[next(iter(self._thumbnails))]
        if event in self.rows:
            at = self.index(self.rows.index(event))
            self.dataChanged.emit(at, at)

    def rowCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: B008, N802
        """Return the number of events shown."""
        return 0 if parent.isValid() else len(self.rows)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        """Return an event's text, picture or spoken words."""
        if not index.isValid() or index.row() >= len(self.rows):
            return None
        event = self.rows[index.row()]
        if role == Qt.ItemDataRole.DisplayRole:
            return f"{event.label}\n{event.camera} · {stream_time(event.start_time)} · {self._length(event)}"
        if role == Qt.ItemDataRole.DecorationRole:
            kept = self._thumbnails.get((event.camera, event.id))
            if kept is not None:
                return kept
            if event.label not in self._bare:
                self._bare[event.label] = _framed(QPixmap(), event.label)
                while len(self._bare) > _MAX_THUMBNAILS:
                    del self._bare[next(iter(self._bare))]
            return self._bare[event.label]
        if role in (Qt.ItemDataRole.AccessibleTextRole, Qt.ItemDataRole.ToolTipRole):
            return event.line.replace("\t", ", ")
        return None

    def _length(self, event: HistoryEvent) -> str:
        if event.cut:
            return self.tr("end not seen")
        if event.end_time is None:
            return self.tr("going on")
        return f"{duration(event.end_time - event.start_time)} · {percent(event.peak)}"


def _framed(picture: QPixmap, label: str) -> QPixmap:
    """Return the thumbnail on a ground of its own size, the label's colour and pattern down its left edge."""
    app = QGuiApplication.instance()
    ratio = app.devicePixelRatio() if isinstance(app, QGuiApplication) else 1.0  # of the sharpest screen
    made = QPixmap(THUMBNAIL * ratio)
    made.setDevicePixelRatio(ratio)
    made.fill(QColor("#0b0e12"))
    painter = QPainter(made)
    if not picture.isNull():
        fitted = picture.scaled(
            made.size(), Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.SmoothTransformation
        )
        fitted.setDevicePixelRatio(ratio)
        free = QSizeF(THUMBNAIL) - fitted.deviceIndependentSize()
        painter.drawPixmap(QPointF(free.width() / 2, free.height() / 2), fitted)
    style = label_style(label, dark=True)
    painter.fillRect(0, 0, 7, THUMBNAIL.height(), colour(style.fill))
    painter.fillRect(0, 0, 7, THUMBNAIL.height(), pattern_brush(style.pattern, style.text))
    painter.end()
    return made


class EventList(QWidget):
    """The panel of events.

    Signals:
        notice: A line for people: what was copied or written, or why not.
    """

    notice = pyqtSignal(str)

    def __init__(self, history: History, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._history = history
        self.model = EventModel(history, self)
        self.search = QLineEdit()
        self.search.setPlaceholderText(self.tr("Filter by label or camera"))
        self.search.setAccessibleName(self.tr("Filter events"))
        self.search.setToolTip(self.tr("Only events whose label or camera contains these letters"))
        self.search.setClearButtonEnabled(True)
        self.camera = QComboBox()
        self.camera.setAccessibleName(self.tr("Camera"))
        self.camera.setToolTip(self.tr("Only events of this camera"))
        self.camera.addItem(self.tr("All cameras"), None)
        self.view = QListView()
        self.view.setModel(self.model)
        self.view.setIconSize(THUMBNAIL)
        self.view.setSpacing(2)
        self.view.setUniformItemSizes(True)
        self.view.setWordWrap(False)
        self.view.setTextElideMode(Qt.TextElideMode.ElideRight)
        self.view.setSelectionMode(QListView.SelectionMode.ExtendedSelection)
        self.view.setAccessibleName(self.tr("Events"))
        self.empty = QLabel(self.tr("No events yet.\nAn action that lasts is listed here with its start and end."))
        self.empty.setWordWrap(True)
        self.empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.copy_button = self._button(self.tr("Copy"), self.tr("Copy the selected events (all, if none)"), self.copy)
        self.export_button = self._button(
            self.tr("Export…"), self.tr("Save the listed events as CSV or JSON"), self.ask_and_export
        )
        self._lay_out()
        self.search.textChanged.connect(self._filter)
        self.camera.currentIndexChanged.connect(self._filter)
        for signal in (self.model.rowsInserted, self.model.modelReset, self.model.rowsRemoved):
            signal.connect(self._show_emptiness)
        shortcut = QShortcut(QKeySequence(QKeySequence.StandardKey.Copy), self.view)
        shortcut.setContext(Qt.ShortcutContext.WidgetShortcut)
        shortcut.activated.connect(self.copy)
        self._show_emptiness()

    def _button(self, text: str, tip: str, called: object) -> QPushButton:
        button = QPushButton(text)
        button.setToolTip(tip)
        button.clicked.connect(called)  # type: ignore[arg-type]
        return button

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(10, 10, 10, 10)
        layout.addWidget(self.search)
        layout.addWidget(self.camera)
        layout.addWidget(self.view, 1)
        layout.addWidget(self.empty, 1)
        buttons = QHBoxLayout()
        buttons.addWidget(self.copy_button)
        buttons.addWidget(self.export_button)
        buttons.addStretch()
        layout.addLayout(buttons)

    def _show_emptiness(self) -> None:
        none = not self.model.rows
        self.view.setVisible(not none)
        self.empty.setVisible(none)
        self.copy_button.setEnabled(not none)
        self.export_button.setEnabled(not none)

    def _filter(self) -> None:
        self.model.set_filter(Filter(self.search.text(), self.camera.currentData()))

    def refresh(self, cameras: list[str]) -> None:
        """Take over what changed: the events, and the cameras that can be chosen."""
        listed = [self.camera.itemData(number) for number in range(1, self.camera.count())]
        wanted = sorted({*cameras, *self._history.cameras})
        if listed != wanted:
            chosen = self.camera.currentData()
            self.camera.blockSignals(True)
            self.camera.clear()
            self.camera.addItem(self.tr("All cameras"), None)
            for name in wanted:
                self.camera.addItem(name, name)
            self.camera.setCurrentIndex(max(0, self.camera.findData(chosen)))
            self.camera.blockSignals(False)
            self._filter()
        self.model.refresh()

    def renamed(self, old: str, new: str) -> None:
        """A camera has a new name; where its events alone are listed, they stay."""
        self.model.renamed(old, new)
        at = self.camera.findData(old)
        if at > 0:
            self.camera.setItemText(at, new)
            self.camera.setItemData(at, new)
            self._filter()

    def chosen_events(self) -> list[HistoryEvent]:
        """Return the selected events, or all that are listed where none is."""
        selection = self.view.selectionModel()
        rows = sorted(index.row() for index in selection.selectedIndexes()) if selection is not None else []
        return [self.model.rows[row] for row in rows] or list(self.model.rows)

    def copy(self) -> None:
        """Put the chosen events on the clipboard, a line each."""
        clipboard = QGuiApplication.clipboard()
        events = self.chosen_events()
        if clipboard is not None and events:
            clipboard.setText("\n".join(event.line for event in events))
            self.notice.emit(self.tr("{number} events copied").format(number=len(events)))

    def ask_and_export(self) -> None:
        """Ask for a file and write the listed events to it."""
        path, _ = QFileDialog.getSaveFileName(
            self, self.tr("Export events"), "events.csv", self.tr("CSV (*.csv);;JSON (*.json)")
        )
        if path:
            self.export(Path(path))

    def export(self, path: Path) -> None:
        """Write the listed events: JSON where the name ends in .json, else CSV."""
        text = to_json(self.model.rows) if path.suffix.lower() == ".json" else to_csv(self.model.rows)
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            self.notice.emit(self.tr("Cannot write {path}: {why}").format(path=path, why=error.strerror))
            return
        self.notice.emit(self.tr("{number} events written to {path}").format(number=len(self.model.rows), path=path))
