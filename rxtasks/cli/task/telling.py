"""What commands on tasks say to people: on stderr what went wrong, and a question before what cannot be undone."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from rxtasks.cli.codes import DONE, FAILED
from rxtasks.cli.output import write_json
from rxtasks.cli.usage import UsageMistake
from rxtasks.text import counted, shown

if TYPE_CHECKING:
    from rxtasks.bulk import BulkReport

__all__ = ["agreed", "complain", "need_some", "tell_report"]


def complain(message: str) -> None:
    """Say on stderr what went wrong, escaped."""
    for line in message.splitlines() or [""]:
        print(f"rxtasks: {shown(line)}", file=sys.stderr)


def need_some(what: str, task_ids: tuple[str, ...], filters: dict[str, object], everything: bool) -> bool:
    """Return whether the command is about many tasks, by filters.

    Raises:
        UsageMistake: ids and filters are mixed, or neither is given.
    """
    if task_ids and (filters or everything):
        raise UsageMistake(f"give the ids of the tasks to {what}, or filters that find them, and not both.")
    if not (task_ids or filters or everything):
        raise UsageMistake(f"which tasks? Give ids, or filters such as --name NAME, or --all to {what} them all.")
    return not task_ids


def agreed(question: str, yes: bool) -> bool:
    """Ask on a terminal; where nobody can be asked, what was written counts."""
    if yes or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return True
    return click.confirm(question, default=False, err=True)


def tell_report(report: BulkReport, done: str, *, dry_run: bool, as_json: bool) -> int:
    """Say what became of a bulk command, and return its exit code."""
    if as_json:
        write_json(
            {
                "done": 0 if dry_run else report.done,
                "would": report.done if dry_run else 0,
                "skipped": report.skipped,
                "refused": report.refused,
                "refusals": [{"task_id": task_id, "reason": reason} for task_id, reason in report.refusals],
                "first": report.first,
            }
        )
    elif dry_run:
        print(f"would be {done}: {counted(report.done, 'task')}")
        for task_id in report.first:
            print(f"  {shown(task_id)}")
        if report.done > len(report.first):
            print(f"  and {report.done - len(report.first):,} more")
    else:
        print(f"{done}: {counted(report.done, 'task')}")
    if not as_json:
        for task_id, reason in report.refusals:
            complain(f"{task_id}: {reason}")
        if report.refused > len(report.refusals):
            complain(f"and {report.refused - len(report.refusals):,} more could not be {done}")
    return FAILED if report.refused else DONE
