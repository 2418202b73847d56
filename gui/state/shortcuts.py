"""Every action of the window with its keys: one table for the menus, the shortcuts and the help sheet. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from .translation import translate


@dataclass(frozen=True, slots=True)
class Action:
    """An action: its name in code, words, keys (Qt's portable text), what it does, and whether it is on or off."""

    id: str
    text: str
    keys: tuple[str, ...]
    meaning: str
    checkable: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """Actions that belong together, under a heading."""

    name: str
    actions: tuple[Action, ...]


class Shortcuts:
    """The table. A class, because pylupdate6 finds the words of a short `tr` in one, under the class's name."""

    @staticmethod
    def tr(text: str) -> str:
        """Return the words in the window's language."""
        return translate("Shortcuts", text)

    def groups(self) -> tuple[Group, ...]:
        """Return the actions in groups, in the order of the help sheet."""
        tr = self.tr
        return (
            Group(tr("Cameras"), self._cameras()),
            Group(tr("View"), self._view()),
            Group(tr("Keep"), self._keep()),
            Group(tr("Panel"), self._panel()),
            Group(tr("Help"), self._help()),
        )

    def _cameras(self) -> tuple[Action, ...]:
        tr = self.tr
        return (
            Action("add", tr("Add camera…"), ("Ctrl+N",), tr("Choose a camera, a stream address or a video")),
            Action("rename", tr("Rename camera…"), ("F2",), tr("Give the selected camera another name")),
            Action("remove", tr("Remove camera"), ("Delete",), tr("Take the selected camera out of the service")),
            Action("pause", tr("Pause"), ("P",), tr("Pause or resume the selected camera"), True),
        )

    def _view(self) -> tuple[Action, ...]:
        tr = self.tr
        return (
            Action("enlarge", tr("Enlarge"), ("Return",), tr("Let the selected camera fill the window")),
            Action("back", tr("Back to all cameras"), ("Escape",), tr("Leave full screen, then the enlarged camera")),
            Action("next", tr("Next camera"), ("Ctrl+Right",), tr("Enlarge the next camera")),
            Action("previous", tr("Previous camera"), ("Ctrl+Left",), tr("Enlarge the previous camera")),
            Action(
                "earlier", tr("Move camera forwards"), ("Ctrl+Shift+Left",), tr("Move the selected camera forwards")
            ),
            Action(
                "later", tr("Move camera backwards"), ("Ctrl+Shift+Right",), tr("Move the selected camera backwards")
            ),
            Action("full_screen", tr("Full screen"), ("F11",), tr("Fill the screen, or go back"), True),
            Action("on_top", tr("Always on top"), ("Ctrl+T",), tr("Keep the window over all others"), True),
            Action("panel", tr("Side panel"), ("Ctrl+B",), tr("Show or hide events, controls and details"), True),
            Action(
                "bars", tr("Likeliest labels"), ("Ctrl+L",), tr("Show or hide the bars of the likeliest labels"), True
            ),
            Action("strip", tr("Last two minutes"), ("Ctrl+U",), tr("Show or hide the strip under the picture"), True),
        )

    def _keep(self) -> tuple[Action, ...]:
        tr = self.tr
        return (
            Action(
                "snapshot", tr("Snapshot"), ("Ctrl+S",), tr("Save the picture with what is painted over it, as PNG")
            ),
            Action(
                "record", tr("Record"), ("Ctrl+R",), tr("Record the picture with what is painted over it, as MP4"), True
            ),
            Action("export", tr("Export events…"), ("Ctrl+E",), tr("Save the listed events as CSV or JSON")),
        )

    def _panel(self) -> tuple[Action, ...]:
        tr = self.tr
        return (
            Action("events", tr("Events"), ("Ctrl+1",), tr("Open the list of events")),
            Action("controls", tr("Controls"), ("Ctrl+2",), tr("Open the controls")),
            Action("details", tr("Details"), ("Ctrl+3",), tr("Open the figures over time")),
        )

    def _help(self) -> tuple[Action, ...]:
        tr = self.tr
        return (
            Action("help", tr("Keyboard shortcuts"), ("F1", "?"), tr("Show this list")),
            Action("quit", tr("Quit"), ("Ctrl+Q",), tr("Close the window")),
        )


def groups() -> tuple[Group, ...]:
    """Return all actions in their groups, in the order of the help sheet."""
    return Shortcuts().groups()


def actions() -> list[Action]:
    """Return all actions."""
    return [action for group in groups() for action in group.actions]
