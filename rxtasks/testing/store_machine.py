"""A stateful machine for stores: the same random operations on a store and on the memory store as its model.

::

    class MyMachine(StoreMachine):
        def open_store(self, place, clock):
            return MyStore(place, clock=clock)

        def die(self, store):
            store.let_go_of_its_lock()

    TestMyStore = MyMachine.TestCase

After each step the two must show the same: every answer, every record, what waits and for when, and the log of events must
hold what was committed. A crash drops the store object as it is, without closing it, and opens the place anew; what the old
one had claimed is nobody's until the new one recovers it.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rxtasks.clock import Clock, utc_from_us
from rxtasks.errors import ServiceStopped
from rxtasks.lifecycle.errorinfo import TaskErrorInfo
from rxtasks.lifecycle.events import LogEvent, OutputEvent, ProgressEvent, StatusEvent, TaskEvent
from rxtasks.lifecycle.options import TaskOptions
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.lifecycle.task import TaskRecord
from rxtasks.stores.base import Asked, Change, Claim, DurableStore, Envelope, Lane
from rxtasks.stores.memory import MemoryStore
from rxtasks.stores.recovery import Held, recovered
from rxtasks.testing.store_suite import NOW, change_of, commit

__all__ = ["StoreMachine"]

LANES = (
    Lane("process"),
    Lane("thread"),
    Lane("process", frozenset({"default"})),
    Lane("thread", frozenset({"q"})),
    Lane("process", frozenset({"q", "default"})),
)
#: Few, so that they meet again.
_IDS = st.integers(0, 24).map("t{}".format)
_PRIORITIES = st.sampled_from((0, 0, -1, 1, 7))
#: What a claim may become: a word, and whether it is released.
_ENDS = ("succeeded", "failed", "cancelled", "pending", "retrying", "running", "running")
_VALUES = st.sampled_from(
    (None, 0, "", False, "\0", "\U0001f600", "'; drop table tasks; --", [1, {"a": None}], 2**63 - 1)
)
_SECOND = 1_000_000
#: Interruptions after which a task fails.
_MOST = 3


class _Held:
    """A claim, as the store gave it and as the model did."""

    def __init__(self, ours: Claim, model: Claim) -> None:
        self.ours = ours
        self.model = model


class _MachineClock:
    """The wall clock of a machine; what leases are measured by goes on as ever."""

    def __init__(self, machine: StoreMachine) -> None:
        self._machine = machine

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()

    def wall_us(self) -> int:
        return self._machine.now


class StoreMachine(RuleBasedStateMachine):
    """Q-01 Q-02 Q-05 E-06 E-16: whatever callers and an engine do, crashes and clock jumps between, both stores agree."""

    def __init__(self) -> None:
        super().__init__()
        self.place = Path(tempfile.mkdtemp(prefix="rxtasks-machine-"))
        self.now = NOW
        self.model = MemoryStore(retain=10**9)
        self.closed = False
        self.held: list[_Held] = []
        #: Claims that are over, and those of stores that crashed.
        self.over: list[Claim] = []
        self.lost: list[_Held] = []
        #: The log of each task, by the rules.
        self.log: dict[str, list[TaskEvent]] = {}
        #: What was said with the first cancel of each task.
        self.wishes: dict[str, str] = {}
        self._crashed: list[DurableStore] = []
        self._open()

    def _open(self) -> None:
        self.store: DurableStore = self.open_store(self.place, _MachineClock(self))
        self.membership = self.store.join(lease=3600.0, max_interruptions=_MOST)
        self.closed = False
        self.model.reopen()

    # -- hooks ---------------------------------------------------------------------------------------------------------

    def open_store(self, place: Path, clock: Clock) -> DurableStore:
        """Return the store that lies in this folder, made if there is none, on this clock."""
        raise NotImplementedError

    def die(self, store: DurableStore) -> None:
        """Let go of what tells others that this service lives, as the death of its process would; write nothing."""
        raise NotImplementedError

    # -- coming in -----------------------------------------------------------------------------------------------------

    @rule(
        names=st.lists(_IDS, min_size=1, max_size=4),
        priority=_PRIORITIES,
        queue=st.sampled_from((None, None, "q", "other")),
        isolation=st.sampled_from((None, None, "thread")),
        key=st.sampled_from((None, None, None, "k", "l")),
        delay=st.sampled_from((0, 0, 0, 5 * _SECOND)),
        hold=st.sampled_from((False, False, True)),
        tag=st.sampled_from(((), ("x",), ("x", "y"))),
        size=st.sampled_from((0, 10, 5000)),
        function=st.sampled_from(("m:f", "m:g")),
    )
    def enqueue(
        self,
        names: list[str],
        priority: int,
        queue: str | None,
        isolation: str | None,
        key: str | None,
        delay: int,
        hold: bool,
        tag: tuple[str, ...],
        size: int,
        function: str,
    ) -> None:
        options = TaskOptions(priority=priority, queue=queue, isolation=isolation, dedup_key=key, tags=tag)
        due = self.now + delay if delay else 0
        tasks = [
            Envelope(
                name,
                function[2:],
                function,
                None,
                None,
                "t",
                b'"' + b"x" * size + b'"',
                options,
                self.now,
                None,
                due,
                hold,
            )
            for name in names
        ]
        if self.closed:
            for store in (self.store, self.model):
                with contextlib.suppress(ServiceStopped):
                    store.enqueue(tasks)
                    raise AssertionError("a closed store took tasks")
            return
        expected = self.model.enqueue(tasks)
        assert expected == self.store.enqueue(tasks)
        for task, answer in zip(tasks, expected, strict=True):
            if answer is None:
                self.log[task.task_id] = []
                self.wishes.pop(task.task_id, None)

    # -- claims --------------------------------------------------------------------------------------------------------

    @rule(lane=st.sampled_from(LANES), limit=st.integers(0, 5), later=st.booleans())
    def claim(self, lane: Lane, limit: int, later: bool) -> None:
        model = self.model.claim(lane, limit, self.now)
        if later:
            ours, due_us = self._claim_later(lane, limit)
            assert self.model.next_due() == due_us or limit == 0
        else:
            ours = self.store.claim(lane, limit, self.now)
        self._hold(ours, model)

    def _claim_later(self, lane: Lane, limit: int) -> tuple[list[Claim], int | None]:
        answered = threading.Event()
        found: list[tuple[list[Claim], int | None, BaseException | None]] = []

        def done(claims: list[Claim], due_us: int | None, error: BaseException | None) -> None:
            found.append((claims, due_us, error))
            answered.set()

        self.store.claim_later(lane, limit, self.now, done)
        assert answered.wait(30), "claim_later never answered"
        ((claims, due_us, error),) = found
        assert error is None, error
        return claims, due_us

    def _hold(self, ours: list[Claim], model: list[Claim]) -> None:
        assert [_claimed(claim) for claim in model] == [_claimed(claim) for claim in ours]
        for claim in ours:
            assert self.wishes.get(claim.envelope.task_id) == claim.asked
            assert all(claim.fence > known.ours.fence for known in (*self.held, *self.lost)), "the fence does not grow"
        self.held += [_Held(*pair) for pair in zip(ours, model, strict=True)]

    @rule(name=_IDS)
    def claim_one(self, name: str) -> None:
        record = self.model.get(name)
        if record is not None and record.status is TaskStatus.CREATED:
            return  # claimed only to be cancelled
        ours, model = self.store.claim_one(name), self.model.claim_one(name)
        assert (model is None) == (ours is None)
        if ours is not None and model is not None:
            self._hold([ours], [model])

    @rule(name=_IDS, reason=st.sampled_from((None, "", "enough")), unbegun=st.booleans())
    def cancel(self, name: str, reason: str | None, unbegun: bool) -> None:
        record = self.model.get(name)
        answered = threading.Event()
        found: list[tuple[Asked | None, Claim | None, BaseException | None]] = []

        def done(asked: Asked | None, claim: Claim | None, error: BaseException | None) -> None:
            found.append((asked, claim, error))
            answered.set()

        self.store.cancel_later(name, reason, unbegun, done)
        assert answered.wait(30), "cancel_later never answered"
        ((asked, claim, error),) = found
        assert error is None, error
        model = self.model.claim_one(name)
        expected: set[Asked | None]
        if record is None:
            expected = {None}
        elif record.status.terminal:
            expected = {Asked.ENDED}
        elif model is not None:
            expected = {Asked.CLAIMED}
        elif any(held.ours.envelope.task_id == name for held in self.held):
            expected = {Asked.HELD}
        else:
            expected = {Asked.HELD, Asked.ELSEWHERE}
        assert asked in expected
        if asked is Asked.CLAIMED or (asked in (Asked.HELD, Asked.ELSEWHERE) and not unbegun):
            self.wishes.setdefault(name, reason or "")
        assert (model is None) == (claim is None)
        if model is not None and claim is not None:
            self._hold([claim], [model])

    # -- what becomes of them ------------------------------------------------------------------------------------------

    @precondition(lambda self: self.held)
    @rule(data=st.data(), kinds=st.lists(st.sampled_from(_ENDS), min_size=1, max_size=4), stale=st.booleans())
    def report(self, data: st.DataObject, kinds: list[str], stale: bool) -> None:
        """Commit changes of several claims at once, perhaps with one of a zombie among them."""
        changes: list[Change] = []
        mirrored: list[Change] = []
        events: list[TaskEvent] = []
        expected: list[int] = []
        ended: list[_Held] = []
        if stale and self.over:
            old = data.draw(st.sampled_from(self.over))
            changes.append(change_of(old, TaskStatus.SUCCEEDED, value=["j", "stale"], next_seq=99))
            expected.append(old.token)
            named = old.envelope.task_id
            if not any(held.ours.envelope.task_id == named for held in self.held):
                events.append(StatusEvent(named, 98, 1, None, utc_from_us(self.now), TaskStatus.SUCCEEDED, "stale"))
        left = list(self.held)
        for kind in kinds[: len(self.held)]:
            held = data.draw(st.sampled_from(left))
            left.remove(held)
            more, news = self._outcome(data, held, TaskStatus(kind))
            changes.append(change_of(held.ours, TaskStatus(kind), **more))
            mirrored.append(change_of(held.model, TaskStatus(kind), **more))
            events += news
            self.log[held.ours.envelope.task_id] += news
            for claim in (held.ours, held.model):
                for name in ("attempt", "failures", "crashes", "interruptions", "next_seq"):
                    setattr(claim, name, more.get(name, getattr(claim, name)))
            if more["release"]:
                ended.append(held)
        assert commit(self.model, *mirrored) == []
        assert expected == _commit(self.store, changes, events)
        for held in ended:
            self.held.remove(held)
            self.over.append(held.ours)

    def _outcome(self, data: st.DataObject, held: _Held, status: TaskStatus) -> tuple[dict[str, Any], list[TaskEvent]]:
        claim = held.ours
        task_id, seq, attempt = claim.envelope.task_id, claim.next_seq, max(1, claim.attempt)
        now = utc_from_us(self.now)
        news: list[TaskEvent] = []
        for kind in data.draw(st.lists(st.sampled_from("lop"), max_size=3)):
            if kind == "l":
                news.append(LogEvent(task_id, seq, attempt, "w", now, "INFO", "said", "log", {}))
            elif kind == "o":
                news.append(OutputEvent(task_id, seq, attempt, "w", now, data.draw(_VALUES)))
            else:
                news.append(ProgressEvent(task_id, seq, attempt, "w", now, seq, None))
            seq += 1
        more: dict[str, Any] = {"release": status is not TaskStatus.RUNNING, "worker_id": "w"}
        progress = next((event for event in reversed(news) if isinstance(event, ProgressEvent)), None)
        if progress is not None:
            more["progress"] = progress
        error, value = None, None
        if status is TaskStatus.RUNNING:
            more |= {"attempt": claim.attempt + 1, "started_us": self.now}
            if data.draw(st.booleans()):
                more["checkpoint"] = b'{"at":1}'
        elif status.terminal:
            more["finished_us"] = self.now
            if status is TaskStatus.SUCCEEDED:
                value = data.draw(_VALUES)
                more["value"] = ["j", value]
        if status in (TaskStatus.FAILED, TaskStatus.RETRYING, TaskStatus.CANCELLED):
            error = more["error"] = TaskErrorInfo("ValueError", "it \0 failed \u2028")
            more |= {"failures": claim.failures + 1, "crashes": claim.crashes + 1}
        if status is TaskStatus.RETRYING:
            more["due_us"] = self.now + 3 * _SECOND
        if status is TaskStatus.PENDING:
            more["interruptions"] = claim.interruptions + 1
        news.append(StatusEvent(task_id, seq, attempt, "w", now, status, value, error))
        more["next_seq"] = seq + 1
        return more, news

    @precondition(lambda self: self.over)
    @rule(data=st.data())
    def zombie(self, data: st.DataObject) -> None:
        claim = data.draw(st.sampled_from(self.over))
        assert [claim.token] == commit(self.store, change_of(claim, TaskStatus.SUCCEEDED, value=["j", "stale"]))

    # -- callers -------------------------------------------------------------------------------------------------------

    @rule(name=_IDS, priority=st.none() | _PRIORITIES, due=st.sampled_from((None, 0, 4 * _SECOND)))
    def update(self, name: str, priority: int | None, due: int | None) -> None:
        due_us = self.now + due if due else due
        expected = self.model.update(name, priority=priority, due_us=due_us)
        assert expected == self.store.update(name, priority=priority, due_us=due_us)

    @rule(name=_IDS)
    def delete(self, name: str) -> None:
        expected = self.model.delete(name)
        assert expected == self.store.delete(name)
        if expected:
            self.log.pop(name)

    @rule(
        status=st.none() | st.sampled_from(TaskStatus),
        name=st.sampled_from((None, "f", "g")),
        tag=st.sampled_from((None, "x", "y", "z")),
        worker=st.sampled_from((None, "w")),
        before=st.sampled_from((None, 0, 1)),
        limit=st.integers(0, 6),
        after=st.none() | _IDS,
    )
    def look(
        self,
        status: TaskStatus | None,
        name: str | None,
        tag: str | None,
        worker: str | None,
        before: int | None,
        limit: int,
        after: str | None,
    ) -> None:
        wanted: dict[str, Any] = {"status": status, "name": name, "tag": tag, "worker": worker, "limit": limit}
        wanted |= {"after": after, "created_before_us": None if before is None else self.now + before}
        assert self.model.list(**wanted) == self.store.list(**wanted)

    @rule(name=_IDS, start=st.integers(1, 12))
    def read_on(self, name: str, start: int) -> None:
        """Read a log from any seq on."""
        assert self.log.get(name, [])[start - 1 :] == self._events(name, start)

    def _events(self, name: str, seq: int = 1) -> list[TaskEvent]:
        found: list[TaskEvent] = []
        while page := self.store.events(name, seq):
            found += page
            seq = page[-1].seq + 1
        return found

    @rule()
    def count(self) -> None:
        """A store may count seldom, and tell what it has counted a moment ago."""
        until = time.monotonic() + 10
        while self.model.counts() != self.store.counts():
            assert time.monotonic() < until, f"{self.store.counts()}, not {self.model.counts()}"
            time.sleep(0.001)

    # -- the world -----------------------------------------------------------------------------------------------------

    @rule(by=st.sampled_from((1, _SECOND, 4 * _SECOND, 3600 * _SECOND, -_SECOND, -3600 * _SECOND)))
    def clock_jumps(self, by: int) -> None:
        self.now += by

    @rule(closed=st.sampled_from((False, False, True)))
    def close(self, closed: bool) -> None:
        self.closed = closed
        if closed:
            assert self.model.close() == self.store.close()
        else:
            self.model.reopen()
            self.store.reopen()

    @rule()
    def restart(self) -> None:
        """Let go of everything and come again, as at the end of a service that has given its claims back."""
        if not self.held:
            self.store.release()
            self._open()

    @rule()
    def crash(self) -> None:
        """Drop the store as it is, and open its place again."""
        self.die(self.store)
        self._crashed.append(self.store)
        self._open()
        self.lost += self.held
        self.held = []

    @rule()
    def recover(self) -> None:
        """What the dead held waits again, or has ended; their own late word does not count, and the living keep theirs."""
        found = self.membership.recover()
        assert found.recovered + found.failed + found.cancelled == len(self.lost)
        for held in self.lost:
            task_id = held.ours.envelope.task_id
            record = self.model.get(task_id)
            assert record is not None
            change, event = recovered(self._as_held(held.model, record), _MOST, self.now)
            assert commit(self.model, change) == []
            if event is not None:
                self.log[task_id].append(event)
            self.over.append(held.ours)
        self.lost = []

    def _as_held(self, claim: Claim, record: TaskRecord) -> Held:
        counts = (claim.attempt, claim.failures, claim.crashes, claim.interruptions, claim.next_seq)
        due_us = getattr(self.model._tasks[record.task_id], "due_us", 0)
        wish = self.wishes.get(record.task_id)
        return Held(claim.token, record.task_id, record.status, *counts, record.worker_id, due_us, wish)

    # -- at each moment ------------------------------------------------------------------------------------------------

    @invariant()
    def the_store_is_as_the_model(self) -> None:
        records = self.model.list(limit=1000)
        assert records == self.store.list(limit=1000)
        assert self.model.waiting() == self.store.waiting()
        assert self.model.next_due() == self.store.next_due()
        for record in records:
            assert record == self.store.get(record.task_id)
            assert self.log[record.task_id] == self._events(record.task_id)
            ending = self.store.ending(record.task_id)
            assert record.status.terminal == (ending is not None)
            if ending is not None:
                assert (record.status, record.error) == (ending.status, ending.error)
                assert record.result == (None if ending.value is None else ending.value[1])

    def teardown(self) -> None:
        """Let go of everything."""
        for store in (*self._crashed, self.store):
            store.release()
        shutil.rmtree(self.place)


def _claimed(claim: Claim) -> tuple[Any, ...]:
    """Return what a claim says, its token and fence apart."""
    task = claim.envelope
    said = (task.task_id, task.name, task.function, task.form, task.payload, task.created_us, task.trace)
    counts = (claim.attempt, claim.failures, claim.crashes, claim.interruptions, claim.next_seq)
    return (*said, task.options, *counts, claim.status, claim.restored)


def _commit(store: DurableStore, changes: list[Change], events: list[TaskEvent]) -> list[int]:
    answered = threading.Event()
    found: list[tuple[list[int], BaseException | None]] = []

    def done(refused: list[int], error: BaseException | None) -> None:
        found.append((refused, error))
        answered.set()

    store.commit(changes, events, done)
    assert answered.wait(30), "commit never answered"
    refused, error = found[0]
    if error is not None:
        raise error
    return refused
