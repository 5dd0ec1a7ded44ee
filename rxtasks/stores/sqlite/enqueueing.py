"""Taking tasks in: what all threads bring meanwhile is one statement, and shares one commit.

::

    enqueue (any thread) ──> brought ──> one Work: insert all ──> each caller goes on
                                           └─ some were there already: which of them, and what stands for them
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from rxtasks.clock import us_from_utc
from rxtasks.errors import QueueFull, SettingsError
from rxtasks.stores.base import Envelope
from rxtasks.stores.listeners import Listeners
from rxtasks.stores.sqlite.connection import Database
from rxtasks.stores.sqlite.relations import Following, Relations
from rxtasks.stores.sqlite.rows import LONG_PAYLOAD, OptionTexts, task_row
from rxtasks.stores.sqlite.turn import Turn
from rxtasks.stores.sqlite.writer import Work

__all__ = ["EnqueueWork", "Enqueueing"]


class Brought:
    """The tasks of one call, and what came of them."""

    __slots__ = ("_done", "answers", "error", "related", "rows", "tasks")

    def __init__(self, tasks: Sequence[Envelope], rows: list[list[Any]]) -> None:
        self.tasks = tasks
        self.rows = rows
        #: Some relate to others: these are put in by themselves.
        self.related = any([task.related is not None for task in tasks])
        self.answers: list[str | None] = []
        self.error: BaseException | None = None
        self._done = threading.Lock()
        self._done.acquire()

    def wait(self) -> list[str | None]:
        """Wait until it is on disk; return the answers, or raise the error."""
        self._done.acquire()
        if self.error is not None:
            raise self.error
        return self.answers

    def settle(self, error: BaseException | None) -> None:
        """Let the caller go on."""
        self.error = self.error or error
        self._done.release()


class EnqueueWork(Work[None]):
    """Takes in everything that has been brought by the time when it is done."""

    brings = True
    urgent = True

    def __init__(self, enqueueing: Enqueueing) -> None:
        super().__init__(self._insert, self._settle)
        self._enqueueing = enqueueing
        self._everything: list[Brought] = []
        self._following = Following()

    def prepare(self) -> int:
        """Take it over."""
        if not self._everything:
            self._everything = self._enqueueing.take()
        return len(self._everything)

    def offer(self, db: Database, turn: Turn) -> bool:
        """Add the tasks to the turn."""
        if self._enqueueing.bounded or any([brought.related for brought in self._everything]):
            return False
        for brought in self._everything:
            rows, long = _apart(brought.rows)
            turn.tasks += rows
            turn.arguments += long
        return True

    def result(self) -> None:
        """They were all new."""
        for brought in self._everything:
            brought.answers = [None] * len(brought.tasks)

    def opened(self) -> int:
        """All that were new."""
        return sum([brought.answers.count(None) for brought in self._everything])

    def _insert(self, db: Database) -> None:
        self._following = Following()
        self._enqueueing.insert(db, self._everything, self._following)

    def _settle(self, _: None, error: BaseException | None) -> None:
        self.prepare()  # it may have failed before that
        if error is None and (self._following.woken or self._following.doomed):
            self._enqueueing.listeners.tell(self._following.doomed)
        for brought in self._everything:
            brought.settle(error)

    def fail(self, error: BaseException) -> None:
        """It cannot be done at all."""
        self._settle(None, error)


class Enqueueing:
    """Collects what is brought, and puts it into the file."""

    def __init__(self, texts: OptionTexts, max_queue: int | None, relations: Relations, listeners: Listeners) -> None:
        self._texts = texts
        self._relations = relations
        self.listeners = listeners
        self._max_queue = max_queue
        self._brought: list[Brought] = []
        self._lock = threading.Lock()
        self.bounded = max_queue is not None

    def bring(self, tasks: Sequence[Envelope]) -> tuple[Brought, bool]:
        """Add tasks; return them and whether a Work is to be put for all that has been brought.

        Raises:
            PayloadError, SettingsError: one of them cannot be stored; then none is.
        """
        brought = Brought(tasks, [task_row(task, self._texts) for task in tasks])
        with self._lock:
            self._brought.append(brought)
            return brought, len(self._brought) == 1

    def take(self) -> list[Brought]:
        """Take out everything that has been brought."""
        with self._lock:
            taken, self._brought = self._brought, []
        return taken

    def insert(self, db: Database, everything: list[Brought], following: Following) -> None:
        """Insert, within a transaction."""
        if self._max_queue is not None:
            everything = self._fitting(db, everything)
        plain = [brought for brought in everything if not brought.related]
        self._insert(db, plain, following)
        for brought in everything:
            if brought.related:
                self._insert_related(db, brought, following)

    def _insert(self, db: Database, everything: list[Brought], following: Following) -> None:
        rows = [row for brought in everything for row in brought.rows]
        if not rows:
            return
        before: int = db.one("newest")
        db.run("enqueue", orjson.dumps(_apart(rows)[0]).decode())
        if db.changes == len(rows):
            for brought in everything:
                brought.answers = [None] * len(brought.tasks)
            self._insert_arguments(db, rows)
            return
        self._find(db, everything, rows, before, following)

    def _insert_related(self, db: Database, brought: Brought, following: Following) -> None:
        """Put in tasks that relate to others, all or none."""
        brought.error = None
        try:
            self._relations.check(db, brought.tasks)
        except SettingsError as error:
            brought.error = error
            return
        self._insert(db, [brought], following)
        fresh = [task for task, answer in zip(brought.tasks, brought.answers, strict=True) if answer is None]
        self._relations.link(db, [task for task in fresh if task.related is not None])
        self._relations.repeat(db, fresh)
        stands = zip(brought.tasks, brought.answers, strict=True)
        wanted = dict.fromkeys([answer or task.task_id for task, answer in stands if not task.hold])
        new = {task.task_id for task in fresh}
        self._relations.pushed(db, [task_id for task_id in wanted if task_id not in new])
        self._relations.queue(db, list(wanted), following)

    def insert_one(self, db: Database, task: Envelope) -> None:
        """Put in the next occurrence of a schedule."""
        brought = Brought([task], [task_row(task, self._texts)])
        following = Following()
        self._insert(db, [brought], following)
        self._relations.link(db, [task])
        self._relations.queue(db, [task.task_id], following)

    def _fitting(self, db: Database, everything: list[Brought]) -> list[Brought]:
        bound = self._max_queue
        assert bound is not None
        waiting = sum(db.one(what, bound + 1) for what in ("pending", "scheduled", "blocked"))
        fitting: list[Brought] = []
        for brought in everything:
            brought.error = None
            if waiting + len(brought.tasks) > bound:
                brought.error = QueueFull(
                    f"{waiting} tasks wait and max_queue is {bound}; submit later, or raise max_queue"
                )
            else:
                waiting += len(brought.tasks)
                fitting.append(brought)
        return fitting

    def _find(
        self, db: Database, everything: list[Brought], rows: list[list[Any]], before: int, following: Following
    ) -> None:
        """Some were there already, or came twice: say which tasks stand for them.

        Tasks that relate to others come alone, and are queued by who has asked for this.
        """
        tasks = [task for brought in everything for task in brought.tasks]
        # What has just been inserted has a number above `before`.
        ids = orjson.loads(db.one("known_ids", orjson.dumps([row[0] for row in rows]).decode()))
        keys = orjson.loads(db.one("known_keys", orjson.dumps([row[12] for row in rows]).decode()))
        answers: list[str | None] = [None] * len(rows)
        fresh: set[str] = set()
        #: The created tasks that are to be queued, by the place of who wants it.
        pushed: dict[int, str] = {}
        for at, number, status, token, related in ids:
            task_id = rows[at][0]
            if number > before and task_id not in fresh:
                fresh.add(task_id)
                continue
            answers[at] = task_id
            if status == "created" and not token and not tasks[at].hold and not everything[0].related:
                self._queue_created(db, at, task_id, related, pushed)
        for at, task_id, status, token, related in keys:
            if answers[at] is None and task_id != rows[at][0]:  # its own id stands before its key
                answers[at] = task_id
                if status == "created" and not token and not tasks[at].hold and not everything[0].related:
                    self._queue_created(db, at, task_id, related, pushed)
        self._insert_arguments(db, [row for row, answer in zip(rows, answers, strict=True) if answer is None])
        start = 0
        for brought in everything:
            places = range(start, start + len(brought.tasks))
            brought.answers = answers[start : places.stop]
            start = places.stop
            wanted = [at for at in places if at in pushed]
            if wanted:
                self._push(db, brought, [tasks[at] for at in wanted], [pushed[at] for at in wanted], following)

    @staticmethod
    def _queue_created(db: Database, at: int, task_id: str, related: int, pushed: dict[int, str]) -> None:
        if related:
            pushed[at] = task_id
            return
        db.run("queue_created", task_id)
        if db.changes:  # two of a batch may want the same
            now_us = us_from_utc(datetime.now(UTC))
            db.run("note", task_id, "created", db.one("status", task_id), "client", "pushed", now_us)

    def _push(
        self, db: Database, brought: Brought, tasks: list[Envelope], task_ids: list[str], following: Following
    ) -> None:
        """Queue created tasks that relate to others, for a caller who does not say so."""
        try:
            self._relations.check(db, tasks)
            self._relations.pushed(db, task_ids)
            self._relations.queue(db, task_ids, following)
        except SettingsError as error:
            brought.error = error

    @staticmethod
    def _insert_arguments(db: Database, rows: list[list[Any]]) -> None:
        long = _apart(rows)[1]
        if long:
            db.run("enqueue_arguments", orjson.dumps(long).decode())


def _apart(rows: list[list[Any]]) -> tuple[list[list[Any]], list[list[Any]]]:
    """Return the rows, and [id, arguments] of those whose arguments are long, which they have no more."""
    long = [[row[0], row[4]] for row in rows if len(row[4]) > LONG_PAYLOAD]
    if long:
        rows = [[*row[:4], None, *row[5:]] if len(row[4]) > LONG_PAYLOAD else row for row in rows]
    return rows, long
