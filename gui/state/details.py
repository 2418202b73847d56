"""The details panel's facts in words. Pure."""

from __future__ import annotations

from stream_i3d.transport.control import HelloReply

from .board import Board
from .formats import NOTHING, count, percent
from .statistics import CameraStatistics
from .translation import translate


def facts(board: Board, hello: HelloReply | None, address: str, figures: CameraStatistics | None) -> dict[str, str]:
    """Return what is known of the service and of this window's own losses, by name."""
    known = {
        translate("Facts", "Control address"): address or NOTHING,
        translate("Facts", "Messages that were not ours"): count(board.malformed),
        translate("Facts", "Messages lost on the way"): count(board.lost_messages),
        translate("Facts", "Events forgotten"): count(board.history.dropped),
        translate("Facts", "Cameras beyond the limit"): count(board.refused_cameras),
    }
    if figures is not None:
        known[translate("Facts", "Frames dropped")] = count(figures.frames_dropped)
        known[translate("Facts", "Windows dropped")] = count(figures.windows_dropped)
        known[translate("Facts", "Pictures skipped here")] = count(figures.previews_dropped)
        known[translate("Facts", "Seen of the picture")] = _seen(figures)
    if hello is not None:
        known[translate("Facts", "Service")] = translate("Facts", "stream-i3d {version}, process {pid}").format(
            version=hello.version, pid=hello.pid
        )
        known[translate("Facts", "Publishes at")] = hello.publish or NOTHING
        known[translate("Facts", "Engine")] = hello.engine or NOTHING
        known[translate("Facts", "Device")] = f"{hello.device or NOTHING}, {hello.precision or NOTHING}"
        known[translate("Facts", "Labels")] = count(len(hello.labels))
    return known


def _seen(figures: CameraStatistics) -> str:
    """Return how much of a camera's picture the network sees, such as "43 % (centre)"."""
    if figures.view is None or figures.view_share is None:
        return NOTHING
    views = {
        "centre": translate("Facts", "centre"),
        "whole": translate("Facts", "whole"),
        "squeeze": translate("Facts", "squeezed"),
    }
    return f"{percent(figures.view_share)} ({views[figures.view]})"
