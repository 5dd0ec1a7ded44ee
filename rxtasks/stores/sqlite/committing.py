"""Writing down what has become of claimed tasks, together with their events, and what follows from their ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import orjson

from rxtasks.lifecycle.events import TaskEvent
from rxtasks.stores.base import Change, Successes
from rxtasks.stores.listeners import Listeners
from rxtasks.stores.sqlite.connection import Database
from rxtasks.stores.sqlite.eventlog import event_rows
from rxtasks.stores.sqlite.relations import Following, Relations
from rxtasks.stores.sqlite.rows import RELEASED, change_row, is_unstored, success_rows
from rxtasks.stores.sqlite.turn import Turn
from rxtasks.stores.sqlite.writer import Work

__all__ = ["CommitWork", "Committing"]

#: Places in a row of the query `commit`.
_TOKEN, _NUMBER, _ATTEMPT, _FINISHED = 0, 1, 3, 10


class Committing:
    """Applies changes within a transaction.

    `numbers` has the row of each claim, by its token, and `related` the tokens of those that relate to others.
    """

    def __init__(self, numbers: dict[int, int], related: set[int], relations: Relations, listeners: Listeners) -> None:
        self.numbers = numbers
        self.related = related
        self.relations = relations
        self.listeners = listeners

    def apply(
        self, db: Database, rows: list[list[Any]], log: list[list[Any]], service: int
    ) -> tuple[list[int], Following]:
        """Apply changes and keep events; return the tokens refused, whose events are dropped, and what has followed."""
        refused: list[int] = []
        lost: set[int] = set()
        following = Following()
        if rows:
            document = orjson.dumps(rows).decode()
            refused = orjson.loads(db.one("refused", document))
            lost = {row[_NUMBER] for row in rows if row[_TOKEN] in refused}
            released = [row for row in rows if row[RELEASED] and row[_TOKEN] not in refused]
            unbegun = self.relations.unbegun(db, {row[_NUMBER]: row[_ATTEMPT] for row in released})
            db.run("commit", document)
            ended = [row[_NUMBER] for row in released if row[_FINISHED] is not None]
            self.relations.released(db, unbegun, ended, following)
        kept = [row for row in log if row[0] not in lost]
        if kept:
            db.run("events", orjson.dumps(kept).decode(), service)
        return refused, following


class CommitWork(Work[list[int]]):
    """Applies changes and keeps events."""

    patient = True

    def __init__(
        self,
        committing: Committing,
        service: int,
        changes: Sequence[Change | Successes],
        events: Sequence[TaskEvent],
        done: Callable[[list[int], BaseException | None], None],
        unsettled: dict[int, CommitWork],
        keep: Callable[[str, bytes], None],
    ) -> None:
        super().__init__(self._apply, self._settle)
        self._committing = committing
        self._following = Following()
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
        numbers = self._committing.numbers
        by_id: dict[str, int] = {}
        for change in self._changes:
            if isinstance(change, Successes):
                rows = success_rows(change, numbers)
                by_id.update(zip(change.task_ids, [row[1] for row in rows], strict=True))
                self._rows += rows
            else:
                number = by_id[change.task_id] = numbers.get(change.token, 0)
                self._rows.append(change_row(change, number))
        try:
            self._log = [[by_id[task_id], *rest] for task_id, *rest in event_rows(self._events)]
        except KeyError as error:
            raise AssertionError(
                f"a commit has events of task {error.args[0]} and no change that names its claim: nothing would keep a late"
                " one out (Recorder.durable is to be set for a durable store)"
            ) from None
        return 1

    def offer(self, db: Database, turn: Turn) -> bool:
        """Add them to the turn."""
        if self._tried:
            return False
        related = self._committing.related
        for change in self._changes:
            if isinstance(change, Successes):
                if related and not related.isdisjoint(change.tokens):
                    return False
            elif change.steps is not None or (related and change.release and change.token in related):
                return False
        self._tried = True
        turn.changes += self._rows
        turn.events += self._log
        return True

    def result(self) -> list[int]:
        """None was refused."""
        return []

    def opened(self) -> int:
        """Those that have ended are no longer unfinished."""
        return -sum([row[_FINISHED] is not None for row in self._rows])

    def _apply(self, db: Database) -> list[int]:
        if self._tried and self._log:
            found = self._found(db)
            if found is not None:
                self._following = Following(woken=True)
                return found
        self._tried = True
        committing = self._committing
        refused, self._following = committing.apply(db, self._rows, self._log, self._service)
        steps: list[tuple[int, str, str]] = []
        for change in self._changes:
            if isinstance(change, Successes) or not change.steps or change.token in refused:
                continue
            number = committing.numbers.get(change.token)
            if number is not None and change.finished_us is None:
                steps += [(number, name, bytes(data).decode()) for name, data in change.steps]
                committing.related.add(change.token)
        if steps:
            committing.relations.keep_steps(db, steps)
        return refused

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
        committing = self._committing
        if error is None:
            over = [row[_TOKEN] for row in self._rows if row[RELEASED]]
            for token in [*over, *(refused or ())]:
                committing.numbers.pop(token, None)
                committing.related.discard(token)
        else:
            self._unsettled[id(self._changes)] = self
        self.told(refused or [], error)
        if error is None and (self._following.woken or self._following.doomed):
            committing.listeners.tell(self._following.doomed)
