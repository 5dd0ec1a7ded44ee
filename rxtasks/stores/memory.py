"""The store in memory: the model that every other store must behave like.

Queues are one deque per (queue, isolation, priority): a claim looks only at those that its lane takes, best priority
first, by the sequence of arrival among equals. Tasks that wait for their time lie in a heap. Rows of ended tasks are
kept, the newest `retain` of them, without arguments and without results that are large or objects.
"""

from __future__ import annotations

import heapq
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import orjson

from rxtasks.clock import utc_from_us
from rxtasks.errors import QueueFull, ServiceStopped
from rxtasks.lifecycle.errorinfo import TaskErrorInfo
from rxtasks.lifecycle.events import ProgressEvent, TaskEvent, ValueRef
from rxtasks.lifecycle.options import TaskOptions
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.lifecycle.task import TaskRecord
from rxtasks.stores.base import Change, Claim, Counts, Envelope, Lane

__all__ = ["MemoryStore"]

_PENDING = TaskStatus.PENDING
_WAITING = frozenset({TaskStatus.PENDING, TaskStatus.SCHEDULED, TaskStatus.BLOCKED, TaskStatus.RETRYING})

#: Bytes of JSON up to which the result of an ended task is kept when nobody holds its tracker.
_KEPT_RESULT = 1024

#: Types of results that take no room to speak of.
_ATOMS = frozenset({type(None), bool, int, float})

_Bucket = tuple[str | None, str | None, int]


@attrs.define(eq=False, repr=False)
class _Row:
    #: None once the task has ended; what a record needs of it stays.
    envelope: Envelope | None
    task_id: str
    name: str
    options: TaskOptions
    created_us: int
    number: int
    status: TaskStatus
    priority: int
    #: Token of the claim that holds the task, 0 = none.
    token: int = 0
    #: Grows whenever the row is queued anew, so that older entries of the heap are passed over.
    place: int = 0
    #: The deque in which it waits; entries in others are old and passed over.
    queue: deque[_Row] | None = None
    due_us: int = 0
    attempt: int = 0
    failures: int = 0
    crashes: int = 0
    interruptions: int = 0
    next_seq: int = 1
    worker_id: str | None = None
    started_us: int | None = None
    finished_us: int | None = None
    value: Sequence[Any] | None = None
    error: TaskErrorInfo | None = None
    progress: ProgressEvent | None = None
    checkpoint: bytes | None = None


