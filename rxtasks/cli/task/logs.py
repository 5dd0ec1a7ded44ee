"""`rxtasks task logs`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rxtasks.cli.ages import MOMENT
from rxtasks.cli.codes import EPILOG
from rxtasks.cli.group import CONTEXT
from rxtasks.cli.opening import opened
from rxtasks.cli.place import json_option, store_options
from rxtasks.cli.task.events import print_events
from rxtasks.cli.task.ids import the_task

if TYPE_CHECKING:
    from rxtasks.lifecycle.events import TaskEvent

__all__ = ["logs"]


@click.command(context_settings=CONTEXT, epilog=EPILOG)
@click.argument("task_id", metavar="ID")
@click.option(
    "--since", type=MOMENT, metavar="TIME", help="Lines from then on: 10m (ago), or 2026-01-31T08:00 (local)."
)
@click.option("--until", type=MOMENT, metavar="TIME", help="Lines before then.")
@click.option(
    "--level",
    type=click.Choice(["trace", "debug", "info", "success", "warning", "error", "critical"], case_sensitive=False),
    default="trace",
    help="The least level to show.",
)
@click.option("--follow", "-f", is_flag=True, help="Go on with lines to come, until the task has ended.")
@store_options
@json_option
def logs(
    task_id: str,
    since: datetime | None,
    until: datetime | None,
    level: str,
    follow: bool,
    store: str | None,
    config: Path | None,
    as_json: bool,
) -> int:
    """Show what a task has logged and printed, of all its attempts.

    \b
    rxtasks task logs 25AJN1 --level warning
    rxtasks task logs 25AJN1 --since 10m --follow

    What the whole pool logs, its workers included, is shown by rxtasks worker logs.
    """
    from rxtasks.cli.task.following import followed

    with opened(store, config) as service:
        task_id = the_task(service, task_id)
        found: Iterable[TaskEvent] = followed(service, task_id) if follow else service.stored(task_id)
        print_events(_lines(found, level, since, until), as_json)
    return 0


def _lines(
    found: Iterable[TaskEvent], level: str, since: datetime | None, until: datetime | None
) -> Iterator[TaskEvent]:
    from rxtasks.lifecycle.events import LogEvent
    from rxtasks.observe.levels import LEVELS, levels_from

    wanted = levels_from(level)
    for event in found:
        if not isinstance(event, LogEvent) or (since is not None and event.time < since):
            continue
        if (event.level in wanted or event.level not in LEVELS) and (until is None or event.time < until):
            yield event
