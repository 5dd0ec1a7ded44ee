"""Dependencies, schedules and steps in the file, and what follows from an end (stores/relations.py). Within a transaction."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import attrs
import orjson

from rxtasks.lifecycle.cron import next_occurrence
from rxtasks.lifecycle.options import TaskOptions
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.lifecycle.task import new_id
from rxtasks.stores.base import Envelope, Related
from rxtasks.stores.gates import Gate
from rxtasks.stores.noting import FREE, NOT_YET, follows, repeats, retried
from rxtasks.stores.relations import check_circles, missing, why_not
from rxtasks.stores.sqlite import gating
from rxtasks.stores.sqlite.connection import Database
from rxtasks.stores.sqlite.gating import document
from rxtasks.stores.sqlite.rows import GATES, OptionTexts, related_row

__all__ = ["Following", "Relations"]

_NONE: Final = Related()


@attrs.define(eq=False)
class Following:
    """What has followed from ends: whether there is something new to claim, and what is to be cancelled (id, reason)."""

    woken: bool = False
    doomed: list[tuple[str, str]] = attrs.field(factory=list)


class Relations:
    """Relates tasks within a transaction."""

    def __init__(self, texts: OptionTexts) -> None:
        self._texts = texts
        self._read = OptionTexts()
        #: Puts the next occurrence of a schedule in.
        self.insert: Callable[[Database, Envelope], None] = lambda db, task: None

    # -- in ------------------------------------------------------------------------------------------------------------

    def check(self, db: Database, tasks: Sequence[Envelope]) -> None:
        """Do nothing if all that these tasks depend on is there, and no circle is made.

        Raises:
            SettingsError: otherwise.
        """
        fresh: dict[str, Envelope] = {}
        starts: dict[str, None] = {}
        for task in tasks:
            key = task.options.dedup_key
            task_id = task.task_id
            known = db.rows("known", task_id)
            if not known and key is not None:
                task_id = db.one("known_key", key) or task_id  # another one stands for it
                known = db.rows("known", task_id)
            if not known:
                fresh.setdefault(task_id, task)
                if not task.hold:
                    starts[task_id] = None
            elif known[0][1] == "created" and not task.hold:
                starts[task_id] = None
        self._check(db, fresh, starts)

    def _check(self, db: Database, fresh: dict[str, Envelope], starts: Iterable[str]) -> None:
        def needs(task_id: str) -> Iterable[str]:
            if task_id in fresh:
                return fresh[task_id].options.depends_on
            for _, status, options, _, _ in db.rows("known", task_id):
                if status == "created":
                    return self._read.options(options).depends_on
                return [row[0] for row in db.rows("needs_of", task_id)]
            return ()

        starts = [task_id for task_id in starts if needs(task_id)]
        for task_id in starts:
            for dependency in needs(task_id):
                if dependency not in fresh and not db.rows("known", dependency):
                    raise missing(task_id, dependency)
        check_circles(starts, needs)

    def link(self, db: Database, tasks: Sequence[Envelope]) -> None:
        """Give new tasks, which are stored as created, their relations."""
        rows = document(related_row(task) for task in tasks)
        db.run("relate", rows)
        if any([task.related is not None and task.related.schedule_id is not None for task in tasks]):
            db.run("occurs", rows)
        gates = [
            (task.task_id, level, gate) for task in tasks for level, gate in enumerate((task.related or _NONE).gates)
        ]
        gating.set_bounds(db, {gate.key: gate for _, _, gate in gates}.values())
        stands = [[task_id, level, gate.key] for task_id, level, gate in gates]
        if stands:
            db.run("stand", document(stands))

    def repeat(self, db: Database, tasks: Iterable[Envelope]) -> None:
        """Note of new tasks that are retries what they repeat, and of what they repeat that they do."""
        for task in tasks:
            related = task.related
            if related is not None and related.retry_of is not None:
                now_us = time.time_ns() // 1000
                db.run("note_retry", task.task_id, repeats(related.retry_of, related.reason), now_us)
                db.run("note_retried", related.retry_of, retried(task.task_id, related.reason), now_us)

    def pushed(self, db: Database, task_ids: Sequence[str]) -> None:
        """Note that tasks which are there, created only, are about to be queued."""
        if task_ids:
            db.run("note_pushed", document(task_ids), time.time_ns() // 1000)

    def queue(self, db: Database, task_ids: Sequence[str], following: Following) -> None:
        """Queue tasks that are created, as far as others let them."""
        rows = db.rows("queueable", document(task_ids))
        if not rows:
            return
        numbers = [row[0] for row in rows]
        db.run("block", document(numbers))
        wants: list[tuple[int, str, bool]] = []
        for number, text in rows:
            options = self._read.options(text)
            wants += [(number, other, options.on_dependency_failure == "cancel") for other in options.depends_on]
        doomed: set[int] = set()
        if wants:
            found = document(wants)
            db.run("add_edges", found)
            for number, dependency, status in db.rows("ended_badly", found):
                if number in doomed:
                    continue
                doomed.add(number)
                self._doom(db, number, why_not(dependency, TaskStatus(status)), following)
            numbers = [number for number in numbers if number not in doomed]
            numbers = orjson.loads(db.one("free_of_edges", document(numbers)))
        self._unblock(db, numbers)
        following.woken = True

    def _unblock(self, db: Database, numbers: list[int]) -> None:
        if numbers:
            wanted = document(numbers)
            now_us = time.time_ns() // 1000
            db.run("note_free", wanted, FREE, now_us)
            db.run("note_not_yet", wanted, NOT_YET, now_us)
            db.run("unblock", wanted)
            gating.queue_due(db, orjson.loads(db.one("still_gated", wanted)))

    @staticmethod
    def _doom(db: Database, number: int, reason: str, following: Following) -> None:
        task_id = db.one("doom", number, reason)
        db.run("cut_edges_to", document([number]))
        if all(task_id != known for known, _ in following.doomed):
            following.doomed.append((task_id, reason))

    # -- changing ------------------------------------------------------------------------------------------------------

    def update(self, db: Database, number: int, priority: int | None, due_us: int | None) -> None:
        """Change a task with gates, or one that is blocked."""
        status, related, _, _ = db.rows("standing_of", number)[0]
        if related & GATES and status != "created":
            gating.withdraw(db, number)
        db.run("update_related", number, priority, due_us)
        if related & GATES:
            db.run("update_gated", number)
            gating.queue_due(db, orjson.loads(db.one("still_gated", document([number]))))
        elif db.rows("standing_of", number)[0][0] == "gated":
            db.run("ready", number)

    # -- ends ----------------------------------------------------------------------------------------------------------

    def unbegun(self, db: Database, attempts: dict[int, int]) -> dict[int, bool]:
        """Before changes are applied: return for each task with relations of its own whether it has not begun under its claim.

        `attempts` has the number of the attempt with which each claim ends.
        """
        if not attempts:
            return {}
        return {number: attempts[number] == attempt for number, attempt in db.rows("related_of", document(attempts))}

    def released(
        self,
        db: Database,
        related: dict[int, bool],
        ended: Sequence[int],
        following: Following,
    ) -> None:
        """See to what follows from the end of claims.

        Args:
            related: numbers of tasks with relations of their own whose claim has ended, and whether they have not begun.
            ended: numbers of all tasks that have ended.
        """
        if related:
            gating.let_go(db, related)
            following.woken = True
        if not ended:
            return
        over = document(ended)
        if related:
            for number in ended:
                if number in related:
                    self._next(db, number)
            keys = {row[1] for number in related for row in db.rows("gates_of", number)}
            db.run("forget_gates", over)
            db.run("forget_locks", document(keys))
            db.run("forget_steps", over)
        self._settle(db, over, following)

    def _settle(self, db: Database, over: str, following: Following) -> None:
        dependents = db.rows("dependents", over)
        db.run("cut_edges_to", over)
        if not dependents:
            return
        db.run("cut_edges", over)
        left: dict[int, None] = {}
        for number, source, status, cancels in dependents:
            if status != "succeeded" and cancels:
                self._doom(db, number, why_not(source, TaskStatus(status)), following)
                left.pop(number, None)
            else:
                left[number] = None
        waiting = [number for number in left if db.rows("standing_of", number)[0][0] == "blocked"]
        self._unblock(db, orjson.loads(db.one("free_of_edges", document(waiting))))
        following.woken = True

    def _next(self, db: Database, number: int) -> None:
        payload, name, function, form, task_id, text, due_us, trace, schedule, status, finished_us = db.rows(
            "occurrence", number
        )[0]
        if schedule is None or db.one("occurrence_of", schedule) != task_id:
            return
        db.run("end_schedule", schedule)
        options: TaskOptions = self._read.options(text)
        if options.cron is None or status == "cancelled":
            return
        due_us = next_occurrence(options.cron, options.tz, max(finished_us, due_us))
        task = Envelope(
            new_id(), name, function, None, None, form, payload.encode(), options, finished_us, trace, due_us
        )
        task.related = Related(tuple([Gate(*row[1:5]) for row in db.rows("gates_of", number)]), schedule)
        self.insert(db, task)
        db.run("note", task.task_id, "created", "scheduled", "store", follows(task_id), finished_us)

    # -- steps ---------------------------------------------------------------------------------------------------------

    @staticmethod
    def keep_steps(db: Database, steps: list[tuple[int, str, str]]) -> None:
        """Keep results of steps: (number of the task, name, stored form)."""
        db.run("keep_steps", document(steps))
        db.run("has_steps", document({number for number, _, _ in steps}))

    @staticmethod
    def steps(db: Database, number: int) -> dict[str, bytes]:
        """Return the results of a task's steps."""
        return {name: data.encode() for name, data in db.rows("steps_of", number)}
