"""What the application begins with, and how it ends by itself."""

from __future__ import annotations

import os
import subprocess
import sys

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


def test_the_application_speaks_the_languages_of_the_system():
    code = """if True:
        from PyQt6.QtCore import QCoreApplication
        from stream_i3d_gui.app import make_application
        from stream_i3d_gui.state import translation
        app = make_application(["stream-i3d"])
        print(QCoreApplication.translate("QPlatformTheme", "Cancel"), translation.translate("QPlatformTheme", "Cancel"))
    """
    german = {"LANGUAGE": "de", "LANG": "de_DE.UTF-8", "LC_ALL": "de_DE.UTF-8"}
    told = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **german}, capture_output=True, text=True, check=True
    )
    assert told.stdout.split() == ["Abbrechen", "Abbrechen"]


def test_the_window_ends_so_long_after_the_service_is_ready(application, session):
    end_after(session, 0.05)
    QTimer.singleShot(0, lambda: session.state_changed.emit("up"))
    assert application.exec() == 0


def test_a_service_that_fails_ends_it_with_code_2_and_its_words(application, session, capsys):
    end_after(session, 3600)
    QTimer.singleShot(0, lambda: session.start(None))
    assert application.exec() == 2
    assert capsys.readouterr().err == "error: checkpoint gone.pt does not exist\n"
