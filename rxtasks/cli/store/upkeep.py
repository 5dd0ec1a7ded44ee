"""`rxtasks store check|backup|prune|vacuum|migrate`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from rxtasks.cli.ages import AGE
from rxtasks.cli.codes import DONE, EPILOG, FAILED
from rxtasks.cli.group import CONTEXT
from rxtasks.cli.opening import opened
from rxtasks.cli.output import write_json
from rxtasks.cli.place import json_option, store_options
from rxtasks.text import counted, shown

__all__ = ["backup", "check", "migrate", "prune", "vacuum"]


@click.command(context_settings=CONTEXT, epilog=EPILOG)
@store_options
@json_option
def check(store: str | None, config: Path | None, as_json: bool) -> int:
    """Look for damage: read the whole file, and see whether what stands in it can be true together.

    \b
    rxtasks store check || rxtasks store backup /backups/before-repair.db

    Exit code 1: something was found; each finding is a sentence.
    """
    with opened(store, config) as service:
        found = service.check()
    if as_json:
        write_json({"sound": not found, "findings": found})
    elif not found:
        print("the store is sound")
    else:
        for finding in found:
            print(shown(finding))
    return FAILED if found else DONE


@click.command(context_settings=CONTEXT, epilog=EPILOG)
@click.argument("path", type=click.Path())
@store_options
@json_option
def backup(path: str, store: str | None, config: Path | None, as_json: bool) -> int:
    """Copy the store into a new file at PATH, while it is in use. The copy is a store of its own.

    \b
    rxtasks store backup /backups/tasks-2026-01-31.db
    """
    with opened(store, config) as service:
        size = service.backup(path)
    if as_json:
        write_json({"path": os.path.abspath(path), "bytes": size})
    else:
        print(f"copied {_size(size)} to {shown(path)}")
    return DONE


@click.command(context_settings=CONTEXT, epilog=EPILOG)
@click.option("--older-than", type=AGE, required=True, metavar="AGE", help="Ended at least so long ago: 12h, 7d.")
@click.option("--limit", type=click.IntRange(0), metavar="N", help="At most so many, the oldest first.")
@store_options
@json_option
def prune(older_than: float, limit: int | None, store: str | None, config: Path | None, as_json: bool) -> int:
    """Forget tasks that ended long ago, with their events and results.

    \b
    rxtasks store prune --older-than 7d

    By name, tag or status: rxtasks task purge. A pool does this by itself after 30 days (setting retain_days).
    """
    with opened(store, config) as service:
        gone = service.prune(older_than, limit=limit)
    if as_json:
        write_json({"forgotten": gone})
    else:
        print(f"forgotten: {counted(gone, 'task')}")
    return DONE


@click.command(context_settings=CONTEXT, epilog=EPILOG)
@store_options
@json_option
def vacuum(store: str | None, config: Path | None, as_json: bool) -> int:
    """Make the file smaller by what was forgotten; not needed as a rule, as that room is used again.

    \b
    rxtasks store prune --older-than 7d && rxtasks store vacuum

    The whole file is written anew, and who writes waits meanwhile, about a second for 200 MB. Needs room for two copies.
    """
    with opened(store, config) as service:
        size = service.vacuum()
    if as_json:
        write_json({"bytes": size})
    else:
        print(f"the file is smaller by {_size(size)}" if size else "the file has no room to give back")
    return DONE


@click.command(context_settings=CONTEXT, epilog=EPILOG)
@store_options
@json_option
def migrate(store: str | None, config: Path | None, as_json: bool) -> int:
    """Bring the store to the schema of this rxtasks, in one transaction. Whatever opens a store does that too.

    \b
    rxtasks store backup /backups/before-upgrade.db && rxtasks store migrate

    An older rxtasks refuses a store of a newer one: upgrade every program that uses the store.
    """
    with opened(store, config) as service:
        before, now = service.migrate()
    if as_json:
        write_json({"from": before, "to": now})
    elif before == now:
        print(f"the store has version {now} of the schema already")
    else:
        print(f"the store has version {now} of the schema now; it had {before}")
    return DONE


def _size(count: int) -> str:
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count} bytes"
