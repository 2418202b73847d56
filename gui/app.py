"""Starts the window. The process imports neither cv2 nor torch."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable

from PyQt6.QtCore import QCoreApplication, QLocale, QTimer
from PyQt6.QtWidgets import QApplication

from stream_i3d.config import Config
from stream_i3d.service.demo_settings import demo_config
from stream_i3d.service.launch import launch
from stream_i3d.transport.addresses import check_address
from stream_i3d.transport.control_sockets import DEFAULT_CONTROL
from stream_i3d.transport.keys import ClientKeys

from .language import speak
from .session import Session
from .settings_store import SettingsStore
from .widgets.main_window import MainWindow

DEMO_SEED = 7


def make_application(arguments: list[str]) -> QApplication:
    """Return the application, with the system's light or dark and language."""
    app = QApplication(arguments)
    app.setApplicationName("stream-i3d")
    app.setOrganizationName("stream-i3d")
    app.setStyle("Fusion")
    speak(QLocale())
    return app


def make_window(store: SettingsStore | None = None, demo: Callable[[], Config] | None = None) -> MainWindow:
    """Return the window, without a service."""
    return MainWindow(
        Session(launch),
        SettingsStore() if store is None else store,
        (lambda: demo_config(DEMO_SEED)) if demo is None else demo,
    )


def end_after(session: Session, duration_s: float) -> None:
    """End the application so many seconds after the service is ready, or with code 2 when it fails."""
    timer = QTimer(session)
    timer.setSingleShot(True)
    timer.setInterval(round(1000 * duration_s))
    timer.timeout.connect(QCoreApplication.quit)

    def heed(state: str) -> None:
        if state == "up" and not timer.isActive():
            timer.start()
        elif state == "failed":
            print(f"error: {session.failure}", file=sys.stderr)
            QCoreApplication.exit(2)

    session.state_changed.connect(heed)


def main(
    config: Config | None = None,
    connect: str | None = None,
    duration_s: float | None = None,
    keys: ClientKeys | None = None,
) -> int:
    """Show the window until it is closed.

    Args:
        config: Start a service of our own with this configuration.
        connect: Use the service that takes requests at this address; without both, the one at the default address.
        duration_s: Close by itself so many seconds after the service is ready, or when it fails.
        keys: For a service that runs and wants them.

    Returns:
        Exit code; 2 where the service failed before a `duration_s` was over.

    Raises:
        ConfigError: `connect` is no address.
    """
    if connect is not None:
        check_address(connect)
    app = make_application(sys.argv[:1])
    # Python runs signal handlers between bytecodes only: the window's timers make sure that there are some.
    signal.signal(signal.SIGINT, lambda *_: app.quit())
    signal.signal(signal.SIGTERM, lambda *_: app.quit())
    window = make_window()
    if duration_s is not None:
        end_after(window.session, duration_s)
    window.show()
    if config is not None:
        window.start(config)
    else:
        window.session.connect_to(connect or DEFAULT_CONTROL, keys)
    code = app.exec()
    window.close()
    return code
