from __future__ import annotations

import pytest
from PyQt6.QtCore import QRectF, QSize
from PyQt6.QtGui import QColor, QImage
from stream_i3d_gui.state.camera import CameraTrack
from stream_i3d_gui.widgets.camera_view import CameraView
from stream_i3d_gui.widgets.overlay import fit

from stream_i3d.messages import LabelScore
from tests.samples import recognition, status

BLUE = QColor("#3366cc")


def near(one: QColor, other: QColor) -> bool:
    return all(abs(a - b) < 12 for a, b in zip(one.getRgb()[:3], other.getRgb()[:3], strict=True))


def changed(before: QImage, after: QImage, part: QRectF) -> int:
    """Number of pixels that differ within a part of the picture, given in shares of its sides."""
    width, height = before.width(), before.height()
    columns = range(int(part.left() * width), int(part.right() * width), 2)
    rows = range(int(part.top() * height), int(part.bottom() * height), 2)
    return sum(before.pixel(x, y) != after.pixel(x, y) for x in columns for y in rows)


@pytest.fixture
def view(application, qtbot):
    made = CameraView("door", clock_ns=lambda: 25_000_000)
    qtbot.addWidget(made)
    made.resize(640, 360)
    return made


def track(**more: object) -> CameraTrack:
    made = CameraTrack("door")
    made.take_status(status(), 1.0)
    made.take_recognition(recognition(**more), 1.0)
    return made


def test_a_picture_keeps_its_aspect_and_stands_in_the_middle(view, picture):
    view.set_picture(picture(320, 240))
    seen = view.grab().toImage()
    assert near(seen.pixelColor(320, 100), BLUE)
    assert near(seen.pixelColor(85, 180), BLUE) and near(seen.pixelColor(555, 180), BLUE)
    assert near(seen.pixelColor(70, 180), QColor("#05070a")) and near(seen.pixelColor(570, 180), QColor("#05070a"))
    assert fit(picture(100, 100).image, QRectF(0, 0, 200, 100)) == QRectF(50, 0, 100, 100)
    assert fit(None, QRectF(0, 0, 200, 100)) == QRectF(0, 0, 200, 100)


def test_a_painted_picture_says_how_long_it_took_from_its_capture_once(view, picture, qtbot):
    view.set_picture(picture(capture_ns=5_000_000))
    with qtbot.waitSignal(view.painted) as painted:
        view.grab()
    assert painted.args == [20.0]
    with qtbot.assertNotEmitted(view.painted):
        view.grab()


def test_label_confidence_and_bars_are_painted_over_the_picture(view, picture):
    view.set_picture(picture(640, 360))
    view.set_shown(CameraTrack("door").shown(1.0))
    before = view.grab().toImage()
    view.set_shown(track().shown(1.0))
    after = view.grab().toImage()
    assert changed(before, after, QRectF(0, 0.75, 0.5, 0.25)) > 500  # label, bottom left
    assert changed(before, after, QRectF(0.55, 0.8, 0.45, 0.2)) > 500  # bars, bottom right
    assert changed(before, after, QRectF(0.3, 0.3, 0.4, 0.3)) == 0  # the middle is the picture's
    assert view.accessibleName() == "Camera door, live · 25.0 fps. waving, 80 % sure"


def test_bars_move_and_then_nothing_moves(view, qtbot):
    view.show()
    view.set_shown(track().shown(1.0))
    assert view.moving
    qtbot.waitUntil(lambda: not view.moving, timeout=5000)
    assert view._bars.shown == [("waving", 0.8)]


def test_bars_that_nobody_sees_do_not_move(view):
    view.set_shown(track().shown(1.0))
    assert not view.moving and view._bars.shown == [("waving", 0.8)]


def test_bars_can_be_switched_off(view, picture):
    view.set_picture(picture(640, 360))
    view.set_shown(track().shown(1.0))
    with_bars = view.grab().toImage()
    view.show_bars = False
    view.update()
    assert changed(with_bars, view.grab().toImage(), QRectF(0.55, 0.8, 0.45, 0.2)) > 500


def test_a_lost_camera_is_dimmed_and_says_why(view, picture):
    view.set_picture(picture(640, 360))
    lost = track()
    lost.take_status(
        status(state="reconnecting", fps=0, detail="refused; next try in 8 s", problem="refused", retry_in_s=8), 1.0
    )
    before = view.grab().toImage()
    view.set_shown(lost.shown(2.0))
    after = view.grab().toImage()
    assert after.pixelColor(20, 180).lightness() < 0.5 * before.pixelColor(20, 180).lightness()
    assert changed(before, after, QRectF(0.3, 0.35, 0.4, 0.3)) > 2000
    assert "next try in 7 s" in view.accessibleName()
    view.set_shown(lost.shown(4.0))
    assert changed(after, view.grab().toImage(), QRectF(0.3, 0.35, 0.4, 0.3)) > 10  # the seconds count down


@pytest.mark.parametrize(
    ("width", "height"), [(80, 60), (160, 90), (213, 120), (320, 180), (420, 236), (1600, 400), (300, 900)]
)
def test_no_size_and_no_length_of_words_breaks_the_painting(view, picture, width, height):
    view.resize(width, height)
    view.set_picture(picture(640, 360))
    long = "a very long label that nobody could ever fit " * 3
    scores = [LabelScore(index=n, label=f"{long} {n}", probability=0.5, raw_probability=0.5) for n in range(10)]
    lost = track(label=long, top_k=scores)
    view.set_shown(lost.shown(1.0, top_k=10))
    first = view.grab().toImage()
    lost.take_status(
        status(state="reconnecting", fps=0, detail=f"{long}; next try in 8 s", problem=long, retry_in_s=8), 1.0
    )
    view.set_shown(lost.shown(1.0))
    assert changed(first, view.grab().toImage(), QRectF(0, 0, 1, 1)) > 50


def test_a_snapshot_has_the_previews_own_size_and_the_overlay(view, picture):
    view.resize(200, 120)
    view.set_picture(picture(640, 360))
    view.set_shown(track().shown(1.0))
    made = view.snapshot()
    assert made.size() == QSize(640, 360)
    assert near(made.pixelColor(320, 100), BLUE)
    assert not near(made.pixelColor(30, 340), BLUE)


def test_a_snapshot_without_a_picture_still_has_the_words(view):
    made = view.snapshot()
    assert made.size() == QSize(1280, 720)
    assert len({made.pixel(x, y) for x in range(0, 600, 3) for y in range(550, 720, 3)}) > 10


def test_a_thumbnail_is_the_picture_alone(view, picture):
    assert view.thumbnail(QSize(80, 45)).isNull()
    view.set_picture(picture(640, 360))
    assert view.thumbnail(QSize(80, 45)).size() == QSize(80, 45)


def test_bars_that_are_not_shown_do_not_move(view, picture, qtbot):
    view.show()
    view.show_bars = False
    view.set_shown(track().shown(1.0))
    assert not view.moving
    view.show_bars = True
    view.set_shown(track(top_k=[]).shown(1.0))
    view.set_shown(track().shown(1.0))
    assert view.moving


def test_a_screen_reader_is_told_only_what_is_new(view, monkeypatch):
    told = []
    monkeypatch.setattr(
        view, "setAccessibleName", lambda words: told.append(words) or CameraView.setAccessibleName(view, words)
    )
    for now in (1.0, 1.2, 1.4):
        view.set_shown(track().shown(now))
    assert len(told) == 1
