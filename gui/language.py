"""The window's language: Qt's own words, and ours from `translations/stream_i3d_<language>.qm` where there is one."""

from __future__ import annotations

from pathlib import Path

from PyQt6.QtCore import QCoreApplication, QLibraryInfo, QLocale, QTranslator

from .state import translation

FOLDER = Path(__file__).parent / "translations"


def speak(locale: QLocale, folder: Path = FOLDER) -> None:
    """Let the application speak the first of the user's languages in which there are words; else English.

    Args:
        locale: Names the user's languages, best first.
        folder: Where our translations are.
    """
    app = QCoreApplication.instance()
    translation.install(QCoreApplication.translate)
    qt = QTranslator(app)
    if qt.load(locale, "qtbase", "_", QLibraryInfo.path(QLibraryInfo.LibraryPath.TranslationsPath)):
        QCoreApplication.installTranslator(qt)
    for language in locale.uiLanguages():
        if language.partition("-")[0] == "en":
            return  # what stands in the source; a file of a language that is less wished for must not win over it
        ours = QTranslator(app)
        path = folder / f"stream_i3d_{language.replace('-', '_')}.qm"
        if path.is_file() and ours.load(str(path)):  # given a name alone, Qt would take others that begin like it
            QCoreApplication.installTranslator(ours)
            return
