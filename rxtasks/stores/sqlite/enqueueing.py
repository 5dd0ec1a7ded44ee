"""Taking tasks in: which of them stand for others already, and the rest in one statement."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import orjson

from rxtasks.errors import QueueFull
from rxtasks.stores.base import Envelope
from rxtasks.stores.sqlite.connection import Database
from rxtasks.stores.sqlite.rows import LONG_PAYLOAD, OptionTexts, task_row

__all__ = ["Enqueueing"]


class Enqueueing:
    """Makes the work of an enqueue."""

    def __init__(self, texts: OptionTexts, max_queue: int | None) -> None:
        self._texts = texts
        self._max_queue = max_queue

    def work(self, tasks: Sequence[Envelope]) -> Callable[[Database], list[str | None]]:
        """Return what takes these tasks in, within a transaction.

        Raises:
            PayloadError, SettingsError: one of them cannot be stored; then none is.
        """
        rows = [task_row(task, self._texts) for task in tasks]
        ids = orjson.dumps([task.task_id for task in tasks]).decode()
        keys = [task.options.dedup_key for task in tasks]

        def run(db: Database) -> list[str | None]:
            self._check_room(db, len(tasks))
            answers: list[str | None] = [None] * len(tasks)
            for at, task_id, status, token in orjson.loads(db.one("known_ids", ids)):
                answers[at] = task_id
                if status == "created" and not token and not tasks[at].hold:
                    db.run("queue_created", task_id)
            if any(key is not None for key in keys):
                for at, task_id in orjson.loads(db.one("known_keys", orjson.dumps(keys).decode())):
                    answers[at] = answers[at] or task_id
            self._repeats(tasks, answers)
            self._insert(db, [row for row, answer in zip(rows, answers, strict=True) if answer is None])
            return answers

        return run

    def _check_room(self, db: Database, count: int) -> None:
        bound = self._max_queue
        if bound is None:
            return
        waiting = db.one("pending", bound + 1) + db.one("scheduled", bound + 1)
        if waiting + count > bound:
            raise QueueFull(f"{waiting} tasks wait and max_queue is {bound}; submit later, or raise max_queue")

    @staticmethod
    def _repeats(tasks: Sequence[Envelope], answers: list[str | None]) -> None:
        """Of those with one id or one key in the batch itself, the first one stands for the others."""
        if len(tasks) == 1:
            return
        ids: set[str] = set()
        keys: dict[str, str] = {}
        for at, task in enumerate(tasks):
            if answers[at] is not None:
                continue
            key = task.options.dedup_key
            if task.task_id in ids:
                answers[at] = task.task_id
            elif key is not None and key in keys:
                answers[at] = keys[key]
            else:
                ids.add(task.task_id)
                if key is not None:
                    keys[key] = task.task_id

    @staticmethod
    def _insert(db: Database, rows: list[list[object]]) -> None:
        if not rows:
            return
        long: list[list[object]] = []
        for row in rows:
            if len(row[4]) > LONG_PAYLOAD:  # type: ignore[arg-type]
                long.append([row[0], row[4]])
                row[4] = None
        db.run("enqueue", orjson.dumps(rows).decode())
        if long:
            db.run("enqueue_arguments", orjson.dumps(long).decode())
