"""`rxtasks task purge`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rxtasks.cli.codes import EPILOG
from rxtasks.cli.group import CONTEXT
from rxtasks.cli.opening import opened
from rxtasks.cli.place import json_option, store_options
from rxtasks.cli.task.filters import filter_options, given
from rxtasks.cli.task.telling import agreed, need_some, tell_report
from rxtasks.text import counted

__all__ = ["purge"]


@click.command(context_settings=CONTEXT, epilog=EPILOG)
@filter_options
@click.option("--limit", type=click.IntRange(0), metavar="N", help="At most so many.")
@click.option("--all", "everything", is_flag=True, help="All tasks that have ended.")
@click.option("--dry-run", is_flag=True, help="Only say which tasks it would be.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@store_options
@json_option
def purge(
    limit: int | None,
    everything: bool,
    dry_run: bool,
    yes: bool,
    store: str | None,
    config: Path | None,
    as_json: bool,
    **filters: Any,
) -> int:
    """Forget tasks that have ended, by the filters of list, with their events and results.

    --older-than counts from their end.

    \b
    rxtasks task purge --older-than 7d
    rxtasks task purge --status succeeded --name reports.build --dry-run

    A pool forgets by itself what ended more than 30 days ago (setting retain_days).
    """
    found = given(**filters)
    need_some("purge", (), found, everything)
    found["limit"] = limit
    with opened(store, config) as service:
        if not (dry_run or yes):
            would = service.purge(**found, dry_run=True).done
            if would and not agreed(f"Forget {counted(would, 'task')} for ever?", yes):
                raise click.Abort
        report = service.purge(**found, dry_run=dry_run)
        return tell_report(report, "forgotten", dry_run=dry_run, as_json=as_json)
