"""Every action of the window with its keys: one table for the menus, the shortcuts and the help sheet. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Action:
    """An action: its name in code, words, keys (Qt's portable text), what it does, and its group in the help."""

    id: str
    text: str
    keys: tuple[str, ...]
    meaning: str
    group: str
    checkable: bool = False


ACTIONS = (
    Action("add", "Add camera…", ("Ctrl+N",), "Choose a camera, a stream address or a video", "Cameras"),
    Action("rename", "Rename camera…", ("F2",), "Give the selected camera another name", "Cameras"),
    Action("remove", "Remove camera", ("Delete",), "Take the selected camera out of the service", "Cameras"),
    Action("pause", "Pause", ("P",), "Pause or resume the selected camera", "Cameras", True),
    Action("enlarge", "Enlarge", ("Return",), "Let the selected camera fill the window", "View"),
    Action("back", "Back to all cameras", ("Escape",), "Leave full screen, then the enlarged camera", "View"),
    Action("next", "Next camera", ("Ctrl+Right",), "Enlarge the next camera", "View"),
    Action("previous", "Previous camera", ("Ctrl+Left",), "Enlarge the previous camera", "View"),
    Action("earlier", "Move camera forwards", ("Ctrl+Shift+Left",), "Move the selected camera forwards", "View"),
    Action("later", "Move camera backwards", ("Ctrl+Shift+Right",), "Move the selected camera backwards", "View"),
    Action("full_screen", "Full screen", ("F11",), "Fill the screen, or go back", "View", True),
    Action("on_top", "Always on top", ("Ctrl+T",), "Keep the window over all others", "View", True),
    Action("panel", "Side panel", ("Ctrl+B",), "Show or hide events, controls and details", "View", True),
    Action("bars", "Likeliest labels", ("Ctrl+L",), "Show or hide the bars of the likeliest labels", "View", True),
    Action("strip", "Last two minutes", ("Ctrl+U",), "Show or hide the strip under the picture", "View", True),
    Action("snapshot", "Snapshot", ("Ctrl+S",), "Save the picture with what is painted over it, as PNG", "Keep"),
    Action("record", "Record", ("Ctrl+R",), "Record the picture with what is painted over it, as MP4", "Keep", True),
    Action("export", "Export events…", ("Ctrl+E",), "Save the listed events as CSV or JSON", "Keep"),
    Action("events", "Events", ("Ctrl+1",), "Open the list of events", "Panel"),
    Action("controls", "Controls", ("Ctrl+2",), "Open the controls", "Panel"),
    Action("details", "Details", ("Ctrl+3",), "Open the figures over time", "Panel"),
    Action("help", "Keyboard shortcuts", ("F1", "?"), "Show this list", "Help"),
    Action("quit", "Quit", ("Ctrl+Q",), "Close the window", "Help"),
)


def by_group() -> dict[str, list[Action]]:
    """Return the actions under their groups, in order."""
    groups: dict[str, list[Action]] = {}
    for action in ACTIONS:
        groups.setdefault(action.group, []).append(action)
    return groups
