"""Tasks that are claimed, and by nobody: those of a service that is no more, and those of claims whose answer was lost.

They are put back as the last commit left them (rxtasks.stores.recovery), with the places that they have taken at gates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rxtasks.stores.base import Change
from rxtasks.stores.recovery import Held, recovered
from rxtasks.stores.sqlite.aside import UNREADABLE, Aside, why
from rxtasks.stores.sqlite.committing import Committing
from rxtasks.stores.sqlite.connection import Database
from rxtasks.stores.sqlite.eventlog import event_rows
from rxtasks.stores.sqlite.relations import Following
from rxtasks.stores.sqlite.rows import change_row, status_from

__all__ = ["NOBODY", "put_back", "read_held"]

#: The service under whose number what is done for the dead stands in the log: everybody is told of it.
NOBODY = 0


def read_held(db: Database, aside: Aside, rows: str, numbers: str, *values: Any) -> list[tuple[int, Held]]:
    """Return what the query `rows` finds; of what cannot be read, found by `numbers`, each is set aside."""
    try:
        return [(number, _held(rest)) for number, *rest in db.rows(rows, *values)]
    except UNREADABLE:
        pass
    found: list[tuple[int, Held]] = []
    for (number,) in db.rows(numbers, *values):
        try:
            ((_, *rest),) = db.rows("orphan", number)
            found.append((number, _held(rest)))
        except UNREADABLE as error:
            aside.put(db, number, why(error))
    return found


def put_back(
    db: Database, committing: Committing, tasks: Sequence[tuple[int, Held]], most: int, now_us: int
) -> tuple[list[Change], Following]:
    """Take the claims of these tasks from them, and return what became of each, and what has followed."""
    told = [(number, *recovered(held, most, now_us)) for number, held in tasks]
    changes = [change_row(change, number) for number, change, _ in told]
    log = [[number, *row] for number, _, event in told if event is not None for _, *row in event_rows([event])]
    _, following = committing.apply(db, changes, log, NOBODY)
    return [change for _, change, _ in told], following


def _held(row: list[Any]) -> Held:
    token, task_id, status, attempt, failures, crashes, interruptions, next_seq, worker, due_us, cancel = row
    return Held(
        token, task_id, status_from(status), attempt, failures, crashes, interruptions, next_seq, worker, due_us, cancel
    )
