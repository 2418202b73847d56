"""The fault suite: injects faults into a service, its cameras, clients, disk and clock, and checks the recovery.

    make faults                                   all of them: minutes
    python scripts/faults.py --short              the quick ones, with shorter outages
    python scripts/faults.py --only kill-worker   one of them (repeatable); --list names them

It uses real processes: `stream-i3d run`, RTSP servers, an MQTT broker. Prints a table, then one JSON line. The exit
code is 1 if the service did not recover from a fault, or if a password was found in its output.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import click
from _bench import report
from _faults import cameras, clock, delivery, exhaustion, messages, overload, passwords, peers, processes, storage
from _faults.rig import Rig
from _faults.table import Fault, failed, run_fault

GROUPS = (
    processes,
    cameras,
    messages,
    peers,
    exhaustion,
    overload,
    storage,
    clock,
    delivery,
    passwords,
)  # the last two look back on all
FAULTS: list[Fault] = [fault for group in GROUPS for fault in group.FAULTS]


@click.command()
@click.option("--only", multiple=True, type=click.Choice([fault.name for fault in FAULTS]), help="Repeatable.")
@click.option("--short", is_flag=True, help="The quick ones, with shorter outages.")
@click.option("--list", "list_only", is_flag=True, help="Name them and end.")
@click.option("--slack", default=1.0, help="Stretches what is allowed in seconds: for a machine that has other work.")
@click.option("--keep", type=click.Path(path_type=Path), help="Copy logs and messages into this folder at the end.")
def main(only: tuple[str, ...], short: bool, list_only: bool, slack: float, keep: Path | None) -> None:
    """Make faults and see what becomes of them."""
    chosen = [fault for fault in FAULTS if (fault.name in only if only else fault.short or not short)]
    if list_only:
        click.echo("\n".join(f"{fault.name:20} {fault.done}: {fault.expected}" for fault in chosen))
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that all is ended and unmounted
    rows = []
    with Rig(short, keep=keep, slack=slack) as rig:
        for fault in chosen:
            click.echo(f"{fault.name}: {fault.done} ...", err=True)
            rows.append(run_fault(fault, rig))
            click.echo(f"    {rows[-1]['result']} {rows[-1]['seconds'] or ''} {rows[-1]['note']}", err=True)
    report("faults", rows)
    sys.exit(1 if failed(rows) else 0)


if __name__ == "__main__":
    main()
