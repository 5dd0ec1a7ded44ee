"""The store in memory: the model that every other store must behave like.

Queues are one deque per (queue, isolation, priority): a claim looks only at those that its lane takes, best priority
first, by the sequence of arrival among equals. Tasks that wait for their time lie in a heap. Of ended tasks the newest
`retain` are kept, without arguments and without results that are large or objects.

Most tasks wait, run once and succeed, and there may be a hundred thousand of them: so a task is kept as the least that says
how it stands, and each object that is not made costs nothing at every collection of garbage either::

    waits since it came       claimed for the first time        ended
    Envelope ──────claim─────> Claim ──────────────commit─────> tuple of atoms
        └─ priority changed, due, ... ─┴─ retried, checkpoint ... ─> Row ──^

What lies in a queue waits there if it is still what is kept (an Envelope), or says so itself (a Row); else it is passed over.
What has been taken out by its id lies there without its arguments (_taken_out).
"""

from __future__ import annotations

import builtins
import heapq
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import attrs

from rxtasks.clock import utc_from_us
from rxtasks.errors import QueueFull, ServiceStopped
from rxtasks.lifecycle.events import TaskEvent
from rxtasks.lifecycle.history import Note
from rxtasks.lifecycle.options import DEFAULT_OPTIONS, TaskOptions
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.lifecycle.task import TaskRecord
from rxtasks.stores.base import HEADS, Change, Claim, Counts, Envelope, Lane, Successes, each_change
from rxtasks.stores.listeners import Listeners
from rxtasks.stores.memory_relations import MemoryRelations
from rxtasks.stores.noting import RIPE, asked, updated
from rxtasks.stores.rows import ATOMS, Kept, Row, Waiting, ended_of, record_of, row_of, short
from rxtasks.stores.waits import Waits

__all__ = ["MemoryStore"]

_PENDING = TaskStatus.PENDING
#: Notes kept of a task, and tasks of which notes are kept.
_NOTES = 100
_NOTED = 10_000
_WAITING = frozenset({TaskStatus.PENDING, TaskStatus.SCHEDULED, TaskStatus.BLOCKED, TaskStatus.RETRYING})

#: Entries of a queue that are looked at for the first that waits.
_PASSED = 100

_Bucket = tuple[str | None, str | None, int]


