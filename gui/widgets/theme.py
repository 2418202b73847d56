"""The window's colours, light and dark as the system is. Every pair that carries text is WCAG AA (tested)."""

from __future__ import annotations

from dataclasses import dataclass

from PyQt6.QtCore import Qt
from PyQt6.QtGui import QBrush, QColor, QFont, QFontInfo, QGuiApplication, QPalette
from PyQt6.QtWidgets import QApplication


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours as #rrggbb by what they are for."""

    dark: bool
    window: str
    base: str
    raised: str
    text: str
    muted: str
    line: str
    accent: str
    on_accent: str
    danger: str
    warning: str
    good: str


DARK = Theme(
    dark=True,
    window="#14171c",
    base="#1b1f26",
    raised="#262c35",
    text="#eceff4",
    muted="#aab4c1",
    line="#6b7685",
    accent="#6db3ff",
    on_accent="#08131f",
    danger="#ff958c",
    warning="#ffcf66",
    good="#7ad99a",
)
LIGHT = Theme(
    dark=False,
    window="#f3f5f8",
    base="#ffffff",
    raised="#e6eaf0",
    text="#14181e",
    muted="#4d5764",
    line="#747f8d",
    accent="#0b57a4",
    on_accent="#ffffff",
    danger="#a6211a",
    warning="#7a4f00",
    good="#17643a",
)

ON_PICTURE = DARK
"""What is painted over pictures lies on a dark scrim in both themes."""
SCRIM = "#0b0e12"
SCRIM_ALPHA = 0.82
"""Over a white picture the scrim is #373a3d: what is written on it keeps 4.5 to 1."""

_PATTERNS = {
    "solid": Qt.BrushStyle.NoBrush,
    "diagonal": Qt.BrushStyle.BDiagPattern,
    "horizontal": Qt.BrushStyle.HorPattern,
    "dots": Qt.BrushStyle.Dense6Pattern,
    "vertical": Qt.BrushStyle.VerPattern,
    "cross": Qt.BrushStyle.DiagCrossPattern,
}


_INPUTS = ("QAbstractSpinBox", "QCheckBox", "QComboBox", "QLineEdit", "QSlider")


def current_theme() -> Theme:
    """Return the theme that the system asks for; light where it does not say."""
    hints = QGuiApplication.styleHints()
    return DARK if hints is not None and hints.colorScheme() == Qt.ColorScheme.Dark else LIGHT


def colour(text: str, alpha: float = 1.0) -> QColor:
    """Return #rrggbb as a QColor."""
    made = QColor(text)
    made.setAlphaF(alpha)
    return made


def pattern_brush(pattern: str, text: str) -> QBrush:
    """Return the brush that is laid over a label's fill: lines in the colour of its text, faint enough to read on."""
    return QBrush(colour(text, 0.28), _PATTERNS[pattern])


def font_scale(font: QFont) -> float:
    """Return how much larger than usual (12 pixels) the user's letters are, 1 at least; what is painted follows it."""
    return max(1.0, QFontInfo(font).pixelSize() / 12)


def apply_theme(app: QApplication, theme: Theme) -> None:
    """Give all widgets the theme's colours."""
    palette = QPalette()
    roles = QPalette.ColorRole
    for role, value in (
        (roles.Window, theme.window),
        (roles.WindowText, theme.text),
        (roles.Base, theme.base),
        (roles.AlternateBase, theme.raised),
        (roles.Text, theme.text),
        (roles.Button, theme.raised),
        (roles.ButtonText, theme.text),
        (roles.ToolTipBase, theme.raised),
        (roles.ToolTipText, theme.text),
        (roles.Highlight, theme.accent),
        (roles.HighlightedText, theme.on_accent),
        (roles.Link, theme.accent),
        (roles.PlaceholderText, theme.muted),
        (roles.Mid, theme.line),
    ):
        palette.setColor(role, QColor(value))
    for role in (roles.WindowText, roles.Text, roles.ButtonText):
        palette.setColor(QPalette.ColorGroup.Disabled, role, colour(theme.text, 0.5))
    app.setPalette(palette)
    inputs = outlined(palette)
    for name in _INPUTS:
        app.setPalette(inputs, name)
    app.setStyleSheet(_sheet(theme))


def outlined(palette: QPalette) -> QPalette:
    """Return the palette for inputs: Fusion draws their outline in a darker shade of the window's colour.

    On a dark window that would be darker still, so that an empty check box could not be seen; this one can (3 to 1).
    """
    made = QPalette(palette)
    made.setColor(QPalette.ColorRole.Window, palette.color(QPalette.ColorRole.Mid).lighter(140))
    return made


def _sheet(theme: Theme) -> str:
    return f"""
    QToolBar {{ background: {theme.base}; border: 0; border-bottom: 1px solid {theme.line}; spacing: 2px;
        padding: 4px; }}
    QToolBar QToolButton {{ color: {theme.text}; padding: 5px 9px; border-radius: 6px; border: 1px solid transparent; }}
    QToolBar QToolButton:hover {{ background: {theme.raised}; }}
    QToolBar QToolButton:checked {{ background: {theme.raised}; border-color: {theme.accent}; color: {theme.accent}; }}
    QToolBar QToolButton:focus {{ border-color: {theme.accent}; }}
    QToolBar QToolButton:disabled {{ color: {theme.muted}; }}
    QToolBar QToolButton#qt_toolbar_ext_button {{ padding: 0; min-width: 14px;
        background: {theme.muted if theme.dark else theme.raised}; }}
    QStatusBar {{ background: {theme.base}; border-top: 1px solid {theme.line}; }}
    QStatusBar::item {{ border: 0; }}
    QPushButton {{ background: {theme.raised}; color: {theme.text}; border: 1px solid {theme.line}; border-radius: 6px;
        padding: 6px 14px; }}
    QPushButton:hover {{ border-color: {theme.accent}; }}
    QPushButton:focus {{ border: 2px solid {theme.accent}; padding: 5px 13px; }}
    QPushButton:disabled {{ color: {theme.muted}; border-color: {theme.raised}; }}
    QPushButton[primary="true"] {{ background: {theme.accent}; color: {theme.on_accent};
        border-color: {theme.accent}; }}
    QPushButton[primary="true"]:focus {{ border-color: {theme.text}; }}
    QLineEdit, QComboBox, QSpinBox, QDoubleSpinBox {{ min-height: 24px; }}
    QTabWidget::pane {{ border: 0; border-top: 1px solid {theme.line}; }}
    QTabBar::tab {{ background: transparent; color: {theme.muted}; padding: 8px 14px; border: 0;
        border-bottom: 2px solid transparent; }}
    QTabBar::tab:selected {{ color: {theme.text}; border-bottom-color: {theme.accent}; }}
    QTabBar::tab:focus {{ color: {theme.accent}; }}
    QListView {{ background: {theme.base}; border: 1px solid {theme.line}; border-radius: 6px; }}
    QToolTip {{ background: {theme.raised}; color: {theme.text}; border: 1px solid {theme.line}; padding: 4px; }}
    """
