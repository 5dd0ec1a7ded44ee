"""Trackers of tasks that are known already. Any thread.

A task that was submitted here has its tracker. One of a durable store that was not (before a restart, by another process) gets
one that is filled from the log: on the core thread, which feeds all trackers, so that what it publishes meanwhile comes after.
"""

from __future__ import annotations

import threading
import time

from rxtasks.engine.cancelling import Cancelling
from rxtasks.engine.parts import ANSWER
from rxtasks.errors import ServiceStopped, UnknownTask
from rxtasks.lifecycle.events import StatusEvent
from rxtasks.lifecycle.history import Transition, history_of
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.lifecycle.task import TaskRecord
from rxtasks.observe.schedule import ScheduleTracker
from rxtasks.observe.stored import StoredTracker
from rxtasks.observe.tracker import TaskTracker
from rxtasks.stores.base import DurableStore
from rxtasks.wire.outcome import Outcome

__all__ = ["Tracking"]


class Tracking(Cancelling):
    """The part of an engine that finds trackers."""

    def track(self, task_id: str, from_seq: int = 1) -> TaskTracker:
        """Return the tracker of a task. With a durable store this reads the disk.

        Raises:
            UnknownTask: there is no such task.
            LogTruncated: the events from `from_seq` are no longer held.
        """
        tracker = self.outlet.trackers.get(task_id)
        if tracker is None:
            reference = self.outlet.ended.get(task_id)
            tracker = None if reference is None else reference()
        if tracker is not None:
            return tracker.resumed(from_seq)
        record = self.store.get(task_id)
        if record is None:
            raise UnknownTask(task_id)
        if self.durable is not None:
            if not (self._started or self._stopping or self.core.pool.lanes):
                self.start(wait=False)  # it runs nothing, and hears of what others run
            return self._track_stored(self.durable, record).resumed(from_seq)
        made = self._new_tracker(task_id, record.name)
        if not record.status.terminal:
            made.note_status(record.status)
            if record.status is TaskStatus.CREATED:
                self.outlet.created.add(task_id)
            tracker = self.outlet.trackers.setdefault(task_id, made)
            if tracker is made and self._has_ended(task_id):
                # It ended between the two looks, and nobody would settle this one.
                self._forget_tracker(task_id)
                return self.track(task_id, from_seq)
            return tracker.resumed(from_seq)
        at = record.finished_at or record.created_at
        ended = StatusEvent(
            task_id, 1, max(1, record.attempt), record.worker_id, at, record.status, record.result, record.error
        )
        made.observe(ended, batches=-1)  # published long ago: it comes with none of the batches to come
        made.settle(Outcome(record.status, ["j", record.result], None, record.error))
        return made

    def follow_schedule(self, schedule_id: str, first: TaskTracker, from_seq: int = 1) -> ScheduleTracker:
        """Return the tracker of a schedule that stands at `first`, whose events are given from `from_seq` on.

        Raises:
            LogTruncated: those are no longer held.
        """
        first.resumed(from_seq)
        return ScheduleTracker(
            schedule_id,
            first,
            self._next_occurrence,
            self.cancel_schedule,
            from_seq=from_seq,
            at_once=self.durable is None,
        )

    def _next_occurrence(self, schedule_id: str, task_id: str) -> TaskTracker | None:
        """Return the tracker of the occurrence behind one that has ended; None: nothing follows."""
        following = self.store.occurrence(schedule_id, after=task_id)
        while following is not None and following != task_id:  # it was cut off by a stop, and is still the present one
            try:
                return self.track(following)
            except UnknownTask:  # it has ended and is forgotten: the one that is due next is not
                present = self.store.occurrence(schedule_id)
                following = None if present == following else present
        return None

    def history(self, task_id: str) -> list[Transition]:
        """Return all transitions of a task, in order.

        Raises:
            UnknownTask: there is no such task.
        """
        record = self.store.get(task_id)
        if record is None:
            raise UnknownTask(task_id)
        return history_of(record.created_at, record.options, self.store.notes(task_id), self._told(record))

    def _told(self, record: TaskRecord) -> list[StatusEvent]:
        """Return the status events of a task; of one in memory that nobody follows any more, what its record knows."""
        task_id = record.task_id
        found: list[StatusEvent] = []
        if self.durable is not None:
            seq = 1
            while page := self.durable.events(task_id, seq):
                found += [event for event in page if isinstance(event, StatusEvent)]
                seq = page[-1].seq + 1
            return found
        tracker = self.outlet.trackers.get(task_id)
        if tracker is None:
            reference = self.outlet.ended.get(task_id)
            tracker = None if reference is None else reference()
        if tracker is not None:
            return tracker.statuses_so_far
        if record.started_at is not None:
            found.append(
                StatusEvent(task_id, 1, record.attempt, record.worker_id, record.started_at, TaskStatus.RUNNING)
            )
        if record.finished_at is not None:
            found.append(
                StatusEvent(
                    task_id,
                    len(found) + 1,
                    max(1, record.attempt),
                    record.worker_id,
                    record.finished_at,
                    record.status,
                    record.result,
                    record.error,
                )
            )
        return found

    def _new_tracker(self, task_id: str, name: str) -> TaskTracker:
        durable = self.durable
        if durable is None:
            return TaskTracker(task_id, name=name, control=self)
        return StoredTracker(task_id, durable.events, name=name, control=self)

    def _track_stored(self, store: DurableStore, record: TaskRecord) -> TaskTracker:
        made = StoredTracker(record.task_id, store.events, name=record.name, control=self)
        made.fill()  # the most of it here: the core has other work
        if not self._started or self.driver.forked or self.outlet.over.is_set():
            return self._fill(store, made, record)
        filled = threading.Event()
        found: list[TaskTracker | BaseException] = []

        def fill() -> list[object]:
            try:
                found.append(self._fill(store, made, record))
            except BaseException as error:
                found.append(error)
            filled.set()
            return []

        self.driver.call(fill)  # type: ignore[arg-type]
        until = time.monotonic() + ANSWER
        while not filled.wait(0.05):
            if self.outlet.over.is_set() and not filled.wait(0.05):
                return self._fill(store, made, record)
            if time.monotonic() > until:
                raise TimeoutError("the engine has not answered in time")
        if isinstance(found[0], BaseException):
            raise found[0]
        return found[0]

    def _fill(self, store: DurableStore, made: StoredTracker, record: TaskRecord) -> TaskTracker:
        """Fill a tracker; return it, or the one that somebody else has made meanwhile."""
        task_id = record.task_id
        known = self.outlet.trackers.get(task_id)
        if known is not None:
            return known
        # Known before it is filled: of what comes between the two nothing is passed over.
        self.outlet.trackers[task_id] = made
        try:
            made.fill()
            ending = store.ending(task_id)
            if ending is not None:
                made.fill()  # it may have ended between the two looks: its last event is there now
        except BaseException:
            del self.outlet.trackers[task_id]
            raise
        if ending is not None:
            self.outlet.trackers.pop(task_id, None)
            made.settle(ending.outcome())
            return made
        if made.status is TaskStatus.PENDING:
            made.note_status(record.status)
        if record.status is TaskStatus.CREATED:
            self.outlet.created.add(task_id)
        if self.outlet.over.is_set():  # nobody is left who would hear of its end
            self._forget_tracker(task_id)
            self.outlet.cut_off(made, ServiceStopped("the service has stopped; start() it again"))
        return made

    def _has_ended(self, task_id: str) -> bool:
        """Say whether the store knows the end already: a tracker that is made after that is settled by nobody."""
        record = self.store.get(task_id)
        return record is None or record.status.terminal
