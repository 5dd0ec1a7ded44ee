"""`rxtasks task history`."""

from __future__ import annotations

from pathlib import Path

import click

from rxtasks.cli.codes import EPILOG
from rxtasks.cli.group import CONTEXT
from rxtasks.cli.opening import opened
from rxtasks.cli.output import write_json_lines
from rxtasks.cli.place import json_option, store_options
from rxtasks.cli.table import print_table, status_colour
from rxtasks.cli.task.ids import the_task

__all__ = ["history"]


@click.command(context_settings=CONTEXT, epilog=EPILOG)
@click.argument("task_id", metavar="ID")
@store_options
@json_option
def history(task_id: str, store: str | None, config: Path | None, as_json: bool) -> int:
    """Show how a task came to where it is: each transition, with who made it, why and when.

    \b
    rxtasks task history 25AJN1
    """
    from rxtasks.cli.task.lines import stamp

    with opened(store, config) as service:
        steps = service.history(the_task(service, task_id))
    if as_json:
        from rxtasks.control.shown import show_transition

        write_json_lines(show_transition(step) for step in steps)
        return 0
    print_table(
        ("TIME", "FROM", "TO", "BY", "WHY"),
        [
            (
                stamp(step.time),
                "" if step.source is None else step.source.value,
                step.target.value,
                step.actor,
                step.reason or "",
            )
            for step in steps
        ],
        colours=[status_colour(step.target) for step in steps],
        colour_column=2,
    )
    return 0
