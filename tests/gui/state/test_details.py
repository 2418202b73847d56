from __future__ import annotations

import pytest
from stream_i3d_gui.state.board import Board
from stream_i3d_gui.state.details import facts
from stream_i3d_gui.state.formats import NOTHING
from stream_i3d_gui.state.statistics import CameraStatistics

from tests.samples import status


@pytest.mark.parametrize(
    ("view", "share", "shown"),
    [
        (None, None, NOTHING),
        ("centre", None, NOTHING),
        ("centre", 0.431, "43 % (centre)"),
        ("squeeze", 1.0, "100 % (squeezed)"),
    ],
)
def test_the_details_say_how_much_of_the_picture_is_seen(view: str | None, share: float | None, shown: str) -> None:
    figures = CameraStatistics()
    figures.take_status(status(view=view, view_share=share), 0.0)
    assert facts(Board(), None, "", figures)["Seen of the picture"] == shown


def test_without_a_camera_there_is_nothing_seen() -> None:
    assert "Seen of the picture" not in facts(Board(), None, "", None)