class MemoryStore:
    """Keeps tasks in this process; nothing survives it."""

    durable = False

    def __init__(self, *, retain: int = 10_000, max_queue: int | None = None) -> None:
        self._retain = retain
        self._max_queue = max_queue
        # Reentrant: a signal handler or a finalizer of this thread may submit or stop while it is in here.
        self._lock = threading.RLock()
        self._rows: dict[str, _Row] = {}
        self._dedup: dict[str, str] = {}
        self._queues: dict[_Bucket, deque[_Row]] = {}
        #: The buckets of each (queue, isolation), best priority first; rebuilt when a bucket is added.
        self._order: list[_Bucket] = []
        self._timed: list[tuple[int, int, int, _Row]] = []
        #: Ids of ended tasks, oldest first.
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._pending = 0
        self._scheduled = 0
        self._fence = 0
        self._number = 0
        self._closed = False

    # -- in ------------------------------------------------------------------------------------------------------------

    def enqueue(self, tasks: Sequence[Envelope]) -> list[str | None]:
        """Take the tasks in (see the contract)."""
        with self._lock:
            if self._closed:
                raise ServiceStopped("the service is stopped and takes no more tasks; start() it again first")
            if self._max_queue is not None and self._pending + self._scheduled + len(tasks) > self._max_queue:
                raise QueueFull(
                    f"{self._pending + self._scheduled} tasks wait and max_queue is {self._max_queue};"
                    " submit later, or raise max_queue"
                )
            if len(tasks) == 1:
                return [self._take(tasks[0])]
            return self._take_many(tasks)

    def _take(self, task: Envelope) -> str | None:
        rows = self._rows
        task_id = task.task_id
        known = rows.get(task_id)
        if known is not None:
            if known.status is TaskStatus.CREATED and not task.hold and not known.token:
                self._queue(known, known.due_us or (known.envelope or task).due_us, TaskStatus.SCHEDULED)
            return task_id
        options = task.options
        key = options.dedup_key
        if key is not None:
            other = self._dedup.get(key)
            if other is not None:
                return other
            self._dedup[key] = task_id
        self._number = number = self._number + 1
        row = rows[task_id] = _Row(
            task, task_id, task.name, options, task.created_us, number, _PENDING, options.priority
        )
        if task.hold:
            row.status = TaskStatus.CREATED
            return None
        if not task.due_us:
            queue = self._queues.get((options.queue, options.isolation, options.priority))
            if queue is not None:  # what _queue does, for the newest of all
                self._pending += 1
                row.place = 1
                row.queue = queue
                queue.append(row)
                return None
        self._queue(row, task.due_us, TaskStatus.SCHEDULED)
        return None

    def _take_many(self, tasks: Sequence[Envelope]) -> list[str | None]:
        """Do as _take for each. Those that share their options and run at once all go to the end of one queue."""
        options = tasks[0].options
        priority = options.priority
        queue = self._queues.get((options.queue, options.isolation, priority))
        if queue is None or options.dedup_key is not None:
            return [self._take(task) for task in tasks]
        rows, number, append = self._rows, self._number, queue.append
        answers: list[str | None] = []
        for task in tasks:
            task_id = task.task_id
            if task.options is not options or task.due_us or task.hold or task_id in rows:
                self._number = number
                answers.append(self._take(task))
                number = self._number
                continue
            number += 1
            row = rows[task_id] = _Row(
                task, task_id, task.name, options, task.created_us, number, _PENDING, priority, 0, 1, queue
            )
            append(row)
            self._pending += 1
            answers.append(None)
        self._number = number
        return answers

    def _queue(self, row: _Row, due_us: int, timed: TaskStatus) -> None:
        row.place = place = row.place + 1
        row.due_us = due_us
        row.token = 0
        if due_us:
            row.queue = None
            row.status = timed
            self._scheduled += 1
            heapq.heappush(self._timed, (due_us, row.number, place, row))
            return
        row.status = _PENDING
        self._pending += 1
        options = row.options
        bucket = (options.queue, options.isolation, row.priority)
        queue = self._queues.get(bucket)
        if queue is None:
            queue = self._queues[bucket] = deque()
            self._order = sorted(self._queues, key=lambda b: -b[2])
        row.queue = queue
        if queue and queue[-1].number > row.number:
            # Given back or due again: it keeps its place in the order of arrival.
            self._insert(queue, row)
        else:
            queue.append(row)

    @staticmethod
    def _insert(queue: deque[_Row], row: _Row) -> None:
        if queue[0].number > row.number:
            queue.appendleft(row)
            return
        low, high = 0, len(queue)
        while low < high:
            middle = (low + high) // 2
            if queue[middle].number < row.number:
                low = middle + 1
            else:
                high = middle
        queue.insert(low, row)

    # -- claims --------------------------------------------------------------------------------------------------------

    def claim(self, lane: Lane, limit: int, now_us: int) -> list[Claim]:
        """Hand over at most `limit` due tasks that the lane takes, in order."""
        claims: list[Claim] = []
        with self._lock:
            if self._timed:
                self._ripen(now_us)
            if len(self._order) == 1:
                (bucket,) = self._order
                if lane.takes(bucket[1], bucket[0]):
                    self._drain(self._queues[bucket], limit, claims)
                return claims
            for buckets in self._levels(lane):
                if len(buckets) == 1:
                    self._drain(self._queues[buckets[0]], limit, claims)
                else:
                    self._merge([self._queues[bucket] for bucket in buckets], limit, claims)
                if len(claims) >= limit:
                    break
        return claims

    def _levels(self, lane: Lane) -> list[list[_Bucket]]:
        levels: dict[int, list[_Bucket]] = {}
        for bucket in self._order:
            if self._queues[bucket] and lane.takes(bucket[1], bucket[0]):
                levels.setdefault(bucket[2], []).append(bucket)
        return list(levels.values())

    def _drain(self, queue: deque[_Row], limit: int, claims: list[Claim]) -> None:
        room = limit - len(claims)
        while queue and room > 0:
            row = queue.popleft()
            if row.queue is queue:
                claims.append(self._hold(row))
                room -= 1

    def _merge(self, queues: list[deque[_Row]], limit: int, claims: list[Claim]) -> None:
        while len(claims) < limit:
            heads = [queue for queue in queues if queue]
            if not heads:
                return
            queue = min(heads, key=lambda queue: queue[0].number)
            row = queue.popleft()
            if row.queue is queue:
                claims.append(self._hold(row))

    def _hold(self, row: _Row) -> Claim:
        self._pending -= 1
        self._fence = fence = self._fence + 1
        row.token = fence
        row.queue = None
        envelope = row.envelope
        assert envelope is not None  # it waits: it has not ended
        return Claim(
            fence,
            fence,
            envelope,
            row.attempt,
            row.failures,
            row.crashes,
            row.interruptions,
            row.next_seq,
            row.status,
            row.checkpoint,
        )

    def _ripen(self, now_us: int) -> None:
        timed = self._timed
        while timed and timed[0][0] <= now_us:
            _, _, place, row = heapq.heappop(timed)
            if row.place == place and not row.token and row.status in _WAITING:
                self._scheduled -= 1
                self._queue(row, 0, _PENDING)

    def claim_one(self, task_id: str) -> Claim | None:
        """Hand over this task if it waits, else return None."""
        with self._lock:
            row = self._rows.get(task_id)
            if row is None or row.token or (row.status not in _WAITING and row.status is not TaskStatus.CREATED):
                return None
            if row.status is TaskStatus.CREATED:
                self._pending += 1
            elif row.due_us:
                self._scheduled -= 1
                self._pending += 1
            status = row.status
            claim = self._hold(row)
            claim.status = status
            row.place += 1
            return claim

    def commit(
        self, changes: list[Change], events: list[TaskEvent], done: Callable[[list[int], BaseException | None], None]
    ) -> None:
        """Apply the changes and call done before returning."""
        refused: list[int] = []
        with self._lock:
            rows, apply = self._rows, self._apply
            for change in changes:
                row = rows.get(change.task_id)
                if row is None or row.token != change.token:
                    refused.append(change.token)
                    continue
                apply(row, change)
        done(refused, None)

    def _apply(self, row: _Row, change: Change) -> None:
        row.status = change.status
        row.attempt = change.attempt
        row.failures = change.failures
        row.crashes = change.crashes
        row.interruptions = change.interruptions
        row.next_seq = change.next_seq
        row.worker_id = change.worker_id
        if change.started_us is not None:
            row.started_us = change.started_us
        if change.progress is not None:
            row.progress = change.progress
        if change.finished_us is None or not change.release:
            self._go_on(row, change)
            return
        row.token = 0
        row.finished_us = change.finished_us
        # That of an attempt before, in a task that has succeeded, is history.
        row.error = change.error
        value = change.value
        row.value = value if value is None or (value[0] == "j" and type(value[1]) in _ATOMS) else _kept(value)
        row.checkpoint = None
        row.envelope = None
        key = row.options.dedup_key
        if key is not None:
            self._dedup.pop(key, None)
        ended = self._ended
        ended[row.task_id] = None
        if len(ended) > self._retain:
            self._rows.pop(ended.popitem(last=False)[0], None)

    def _go_on(self, row: _Row, change: Change) -> None:
        """Apply the rest of a change after which the task has not ended."""
        row.error = change.error or row.error
        if change.checkpoint is not None:
            row.checkpoint = change.checkpoint
        if change.release:
            row.worker_id = None
            self._queue(row, change.due_us, change.status)

    # -- looking -------------------------------------------------------------------------------------------------------

    def next_due(self) -> int | None:
        """Return when the next task that waits for its time is due (wall clock, microseconds)."""
        if not self._timed:
            return None
        with self._lock:
            timed = self._timed
            while timed and (timed[0][3].place != timed[0][2] or timed[0][3].token):
                heapq.heappop(timed)
            return timed[0][0] if timed else None

    def waiting(self) -> list[str]:
        """Return the ids of all tasks that wait."""
        with self._lock:
            return [task_id for task_id, row in self._rows.items() if not row.token and row.status in _WAITING]

    def close(self) -> list[str]:
        """Take nothing more and return the ids of all tasks that wait."""
        with self._lock:
            self._closed = True
        return self.waiting()

    def reopen(self) -> None:
        """Take tasks again, after close()."""
        with self._lock:
            self._closed = False

    def counts(self) -> Counts:
        """Return how many tasks wait."""
        return Counts(self._pending, self._scheduled)

    def get(self, task_id: str) -> TaskRecord | None:
        """Return the record of this task, or None."""
        with self._lock:
            row = self._rows.get(task_id)
            return None if row is None else _record(row)

    def list(
        self,
        *,
        status: TaskStatus | None = None,
        name: str | None = None,
        tag: str | None = None,
        worker: str | None = None,
        created_before_us: int | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> list[TaskRecord]:
        """Return records in the order of arrival, from behind the task `after`."""
        with self._lock:
            start = self._rows.get(after) if after is not None else None
            first = 0 if start is None else start.number
            found: list[TaskRecord] = []
            for row in self._rows.values() if limit > 0 else ():
                if (
                    row.number > first
                    and (status is None or row.status == status)
                    and (name is None or row.name == name)
                    and (tag is None or tag in row.options.tags)
                    and (worker is None or row.worker_id == worker)
                    and (created_before_us is None or row.created_us < created_before_us)
                ):
                    found.append(_record(row))
                    if len(found) >= limit:
                        break
            return found

    def update(self, task_id: str, *, priority: int | None = None, due_us: int | None = None) -> bool:
        """Change a waiting task; False if it does not wait."""
        with self._lock:
            row = self._rows.get(task_id)
            if row is None or row.token or row.status not in _WAITING | {TaskStatus.CREATED}:
                return False
            if priority is not None:
                row.priority = priority
            held = row.status is TaskStatus.CREATED
            if held:
                if due_us is not None:
                    row.due_us = due_us
                return True
            due = row.due_us if due_us is None else due_us
            timed = row.status if row.due_us else TaskStatus.SCHEDULED
            if row.due_us:
                self._scheduled -= 1
            else:
                self._pending -= 1
            self._queue(row, due, timed)
            return True

    def delete(self, task_id: str) -> bool:
        """Forget an ended task; False if it has not ended or is not known."""
        with self._lock:
            row = self._rows.get(task_id)
            if row is None or not row.status.terminal:
                return False
            del self._rows[task_id]
            self._ended.pop(task_id, None)
            return True


def _kept(value: Sequence[Any] | None) -> Sequence[Any] | None:
    """Return what of a result is kept with the record: JSON up to 1 KiB, else a reference."""
    if value is None:
        return None
    form = value[0]
    if form == "j":
        body = value[1]
    elif form == "o" and len(value) > 4:
        body = value[4]
    elif form == "o":
        return ["r", 0, value[2], value[3]]
    else:
        return ["r", value[1], value[2], value[3]]
    if body is not None and type(body) not in (bool, int, float):
        text = orjson.dumps(body)
        if len(text) > _KEPT_RESULT:
            return ["r", len(text), type(body).__name__, repr(body)[:200]]
    return value if form == "j" else ["j", body]


def _shown(value: Sequence[Any] | None) -> Any:
    if value is None:
        return None
    return value[1] if value[0] == "j" else ValueRef(value[2], value[1], value[3])


def _record(row: _Row) -> TaskRecord:
    return TaskRecord(
        task_id=row.task_id,
        name=row.name,
        status=row.status,
        attempt=row.attempt,
        crashes=row.crashes,
        interruptions=row.interruptions,
        priority=row.priority,
        worker_id=row.worker_id,
        progress=row.progress,
        created_at=utc_from_us(row.created_us),
        started_at=None if row.started_us is None else utc_from_us(row.started_us),
        finished_at=None if row.finished_us is None else utc_from_us(row.finished_us),
        result=_shown(row.value),
        error=row.error,
        options=row.options,
        tags=row.options.tags,
    )
