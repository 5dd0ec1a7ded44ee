"""`rxtasks task push`."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rxtasks.cli.ages import AGE
from rxtasks.cli.codes import DONE, EPILOG, FAILED, INTERRUPTED
from rxtasks.cli.group import CONTEXT
from rxtasks.cli.opening import served
from rxtasks.cli.output import write_json
from rxtasks.cli.place import configured, json_option, store_options
from rxtasks.cli.task.arguments import read_arguments
from rxtasks.cli.task.ids import the_tasks
from rxtasks.cli.task.pools import warn_without_pool
from rxtasks.cli.task.pushing import find_handler
from rxtasks.cli.task.telling import complain
from rxtasks.cli.usage import UsageMistake
from rxtasks.text import shown

if TYPE_CHECKING:
    from rxtasks.service import TaskService

__all__ = ["push"]


@click.command(context_settings=CONTEXT, epilog=EPILOG)
@click.argument("target")
@click.argument("words", nargs=-1, metavar="[ARG | NAME=VALUE]...")
@click.option("--args", metavar="JSON", help="Positional arguments as a JSON list; @FILE or - (standard input).")
@click.option("--kwargs", metavar="JSON", help="Keyword arguments as a JSON object; @FILE or - (standard input).")
@click.option("--wait", is_flag=True, help="Wait for its end, and print the result as JSON.")
@click.option("--id", "task_id", metavar="ID", help="Its id; pushing an id again does nothing.")
@click.option("--name", metavar="NAME", help="The name shown, instead of the handler's.")
@click.option("--priority", type=int, metavar="N", help="Higher runs first.")
@click.option("--delay", type=AGE, metavar="AGE", help="Not before so long: 30s, 10m, 2h.")
@click.option("--at", metavar="TIME", help="Not before then: 2026-01-31T08:00 (local time).")
@click.option("--cron", metavar="FIELDS", help="Again and again: '*/5 * * * *'.")
@click.option("--tz", metavar="ZONE", help="Time zone of --cron, as Europe/Berlin; UTC without.")
@click.option("--timeout", type=AGE, metavar="AGE", help="How long one attempt may take.")
@click.option("--grace", type=AGE, metavar="AGE", help="Between asking it to end and killing it.")
@click.option("--attempts", type=click.IntRange(1), metavar="N", help="Attempts in all, where it fails.")
@click.option("--max-crashes", type=click.IntRange(1), metavar="N", help="Crashes of its worker after which it fails.")
@click.option("--queue", metavar="NAME", help="The queue.")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="A tag; repeatable.")
@click.option("--lock", metavar="NAME", help="Of all tasks with this lock one runs at a time.")
@click.option("--rate", metavar="RATE", help="How often tasks of this name may begin: 10/min.")
@click.option("--dedup-key", metavar="KEY", help="A repeat is the task that has the key and has not ended.")
@click.option("--depends-on", multiple=True, metavar="ID", help="Run when this task has ended well; repeatable.")
@click.option("--isolation", type=click.Choice(["process", "thread", "inline"]), help="Only in such workers.")
@click.option("--module", "modules", multiple=True, metavar="MODULE", help="Import this first: it has TARGET.")
@store_options
@json_option
def push(
    target: str,
    words: tuple[str, ...],
    args: str | None,
    kwargs: str | None,
    wait: bool,
    task_id: str | None,
    at: str | None,
    attempts: int | None,
    tags: tuple[str, ...],
    depends_on: tuple[str, ...],
    modules: tuple[str, ...],
    store: str | None,
    config: Path | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Put a task into the store, for the pool to run, and print its id.

    \b
    rxtasks task push reports.jobs:build 2026-01-31 draft=true
    rxtasks task push reports.jobs:build --kwargs '{"day": "2026-01-31"}' --wait
    rxtasks task push resize --module images a.png width=64 --priority 5 --tag web

    TARGET is the name of a handler (a function with @task): module:function, or the name that @task gives it. Its
    module is imported here for its defaults; where that is not possible, the task is pushed by name.

    An ARG is JSON, or else text; NAME=VALUE is a keyword argument. Exit code with --wait: 0 it succeeded, 1 it failed or
    was cancelled; Ctrl-C leaves the task alone.
    """
    given, named = read_arguments(words, args, kwargs)
    changes = {name: value for name, value in options.items() if value is not None}
    if at is not None:
        changes["run_at"] = _moment(at)
    if tags:
        changes["tags"] = tags
    handler = find_handler(target, modules)
    handler.refuse_misfit(given, named)
    if attempts is not None:
        changes["retry"] = _attempts(handler.options, attempts)
    from rxtasks.lifecycle.task import TaskRequest, new_id

    configuration = configured(store, config)
    with served(configuration, make=True) as service:
        if depends_on:
            changes["depends_on"] = the_tasks(service, depends_on)
        request = TaskRequest(handler.name, given, named, handler.options, new_id() if task_id is None else task_id)
        known = None if task_id is None else service._store.get(task_id)
        pushed = service.with_options(**changes).leave(request)
        if known is not None and known.status != "created":
            complain(f"there is a task {task_id} already ({known.status}): nothing was pushed")
        if pushed != request.task_id:
            complain(f"task {pushed} has that dedup_key and has not ended: it stands for this one")
        if not service.get(pushed).status.terminal:
            warn_without_pool(service, configuration)
        if wait:
            return _wait(service, pushed, as_json)
        if as_json:
            from rxtasks.control.shown import show_record

            write_json(show_record(service.get(pushed)))
        else:
            print(shown(pushed))
    return DONE


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise UsageMistake(f"--at takes a time as 2026-01-31T08:00, not '{shown(text)}'.") from None


def _attempts(options: Any, attempts: int) -> Any:
    import attrs

    from rxtasks.lifecycle.retry import RetryPolicy

    return attrs.evolve(RetryPolicy() if options is None else options.retry, max_attempts=attempts)


def _wait(service: TaskService, task_id: str, as_json: bool) -> int:
    import json

    from rxtasks.cli.task.following import followed
    from rxtasks.lifecycle.events import ValueRef

    print(f"task {shown(task_id)}", file=sys.stderr)
    try:
        for _ in followed(service, task_id):
            pass
    except KeyboardInterrupt:
        complain(f"no longer waited for; the task goes on (rxtasks task cancel {task_id} ends it)")
        return INTERRUPTED
    record = service.get(task_id)
    if as_json:
        from rxtasks.control.shown import show_record

        write_json(show_record(record))
    elif record.status != "succeeded":
        why = "" if record.error is None else f": {record.error.type.rpartition('.')[2]}: {record.error.message}"
        complain(f"task {task_id} {'was cancelled' if record.status == 'cancelled' else 'failed'}{why}")
    elif isinstance(record.result, ValueRef):
        from rxtasks.cli.task.show import result_text

        complain(f"the result is no JSON, or a large one: {result_text(record.result)}")
    else:
        sys.stdout.write(json.dumps(record.result) + "\n")
    return DONE if record.status == "succeeded" else FAILED
