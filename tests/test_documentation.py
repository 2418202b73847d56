"""What the documentation names is there: files, folders, modules, public names, `make` targets, commands."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import click
import pytest

import stream_i3d
from stream_i3d.cli.app import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "ARCHITECTURE.md")]
PAGES += [
    page for page in sorted((ROOT / "docs").glob("*.md")) if page.name != "decisions.md"
]  # which are of their time

_LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)[^)]*\)")
_PATH = re.compile(r"`((?:stream_i3d|gui|configs|tests|scripts|docs)/[\w./-]*)`")
_DOTTED = re.compile(r"`stream_i3d\.([a-z_]+(?:\.[a-z_]+)*)`")
_MAKE = re.compile(r"`make ([a-z]+)|^make ([a-z]+)", re.MULTILINE)
_COMMAND = re.compile(r"(?:^|`|bin/)stream-i3d ([a-z]+)(?: ([a-z]+))?", re.MULTILINE)


@pytest.fixture(params=PAGES, ids=lambda page: page.name)
def page(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_links_lead_to_files(page: Path) -> None:
    broken = [link for link in _LINK.findall(page.read_text()) if not (page.parent / link).exists()]
    assert broken == []


def test_paths_exist(page: Path) -> None:
    missing = [path for path in _PATH.findall(page.read_text()) if not (ROOT / path).exists()]
    assert missing == []


def test_modules_can_be_found(page: Path) -> None:
    names = {f"stream_i3d.{name}" for name in _DOTTED.findall(page.read_text())} - {
        f"stream_i3d.{name}" for name in stream_i3d.__all__
    }
    missing = [name for name in sorted(names) if importlib.util.find_spec(name) is None]
    assert missing == []


def test_make_has_the_targets(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {first or second for first, second in _MAKE.findall(page.read_text())}
    assert named <= targets


def test_commands_exist(page: Path) -> None:
    context, unknown = click.Context(app), []
    for name, inner in _COMMAND.findall(page.read_text()):
        command = app.get_command(context, name)
        if command is None or (
            isinstance(command, click.Group) and inner and command.get_command(context, inner) is None
        ):
            unknown.append(f"{name} {inner}")
    assert unknown == []


def test_the_readme_is_a_landing_page() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
