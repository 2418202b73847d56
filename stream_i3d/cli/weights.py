"""`stream-i3d weights list|download|verify|inspect|convert`: the published weights, and weights files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stream_i3d.cli import completion
from stream_i3d.cli.output import say, say_json
from stream_i3d.display_text import clean_text

if TYPE_CHECKING:
    from stream_i3d.models.spec import ModelSpec
    from stream_i3d.models.verify import Check, Inspection
    from stream_i3d.models.zoo import PublishedWeights


@click.group()
def weights() -> None:
    """List, download, check and convert weights.

    Published weights are kept in a cache folder (STREAM_I3D_HOME names another one) and can then be given by name
    wherever a weights file can: --checkpoint i3d-rgb-kinetics400.
    """


@weights.command("list")
@click.option("--json", "as_json", is_flag=True, help="As a JSON list.")
def list_weights(as_json: bool) -> None:
    """List the published weights, and which are downloaded."""
    import msgspec

    from stream_i3d.models.zoo import PUBLISHED, weights_folder

    rows = list(PUBLISHED.values())
    if as_json:
        say_json(msgspec.json.encode([_as_json(row) for row in rows]))
        return
    say(f"{'name':<41} {'input':<6} {'classes':>7} {'top-1':>6} {'top-5':>6}  state")
    for row in rows:
        top = row.result
        top_1, top_5 = ("", "") if top is None else (f"{top.top1:g}", "" if top.top5 is None else f"{top.top5:g}")
        kind = {3: "RGB", 2: "flow"}[row.in_channels]
        state = "at hand" if row.is_downloaded else "not downloaded"
        say(f"{row.name:<41} {kind:<6} {row.num_classes:>7} {top_1:>6} {top_5:>6}  {state}")
    say(f"in {weights_folder()}; accuracies are the published ones on Kinetics-400, in per cent")


@weights.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=completion.published_weights)
@click.option("--force", is_flag=True, help="Download again what is there already.")
def download(names: tuple[str, ...], force: bool) -> None:
    """Download published weights into the cache; an interrupted download is continued."""
    from stream_i3d.errors import DownloadError
    from stream_i3d.models.zoo import find_published
    from stream_i3d.redact import redact

    rows = [find_published(name) for name in names]  # a misspelt name is refused before the first download
    errors = []
    for row in rows:
        try:
            fetched = _download(row, force)
        except DownloadError as error:  # the others are still downloaded
            errors.append(error)
            if len(rows) > 1:
                say(f"error: {redact(str(error))}", err=True)
            continue
        say(f"{row.name}: {'downloaded to' if fetched else 'at hand and whole:'} {row.path}")
    if len(rows) == 1 and errors:
        raise errors[0]
    if errors:
        sys.exit(2)


@weights.command()
@click.argument("targets", nargs=-1, required=True, metavar="NAME|FILE...", shell_complete=completion.checkpoints)
@click.option(
    "--clip-rgb", type=click.Path(path_type=Path), help="The released example clip's RGB: the .npy or the .gif file."
)
@click.option("--clip-flow", type=click.Path(path_type=Path), help="Its flow, a .npy file.")
def verify(targets: tuple[str, ...], clip_rgb: Path | None, clip_flow: Path | None) -> None:
    """Check weights: integrity where known, strict load, shapes, and the released example clip where it is given.

    The clip is v_CricketShot_g04_c01 of kinetics-i3d's data folder. Give an RGB and a flow network, and both files, to
    check the sum of the two streams as well.
    """
    from stream_i3d.errors import CheckpointError
    from stream_i3d.models.verify import check_sum, failed, verify_checkpoint

    clips = {channels: clip for channels, clip in ((3, clip_rgb), (2, clip_flow)) if clip is not None}
    logits: dict[int, Any] = {}
    faults: list[str] = []
    for target in targets:
        result = verify_checkpoint(target, clips)
        _show(target, result.checks)
        faults += [f"{what} of {target}" for what in failed(result.checks)]
        if result.channels is not None:
            logits[result.channels] = result.logits
    if len(logits) == 2:
        both = check_sum(logits[3], logits[2])
        _show("the two added", [both])
        faults += failed([both])
    unused = [name for channels, name in ((3, "--clip-rgb"), (2, "--clip-flow")) if channels in clips.keys() - logits]
    if faults:
        raise CheckpointError(f"not sound: {', '.join(faults)}; see above, and download or convert the file again")
    if unused:
        raise CheckpointError(f"no golden for {' and '.join(unused)}: give Inception I3D weights of 400 classes")


@weights.command()
@click.argument("file", metavar="NAME|FILE", shell_complete=completion.checkpoints)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def inspect(file: str, as_json: bool) -> None:
    """Describe a weights file: layout, architecture, classes, tensors and metadata."""
    import msgspec

    from stream_i3d.models.verify import inspect_checkpoint

    found = inspect_checkpoint(file)
    if as_json:
        say_json(msgspec.json.encode(found))
        return
    for topic, text in _described(found):
        say(f"{topic:<14} {text}")


@weights.command()
@click.argument("file", metavar="NAME|FILE", shell_complete=completion.checkpoints)
@click.option(
    "--output", required=True, help="The file to write; ends in .safetensors.", shell_complete=completion.files
)
@click.option(
    "--labels",
    help="Label list to add: kinetics400, kinetics600, ucf101, hmdb51 or a text file.",
    shell_complete=completion.label_lists,
)
@click.option(
    "--architecture",
    help="What the file is of, where its tensors leave that open.",
    shell_complete=completion.architectures,
)
def convert(file: str, output: str, labels: str | None, architecture: str | None) -> None:
    """Write weights of any known layout as safetensors that carry labels, preprocessing and where they come from."""
    from stream_i3d.models.verify import convert_checkpoint

    spec = convert_checkpoint(file, output, labels, architecture)
    named = "no labels" if spec.labels is None else f"{len(spec.labels)} labels"
    layout = spec.provenance.get("layout", "stream-i3d")
    say(f"{output}: {spec.architecture}, {spec.num_classes} classes, {named}, from {file} (layout {layout})")
    if "note" in spec.provenance:
        say(f"note: {spec.provenance['note']}", err=True)


def _download(row: PublishedWeights, force: bool) -> bool:
    """Download with a progress bar on standard error, in a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    from stream_i3d.models.package_weights import fetch_weights
    from stream_i3d.redact import redact

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    console = Console(stderr=True)
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(row.name, total=None)
        return fetch_weights(
            row.name,
            force=force,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
            notice=lambda text: console.print(clean_text(redact(text)), markup=False, highlight=False, soft_wrap=True),
        )