class MemoryStore:
    """Keeps tasks in this process; nothing survives it."""

    durable = False

    def __init__(self, *, retain: int = 10_000, max_queue: int | None = None) -> None:
        self._retain = retain
        self._max_queue = max_queue
        # Reentrant: a signal handler or a finalizer of this thread may submit or stop while it is in here.
        self._lock = threading.RLock()
        self._tasks: dict[str, Kept] = {}
        self._dedup: dict[str, str] = {}
        self._queues: dict[_Bucket, deque[Waiting]] = {}
        #: The buckets of each (queue, isolation), best priority first; rebuilt when a bucket is added.
        self._order: list[_Bucket] = []
        self._timed: list[tuple[int, int, int, Row]] = []
        #: Ids of ended tasks, oldest first.
        self._ended: deque[str] = deque()
        #: What was done to tasks and none of their events tells of: the last _NOTES of each, of the last _NOTED tasks.
        self._notes: OrderedDict[str, deque[Note]] = OrderedDict()
        self._pending = 0
        self._scheduled = 0
        self._fence = 0
        self._number = 0
        self._closed = False
        self.listeners = Listeners()
        self._relations = MemoryRelations(self, self.listeners)
        self._created, self._dependents = self._relations.created, self._relations.dependents
        self._now_us = 0

    # -- in ------------------------------------------------------------------------------------------------------------

    def enqueue(self, tasks: Sequence[Envelope]) -> list[str | None]:
        """Take the tasks in (see the contract)."""
        with self._lock:
            if self._closed:
                raise ServiceStopped("the service is stopped and takes no more tasks; start() it again first")
            if self._max_queue is not None:
                self._check_room(len(tasks), self._max_queue)
            if len(tasks) == 1 and tasks[0].related is None and not self._created:
                return [self._take(tasks[0])]
            if self._relations.concern(tasks):
                return self._relations.take(tasks)
            return self._take_many(tasks)

    def _check_room(self, count: int, bound: int) -> None:
        waiting = self._pending + self._scheduled + self._relations.blocked
        if waiting + count > bound:
            raise QueueFull(f"{waiting} tasks wait and max_queue is {bound}; submit later, or raise max_queue")

    def _take(self, task: Envelope) -> str | None:
        tasks = self._tasks
        task_id = task.task_id
        known = tasks.get(task_id)
        if known is not None:
            self._push_created(known, task)
            return task_id
        options = task.options
        key = options.dedup_key
        if key is not None:
            other = self._dedup.get(key)
            if other is not None:
                self._push_created(tasks[other], task)
                return other
            self._dedup[key] = task_id
        self._number = task.number = self._number + 1
        if not (task.due_us or task.hold or task.related):
            bucket = (options.queue, options.isolation, options.priority)
            (self._queues.get(bucket) or self._queue_of(bucket)).append(task)
            tasks[task_id] = task
            self._pending += 1
            return None
        row = self._opened(task)
        if task.related:
            self._relations.link(row, task)
        elif task.hold:
            row.status = TaskStatus.CREATED
        else:
            self._queue(row, task.due_us, TaskStatus.SCHEDULED)
        return None

    def _push_created(self, known: Kept, task: Envelope) -> None:
        """Queue a task that is created only, because `task` stands for it and is to run. Those with relations: `take`."""
        if (
            type(known) is Row
            and known.status is TaskStatus.CREATED
            and not (task.hold or known.token or known.task_id in self._created)
        ):
            self._queue(known, known.due_us or (known.envelope or task).due_us, TaskStatus.SCHEDULED)
            self._note(known.task_id, 1, TaskStatus.CREATED, known.status, "client", "pushed")

    def _take_many(self, tasks: Sequence[Envelope]) -> list[str | None]:
        """Do as _take for each. Those that share their options and run at once all go to the end of one queue."""
        options = tasks[0].options
        if options.dedup_key is not None:
            return [self._take(task) for task in tasks]
        append = self._queue_of((options.queue, options.isolation, options.priority)).append
        kept = self._tasks
        answers: list[str | None] = []
        for task in tasks:
            task_id = task.task_id
            if task.options is not options or task.due_us or task.hold or task_id in kept:
                answers.append(self._take(task))
                continue
            self._number = task.number = self._number + 1
            kept[task_id] = task
            append(task)
            self._pending += 1
            answers.append(None)
        return answers

    def _opened(self, task: Envelope) -> Row:
        """Keep a task as a row from now on."""
        row = self._tasks[task.task_id] = row_of(task)
        return row

    def _queue_of(self, bucket: _Bucket) -> deque[Waiting]:
        queue = self._queues.get(bucket)
        if queue is None:
            queue = self._queues[bucket] = deque()
            self._order = sorted(self._queues, key=lambda b: -b[2])
        return queue

    def _queue(self, row: Row, due_us: int, timed: TaskStatus) -> None:
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
        if row.links is None or not self._relations.holds_back(row):
            self._line_up(row)

    def _line_up(self, row: Row) -> None:
        """Put a task that may run into its queue."""
        options = row.options
        queue = row.queue = self._queue_of((options.queue, options.isolation, row.priority))
        if queue and queue[-1].number > row.number:
            # Given back or due again: it keeps its place in the order of arrival.
            self._insert(queue, row)
        else:
            queue.append(row)

    def _set_aside(self, row: Row, due_us: int) -> None:
        """Let a task that is pending wait until then; that is no change of its status."""
        row.place = place = row.place + 1
        row.queue, row.due_us = None, due_us
        self._pending -= 1
        self._scheduled += 1
        heapq.heappush(self._timed, (due_us, row.number, place, row))

    def _not_aside(self, row: Row) -> None:
        row.place += 1
        row.due_us = 0
        self._pending += 1
        self._scheduled -= 1

    @staticmethod
    def _insert(queue: deque[Waiting], row: Row) -> None:
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
            self._now_us = now_us
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

    def _drain(self, queue: deque[Waiting], limit: int, claims: list[Claim]) -> None:
        tasks, popleft, add = self._tasks, queue.popleft, claims.append
        before = self._fence
        fence = before
        room = limit - len(claims)
        while queue and room > 0:
            task = popleft()
            if type(task) is Envelope:
                task_id = task.task_id
                if tasks.get(task_id) is not task:
                    continue
                fence += 1
                claim = tasks[task_id] = Claim(fence, fence, task)  # what _hold does
                add(claim)
            elif task.queue is queue and (task.links is None or self._relations.admit(task, self._now_us)):
                self._fence = fence
                add(self._hold_again(task))
                fence = self._fence
            else:
                continue
            room -= 1
        self._fence = fence
        self._pending -= fence - before

    def _merge(self, queues: list[deque[Waiting]], limit: int, claims: list[Claim]) -> None:
        while len(claims) < limit:
            for queue in queues:
                while queue and not self._waits_in(queue, queue[0]):
                    queue.popleft()
            heads = [queue for queue in queues if queue]
            if not heads:
                return
            self._drain(min(heads, key=lambda queue: queue[0].number), len(claims) + 1, claims)

    def _waits_in(self, queue: deque[Waiting], task: Waiting) -> bool:
        return self._tasks.get(task.task_id) is task and (type(task) is Envelope or task.queue is queue)

    def _hold(self, task: Envelope) -> Claim:
        """Claim a task for the first time."""
        self._fence = fence = self._fence + 1
        claim = self._tasks[task.task_id] = Claim(fence, fence, task)
        return claim

    def _hold_again(self, row: Row) -> Claim:
        """Claim any other."""
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
            row.asked,
            row.steps,
        )

    def _ripen(self, now_us: int) -> None:
        timed = self._timed
        while timed and timed[0][0] <= now_us:
            _, _, place, row = heapq.heappop(timed)
            if row.place == place and not row.token and row.status in _WAITING:
                self._scheduled -= 1
                if row.status is not _PENDING:  # that one waited for its turn in a rate
                    self._note(row.task_id, row.next_seq, row.status, _PENDING, "engine", RIPE)
                self._queue(row, 0, _PENDING)

    def claim_one(self, task_id: str) -> Claim | None:
        """Hand over this task if it waits, else return None."""
        with self._lock:
            row = self._tasks.get(task_id)
            if type(row) is Envelope:
                self._pending -= 1
                return self._hold(_taken_out(row))
            if (
                type(row) is not Row
                or row.token
                or (row.status not in _WAITING and row.status is not TaskStatus.CREATED)
            ):
                return None
            if row.links is not None:
                self._relations.withdraw(row)
            if row.status is not TaskStatus.CREATED:
                if row.due_us:
                    self._scheduled -= 1
                else:
                    self._pending -= 1
            claim = self._hold_again(row)
            row.place += 1
            return claim

    def commit(
        self,
        changes: Sequence[Change | Successes],
        events: list[TaskEvent],
        done: Callable[[list[int], BaseException | None], None],
    ) -> None:
        """Apply the changes and call done before returning."""
        refused: list[int] = []
        with self._lock:
            for change in changes:
                if isinstance(change, Change):
                    self._change(change, refused)
                else:
                    self._succeed(change, refused)
            if self._relations.woken:
                self._relations.tell()
        done(refused, None)

    def _change(self, change: Change, refused: list[int]) -> None:
        row = self._tasks.get(change.task_id)
        if type(row) is Claim and row.token == change.token:
            task = row.envelope
            if change.finished_us is not None and change.release:
                self._end(change, task.number, task.name, task.options.priority, task.created_us, task.options)
            else:
                self._apply(self._opened(task), change)
        elif type(row) is Row and row.token == change.token:
            if row.links is None:
                self._apply(row, change)
            else:
                self._relations.apply(row, change)
        else:
            refused.append(change.token)

    def _succeed(self, many: Successes, refused: list[int]) -> None:
        """Do as _change for each of them."""
        tasks, worker_id = self._tasks, many.worker_id
        claims: list[Any] = list(map(tasks.get, many.task_ids))
        if set(map(type, claims)) != {Claim} or [claim.token for claim in claims] != many.tokens:
            for change in each_change([many]):
                self._change(change, refused)
            return
        for claim, started_us, finished_us, value in zip(
            claims, many.started_us, many.finished_us, many.values, strict=True
        ):
            task: Envelope = claim.envelope
            options = task.options
            tasks[task.task_id] = (
                task.number,
                task.name,
                "succeeded",
                1,
                0,
                0,
                options.priority,
                worker_id,
                None,
                task.created_us,
                started_us,
                finished_us,
                value if type(value[1]) in ATOMS else short(value),
                None,
                None if options is DEFAULT_OPTIONS else options,
            )
            if options.dedup_key is not None:
                self._dedup.pop(options.dedup_key, None)
        if self._dependents:
            for task_id in many.task_ids:
                self._relations.ended(task_id, TaskStatus.SUCCEEDED)
        self._ended += many.task_ids
        self._forget_oldest()

    def _forget_oldest(self) -> None:
        ended, pop = self._ended, self._tasks.pop
        while len(ended) > self._retain:
            task_id = ended.popleft()
            pop(task_id, None)
            if self._relations.occurrences or self._relations.repeated:
                self._relations.forget(task_id)

    def _apply(self, row: Row, change: Change) -> None:
        if change.started_us is not None:
            row.started_us = change.started_us
        if change.progress is not None:
            row.progress = change.progress
        if change.finished_us is not None and change.release:
            change.started_us, change.progress = row.started_us, row.progress
            row.envelope = None  # the row may still lie in a queue or the heap, to be passed over
            self._end(change, row.number, row.name, row.priority, row.created_us, row.options)
            return
        row.token = change.token
        row.status = change.status
        row.attempt = change.attempt
        row.failures = change.failures
        row.crashes = change.crashes
        row.interruptions = change.interruptions
        row.next_seq = change.next_seq
        row.worker_id = change.worker_id
        row.error = change.error or row.error
        if change.checkpoint is not None:
            row.checkpoint = change.checkpoint
        if change.steps is not None:
            row.steps = {**(row.steps or {}), **dict(change.steps)}
        if change.release:
            row.worker_id = None
            self._queue(row, change.due_us, change.status)

    def _end(
        self, change: Change, number: int, name: str, priority: int, created_us: int, options: TaskOptions
    ) -> None:
        """Keep of a task that has ended what a record shows."""
        task_id = change.task_id
        self._tasks[task_id] = ended_of(change, number, name, priority, created_us, options)
        key = options.dedup_key
        if key is not None:
            self._dedup.pop(key, None)
        if self._dependents:
            self._relations.ended(task_id, change.status)
        self._ended.append(task_id)
        self._forget_oldest()

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
            return [
                task_id
                for task_id, row in self._tasks.items()
                if type(row) is Envelope or (type(row) is Row and not row.token and row.status in _WAITING)
            ]

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
        return Counts(self._pending, self._scheduled, self._relations.blocked)

    def heads(self) -> dict[int, int]:
        """Return since when the first task of each priority has waited."""
        heads: dict[int, int] = {}
        with self._lock:
            for bucket in self._order:
                queue, priority = self._queues[bucket], bucket[2]
                if priority not in heads and len(heads) >= HEADS:
                    break
                # What is passed over may lie before it.
                for task in islice(queue, _PASSED):
                    if self._waits_in(queue, task):
                        heads[priority] = min(heads.get(priority, 2**63), _since(task))
                        break
        return heads

    def waits(self, task_id: str) -> Waits:
        """Return what the task waits for."""
        with self._lock:
            row = self._tasks.get(task_id)
            if type(row) is not Row or row.token or row.status.terminal:
                return Waits()
            return Waits(row.due_us, asked=row.asked) if row.links is None else self._relations.waits(row)

    def get(self, task_id: str) -> TaskRecord | None:
        """Return the record of this task, or None."""
        with self._lock:
            kept = self._tasks.get(task_id)
            return None if kept is None else record_of(self._relations.shown(row_of(kept, task_id)))

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
        newest: bool = False,
    ) -> list[TaskRecord]:
        """Return records in the order of arrival (`newest`: in the opposite order), from behind the task `after`."""
        with self._lock:
            start = self._tasks.get(after) if after is not None else None
            first = (2**63 if newest else 0) if start is None else row_of(start).number
            found: list[TaskRecord] = []
            rows = self.rows() if not newest else reversed([*self.rows()])
            for _, row in rows if limit > 0 else ():
                if (
                    (row.number < first if newest else row.number > first)
                    and (status is None or row.status == status)
                    and (name is None or row.name == name)
                    and (tag is None or tag in row.options.tags)
                    and (worker is None or row.worker_id == worker)
                    and (created_before_us is None or row.created_us < created_before_us)
                ):
                    found.append(record_of(row))
                    if len(found) >= limit:
                        break
            return found

    def first(self, status: TaskStatus, limit: int) -> builtins.list[str]:
        """Return the ids of at most `limit` tasks that wait with this status."""
        return [record.task_id for record in self.list(status=status, limit=limit)]

    def rows(self) -> Iterator[tuple[str, Row]]:
        """Yield each task's id and how it stands, in the order of arrival. To be looked at: most are made for this."""
        for task_id, kept in self._tasks.items():
            yield task_id, self._relations.shown(row_of(kept, task_id))

    def seize(self, task_id: str, token: int) -> None:
        """Hold a claimed task under another token, as if another engine had taken it over; for tests of engines."""
        with self._lock:
            kept = self._tasks[task_id]
            row = self._opened(kept.envelope) if isinstance(kept, Claim) else kept
            assert isinstance(row, Row)
            row.token = token

    def update(self, task_id: str, *, priority: int | None = None, due_us: int | None = None) -> bool:
        """Change a waiting task; False if it does not wait."""
        with self._lock:
            row = self._tasks.get(task_id)
            if type(row) is Envelope:
                row = self._opened(_taken_out(row))
            if type(row) is not Row or row.token or row.status not in _WAITING | {TaskStatus.CREATED}:
                return False
            what = updated(priority, due_us)
            if row.links is not None and row.status is TaskStatus.BLOCKED:
                self._relations.update(row, priority, due_us)
                self._note(task_id, row.next_seq, row.status, row.status, "client", what)
                return True
            if row.links is not None and row.status is not TaskStatus.CREATED:
                self._relations.withdraw(row)
            if priority is not None:
                row.priority = priority
            held = row.status is TaskStatus.CREATED
            before = row.status
            if held:
                self._note(task_id, row.next_seq, before, before, "client", what)
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
            self._note(task_id, row.next_seq, before, row.status, "client", what)
            return True

    def _note(
        self, task_id: str, seq: int, source: TaskStatus, target: TaskStatus, actor: str, reason: str | None
    ) -> None:
        notes = self._notes.setdefault(task_id, deque(maxlen=_NOTES))
        notes.append(Note(seq, source, target, actor, reason, datetime.now(UTC)))
        if len(self._notes) > _NOTED:
            self._notes.popitem(last=False)

    def note_asked(self, task_id: str, reason: str | None, actor: str = "client") -> None:
        """Note that somebody wants the task cancelled."""
        with self._lock:
            kept = self._tasks.get(task_id)
            if kept is None or isinstance(kept, tuple):
                return
            seq, status = (1, _PENDING) if isinstance(kept, Envelope) else (kept.next_seq, kept.status)
            self._note(task_id, seq, status, status, actor, asked(reason))

    def notes(self, task_id: str) -> Sequence[Note]:
        """Return what happened to the task and none of its events tells of: the last of it, for the last tasks."""
        with self._lock:
            return [*self._notes.get(task_id, ())]

    def request(self, task_id: str) -> Envelope | None:
        """Return the task as it was put in; None once it has ended: its arguments are not kept."""
        with self._lock:
            kept = self._tasks.get(task_id)
            if kept is None or isinstance(kept, tuple):
                return None
            return kept if isinstance(kept, Envelope) else kept.envelope

    def retries(self, task_ids: Collection[str]) -> dict[str, str]:
        """Return the newest retry of each of these tasks that has any."""
        wanted = set(task_ids)
        with self._lock:
            return {before: task_id for task_id, before in self._relations.repeated.items() if before in wanted}

    def forget(self, task_ids: Collection[str]) -> builtins.list[str]:
        """Forget those of these tasks that have ended; return which."""
        with self._lock:
            return [task_id for task_id in task_ids if self.delete(task_id)]

    def prune(self, finished_before_us: int, limit: int) -> int:
        """Forget tasks that ended before then, the oldest first; return how many."""
        before = utc_from_us(finished_before_us)
        with self._lock:
            old: list[str] = []
            for task_id in islice(self._ended, limit):
                record = self.get(task_id)
                if record is None or record.finished_at is None or record.finished_at >= before:
                    break
                old.append(task_id)
            return sum([self.delete(task_id) for task_id in old])

    def occurrence(self, schedule_id: str, after: str | None = None) -> str | None:
        """Return the id of the schedule's occurrence that has not ended, or of the one behind `after`."""
        with self._lock:
            following = None if after is None else self._relations.following.get(after)
            return following or self._relations.schedules.get(schedule_id)

    def stuck(self, task_ids: Collection[str], now_us: int) -> set[str]:
        """Return which of these tasks nothing here will let run (see the contract)."""
        with self._lock:
            return self._relations.stuck(task_ids, now_us)

    def end_schedule(self, schedule_id: str) -> str | None:
        """Let nothing follow the schedule's present occurrence; return that one's id, or None."""
        with self._lock:
            return self._relations.schedules.pop(schedule_id, None)

    def delete(self, task_id: str) -> bool:
        """Forget an ended task; False if it has not ended or is not known."""
        with self._lock:
            if type(self._tasks.get(task_id)) is not tuple:
                return False
            del self._tasks[task_id]
            self._ended.remove(task_id)
            self._notes.pop(task_id, None)
            self._relations.forget(task_id)
            return True


def _taken_out(task: Envelope) -> Envelope:
    """Return a copy to go on with. What still lies in the queue, to be passed over, holds nothing large any more."""
    copy = attrs.evolve(task)
    task.payload, task.blob, task.puts = None, None, ()
    return copy


def _since(task: Waiting) -> int:
    """Return since when a task that may run has waited, as far as it is known."""
    if type(task) is Row:
        return max(task.created_us, task.started_us or 0, task.due_us)
    return task.created_us
