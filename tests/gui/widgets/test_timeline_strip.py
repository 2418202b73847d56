from __future__ import annotations

import pytest
from PyQt6.QtCore import QPoint, Qt
from PyQt6.QtGui import QColor
from PyQt6.QtTest import QTest
from PyQt6.QtWidgets import QToolTip
from stream_i3d_gui.state.colours import label_style
from stream_i3d_gui.state.timeline import Timeline
from stream_i3d_gui.widgets.theme import DARK, LIGHT
from stream_i3d_gui.widgets.timeline_strip import TimelineStrip

from stream_i3d.messages import Latency
from tests.samples import event, recognition, window

NO_LATENCY = Latency(queue=0, inference=0, total=0)


@pytest.fixture
def strip(application, qtbot):
    timeline = Timeline()
    for tick in range(121):
        label = "waving" if tick < 60 else "left"
        timeline.take_recognition(
            recognition(label=label, confidence=0.75, window=window(float(tick)), latency_ms=NO_LATENCY), float(tick)
        )
    timeline.take_event(event(event="end", label="left", start_time=90.0, end_time=100.0, peak_confidence=0.9), 120.0)
    made = TimelineStrip(timeline)
    qtbot.addWidget(made)
    made.resize(976, 84)
    made.refresh(120.0)
    return made


def count_of(strip: TimelineStrip, colour: str, left: int, right: int) -> int:
    image = strip.grab().toImage()
    wanted = QColor(colour).rgb()
    return sum(image.pixel(x, y) == wanted for x in range(left, right) for y in range(image.height()))


@pytest.mark.parametrize("theme", [DARK, LIGHT])
def test_each_label_has_its_colour_over_its_time(strip, theme):
    strip.theme = theme
    waving, left = label_style("waving", theme.dark).fill, label_style("left", theme.dark).fill
    assert count_of(strip, waving, 0, 480) > 1000 and count_of(strip, left, 0, 480) == 0
    assert count_of(strip, left, 496, 976) > 1000 and count_of(strip, waving, 496, 976) == 0


def test_time_moves_the_segments_to_the_left(strip):
    fill = label_style("waving", strip.theme.dark).fill
    before = count_of(strip, fill, 240, 480)
    strip.refresh(160.0)
    assert count_of(strip, fill, 240, 480) < before / 4
    assert strip.spans[0].label == "waving"


def test_details_name_the_label_its_confidence_its_age_and_the_event(strip):
    assert strip.describe(95.5) == "24.5 s ago: left, 75 %\nlatency 0.0 ms\nleft: 10.0 s, 90 %"
    assert strip.describe(-20.0) == ""


def test_the_pointer_shows_the_details(strip, qtbot, application):
    strip.show()
    x = 8 + 960 * 95 // 120
    QTest.mouseMove(strip, QPoint(x, 40))
    qtbot.waitUntil(lambda: "left" in QToolTip.text(), timeout=5000)
    assert "90 %" in QToolTip.text()
    QToolTip.hideText()


def test_the_arrow_keys_move_a_mark_and_say_what_was_there(strip, qtbot):
    strip.show()
    strip.setFocus()
    for _ in range(3):
        QTest.keyClick(strip, Qt.Key.Key_Left)
    assert strip.accessibleDescription().startswith("3.0 s ago: left, 75 %")
    QTest.keyClick(strip, Qt.Key.Key_Right)
    assert strip.accessibleDescription().startswith("2.0 s ago")
    QToolTip.hideText()


def test_a_compact_strip_is_lower_and_still_shows_the_segments(strip):
    strip.set_compact(True)
    assert strip.height() < 84
    assert count_of(strip, label_style("left", strip.theme.dark).fill, 496, 976) > 1000


def test_an_empty_strip_paints_its_line_only(application, qtbot):
    made = TimelineStrip(Timeline())
    qtbot.addWidget(made)
    made.resize(400, 84)
    made.refresh(5.0)
    assert made.spans == [] and made.describe(4.0) == ""
    assert count_of(made, label_style("left", made.theme.dark).fill, 0, 400) == 0
