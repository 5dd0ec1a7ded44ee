"""What the memory store knows of tasks that relate to others: dependencies, gates, schedules (see gates.py, relations.py).

Called with the store's lock held. A task without relations has no Links, and none of this is entered for it.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any, Final, Protocol

import attrs

from rxtasks.lifecycle.cron import next_occurrence
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.lifecycle.task import new_id
from rxtasks.stores.base import Change, Envelope, Related
from rxtasks.stores.gates import Gate, rate_after, rate_back, rate_due
from rxtasks.stores.listeners import Listeners
from rxtasks.stores.noting import FREE, NOT_YET, follows, repeats, retried
from rxtasks.stores.relations import check_circles, missing, why_not
from rxtasks.stores.rows import Kept, Links, Row
from rxtasks.stores.waits import MOST_NAMED, Waits

__all__ = ["MemoryRelations"]

#: Truth of how a task relates to others, without a step of the interpreter for each.
_RELATED: Final = attrgetter("related")

_Bucket = tuple[str, str | None]


@attrs.define(eq=False, repr=False)
class _Room:
    """Those of one bucket at one gate. Entries whose mark is not the task's any more are passed over."""

    #: Best first; and those that have passed and are not claimed, worst first.
    waiting: list[tuple[int, int, int, Row]] = attrs.field(factory=list)
    passed: list[tuple[int, int, int, Row]] = attrs.field(factory=list)
    count: int = 0


@attrs.define(eq=False, repr=False)
class _GateState:
    gate: Gate
    running: int = 0
    tat_us: int = 0
    rooms: dict[_Bucket, _Room] = attrs.field(factory=dict)


class _Tasks(Protocol):
    """The store that it is a part of, as far as it is needed here."""

    _tasks: dict[str, Kept]
    _dedup: dict[str, str]
    _pending: int
    _closed: bool

    def _take(self, task: Envelope) -> str | None: ...

    def _queue(self, row: Row, due_us: int, timed: TaskStatus) -> None: ...

    def _line_up(self, row: Row) -> None: ...

    def _set_aside(self, row: Row, due_us: int) -> None: ...

    def _not_aside(self, row: Row) -> None: ...

    def _apply(self, row: Row, change: Change) -> None: ...

    def _note(
        self, task_id: str, seq: int, source: TaskStatus, target: TaskStatus, actor: str, reason: str | None
    ) -> None: ...


