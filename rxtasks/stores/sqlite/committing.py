"""Writing down what has become of claimed tasks, together with their events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import orjson

from rxtasks.lifecycle.events import TaskEvent
from rxtasks.stores.base import Change, Successes
from rxtasks.stores.sqlite.connection import Database
from rxtasks.stores.sqlite.eventlog import event_rows
from rxtasks.stores.sqlite.rows import RELEASED, change_row, is_unstored, success_rows
from rxtasks.stores.sqlite.turn import Turn
from rxtasks.stores.sqlite.writer import Work

__all__ = ["CommitWork", "apply_changes"]


def apply_changes(db: Database, rows: list[list[Any]], log: list[list[Any]], service: int) -> list[int]:
    """Apply changes and keep events, within a transaction; return the tokens refused, whose events are dropped."""
    refused: list[int] = []
    lost: set[int] = set()
    if rows:
        document = orjson.dumps(rows).decode()
        refused = orjson.loads(db.one("refused", document))
        lost = {row[1] for row in rows if row[0] in refused}
        db.run("commit", document)
    kept = [row for row in log if row[0] not in lost]
    if kept:
        db.run("events", orjson.dumps(kept).decode(), service)
    return refused


class CommitWork(Work[list[int]]):
    """Applies changes and keeps events. `numbers` has the row of each claim, by its token."""

    def __init__(
        self,
        numbers: dict[int, int],
        service: int,
        changes: Sequence[Change | Successes],
        events: Sequence[TaskEvent],
        done: Callable[[list[int], BaseException | None], None],
        unsettled: dict[int, CommitWork],
        keep: Callable[[str, bytes], None],
    ) -> None:
        super().__init__(self._apply, self._settle)
        self._numbers = numbers
        self._service = service
        self._changes = changes
        self._events = events
        self.told = done
        self._unsettled = unsettled
        self._keep = keep
        self._kept = False
        #: It has been tried: a commit that failed may be in the file all the same.
        self._tried = False
        self._rows: list[list[Any]] = []
        self._log: list[list[Any]] = []

    def prepare(self) -> int:
        """Make the rows, and keep results that cannot be stored."""
        if not self._kept:
            for change in self._changes:
                if isinstance(change, Change) and is_unstored(change):
                    self._keep(change.task_id, bytes(change.blob or b""))
            self._kept = True
        if self._rows or self._log:
            return 1
        numbers = self._numbers
        by_id: dict[str, int] = {}
        for change in self._changes:
            if isinstance(change, Successes):
                rows = success_rows(change, numbers)
                by_id.update(zip(change.task_ids, [row[1] for row in rows], strict=True))
                self._rows += rows
            else:
                number = by_id[change.task_id] = numbers.get(change.token, 0)
                self._rows.append(change_row(change, number))
        self._log = [[by_id.get(task_id, 0), *rest] for task_id, *rest in event_rows(self._events)]
        return 1

    def offer(self, db: Database, turn: Turn) -> bool:
        """Add them to the turn."""
        if self._tried:
            return False
        self._tried = True
        turn.changes += self._rows
        turn.events += self._log
        return True

    def result(self) -> list[int]:
        """None was refused."""
        return []

    def _apply(self, db: Database) -> list[int]:
        if self._tried and self._log:
            found = self._found(db)
            if found is not None:
                return found
        self._tried = True
        return apply_changes(db, self._rows, self._log, self._service)

    def _found(self, db: Database) -> list[int] | None:
        """Return what was refused if the commit is in the file, though it was said to have failed; else None.

        Its rows of the log are its mark: no other commit has the same events. So a repeat finds its own
        effect, and does not take the claims that it gave up for lost to another service.
        """
        there: set[int] = set(orjson.loads(db.one("logged", orjson.dumps(self._log).decode())))
        if not there:
            return None
        missing = {row[0] for at, row in enumerate(self._log) if at not in there}
        return [row[0] for row in self._rows if row[1] in missing]

    def _settle(self, refused: list[int] | None, error: BaseException | None) -> None:
        if error is None:
            numbers = self._numbers
            for row in self._rows:
                if row[RELEASED]:
                    numbers.pop(row[0], None)
            for token in refused or ():
                numbers.pop(token, None)
        else:
            self._unsettled[id(self._changes)] = self
        self.told(refused or [], error)
