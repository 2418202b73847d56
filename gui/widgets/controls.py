"""The controls: what recognition does (asked of the service, at once) and what this window shows (its own)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from PyQt6.QtCore import QModelIndex, Qt, QTimer, pyqtSignal
from PyQt6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QSlider,
    QSpinBox,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QVBoxLayout,
    QWidget,
)

from .scrolling import scrolled
from .theme import outlined

SettingValue = bool | int | float | str
_DELAY_MS = 120


class TickDelegate(QStyledItemDelegate):
    """Draws a list's check boxes with an outline that can be seen."""

    def initStyleOption(self, option: QStyleOptionViewItem | None, index: QModelIndex) -> None:  # noqa: N802
        """Take the palette of inputs."""
        super().initStyleOption(option, index)
        if option is not None:
            option.palette = outlined(option.palette)


class ControlPanel(QWidget):
    """Signals:
    changed: A setting of the service is to be another; dotted keys to values.
    top_k_changed: So many labels are to be shown.
    hidden_changed: These labels are not to be shown.
    """

    changed = pyqtSignal(dict)
    top_k_changed = pyqtSignal(int)
    hidden_changed = pyqtSignal(tuple)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._taking = False
        self._waiting: dict[str, SettingValue] = {}
        self._hidden_elsewhere: frozenset[str] = frozenset()
        self._timer = QTimer(self)  # a dragged slider asks a few times a second, not for each pixel
        self._timer.setSingleShot(True)
        self._timer.setInterval(_DELAY_MS)
        self._timer.timeout.connect(self._send)
        self._make_threshold()
        self._make_smoothing()
        self._make_window_inputs()
        self._make_shown()
        self._lay_out()
        self.set_available(False)

    def _make_threshold(self) -> None:
        tr = self.tr
        self.threshold = self._fraction(
            tr("Threshold, percent"), tr("Percent. Below this confidence nothing is shown: idle")
        )
        self.threshold_slider = QSlider(Qt.Orientation.Horizontal)
        self.threshold_slider.setRange(0, 100)
        self.threshold_slider.setAccessibleName(tr("Threshold, slider"))
        self.threshold_slider.setToolTip(self.threshold.toolTip())
        self.threshold_slider.valueChanged.connect(self.threshold.setValue)
        self.threshold.valueChanged.connect(self.threshold_slider.setValue)
        self.threshold.valueChanged.connect(lambda value: self._ask("idle.min_confidence", value / 100))

    def _make_smoothing(self) -> None:
        tr = self.tr
        self.smoothing = QComboBox()
        for method, words in (
            ("ema", tr("Exponential average")),
            ("mean", tr("Mean of windows")),
            ("vote", tr("Vote of windows")),
            ("none", tr("None")),
        ):
            self.smoothing.addItem(words, method)
        self.smoothing.setToolTip(tr("How predictions of successive windows become one"))
        self.smoothing.setAccessibleName(tr("Smoothing"))
        self.smoothing.currentIndexChanged.connect(self._smoothing_changed)
        self.time_constant = self._number(
            0.05, 10, 0.05, tr("s"), tr("Smoothing time"), tr("Seconds. Longer is calmer and reacts later")
        )
        self.time_constant.valueChanged.connect(lambda value: self._ask("smoothing.time_constant_s", round(value, 3)))
        self.last = self._whole(1, 50, tr("windows"), tr("Smoothing windows"), tr("Windows that are averaged or vote"))
        self.last.valueChanged.connect(lambda value: self._ask("smoothing.last", value))

    def _make_window_inputs(self) -> None:
        tr = self.tr
        self.stride = self._whole(
            1,
            128,
            tr("frames"),
            tr("Stride"),
            tr("Frames from one window to the next. Smaller reacts faster and costs more"),
        )
        self.stride.valueChanged.connect(lambda value: self._ask("window.stride", value))
        self.motion = self._number(
            0,
            50,
            0.5,
            tr("grey levels"),
            tr("Idle sensitivity"),
            tr("Grey levels of change (0 to 255) below which a window is idle; 0: never"),
        )
        self.motion.valueChanged.connect(lambda value: self._ask("idle.min_motion", round(value, 2)))
        self.skip = QCheckBox(tr("Skip motionless windows"))
        self.skip.setToolTip(
            tr("Windows that are idle for want of motion are not recognised at all: spares the processor")
        )
        self.skip.toggled.connect(lambda on: self._ask("idle.skip_inference", on))
        self.note = QLabel(tr("These belong to the service and apply at once, for everybody who listens to it."))
        self.note.setWordWrap(True)

    def _make_shown(self) -> None:
        """Make the inputs of what this window alone shows."""
        tr = self.tr
        self.top_k = self._whole(1, 10, tr("labels"), tr("Likeliest labels"), tr("How many bars are shown, at most"))
        self.top_k.valueChanged.connect(self._top_k_changed)
        self.label_search = QLineEdit()
        self.label_search.setPlaceholderText(tr("Find a label"))
        self.label_search.setAccessibleName(tr("Find a label"))
        self.label_search.setClearButtonEnabled(True)
        self.label_search.textChanged.connect(self._find_label)
        self.labels = QListWidget()
        self.labels.setAccessibleName(tr("Labels shown"))
        self.labels.setToolTip(
            tr("Labels without a tick are not shown in this window; the service still publishes them")
        )
        self.labels.setMinimumHeight(120)
        self.labels.setItemDelegate(TickDelegate(self.labels))
        self.labels.itemChanged.connect(self._labels_changed)
        self.all_labels = QPushButton(tr("Show all"))
        self.all_labels.clicked.connect(lambda: self.set_hidden(()))

    def _fraction(self, name: str, tip: str) -> QSpinBox:
        return self._whole(0, 100, "%", name, tip)

    def _whole(self, low: int, high: int, unit: str, name: str, tip: str) -> QSpinBox:
        box = QSpinBox()
        box.setRange(low, high)
        box.setSuffix(f" {unit}")
        box.setAccessibleName(name)
        box.setToolTip(tip)
        box.setKeyboardTracking(False)
        return box

    def _number(self, low: float, high: float, step: float, unit: str, name: str, tip: str) -> QDoubleSpinBox:
        box = QDoubleSpinBox()
        box.setRange(low, high)
        box.setSingleStep(step)
        box.setSuffix(f" {unit}")
        box.setAccessibleName(name)
        box.setToolTip(tip)
        box.setKeyboardTracking(False)
        return box

    def _lay_out(self) -> None:
        tr = self.tr
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(10, 10, 10, 10)
        self.service_group = QGroupBox(tr("Recognition"))
        form = QFormLayout(self.service_group)
        form.setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapLongRows)
        row = QHBoxLayout()
        row.addWidget(self.threshold_slider, 1)
        row.addWidget(self.threshold)
        form.addRow(self.note)
        form.addRow(tr("Threshold"), row)
        form.addRow(tr("Smoothing"), self.smoothing)
        form.addRow(tr("Smoothing time"), self.time_constant)
        form.addRow(tr("Smoothing windows"), self.last)
        form.addRow(tr("Stride"), self.stride)
        form.addRow(tr("Idle below"), self.motion)
        form.addRow(self.skip)
        column.addWidget(self.service_group)
        shown = QGroupBox(tr("Shown here"))
        form = QFormLayout(shown)
        form.addRow(tr("Bars"), self.top_k)
        form.addRow(self.label_search)
        form.addRow(self.labels)
        form.addRow(self.all_labels)
        column.addWidget(shown, 1)
        scrolled(inner, self, tr("Controls"))

    def set_available(self, available: bool) -> None:
        """Whether there is a service that can be asked."""
        self.service_group.setEnabled(available)

    def set_settings(self, settings: Mapping[str, SettingValue]) -> None:
        """Show the service's settings; what is being changed right now is left alone."""
        self._taking = True
        try:
            for key, value in settings.items():
                if key not in self._waiting:
                    self._show(key, value)
        finally:
            self._taking = False
        self._enable_smoothing()

    def _show(self, key: str, value: SettingValue) -> None:
        if key == "idle.min_confidence":
            self.threshold.setValue(round(100 * float(value)))
        elif key == "idle.min_motion":
            self.motion.setValue(float(value))
        elif key == "idle.skip_inference":
            self.skip.setChecked(bool(value))
        elif key == "smoothing.method":
            self.smoothing.setCurrentIndex(max(0, self.smoothing.findData(value)))
        elif key == "smoothing.time_constant_s":
            self.time_constant.setMaximum(max(10.0, float(value)))  # what the service has is shown as it is
            self.time_constant.setValue(float(value))
        elif key == "smoothing.last":
            self.last.setMaximum(max(50, int(value)))
            self.last.setValue(int(value))
        elif key == "window.stride":
            self.stride.setMaximum(max(128, int(value)))
            self.stride.setValue(int(value))

    def _smoothing_changed(self) -> None:
        self._ask("smoothing.method", str(self.smoothing.currentData()))
        self._enable_smoothing()

    def _enable_smoothing(self) -> None:
        method = self.smoothing.currentData()
        self.time_constant.setEnabled(method == "ema")
        self.last.setEnabled(method in ("mean", "vote"))

    def _ask(self, key: str, value: SettingValue) -> None:
        if not self._taking:
            self._waiting[key] = value
            if not self._timer.isActive():
                self._timer.start()

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, {}
        if waiting:
            self.changed.emit(waiting)

    def _top_k_changed(self, number: int) -> None:
        if not self._taking:
            self.top_k_changed.emit(number)

    def set_top_k(self, number: int) -> None:
        """Show how many bars there are."""
        self._taking = True
        self.top_k.setValue(number)
        self._taking = False

    def set_labels(self, labels: Iterable[str], hidden: frozenset[str]) -> None:
        """List the labels that can be shown, with a tick at those that are; hidden ones of other models stay so."""
        wanted = list(labels)
        self._hidden_elsewhere = hidden.difference(wanted)
        if wanted == [self.labels.item(row).text() for row in range(self.labels.count())]:  # type: ignore[union-attr]
            return
        self.labels.blockSignals(True)
        self.labels.clear()
        for label in wanted:
            item = QListWidgetItem(label)
            item.setFlags(Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsUserCheckable | Qt.ItemFlag.ItemIsSelectable)
            item.setCheckState(Qt.CheckState.Unchecked if label in hidden else Qt.CheckState.Checked)
            self.labels.addItem(item)
        self.labels.blockSignals(False)
        self._find_label(self.label_search.text())

    def set_hidden(self, hidden: Iterable[str]) -> None:
        """Take the ticks away from these labels, and give all others theirs."""
        wanted = set(hidden)
        self._hidden_elsewhere = frozenset()
        self.labels.blockSignals(True)
        for item in self._items():
            item.setCheckState(Qt.CheckState.Unchecked if item.text() in wanted else Qt.CheckState.Checked)
        self.labels.blockSignals(False)
        self._labels_changed()

    def _labels_changed(self) -> None:
        unticked = (item.text() for item in self._items() if item.checkState() == Qt.CheckState.Unchecked)
        self.hidden_changed.emit((*unticked, *sorted(self._hidden_elsewhere)))

    def _find_label(self, text: str) -> None:
        for item in self._items():
            item.setHidden(text.strip().casefold() not in item.text().casefold())

    def _items(self) -> list[QListWidgetItem]:
        items = (self.labels.item(row) for row in range(self.labels.count()))
        return [item for item in items if item is not None]
