from __future__ import annotations

from collections.abc import Iterator

import pytest
from stream_i3d_gui.state import translation
from stream_i3d_gui.state.camera import CameraTrack
from stream_i3d_gui.state.first_run import emptiness
from stream_i3d_gui.state.formats import duration
from stream_i3d_gui.state.shortcuts import actions


@pytest.fixture
def marked() -> Iterator[None]:
    """A language in which every word says where it stands."""
    translation.install(lambda context, text: f"{context}:{text}")
    yield
    translation.install(None)


def test_without_a_translator_the_words_are_english():
    assert translation.translate("Camera", "live") == "live"


def test_words_are_asked_for_with_their_context_and_numbers_are_put_in_afterwards(marked):
    assert translation.translate("Camera", "live") == "Camera:live"
    assert duration(125.0) == "Formats:2 min 5 s"


def test_what_stands_in_a_table_is_translated_when_it_is_shown(marked):
    assert next(one for one in actions() if one.id == "quit").text == "Shortcuts:Quit"
    assert emptiness("none", "", "", 1).offers[0].text == "FirstRun:Choose a camera…"
    assert CameraTrack("door").shown(0.0).state == "Camera:connecting"