def _as_json(row: PublishedWeights) -> dict[str, Any]:
    from stream_i3d.redact import redact

    return {
        "name": row.name,
        "architecture": row.architecture,
        "layout": row.layout,
        "num_classes": row.num_classes,
        "in_channels": row.in_channels,
        "labels": row.labels,
        "top_1": None if row.result is None else row.result.top1,
        "top_5": None if row.result is None else row.result.top5,
        "url": redact(row.url),
        "integrity": row.integrity,
        "source": row.source,
        "licence": row.licence,
        "at_hand": row.is_downloaded,
        "path": str(row.path),
    }


def _show(title: str, checks: list[Check]) -> None:
    say(title)
    for check in checks:
        say(f"  {check.state:<8} {check.what:<13} {check.found}")


def _described(found: Inspection) -> list[tuple[str, str]]:
    """Return an inspection as topics and text."""
    types = ", ".join(f"{count} {name}" for name, count in sorted(found.dtypes.items()))
    lines = [
        ("file", f"{found.file} ({found.bytes:,} bytes, sha256 {found.sha256})"),
        ("published as", found.published or "none of the published files"),
        ("layout", found.layout or "unknown"),
        ("tensors", f"{found.tensors} ({types}), {found.parameters:,} parameters"),
    ]
    if found.spec is not None:
        spec = found.spec
        options = "".join(f", {key} {value}" for key, value in spec.options.items())
        kind = {3: "RGB", 2: "flow"}.get(spec.in_channels, f"{spec.in_channels} channels")
        names = "names not known" if spec.labels is None else f"{', '.join(spec.labels[:3])}, ..."
        lines += [
            ("architecture", f"{spec.architecture}, {kind}, width {spec.width:g}{options}"),
            ("classes", f"{spec.num_classes}: {names}"),
            ("temperature", _calibration(spec)),
            *_threshold(spec),
            ("says of itself", "all of this" if found.embedded else "nothing: told from its tensors"),
        ]
        if found.embedded:
            lines += [("provenance", f"{topic}: {_first_line(text)}") for topic, text in spec.provenance.items()]
    return lines + ([("note", found.note)] if found.note else [])


def _calibration(spec: ModelSpec) -> str:
    """Return a checkpoint's temperature, and how it was found."""
    how = f"calibrated by {spec.calibration}" if spec.calibration else "calibrated"
    return f"{spec.temperature:g} ({how if spec.calibrated else 'not calibrated'})"


def _threshold(spec: ModelSpec) -> list[tuple[str, str]]:
    """Return the live threshold that a checkpoint recommends, if it does."""
    if spec.min_confidence is None:
        return []
    return [("threshold", f"live min_confidence {spec.min_confidence:g}, from its training's validation videos")]


def _first_line(text: str) -> str:
    """Return a text's first line, and a sign that there are more (a training's whole configuration, for one)."""
    first, _, rest = text.partition("\n")
    return f"{first} ..." if rest else first
