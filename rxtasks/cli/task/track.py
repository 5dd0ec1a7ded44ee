"""`rxtasks task track`: a task as it goes, until it has ended."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from rxtasks.cli.codes import DONE, EPILOG, FAILED, INTERRUPTED
from rxtasks.cli.group import CONTEXT
from rxtasks.cli.opening import served
from rxtasks.cli.place import configured, json_option, store_options
from rxtasks.cli.task.ids import the_task
from rxtasks.cli.task.pools import warn_without_pool
from rxtasks.text import cut, duration, shown

if TYPE_CHECKING:
    from rxtasks.lifecycle.events import ProgressEvent, TaskEvent
    from rxtasks.service import TaskService

__all__ = ["follow_to_the_end", "track"]

#: Seconds between two lines of progress where there is no terminal.
_PACE: Final = 5.0


@click.command(context_settings=CONTEXT, epilog=EPILOG)
@click.argument("task_id", metavar="ID")
@click.option("--from", "from_seq", type=click.IntRange(1), default=1, metavar="SEQ", help="The first event to show.")
@store_options
@json_option
def track(task_id: str, from_seq: int, store: str | None, config: Path | None, as_json: bool) -> int:
    """Follow a task until it has ended: what it logs, its progress, its outputs and how it ends.

    \b
    rxtasks task track 25AJN1
    rxtasks task track 25AJN1 --json | jq -r .kind

    Exit code: 0 it succeeded, 1 it failed or was cancelled. Ctrl-C ends the following, and not the task.
    """
    configuration = configured(store, config)
    with served(configuration) as service:
        task_id = the_task(service, task_id)
        record = service.get(task_id)
        if not (record.status.terminal or record.status == "running"):
            warn_without_pool(service, configuration)
        return follow_to_the_end(service, record.task_id, from_seq, as_json)


def follow_to_the_end(service: TaskService, task_id: str, from_seq: int, as_json: bool) -> int:
    """Print the events of a task until it has ended; return the exit code that says how."""
    from rxtasks.cli.task.following import followed

    screen = _Screen(as_json)
    try:
        for event in followed(service, task_id, from_seq):
            screen.take(event)
    except KeyboardInterrupt:
        screen.clear()
        print(
            f"rxtasks: no longer followed; the task goes on (rxtasks task cancel {shown(task_id)} ends it)",
            file=sys.stderr,
        )
        return INTERRUPTED
    screen.clear()
    record = service.get(task_id)
    if not as_json:
        ran = "" if record.duration is None else f" after {duration(record.duration)}"
        print(f"task {shown(task_id)} has {_ended(record.status.value)}{ran}", file=sys.stderr)
    return DONE if record.status == "succeeded" else FAILED


def _ended(status: str) -> str:
    return "been cancelled" if status == "cancelled" else status


class _Screen:
    """Lines on stdout; on a terminal the progress stands below them and is written over."""

    def __init__(self, as_json: bool) -> None:
        self._json = as_json
        self._live = not as_json and sys.stderr.isatty() and sys.stdout.isatty()
        self._drawn = False
        self._next = 0.0

    def take(self, event: TaskEvent) -> None:
        from rxtasks.lifecycle.events import ProgressEvent

        if self._json:
            sys.stdout.write(event.to_json().decode() + "\n")
            sys.stdout.flush()
        elif isinstance(event, ProgressEvent):
            self._progress(event)
        else:
            self.clear()
            self._line(event)

    def _progress(self, event: ProgressEvent) -> None:
        from rxtasks.cli.task.lines import progress_text

        if self._live:
            import shutil

            width = shutil.get_terminal_size().columns - 1
            sys.stderr.write(f"\r\x1b[K{cut(progress_text(event), width)}")
            sys.stderr.flush()
            self._drawn = True
        elif time.monotonic() >= self._next:
            self._next = time.monotonic() + _PACE
            self._line(event)

    def _line(self, event: TaskEvent) -> None:
        from rxtasks.cli.task.lines import line_of

        sys.stdout.write(line_of(event) + "\n")
        sys.stdout.flush()

    def clear(self) -> None:
        """Take the progress away."""
        if self._drawn:
            self._drawn = False
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
