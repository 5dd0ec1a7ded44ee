"""`rxtasks task delete`."""

from __future__ import annotations

from pathlib import Path

import click

from rxtasks.cli.codes import DONE, EPILOG, FAILED
from rxtasks.cli.group import CONTEXT
from rxtasks.cli.opening import opened
from rxtasks.cli.output import write_json
from rxtasks.cli.place import json_option, store_options
from rxtasks.cli.task.ids import the_tasks
from rxtasks.cli.task.telling import complain
from rxtasks.errors import SettingsError, UnknownTask
from rxtasks.text import shown

__all__ = ["delete"]


@click.command(context_settings=CONTEXT, epilog=EPILOG)
@click.argument("task_ids", nargs=-1, required=True, metavar="ID...")
@store_options
@json_option
def delete(task_ids: tuple[str, ...], store: str | None, config: Path | None, as_json: bool) -> int:
    """Forget tasks that have ended, by id, with their events and results.

    \b
    rxtasks task delete 01M82R837P0HF72TN2X325AJN1
    """
    code = DONE
    with opened(store, config) as service:
        for task_id in the_tasks(service, task_ids):
            try:
                service.delete(task_id)
            except (SettingsError, UnknownTask) as error:
                code = FAILED
                complain(str(error))
                continue
            if as_json:
                write_json({"task_id": task_id, "deleted": True})
            else:
                print(f"deleted {shown(task_id)}")
    return code
