"""`rxtasks task list`."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rxtasks.cli.ages import age
from rxtasks.cli.codes import EPILOG
from rxtasks.cli.group import CONTEXT
from rxtasks.cli.opening import opened
from rxtasks.cli.output import write_json_lines
from rxtasks.cli.place import json_option, store_options
from rxtasks.cli.table import print_table, status_colour
from rxtasks.cli.task.filters import filter_options, given
from rxtasks.cli.task.ids import the_task
from rxtasks.text import cut, duration

if TYPE_CHECKING:
    from rxtasks.lifecycle.task import TaskRecord

__all__ = ["list_tasks", "note", "print_records"]

_HEADS = ("ID", "STATUS", "NAME", "AGE", "RAN", "NOTE")


@click.command("list", context_settings=CONTEXT, epilog=EPILOG)
@filter_options
@click.option("--limit", type=click.IntRange(0), default=100, show_default=True, metavar="N", help="At most so many.")
@click.option("--after", metavar="ID", help="Go on behind this task.")
@click.option("--newest", is_flag=True, help="The newest first, instead of the oldest.")
@store_options
@json_option
def list_tasks(
    limit: int,
    after: str | None,
    newest: bool,
    store: str | None,
    config: Path | None,
    as_json: bool,
    **filters: Any,
) -> int:
    """List tasks in the order in which they came.

    \b
    rxtasks task list --status failed --newest
    rxtasks task list --name reports.build --older-than 2h
    rxtasks task list --tag nightly --json | jq .task_id

    With --json each task is a line of JSON. Arguments of tasks are never shown.
    """
    with opened(store, config) as service:
        if after is not None:
            after = the_task(service, after)
        records = service.list(**given(**filters), limit=limit + 1, after=after, newest=newest)
        more, records = len(records) > limit, records[:limit]
        if as_json:
            from rxtasks.control.shown import show_record

            write_json_lines(show_record(record, whole=False) for record in records)
        elif records:
            print_records(records)
        else:
            print("no tasks" + (" that fit" if given(**filters) else ""), file=sys.stderr)
        if more:
            behind = f"--after {records[-1].task_id}" if records else "--limit N"
            print(f"there are more: {behind} shows the next", file=sys.stderr)
    return 0


def print_records(records: list[TaskRecord]) -> None:
    """Print a table of tasks."""
    now = datetime.now(UTC)
    rows = [
        (
            record.task_id,
            record.status.value,
            record.name,
            age((now - record.created_at).total_seconds()),
            _ran(record, now),
            note(record),
        )
        for record in records
    ]
    print_table(
        _HEADS,
        rows,
        colours=[status_colour(record.status) for record in records],
        colour_column=1,
    )


def _ran(record: TaskRecord, now: datetime) -> str:
    if record.duration is not None:
        return duration(record.duration)
    if record.started_at is None or record.status != "running":
        return ""
    return duration(max(0.0, (now - record.started_at).total_seconds()))


def note(record: TaskRecord) -> str:
    """Return the one thing of a task that is most worth a look."""
    if record.error is not None and record.status != "succeeded":
        return cut(f"{record.error.type.rpartition('.')[2]}: {record.error.message}", 120)
    progress = record.progress
    if progress is not None and not record.status.terminal:
        fraction = progress.fraction
        done = f"{progress.current:g}" if fraction is None else f"{fraction:.0%}"
        return f"{done} {progress.message}" if progress.message else done
    if record.status == "scheduled" and record.options.run_at is not None:
        return f"at {record.options.run_at.astimezone():%Y-%m-%d %H:%M:%S}"
    if record.retry_of is not None:
        return f"retry of {record.retry_of}"
    return ", ".join(record.tags)
