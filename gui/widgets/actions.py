"""The actions of `state.shortcuts` as Qt's, and the tool bar of those that are used most."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from PyQt6.QtCore import QCoreApplication, Qt
from PyQt6.QtGui import QAction, QKeySequence
from PyQt6.QtWidgets import QMainWindow, QSizePolicy, QToolBar, QToolButton, QWidget

from ..state.shortcuts import actions

_BAR = ("add", "pause", "snapshot", "record", "", "bars", "strip", "panel", "full_screen", "help")
_ON_GRID = ("enlarge", "remove", "pause")
"""Their keys belong to the pictures: elsewhere Return and Delete mean other things, and P finds what begins with it."""
_NEED_CAMERA = ("enlarge", "next", "previous", "earlier", "later", "snapshot", "record")
_NEED_BOTH = ("rename", "remove", "pause")


class Actions:
    """Makes them, keeps them, switches them."""

    def __init__(self, window: QMainWindow, grid: QWidget, handlers: Mapping[str, Callable[[bool], object]]) -> None:
        self.by_id: dict[str, QAction] = {}
        for one in actions():
            action = QAction(one.text, window)
            keys = [QKeySequence(key) for key in one.keys]
            action.setShortcuts(keys)
            action.setCheckable(one.checkable)
            native = keys[0].toString(QKeySequence.SequenceFormat.NativeText)
            action.setToolTip(f"{one.meaning} ({native})")
            action.setStatusTip("")
            action.triggered.connect(handlers[one.id])
            if one.id in _ON_GRID:
                action.setShortcutContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
                grid.addAction(action)
            else:
                window.addAction(action)
            self.by_id[one.id] = action
        self.toolbar = self._bar(window)

    def _bar(self, window: QMainWindow) -> QToolBar:
        bar = QToolBar(QCoreApplication.translate("Actions", "Tool bar"), window)
        bar.setObjectName("toolbar")
        bar.setMovable(False)
        bar.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextOnly)
        bar.setContextMenuPolicy(Qt.ContextMenuPolicy.PreventContextMenu)
        for name in _BAR:
            if name:
                bar.addAction(self.by_id[name])
                button = bar.widgetForAction(self.by_id[name])
                if button is not None:
                    button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
                    button.setAccessibleName(self.by_id[name].text())
            else:
                space = QWidget()
                space.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
                bar.addWidget(space)
        more = bar.findChild(QToolButton, "qt_toolbar_ext_button")
        if more is not None:
            more.setAccessibleName(QCoreApplication.translate("Actions", "More"))
            more.setToolTip(QCoreApplication.translate("Actions", "What the window is too narrow for"))
        return bar

    def set_checked(self, name: str, on: bool) -> None:
        """Show an action as on or off; nothing is done by it."""
        self.by_id[name].setChecked(on)

    def set_available(self, camera: bool, service: bool) -> None:
        """Whether there is a camera, and a service that can be asked."""
        for name in _NEED_CAMERA:
            self.by_id[name].setEnabled(camera)
        for name in _NEED_BOTH:
            self.by_id[name].setEnabled(camera and service)
