"""`rxtasks task retry`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rxtasks.cli.codes import DONE, EPILOG, FAILED
from rxtasks.cli.group import CONTEXT
from rxtasks.cli.opening import served
from rxtasks.cli.output import write_json
from rxtasks.cli.place import configured, json_option, store_options
from rxtasks.cli.task.filters import filter_options, given
from rxtasks.cli.task.ids import the_tasks
from rxtasks.cli.task.pools import warn_without_pool
from rxtasks.cli.task.telling import complain, need_some, tell_report
from rxtasks.errors import RxTasksError, SettingsError, UnknownTask
from rxtasks.text import shown

if TYPE_CHECKING:
    from rxtasks.service import TaskService

__all__ = ["retry"]


@click.command(context_settings=CONTEXT, epilog=EPILOG)
@click.argument("task_ids", nargs=-1, metavar="[ID...]")
@click.option("--reason", metavar="TEXT", help="Why; it stands in both histories.")
@filter_options
@click.option("--limit", type=click.IntRange(0), metavar="N", help="With filters: at most so many.")
@click.option("--all", "everything", is_flag=True, help="All tasks that failed.")
@click.option("--dry-run", is_flag=True, help="With filters: only say which tasks it would be.")
@store_options
@json_option
def retry(
    task_ids: tuple[str, ...],
    reason: str | None,
    limit: int | None,
    everything: bool,
    dry_run: bool,
    store: str | None,
    config: Path | None,
    as_json: bool,
    **filters: Any,
) -> int:
    """Run tasks that have ended once more, by id or by the filters of list.

    Each becomes a new task with the same function, arguments and options.

    \b
    rxtasks task retry 25AJN1 --reason "the disk is back"
    rxtasks task retry --status failed --name reports.build
    rxtasks task retry --older-than 1h --dry-run

    Filters find tasks that failed, unless --status says otherwise, and leave out those that were retried before.
    """
    found = given(**filters)
    many = need_some("retry", task_ids, found, everything)
    configuration = configured(store, config)
    with served(configuration) as service:
        if many:
            report = service.retry_all(**found, limit=limit, reason=reason, dry_run=dry_run)
            code = tell_report(report, "retried", dry_run=dry_run, as_json=as_json)
            pushed = report.done > 0 and not dry_run
        else:
            code, pushed = _retry(service, task_ids, reason, as_json)
        if pushed:
            warn_without_pool(service, configuration)
    return code


def _retry(service: TaskService, parts: tuple[str, ...], reason: str | None, as_json: bool) -> tuple[int, bool]:
    code, pushed = DONE, False
    for task_id in the_tasks(service, parts):
        try:
            (answer,) = service.engine.again_many([service.get(task_id).task_id], reason)
        except UnknownTask as error:
            answer = error
        if isinstance(answer, RxTasksError):
            if not isinstance(answer, SettingsError | UnknownTask):
                raise answer
            code = FAILED
            complain(str(answer))
            continue
        pushed = True
        record = service.get(answer)
        if as_json:
            write_json({"task_id": answer, "retry_of": record.retry_of, "status": record.status.value})
        elif record.retry_of == task_id:
            print(f"{shown(answer)} is a retry of {shown(task_id)}")
        else:
            print(
                f"{shown(answer)} stands for a retry of {shown(task_id)}: it has the same dedup_key and has not ended"
            )
    return code, pushed