class MemoryRelations:
    """The part of a memory store that relates tasks."""

    def __init__(self, store: _Tasks, listeners: Listeners) -> None:
        self._store = store
        self._listeners = listeners
        self._gates: dict[str, _GateState] = {}
        self._marks = itertools.count(1)
        self._doomed: list[tuple[str, str]] = []
        #: Tasks that wait for others.
        self.blocked = 0
        #: Those that are created and not queued.
        self.created: set[str] = set()
        #: The occurrence of each schedule that has not ended; and the schedules of those that have.
        self.schedules: dict[str, str] = {}
        self.occurrences: dict[str, str] = {}
        #: Which occurrence came behind one that has ended.
        self.following: dict[str, str] = {}
        #: The ended task that a retry repeats, by the retry's id, in the order of arrival.
        self.repeated: dict[str, str] = {}
        #: Tasks that wait for the end of one, by its id.
        self.dependents: dict[str, list[Row]] = {}
        #: Something has followed that nobody has been told of.
        self.woken = False

    # -- in ------------------------------------------------------------------------------------------------------------

    def concern(self, tasks: Sequence[Envelope]) -> bool:
        """Say whether one of them relates to others."""
        created = self.created
        if any(map(_RELATED, tasks)):
            return True
        return bool(created) and any([self._standing(task) in created for task in tasks])

    def _standing(self, task: Envelope) -> str:
        """Return the id of the task that stands for one that comes: its own, unless another one has its dedup_key."""
        key = task.options.dedup_key
        if key is None or task.task_id in self._store._tasks:
            return task.task_id
        return self._store._dedup.get(key, task.task_id)

    def link(self, row: Row, task: Envelope) -> None:
        """Give a new task its relations; it is queued by `take`."""
        row.status = TaskStatus.CREATED
        related = task.related or Related()
        row.links, row.due_us = Links(related.gates, related.schedule_id, related.retry_of), task.due_us
        self._bound(related.gates)
        self.created.add(row.task_id)
        if related.schedule_id is not None:
            self.schedules[related.schedule_id] = row.task_id
        if related.retry_of is not None:
            self.repeated[row.task_id] = related.retry_of
            self._note_retry(row, related.retry_of, related.reason)

    def _note_retry(self, row: Row, task_id: str, reason: str | None) -> None:
        note, source = self._store._note, TaskStatus.CREATED
        first = TaskStatus.BLOCKED if row.options.depends_on else TaskStatus.PENDING
        note(row.task_id, 1, source, first, "operator", repeats(task_id, reason))
        before = self._store._tasks.get(task_id)
        if isinstance(before, tuple):
            status = TaskStatus(before[2])
            note(task_id, 2**62, status, status, "operator", retried(row.task_id, reason))

    def take(self, tasks: Sequence[Envelope]) -> list[str | None]:
        """Take in tasks some of which relate to others; none if one of them cannot be."""
        store = self._store
        fresh: dict[str, Envelope] = {}
        for task in tasks:
            key = task.options.dedup_key
            if task.task_id not in store._tasks and (key is None or key not in store._dedup):
                fresh.setdefault(task.task_id, task)
        wanted = dict.fromkeys([self._standing(task) for task in tasks if not task.hold])
        self._check(fresh, [task_id for task_id in wanted if task_id in fresh or task_id in self.created])
        answers = [store._take(task) for task in tasks]
        for task_id in wanted:
            row = store._tasks.get(task_id)
            if task_id in self.created and isinstance(row, Row) and not row.token:
                if task_id not in fresh:
                    first = TaskStatus.SCHEDULED if row.due_us else TaskStatus.PENDING
                    first = TaskStatus.BLOCKED if row.options.depends_on else first
                    store._note(task_id, 1, TaskStatus.CREATED, first, "client", "pushed")
                self._begin(row)
        self.tell()
        return answers

    def shown(self, row: Row) -> Row:
        """Return a row that is to be looked at, with its schedule and what it repeats."""
        if row.links is None and (self.occurrences or self.repeated):
            schedule_id, retry_of = self.occurrences.get(row.task_id), self.repeated.get(row.task_id)
            if schedule_id is not None or retry_of is not None:
                row.links = Links(schedule_id=schedule_id, retry_of=retry_of)
        return row

    def forget(self, task_id: str) -> None:
        """An ended task is not kept any longer."""
        self.occurrences.pop(task_id, None)
        self.following.pop(task_id, None)
        self.repeated.pop(task_id, None)

    def _check(self, fresh: dict[str, Envelope], starts: list[str]) -> None:
        kept = self._store._tasks

        def needs(task_id: str) -> Iterable[str]:
            task = fresh.get(task_id)
            if task is not None:
                return task.options.depends_on
            row = kept.get(task_id)
            if not isinstance(row, Row) or row.links is None:
                return ()
            return row.options.depends_on if row.status is TaskStatus.CREATED else row.links.needs

        for task_id in starts:
            for dependency in needs(task_id):
                if dependency not in fresh and dependency not in kept:
                    raise missing(task_id, dependency)
        check_circles(starts, needs)

    def _begin(self, row: Row) -> None:
        """Queue a task that has just come, as far as others let it."""
        links, kept = row.links, self._store._tasks
        assert links is not None
        self.created.discard(row.task_id)
        if row.due_us:
            links.due_us, row.due_us = row.due_us, 0
        for dependency in dict.fromkeys(row.options.depends_on):
            other = kept[dependency]
            if not isinstance(other, tuple):
                links.needs.add(dependency)
                self.dependents.setdefault(dependency, []).append(row)
            elif row.asked is None and row.options.on_dependency_failure == "cancel" and other[2] != "succeeded":
                row.asked = why_not(dependency, TaskStatus(other[2]))
        row.status = TaskStatus.BLOCKED
        self.blocked += 1
        if row.asked is not None:
            self._doom(row, row.asked)
        elif not links.needs:
            self._unblock(row)

    def _unblock(self, row: Row) -> None:
        self.blocked -= 1
        assert row.links is not None
        if row.options.depends_on:
            note, seq = self._store._note, row.next_seq
            note(row.task_id, seq, TaskStatus.BLOCKED, TaskStatus.PENDING, "engine", FREE)
            if row.links.due_us:
                note(row.task_id, seq, TaskStatus.PENDING, TaskStatus.SCHEDULED, "engine", NOT_YET)
        self._store._queue(row, row.links.due_us, TaskStatus.SCHEDULED)

    def _doom(self, row: Row, reason: str) -> None:
        row.asked = reason
        assert row.links is not None
        row.links.needs.clear()
        self._doomed.append((row.task_id, reason))
        self.blocked -= 1
        self._store._queue(row, 0, TaskStatus.SCHEDULED)

    def tell(self) -> None:
        """Tell who listens that there may be work, and what is to be cancelled."""
        self.woken = False
        doomed, self._doomed = self._doomed, []
        self._listeners.tell(doomed)

    # -- claims --------------------------------------------------------------------------------------------------------

    def holds_back(self, row: Row) -> bool:
        """A task is due: say whether it waits at a gate."""
        links = row.links
        assert links is not None
        if row.asked is not None or not links.gates:
            return False
        if links.aside:
            links.aside = False
            return False
        links.marks = [0] * len(links.gates)
        self._wait(row, links, 0)
        self._refill(self._state(links.gates[0]), _bucket(row))
        return True

    def admit(self, row: Row, now_us: int) -> bool:
        """A task that is ready is about to be claimed: take its places, or let it wait again."""
        links = row.links
        assert links is not None
        if row.asked is not None or not links.gates:
            return True
        states = [self._state(gate) for gate in links.gates]
        for level, state in enumerate(states):
            if state.gate.most is not None and state.running >= state.gate.most:
                self._back(row, links, level)
                return False
        due_us = max((rate_due(state.gate, state.tat_us) for state in states if state.gate.interval_us), default=0)
        if due_us > now_us:
            links.aside = True
            self._store._set_aside(row, due_us)
            return False
        bucket = _bucket(row)
        for level, state in enumerate(states):
            self._out(links, level, state, bucket)
            state.running += 1
            if state.gate.interval_us:
                state.tat_us = rate_after(state.gate, state.tat_us, now_us)
        links.level, links.held = -1, True
        for state in states:
            if state.gate.interval_us:
                self._refill(state, bucket)
        return True

    def withdraw(self, row: Row) -> None:
        """A task that waits is taken out, whatever it waits for; it counts as pending."""
        links = row.links
        assert links is not None
        self.created.discard(row.task_id)
        if row.status is TaskStatus.BLOCKED:
            self.blocked -= 1
            self._store._pending += 1
            return
        if links.level < 0:
            return
        if links.aside:
            links.aside = False
            self._store._not_aside(row)
        bucket, level = _bucket(row), links.level
        for at in range(min(level + 1, len(links.gates))):
            self._out(links, at, self._state(links.gates[at]), bucket, passed=at < level)
        links.level, row.queue = -1, None
        for gate in links.gates[: level + 1]:
            self._refill(self._state(gate), bucket)

    def update(self, row: Row, priority: int | None, due_us: int | None) -> None:
        """Change a task that is blocked."""
        assert row.links is not None
        if priority is not None:
            row.priority = priority
        if due_us is not None:
            row.links.due_us = due_us

    def waits(self, row: Row) -> Waits:
        """Return what a task with relations waits for."""
        links = row.links
        assert links is not None
        if row.status is TaskStatus.BLOCKED:
            return Waits(links.due_us, tuple(sorted(links.needs)[:MOST_NAMED]), len(links.needs), asked=row.asked)
        if links.level < 0 or row.asked is not None:
            return Waits(row.due_us, asked=row.asked)
        for at, gate in enumerate(links.gates):
            state = self._state(gate)
            gate, rate_us = state.gate, rate_due(state.gate, state.tat_us) if state.gate.interval_us else 0
            if at == links.level or (links.aside and rate_us >= row.due_us):
                room = state.rooms.get(_bucket(row))
                mine = (-row.priority, row.number)
                before = (
                    0
                    if room is None
                    else sum([entry[:2] < mine and _current(entry, gate.key) for entry in room.waiting])
                )
                held = gate.most is not None and state.running >= gate.most
                return Waits(gate=gate, running=state.running, rate_us=0 if held else rate_us, before=before)
        return Waits(row.due_us)

    # -- ends ----------------------------------------------------------------------------------------------------------

    def apply(self, row: Row, change: Change) -> None:
        """Apply a change of a task that relates to others, with what follows from it."""
        store, links, envelope = self._store, row.links, row.envelope
        assert links is not None and envelope is not None
        if not change.release:
            store._apply(row, change)
            return
        freed: list[_GateState] = []
        if links.held:
            links.held = False
            for gate in links.gates:
                state = self._state(gate)
                state.running -= 1
                if state.gate.interval_us and change.attempt == row.attempt:
                    state.tat_us = rate_back(state.gate, state.tat_us)
                freed.append(state)
        store._apply(row, change)
        self.woken = True
        for state in freed:
            for bucket in list(state.rooms):
                self._refill(state, bucket)
            if not state.running and not state.rooms and state.gate.key.startswith("lock:"):
                self._gates.pop(state.gate.key, None)
        if change.status.terminal and links.schedule_id is not None:
            self._next(row, links.schedule_id, envelope, change)

    def ended(self, task_id: str, status: TaskStatus) -> None:
        """A task has ended: see to those that depend on it."""
        for row in self.dependents.pop(task_id, ()):
            links = row.links
            if links is None or task_id not in links.needs:
                continue
            links.needs.discard(task_id)
            if row.status is not TaskStatus.BLOCKED or row.token:
                continue
            self.woken = True
            if status is not TaskStatus.SUCCEEDED and row.options.on_dependency_failure == "cancel":
                self._doom(row, why_not(task_id, status))
            elif not links.needs:
                self._unblock(row)

    def stuck(self, task_ids: Iterable[str], now_us: int) -> set[str]:
        """Return which of these tasks nothing here will let run."""
        found: dict[str, bool] = {}
        for start in task_ids:
            way = [start]
            while way:
                row = self._store._tasks.get(way[-1])
                if way[-1] in found or not isinstance(row, Row) or row.token:
                    found.setdefault(way.pop(), False)
                elif row.status is TaskStatus.BLOCKED and row.links is not None:
                    needs = row.links.needs
                    before = [need for need in needs if need not in found]
                    if before:
                        way += before
                    else:
                        found[way.pop()] = any([found[need] for need in needs])
                else:
                    found[way.pop()] = row.status is TaskStatus.CREATED or _before_its_time(row, now_us)
        return {task_id for task_id in task_ids if found[task_id]}

    def _next(self, row: Row, schedule_id: str, envelope: Envelope, change: Change) -> None:
        """Put in the next occurrence."""
        self.occurrences[row.task_id] = schedule_id
        cron, goes_on = row.options.cron, self.schedules.get(schedule_id) == row.task_id
        if goes_on:
            del self.schedules[schedule_id]
        if cron is None or not goes_on or change.status is TaskStatus.CANCELLED or self._store._closed:
            return
        now_us = change.finished_us or 0
        due_us = next_occurrence(cron, row.options.tz, max(now_us, envelope.due_us))
        made = attrs.evolve(envelope, task_id=new_id(), created_us=now_us, due_us=due_us, hold=False)
        self._store._take(made)
        self.following[row.task_id] = made.task_id
        following = self._store._tasks[made.task_id]
        assert isinstance(following, Row)
        reason = follows(row.task_id)
        self._store._note(made.task_id, 1, TaskStatus.CREATED, TaskStatus.SCHEDULED, "store", reason)
        self._begin(following)

    # -- gates ---------------------------------------------------------------------------------------------------------

    def _state(self, gate: Gate) -> _GateState:
        """Return the gate's state; its bounds are those that came last."""
        state = self._gates.get(gate.key)
        if state is None:
            state = self._gates[gate.key] = _GateState(gate)
        return state

    def _bound(self, gates: Iterable[Gate]) -> None:
        """Let these bounds count from now on."""
        for gate in gates:
            state = self._state(gate)
            if state.gate != gate:
                state.gate = gate
                self._turn_again(state)
                for bucket in list(state.rooms):
                    self._refill(state, bucket)

    def _turn_again(self, state: _GateState) -> None:
        """Those that wait for their turn in the gate's old rate are looked at again."""
        state.tat_us = min(state.tat_us, time.time_ns() // 1000 + state.gate.interval_us)
        for room in state.rooms.values():
            for _, _, mark, row in sorted(room.passed, reverse=True):
                links = row.links
                if links is not None and links.aside and mark in links.marks:
                    links.aside = False
                    self._store._not_aside(row)
                    self._store._line_up(row)

    def _wait(self, row: Row, links: Links, level: int) -> None:
        links.level = level
        links.marks[level] = mark = next(self._marks)
        room = self._state(links.gates[level]).rooms.setdefault(_bucket(row), _Room())
        heapq.heappush(room.waiting, (-row.priority, row.number, mark, row))

    def _pass(self, row: Row, links: Links, level: int, room: _Room) -> None:
        links.marks[level] = mark = next(self._marks)
        heapq.heappush(room.passed, (row.priority, -row.number, mark, row))
        room.count += 1
        links.level = level + 1
        if level + 1 == len(links.gates):
            self._store._line_up(row)
            return
        self._wait(row, links, level + 1)
        self._refill(self._state(links.gates[level + 1]), _bucket(row))

    def _back(self, row: Row, links: Links, level: int) -> None:
        """Let a task that has passed the gate of this level wait there again."""
        bucket, reached = _bucket(row), links.level
        if links.aside:
            links.aside = False
            self._store._not_aside(row)
        for at in range(level, min(reached + 1, len(links.gates))):
            self._out(links, at, self._state(links.gates[at]), bucket, passed=at < reached)
        row.queue = None
        row.place += 1
        self._wait(row, links, level)
        for gate in links.gates[level + 1 : reached]:
            self._refill(self._state(gate), bucket)

    @staticmethod
    def _out(links: Links, level: int, state: _GateState, bucket: _Bucket, *, passed: bool = True) -> None:
        links.marks[level] = 0
        if passed:
            state.rooms[bucket].count -= 1

    def _refill(self, state: _GateState, bucket: _Bucket) -> None:
        """Let the best pass, as many as there is room for; one that is better than one that has passed takes its place."""
        room = state.rooms.get(bucket)
        if room is None:
            return
        key = state.gate.key
        while (best := _first(room.waiting, key)) is not None:
            if room.count >= state.gate.room(state.running):
                worst = _first(room.passed, key)
                if worst is None or (best[0], best[1]) > (-worst[0], -worst[1]):
                    break
                links = worst[3].links
                assert links is not None
                heapq.heappop(room.passed)
                self._back(worst[3], links, _level(links, key))
                continue
            heapq.heappop(room.waiting)
            links = best[3].links
            assert links is not None
            self._pass(best[3], links, links.level, room)
        if not room.count and not room.waiting:
            state.rooms.pop(bucket, None)


def _bucket(row: Row) -> _Bucket:
    return (row.options.queue or "default", row.options.isolation)


def _level(links: Links, key: str) -> int:
    return next(at for at, gate in enumerate(links.gates) if gate.key == key)


def _first(entries: list[tuple[int, int, int, Any]], key: str) -> tuple[int, int, int, Any] | None:
    """Return the first entry that still counts, and forget those before it."""
    while entries:
        entry = entries[0]
        if _current(entry, key):
            return entry
        heapq.heappop(entries)
    return None


def _before_its_time(row: Row, now_us: int) -> bool:
    """Say whether it is an occurrence of a schedule that is not due yet."""
    scheduled = row.links is not None and row.links.schedule_id is not None and row.status is TaskStatus.SCHEDULED
    return scheduled and row.due_us > now_us


def _current(entry: tuple[int, int, int, Any], key: str) -> bool:
    links = entry[3].links
    return entry[2] in links.marks and links.gates[links.marks.index(entry[2])].key == key
