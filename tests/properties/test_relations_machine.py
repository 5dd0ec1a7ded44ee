"""Tasks that relate to others: the SQLite store against the memory store, whatever callers and engines do."""

from __future__ import annotations

import tempfile
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rxtasks.errors import SettingsError
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.stores.base import Claim, Envelope, Lane, Store
from rxtasks.stores.memory import MemoryStore
from rxtasks.stores.sqlite.store import SqliteStore
from rxtasks.testing.store_calls import NOW, change_of, commit, envelope

LANES = (Lane("process"), Lane("process"), Lane("process", frozenset({"default"})), Lane("process", frozenset({"q"})))
NUMBERS = st.integers(0, 12)


class RelationsMachine(RuleBasedStateMachine):
    """Q-01 E-15 E-20: both stores give the same answers, claims and states."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.memory = MemoryStore()
        self.sqlite = SqliteStore(f"{self.folder.name}/tasks.db")
        self.stores: tuple[Store, ...] = (self.memory, self.sqlite)
        self.claims: list[tuple[Claim, ...]] = []
        self.now = NOW
        self.said: list[str] = []

    def teardown(self) -> None:
        self.sqlite.release()
        self.folder.cleanup()

    @rule(
        tasks=st.lists(
            st.fixed_dictionaries(
                {
                    "number": NUMBERS,
                    "lock": st.sampled_from((None, None, "l", "m")),
                    "depends_on": st.lists(NUMBERS, max_size=2) | st.just([]),
                    "on_dependency_failure": st.sampled_from(("cancel", "run")),
                    "max_running": st.sampled_from((None, None, 1, 2)),
                    "rate": st.sampled_from((None, None, None, "200000/s", "20/s")),
                    "name": st.sampled_from("fg"),
                    "queue": st.sampled_from((None, None, "q")),
                    "priority": st.integers(-1, 1),
                    "due_us": st.sampled_from((0, 0, 5)),
                    "hold": st.sampled_from((False, False, True)),
                }
            ),
            min_size=1,
            max_size=3,
        )
    )
    def enqueue(self, tasks: list[dict[str, Any]]) -> None:
        made = [self.envelope(task) for task in tasks]
        answers: list[Any] = []
        for store in self.stores:
            try:
                answers.append(store.enqueue([self.envelope(task) for task in tasks]))
            except SettingsError as error:
                answers.append(str(error))
        assert answers[0] == answers[1], made

    def envelope(self, task: dict[str, Any]) -> Envelope:
        named = {key: value for key, value in task.items() if key != "number"}
        named["depends_on"] = [f"t{number}" for number in task["depends_on"]]
        named["due_us"] = self.now + task["due_us"] if task["due_us"] else 0
        return envelope(f"t{task['number']}", **named)

    @rule(lane=st.sampled_from(LANES), limit=st.integers(1, 4))
    def claim(self, lane: Lane, limit: int) -> None:
        found = [store.claim(lane, limit, self.now) for store in self.stores]
        assert [self.seen(claim) for claim in found[0]] == [self.seen(claim) for claim in found[1]]
        self.claims += zip(*found, strict=True)

    @staticmethod
    def seen(claim: Claim) -> tuple[object, ...]:
        return (claim.envelope.task_id, claim.asked, claim.token, claim.attempt, claim.status)

    @rule(number=NUMBERS)
    def claim_one(self, number: int) -> None:
        found = [store.claim_one(f"t{number}") for store in self.stores]
        one, two = found
        assert (one is None) == (two is None)
        if one is not None and two is not None:
            assert self.seen(one) == self.seen(two)
            ends = [change_of(claim, TaskStatus.CANCELLED) for claim in (one, two)]
            for store, end in zip(self.stores, ends, strict=True):
                assert commit(store, end) == []

    @precondition(lambda self: self.claims)
    @rule(
        data=st.data(),
        end=st.sampled_from(("succeeded", "failed", "pending", "retrying", "running")),
        begun=st.booleans(),
    )
    def report(self, data: st.DataObject, end: str, begun: bool) -> None:
        pair = data.draw(st.sampled_from(self.claims))
        asked = pair[0].asked is not None
        status = TaskStatus.CANCELLED if asked else TaskStatus(end)
        due = self.now + 3 if status == "retrying" else 0
        attempt = pair[0].attempt + (begun or status.terminal)
        release = status != "running"
        for store, claim in zip(self.stores, pair, strict=True):
            assert commit(store, change_of(claim, status, release=release, due_us=due, attempt=attempt)) == []
            claim.attempt = attempt
        if release:
            self.claims.remove(pair)

    @rule(number=NUMBERS, priority=st.none() | st.integers(-1, 1), due=st.sampled_from((None, 0, 4)))
    def update(self, number: int, priority: int | None, due: int | None) -> None:
        due_us = self.now + due if due else due
        answers = [store.update(f"t{number}", priority=priority, due_us=due_us) for store in self.stores]
        assert answers[0] == answers[1]

    @rule(number=NUMBERS)
    def delete(self, number: int) -> None:
        answers = [store.delete(f"t{number}") for store in self.stores]
        assert answers[0] == answers[1]

    @rule(by=st.sampled_from((1, 3, 10, 60_000)))
    def time_passes(self, by: int) -> None:
        self.now += by

    @invariant()
    def both_stores_are_in_the_same_state(self) -> None:
        seen = [
            [(record.task_id, record.status, record.priority) for record in store.list(limit=1000)]
            for store in self.stores
        ]
        assert seen[0] == seen[1]
        assert self.memory.waiting() == self.sqlite.waiting()
        self.sqlite._counted_until = 0.0
        assert self.memory.counts() == self.sqlite.counts()
        assert self.memory.next_due() == self.sqlite.next_due()

    @invariant()
    def locks_and_bounds_hold(self) -> None:
        held = [claim.envelope for claim, _ in self.claims if claim.asked is None]
        locks = [task.options.lock for task in held if task.options.lock is not None]
        assert len(locks) == len(set(locks))


RelationsMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestRelations = RelationsMachine.TestCase
