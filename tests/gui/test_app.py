"""How the application ends by itself."""

from __future__ import annotations

import pytest
from PyQt6.QtCore import QTimer
from stream_i3d_gui.app import end_after
from stream_i3d_gui.session import Session

from stream_i3d.errors import CheckpointError


def no_checkpoint(config: object) -> object:
    raise CheckpointError("checkpoint gone.pt does not exist")


@pytest.fixture
def session(application):
    made = Session(no_checkpoint)
    yield made
    made.end()


def test_the_window_ends_so_long_after_the_service_is_ready(application, session):
    end_after(session, 0.05)
    QTimer.singleShot(0, lambda: session.state_changed.emit("up"))
    assert application.exec() == 0


def test_a_service_that_fails_ends_it_with_code_2_and_its_words(application, session, capsys):
    end_after(session, 3600)
    QTimer.singleShot(0, lambda: session.start(None))
    assert application.exec() == 2
    assert capsys.readouterr().err == "error: checkpoint gone.pt does not exist\n"
