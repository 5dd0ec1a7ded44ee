"""Forgetting tasks that ended long ago, with everything that was kept of them: in small batches, so that nobody waits for it.

The room in the file is used again for what comes; what lies beside the store (results that could not be stored) goes with its
task.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final

from rxtasks.clock import Clock
from rxtasks.errors import StoreError
from rxtasks.stores.sqlite.connection import Database

__all__ = ["BATCH", "Pruner", "forget", "prune"]

#: Tasks of one transaction: some milliseconds of the writer's time.
BATCH: Final = 100
#: Rows of the log that one transaction deletes at most; a task with more loses them over several.
_EVENTS: Final = 2000
#: What is deleted of each task, by the queries that do it.
_PARTS: Final = ("prune_notes", "prune_arguments", "prune_aside", "prune_tasks")
#: Seconds between two batches, for others' works, and between two looks when there is nothing old.
_PAUSE: Final = 0.05
_LOOK: Final = 300.0


def prune(db: Database, finished_before_us: int, limit: int) -> tuple[list[str], bool]:
    """Forget at most `limit` tasks that ended before then; return their ids, and whether there may be more.

    Within a transaction of the writer.
    """
    rows = db.rows("old", finished_before_us, min(limit, BATCH))
    gone, more = forget(db, rows)
    return gone, more or len(rows) == min(limit, BATCH)


def forget(db: Database, rows: Sequence[tuple[int, str]]) -> tuple[list[str], bool]:
    """Forget the first of these tasks (number, id); return the ids of those that are gone, and whether some are left.

    Within a transaction of the writer.
    """
    gone: list[str] = []
    left = _EVENTS
    for number, task_id in rows[:BATCH]:
        db.run("prune_events", number, left)
        left -= db.changes
        if left <= 0:
            return gone, True  # the rest of its events next time
        for name in _PARTS:
            db.run(name, number)
        gone.append(task_id)
    return gone, len(rows) > BATCH


class Pruner:
    """Forgets, in the background, what ended more than `days` ago. Also moves the log into the file when nothing is going on.

    Args:
        forget: forgets a batch; returns how many, and whether there may be more.
    """

    def __init__(
        self,
        days: float,
        clock: Clock,
        forget: Callable[[int, int], tuple[int, bool]],
        report: Callable[[str], None],
    ) -> None:
        self._days = days
        self._clock = clock
        self._forget = forget
        self._report = report
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rxtasks-prune", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                before_us = self._clock.wall_us() - int(self._days * 86_400e6)
                _, more = self._forget(before_us, BATCH)
            except StoreError as error:
                self._report(f"old tasks could not be pruned, tried again later: {error}")
                more = False
            self._ended.wait(_PAUSE if more else _LOOK)

    def end(self) -> None:
        """Stop; a batch that is under way is finished."""
        self._ended.set()
        if self._thread is not threading.current_thread():
            self._thread.join()
