"""`rxtasks task stack`."""

from __future__ import annotations

from pathlib import Path

import click

from rxtasks.cli.codes import EPILOG, NOT_FOUND
from rxtasks.cli.group import CONTEXT
from rxtasks.cli.opening import served
from rxtasks.cli.output import write_json
from rxtasks.cli.place import configured, json_option, reach, store_options
from rxtasks.cli.task.asking import asked
from rxtasks.cli.task.ids import the_task
from rxtasks.cli.usage import CommandFailed
from rxtasks.text import shown

__all__ = ["stack"]


@click.command(context_settings=CONTEXT, epilog=EPILOG)
@click.argument("task_id", metavar="ID")
@store_options
@json_option
def stack(task_id: str, store: str | None, config: Path | None, as_json: bool) -> int:
    """Show where the handler of a running task stands: its Python stack, also while C code holds its interpreter.

    \b
    rxtasks task stack 25AJN1

    The pool that runs the task is asked, so one has to run. Values of variables are never shown.
    """
    configuration = configured(store, config)
    with served(configuration) as service:
        task_id = the_task(service, task_id)
        record = service.get(task_id)
    if record.status.terminal:
        raise CommandFailed(f"task {task_id} has ended ({record.status}): it stands nowhere", NOT_FOUND)
    answer = asked(reach(configuration), "/v1/tasks/{}/stack", task_id)
    text = answer["stack"] if isinstance(answer, dict) else str(answer)
    if as_json:
        write_json({"task_id": task_id, "stack": text})
    else:
        for line in text.splitlines():
            print(shown(line))
    return 0
