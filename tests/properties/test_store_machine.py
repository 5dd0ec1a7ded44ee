"""The memory store against a naive model, a list of dicts that is searched from end to end for everything; and the other
stores against the memory store.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rxtasks.clock import Clock
from rxtasks.errors import ServiceStopped
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.stores.base import Claim, Counts, DurableStore, Lane
from rxtasks.stores.memory import MemoryStore
from rxtasks.stores.sqlite.store import SqliteStore
from rxtasks.testing.store_machine import StoreMachine
from rxtasks.testing.store_suite import NOW, change_of, commit, envelope

RETAIN = 4
WAITING = ("pending", "scheduled", "retrying")
LANES = (Lane("process"), Lane("thread"), Lane("process", frozenset({"default"})), Lane("thread", frozenset({"q"})))


class MemoryMachine(RuleBasedStateMachine):
    """Q-01 Q-02 E-16: whatever callers and one engine do, the store does what the model does."""

    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryStore(retain=RETAIN)
        #: In order of arrival.
        self.rows: list[dict[str, Any]] = []
        self.claims: list[Claim] = []
        self.over: list[Claim] = []
        self.ended: list[str] = []
        self.now = NOW
        self.closed = False

    def row(self, task_id: str) -> dict[str, Any] | None:
        return next((row for row in self.rows if row["id"] == task_id), None)

    @rule(
        number=st.integers(0, 30),
        priority=st.integers(-1, 1),
        queue=st.sampled_from((None, None, "q")),
        isolation=st.sampled_from((None, None, "thread")),
        key=st.sampled_from((None, None, "k")),
        delay=st.sampled_from((0, 0, 5)),
        hold=st.booleans(),
    )
    def enqueue(
        self,
        number: int,
        priority: int,
        queue: str | None,
        isolation: str | None,
        key: str | None,
        delay: int,
        hold: bool,
    ) -> None:
        name = f"t{number}"
        due = self.now + delay if delay else 0
        task = envelope(name, due_us=due, hold=hold, priority=priority, queue=queue, isolation=isolation, dedup_key=key)
        if self.closed:
            with pytest.raises(ServiceStopped):
                self.store.enqueue([task])
            return
        known = self.row(name)
        other = next((r for r in self.rows if key and r["key"] == key and not TaskStatus(r["status"]).terminal), None)
        expected = name if known is not None else other["id"] if other is not None else None
        assert [expected] == self.store.enqueue([task])
        stands = known if known is not None else other
        if stands is not None:
            if stands["status"] == "created" and not stands["held"] and not hold:
                stands["status"] = "scheduled" if stands["due"] else "pending"
        else:
            status = "created" if hold else "scheduled" if due else "pending"
            self.rows.append(
                {
                    "id": name,
                    "status": status,
                    "priority": priority,
                    "queue": queue,
                    "isolation": isolation,
                    "key": key,
                    "due": due,
                    "held": None,
                }
            )

    @rule(lane=st.sampled_from(LANES), limit=st.integers(0, 5))
    def claim(self, lane: Lane, limit: int) -> None:
        for row in self.rows:
            if row["held"] is None and row["status"] in WAITING and row["due"] and row["due"] <= self.now:
                row["status"], row["due"] = "pending", 0
        fitting = [
            row
            for row in self.rows
            if row["held"] is None and row["status"] == "pending" and lane.takes(row["isolation"], row["queue"])
        ]
        expected = sorted(fitting, key=lambda row: -row["priority"])[:limit]
        claims = self.store.claim(lane, limit, self.now)
        assert [row["id"] for row in expected] == [claim.envelope.task_id for claim in claims]
        for row, claim in zip(expected, claims, strict=True):
            row["held"] = claim.token
        self.claims += claims

    @rule(number=st.integers(0, 30))
    def claim_one(self, number: int) -> None:
        row = self.row(f"t{number}")
        claim = self.store.claim_one(f"t{number}")
        may = row is not None and row["held"] is None and row["status"] in (*WAITING, "created")
        assert may == (claim is not None)
        if claim is not None and row is not None:
            row["held"] = claim.token
            self.claims.append(claim)

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), end=st.sampled_from(("succeeded", "failed", "pending", "retrying", "running")))
    def report(self, data: st.DataObject, end: str) -> None:
        claim = data.draw(st.sampled_from(self.claims))
        row = self.row(claim.envelope.task_id)
        assert row is not None
        status = TaskStatus(end)
        due = self.now + 3 if end == "retrying" else 0
        assert [] == commit(self.store, change_of(claim, status, release=end != "running", due_us=due))
        row["status"] = end
        if end == "running":
            return
        self.claims.remove(claim)
        self.over.append(claim)
        row["held"], row["due"] = None, due
        if status.terminal:
            self.ended.append(row["id"])
            if len(self.ended) > RETAIN:
                oldest = self.row(self.ended.pop(0))
                assert oldest is not None
                self.rows.remove(oldest)

    @precondition(lambda self: self.over)
    @rule(data=st.data())
    def zombie(self, data: st.DataObject) -> None:
        claim = data.draw(st.sampled_from(self.over))
        assert [claim.token] == commit(self.store, change_of(claim, TaskStatus.SUCCEEDED))

    @rule(number=st.integers(0, 30), priority=st.none() | st.integers(-1, 1), due=st.sampled_from((None, 0, 4)))
    def update(self, number: int, priority: int | None, due: int | None) -> None:
        row = self.row(f"t{number}")
        due_us = self.now + due if due else due
        may = row is not None and row["held"] is None and row["status"] in (*WAITING, "created")
        assert may == self.store.update(f"t{number}", priority=priority, due_us=due_us)
        if row is None or not may:
            return
        if priority is not None:
            row["priority"] = priority
        was = row["due"]
        if due_us is not None:
            row["due"] = due_us
        if row["status"] != "created":
            row["status"] = (row["status"] if was else "scheduled") if row["due"] else "pending"

    @rule(number=st.integers(0, 30))
    def delete(self, number: int) -> None:
        row = self.row(f"t{number}")
        may = row is not None and TaskStatus(row["status"]).terminal
        assert may == self.store.delete(f"t{number}")
        if row is not None and may:
            self.rows.remove(row)
            self.ended.remove(row["id"])

    @rule(by=st.integers(1, 6))
    def time_passes(self, by: int) -> None:
        self.now += by

    @rule(closed=st.sampled_from((False, False, True)))
    def close(self, closed: bool) -> None:
        self.closed = closed
        if closed:
            assert self.waiting() == self.store.close()
        else:
            self.store.reopen()

    def waiting(self) -> list[str]:
        return [row["id"] for row in self.rows if row["held"] is None and row["status"] in WAITING]

    @invariant()
    def the_store_is_as_the_model(self) -> None:
        assert self.waiting() == self.store.waiting()
        assert [(r["id"], r["status"], r["priority"]) for r in self.rows] == [
            (record.task_id, record.status, record.priority) for record in self.store.list(limit=1000)
        ]
        waits = [row for row in self.rows if row["held"] is None and row["status"] in WAITING]
        timed = [row["due"] for row in waits if row["due"]]
        assert Counts(len(waits) - len(timed), len(timed)) == self.store.counts()
        assert (min(timed) if timed else None) == self.store.next_due()


MemoryMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestMemoryStore = MemoryMachine.TestCase


class SqliteMachine(StoreMachine):
    """The same on a file."""

    def open_store(self, place: Path, clock: Clock) -> DurableStore:
        return SqliteStore(str(place / "tasks.db"), clock=clock)

    def die(self, store: DurableStore) -> None:
        assert isinstance(store, SqliteStore) and store._membership is not None
        store._membership.after_fork()


SqliteMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestSqliteStore = SqliteMachine.TestCase
