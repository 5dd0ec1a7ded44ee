"""`rxtasks task events`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rxtasks.cli.codes import EPILOG
from rxtasks.cli.group import CONTEXT
from rxtasks.cli.opening import opened
from rxtasks.cli.place import json_option, store_options
from rxtasks.cli.task.ids import the_task

if TYPE_CHECKING:
    from rxtasks.lifecycle.events import TaskEvent

__all__ = ["events", "print_events"]


@click.command(context_settings=CONTEXT, epilog=EPILOG)
@click.argument("task_id", metavar="ID")
@click.option("--from", "from_seq", type=click.IntRange(1), default=1, metavar="SEQ", help="The first event to show.")
@click.option("--follow", "-f", is_flag=True, help="Go on with those to come, until the task has ended.")
@store_options
@json_option
def events(task_id: str, from_seq: int, follow: bool, store: str | None, config: Path | None, as_json: bool) -> int:
    """Show the events of a task: statuses, log lines, progress, outputs. With --json each as its to_json().

    \b
    rxtasks task events 25AJN1
    rxtasks task events 25AJN1 --from 40 --follow --json
    """
    from rxtasks.cli.task.following import followed

    with opened(store, config) as service:
        task_id = the_task(service, task_id)
        found = followed(service, task_id, from_seq) if follow else service.stored(task_id, from_seq)
        print_events(found, as_json)
    return 0


def print_events(found: Iterable[TaskEvent], as_json: bool) -> None:
    """Print events as they come."""
    from rxtasks.cli.task.lines import line_of

    for event in found:
        sys.stdout.write((event.to_json().decode() if as_json else line_of(event)) + "\n")
        sys.stdout.flush()
