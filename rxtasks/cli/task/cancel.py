"""`rxtasks task cancel`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rxtasks.cli.codes import DONE, EPILOG, FAILED
from rxtasks.cli.group import CONTEXT
from rxtasks.cli.opening import opened
from rxtasks.cli.output import write_json
from rxtasks.cli.place import json_option, store_options
from rxtasks.cli.task.filters import filter_options, given
from rxtasks.cli.task.ids import the_tasks
from rxtasks.cli.task.telling import agreed, complain, need_some, tell_report
from rxtasks.text import counted, shown

if TYPE_CHECKING:
    from rxtasks.service import TaskService

__all__ = ["cancel"]


@click.command(context_settings=CONTEXT, epilog=EPILOG)
@click.argument("task_ids", nargs=-1, metavar="[ID...]")
@click.option("--reason", metavar="TEXT", help="Why; it stands in the task's error and history.")
@filter_options
@click.option("--limit", type=click.IntRange(0), metavar="N", help="With filters: at most so many.")
@click.option("--all", "everything", is_flag=True, help="All tasks that have not ended.")
@click.option("--dry-run", is_flag=True, help="With filters: only say which tasks it would be.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@store_options
@json_option
def cancel(
    task_ids: tuple[str, ...],
    reason: str | None,
    limit: int | None,
    everything: bool,
    dry_run: bool,
    yes: bool,
    store: str | None,
    config: Path | None,
    as_json: bool,
    **filters: Any,
) -> int:
    """Cancel tasks, by id or by the filters of list. One that runs is asked to stop by its pool, and killed after its grace.

    \b
    rxtasks task cancel 25AJN1 --reason "wrong day"
    rxtasks task cancel --status pending --name reports.build --yes
    rxtasks task cancel --tag nightly --dry-run

    The id of a schedule ends the schedule. Exit code 1: one had ended before, otherwise than cancelled.
    """
    found = given(**filters)
    many = need_some("cancel", task_ids, found, everything)
    with opened(store, config) as service:
        if not many:
            return _cancel(service, task_ids, reason, as_json)
        found |= {"reason": reason, "actor": "operator", "limit": limit}
        if not (dry_run or yes):
            would = service.cancel_all(**found, dry_run=True).done
            if would and not agreed(f"Cancel {counted(would, 'task')}?", yes):
                raise click.Abort
        report = service.cancel_all(**found, dry_run=dry_run)
        return tell_report(report, "cancelled", dry_run=dry_run, as_json=as_json)


def _cancel(service: TaskService, parts: tuple[str, ...], reason: str | None, as_json: bool) -> int:
    code = DONE
    for task_id in the_tasks(service, parts):
        asked = service.cancel(task_id, reason, actor="operator")
        record = service.get(task_id)
        if not asked and record.status != "cancelled":
            code = FAILED
            complain(f"task {task_id} has ended already ({record.status})")
        if as_json:
            write_json({"task_id": record.task_id, "asked": asked, "status": record.status.value})
        elif record.status == "cancelled":
            print(f"cancelled {shown(task_id)}" if asked else f"{shown(task_id)} was cancelled before")
        elif asked:
            print(f"asked for: {shown(task_id)} is {record.status}, and is ended where it runs")
    return code
