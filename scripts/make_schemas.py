"""Writes docs/schemas/*.json, one JSON Schema (2020-12) for each published message and for /status, from their classes.

Schemas have no references ($ref). With --check nothing is written, and the exit code is 1 if a file differs from the
classes.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from stream_i3d.messages import PUBLISHED, schema_name
from stream_i3d.service.monitoring.snapshot import Snapshot

FOLDER = Path(__file__).parents[1] / "docs" / "schemas"
_ATTRIBUTE = re.compile(r"^    (\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)


def schema_files() -> dict[str, str]:
    """Return the text of each file by its name."""
    return {f"{schema_name(kind).split('/')[1]}.json": _text(make_schema(kind)) for kind in (*PUBLISHED, Snapshot)}


def make_schema(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Return the self-contained JSON Schema of one message class."""
    document = msgspec.json.schema(kind)
    schema: dict[str, Any] = _resolve(document, document["$defs"])
    # msgspec takes a field with a default for optional; this one is always there, and tells the messages apart.
    schema["required"] = ["schema", *schema["required"]]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": schema_name(kind), **schema}


def _resolve(node: Any, definitions: dict[str, Any]) -> Any:
    """Put what every "$ref" means in its place, and describe fields where they stand."""
    if isinstance(node, list):
        return [_resolve(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _resolve(definitions[node["$ref"].rpartition("/")[2]], definitions)
    resolved = {key: _resolve(value, definitions) for key, value in node.items()}
    if "properties" in resolved:
        _describe_fields(resolved)
    return resolved


def _describe_fields(schema: dict[str, Any]) -> None:
    """Move the "Attributes" of a class's docstring to the fields that they describe."""
    text = inspect.cleandoc(schema.get("description", ""))
    schema["description"] = " ".join(text.partition("\n\n")[0].split())
    for name, description in _ATTRIBUTE.findall(text):
        schema["properties"][name]["description"] = " ".join(description.split())


def _text(schema: dict[str, Any]) -> str:
    return json.dumps(schema, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def differences(folder: Path) -> list[str]:
    """Return what is wrong with the files in `folder`, a line each."""
    wanted = schema_files()
    found = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.json")}
    missing = [f"{folder / name}: missing" for name in wanted if name not in found]
    strange = [f"{folder / name}: there is no such message" for name in found if name not in wanted]
    outdated = [f"{folder / name}: outdated" for name in wanted if found.get(name, wanted[name]) != wanted[name]]
    return sorted(missing + strange + outdated)


@click.command(help=__doc__)
@click.option("--check", is_flag=True, help="Only compare; exit with 1 where a file differs.")
@click.option("--folder", type=click.Path(path_type=Path), default=FOLDER, show_default=True)
def main(check: bool, folder: Path) -> None:
    """Write the schemas, or compare them."""
    if check:
        wrong = differences(folder)
        for line in wrong:
            click.echo(line, err=True)
        if wrong:
            click.echo("run scripts/make_schemas.py, look at the difference, and commit it", err=True)
            sys.exit(1)
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in schema_files().items():
        (folder / name).write_text(text, encoding="utf-8")
        click.echo(f"wrote {folder / name}")


if __name__ == "__main__":
    main()
