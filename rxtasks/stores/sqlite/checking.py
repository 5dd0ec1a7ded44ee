"""Is the file sound? What SQLite says of its pages, and whether what stands in it can be true together."""

from __future__ import annotations

from typing import Final

import orjson

from rxtasks.errors import StoreError
from rxtasks.stores.sqlite.aside import UNREADABLE, why
from rxtasks.stores.sqlite.connection import Database
from rxtasks.stores.sqlite.eventlog import events_from

__all__ = ["check"]

#: Findings of one kind at most.
_MOST: Final = 20
#: Rows that are looked at in one go.
_PAGE: Final = 500

#: What must hold, by the query that finds where it does not.
_RULES: Final = {
    "check_unknown_services": "is claimed by a service that is not registered: it is recovered when a service starts",
    "check_ended_claims": "has ended and is claimed all the same",
    "check_gaps": "has events that do not follow each other",
    "check_last_seq": "has other events than its record counts",
    "check_terminal": "has a status and an end that do not fit together",
    "check_lost_arguments": "has lost its arguments",
}
_ORPHANS: Final = {
    "check_orphan_events": "rows of the log belong to no task",
    "check_orphan_notes": "notes belong to no task",
    "check_orphan_arguments": "arguments belong to no task",
}


def check(db: Database) -> list[str]:
    """Return what is wrong, one sentence each; [] = nothing was found. Reads the whole file, a page at a time."""
    found = [
        f"the file: {said}" for (said,) in db.db.execute(f"pragma quick_check({_MOST})").fetchall() if said != "ok"
    ]
    if found:
        return found  # what stands in broken pages says nothing
    for name, what in _RULES.items():
        found += [f"task {_shown(task_id)} {what}" for (task_id,) in db.rows(name, _MOST)]
    for name, what in _ORPHANS.items():
        count = db.one(name)
        if count:
            found.append(f"{count} {what}")
    return found + _unreadable(db)


def _unreadable(db: Database) -> list[str]:
    found: list[str] = []
    position = 0
    while len(found) < _MOST:
        rows = db.rows("check_events", position, _PAGE)
        for position, task_id, first, last, data in rows:  # noqa: B007 - the last one
            try:
                seqs = [event.seq for event in events_from(_shown(task_id), data)]
                if not seqs or (seqs[0], seqs[-1]) != (first, last):
                    found.append(f"events {first} to {last} of task {_shown(task_id)} are numbered otherwise")
            except StoreError as error:
                found.append(str(error))
        if len(rows) < _PAGE:
            break
    number = 0
    while len(found) < 2 * _MOST:
        rows = db.rows("check_tasks", number, _PAGE)
        for number, task_id, *texts in rows:  # noqa: B007 - the last one
            try:
                for text in texts:
                    if text is not None:
                        orjson.loads(text)
            except UNREADABLE as error:
                found.append(f"the record of task {_shown(task_id)} cannot be read ({why(error)})")
        if len(rows) < _PAGE:
            break
    return found[: 2 * _MOST]


def _shown(task_id: bytes) -> str:
    return task_id.decode("utf-8", "backslashreplace")
