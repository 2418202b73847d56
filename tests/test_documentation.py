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
PAGES += sorted((ROOT / "docs").glob("*.md"))

_LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)[^)]*\)")
_PATH = re.compile(r"`((?:stream_i3d|gui|configs|tests|scripts|docs)/[\w./-]*)`")
_DOTTED = re.compile(r"`stream_i3d\.([a-z_]+(?:\.[a-z_]+)*)`")
_PYTHON_FILE = re.compile(r"(?<![\w./-])((?:[a-z_]+/)+\w+\.py)\b")
_ANCHOR = re.compile(r"\]\((?!https?:)([^)#\s]*)#([^)\s]+)\)")
_NAME_IN_FILE = re.compile(r"`([A-Z]\w+)`(?:,| \(| in )[^|`]*`(stream_i3d/[\w/]+\.py)`")
_CITED_DECISION = re.compile(r"docs/decisions\.md[,:]? \(?\"([^\"]+)\"")
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


def test_python_files_exist(page: Path) -> None:
    """Also those outside backticks, and those named from inside the package, such as models/i3d.py."""
    folders = [ROOT, ROOT / "stream_i3d"]
    named = set(_PYTHON_FILE.findall(page.read_text()))
    assert {path for path in named if not any((folder / path).exists() for folder in folders)} == set()


def test_anchors_lead_to_headings(page: Path) -> None:
    broken = []
    for link, anchor in _ANCHOR.findall(page.read_text()):
        target = page.parent / link if link else page
        if anchor not in {_slug(heading) for heading in _headings(target)}:
            broken.append(f"{link}#{anchor}")
    assert broken == []


def _headings(page: Path) -> list[str]:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"^#+ (.+)$", text, re.MULTILINE)


def _slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def test_names_of_the_recipes_are_in_their_files() -> None:
    recipes = (ROOT / "ARCHITECTURE.md").read_text().split("## Where to add what")[1].split("\n## ")[0]
    pairs = _NAME_IN_FILE.findall(recipes)
    assert {"SmoothingName", "SINKS", "SOURCES", "ARCHITECTURES", "DEFAULT_CHECKPOINT"} <= {name for name, _ in pairs}
    assert [pair for pair in pairs if not re.search(rf"\b{pair[0]}\b", (ROOT / pair[1]).read_text())] == []


def test_decisions_cited_in_code_are_there() -> None:
    headings = _headings(ROOT / "docs" / "decisions.md")
    cited = [
        title
        for file in sorted((ROOT / "stream_i3d").rglob("*.py"))
        for title in _CITED_DECISION.findall(file.read_text())
    ]
    assert cited
    assert [title for title in cited if not any(heading.startswith(title) for heading in headings)] == []


def test_decisions_are_all_in_the_index() -> None:
    text = (ROOT / "docs" / "decisions.md").read_text()
    index, entries = text.split("## Index")[1].split("\n## ", 1)
    listed = [anchor for _, anchor in _ANCHOR.findall(index)]
    assert listed == [_slug(heading) for heading in re.findall(r"^### (.+)$", entries, re.MULTILINE)]


def test_modules_can_be_found(page: Path) -> None:
    names = {f"stream_i3d.{name}" for name in _DOTTED.findall(page.read_text())} - {
        f"stream_i3d.{name}"
        for name in [*stream_i3d.__all__, "__all__", "configs"]  # configs: in the wheel only
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


def test_the_pictures_are_small() -> None:
    sizes = {path.name: path.stat().st_size for path in (ROOT / "docs" / "screenshots").glob("*.png")}
    assert {name: size for name, size in sizes.items() if size > 300_000} == {}
