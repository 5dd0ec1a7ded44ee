"""What every store must do with tasks that relate to others: dependencies, locks, bounds, rates, schedules, steps.

A part of StoreConformance.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from rxtasks.clock import us_from_utc
from rxtasks.errors import QueueFull, SettingsError
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.stores.base import Claim, Counts, Lane, Store
from rxtasks.testing.store_calls import ANY, NOW, change_of, commit, envelope

__all__ = ["RelationConformance"]

SECOND = 1_000_000
_ENDED = TaskStatus.SUCCEEDED


def _ids(claims: list[Claim]) -> list[str]:
    return [claim.envelope.task_id for claim in claims]


def _end(store: Store, claim: Claim, status: TaskStatus = _ENDED, **more: Any) -> None:
    assert commit(store, change_of(claim, status, **more)) == []


def _give_back(store: Store, claim: Claim, **more: Any) -> None:
    assert commit(store, change_of(claim, TaskStatus.PENDING, release=True, **more)) == []


def _schedule_of(store: Store, task_id: str) -> str:
    record = store.get(task_id)
    assert record is not None and record.schedule_id is not None
    return record.schedule_id


class RelationConformance:
    """The part of the suite about relations."""

    def make_store(self, *, retain: int = 10_000, max_queue: int | None = None) -> Store:
        """Return a new, empty store."""
        raise NotImplementedError

    def restarted(self, store: Store) -> Store:
        """Return the store as another process would find it; one that is not durable is returned as it is."""
        return store

    @staticmethod
    def _status(store: Store, task_id: str) -> str:
        record = store.get(task_id)
        assert record is not None, task_id
        return str(record.status)

    # -- dependencies --------------------------------------------------------------------------------------------------

    def test_a_task_is_blocked_until_all_that_it_depends_on_have_ended_well(self) -> None:
        """E-15: fan-in; the last of them releases it, and the store tells that there is work."""
        store = self.make_store()
        heard: list[list[tuple[str, str]]] = []
        listener = _Listener(heard)
        store.listeners.listen(listener.hear)
        store.enqueue([envelope("a"), envelope("b"), envelope("c", depends_on=("a", "b"), priority=9)])
        assert Counts(2, 0, 1) == store.counts()
        assert self._status(store, "c") == "blocked"
        (one,) = store.claim(ANY, 1, NOW)
        _end(store, one)
        store = self.restarted(store)
        store.listeners.listen(listener.hear)
        (two,) = store.claim(ANY, 9, NOW)
        heard.clear()
        _end(store, two)
        assert heard == [[]]
        assert _ids(store.claim(ANY, 9, NOW)) == ["c"]

    def test_one_task_releases_all_that_depend_on_it(self) -> None:
        """E-15: fan-out, in the order of priority and arrival; in one batch they may stand before it."""
        store = self.make_store()
        store.enqueue(
            [envelope("b", depends_on=("a",)), envelope("c", depends_on="a", priority=1), envelope("a"), envelope("d")]
        )
        (claim,) = store.claim(ANY, 1, NOW)
        assert claim.envelope.task_id == "a"
        _end(store, claim)
        assert _ids(store.claim(ANY, 9, NOW)) == ["c", "b", "d"]

    def test_what_depends_on_a_task_that_failed_is_to_be_cancelled(self) -> None:
        """E-15: the default policy; the claim carries the reason, which names the dependency, and so does the news."""
        store = self.make_store()
        heard: list[list[tuple[str, str]]] = []
        listener = _Listener(heard)
        store.listeners.listen(listener.hear)
        store.enqueue(
            [
                envelope("a"),
                envelope("b", depends_on=("a",)),
                envelope("c", depends_on=("b",)),
                envelope("d", depends_on=("a", "c"), on_dependency_failure="run"),
            ]
        )
        (claim,) = store.claim(ANY, 1, NOW)
        heard.clear()
        _end(store, claim, TaskStatus.FAILED)
        assert heard == [[("b", "its dependency a has failed")]]
        store = self.restarted(store)
        store.listeners.listen(listener.hear)
        (claim,) = store.claim(ANY, 9, NOW)
        assert (claim.envelope.task_id, claim.asked) == ("b", "its dependency a has failed")
        heard.clear()
        _end(store, claim, TaskStatus.CANCELLED)
        assert heard == [[("c", "its dependency b was cancelled")]]
        (claim,) = store.claim(ANY, 9, NOW)
        assert (claim.envelope.task_id, claim.asked) == ("c", "its dependency b was cancelled")
        _end(store, claim, TaskStatus.CANCELLED)
        (claim,) = store.claim(ANY, 9, NOW)
        assert (claim.envelope.task_id, claim.asked) == ("d", None)

    def test_a_dependency_that_has_ended_already_counts_at_once(self) -> None:
        """E-15: well: it may run; otherwise: by its policy."""
        store = self.make_store()
        store.enqueue([envelope("good"), envelope("bad")])
        good, bad = store.claim(ANY, 2, NOW)
        _end(store, good)
        _end(store, bad, TaskStatus.FAILED)
        store.enqueue(
            [
                envelope("a", depends_on=("good",)),
                envelope("b", depends_on=("bad",), on_dependency_failure="run"),
                envelope("c", depends_on=("good", "bad")),
            ]
        )
        assert {claim.envelope.task_id: claim.asked for claim in store.claim(ANY, 9, NOW)} == {
            "a": None,
            "b": None,
            "c": "its dependency bad has failed",
        }

    def test_a_dependency_that_is_not_there_is_an_error_and_nothing_is_taken(self) -> None:
        """E-15 Q-07: the error names both, and what may be the cause (retention)."""
        store = self.make_store()
        with pytest.raises(SettingsError, match=r"task b depends on a, .*b -> a.*retention"):
            store.enqueue([envelope("x"), envelope("b", depends_on=("a",))])
        assert store.list() == []
        store.enqueue([envelope("a")])
        (claim,) = store.claim(ANY, 1, NOW)
        _end(store, claim)
        assert store.delete("a")
        with pytest.raises(SettingsError, match="b -> a"):
            store.enqueue([envelope("b", depends_on=("a",))])
        assert store.enqueue([envelope("b")]) == [None]

    def test_a_circle_is_refused_and_its_path_shown(self) -> None:
        """E-15: within one batch, of a task on itself, and through tasks that are created."""
        store = self.make_store()
        with pytest.raises(SettingsError, match="a -> b -> c -> a"):
            store.enqueue([envelope("a", depends_on="b"), envelope("b", depends_on="c"), envelope("c", depends_on="a")])
        with pytest.raises(SettingsError, match="a -> a"):
            store.enqueue([envelope("a", depends_on="a")])
        assert store.list() == []
        store.enqueue([envelope("a", depends_on="b", hold=True)])
        store.enqueue([envelope("b", depends_on="a", hold=True)])
        with pytest.raises(SettingsError, match="a -> b -> a"):
            store.enqueue([envelope("a", depends_on="b")])
        assert (self._status(store, "a"), store.waiting()) == ("created", [])
        store.enqueue([envelope("c", depends_on="d", hold=True)])
        with pytest.raises(SettingsError, match="d -> c -> d"):
            store.enqueue([envelope("d", depends_on="c")])
        store.enqueue([envelope("d")])
        store.enqueue([envelope("c")])
        (claim,) = store.claim(ANY, 9, NOW)
        assert claim.envelope.task_id == "d"
        _end(store, claim)
        assert _ids(store.claim(ANY, 9, NOW)) == ["c"]

    def test_a_created_task_is_blocked_when_it_is_pushed(self) -> None:
        """E-15: what it depends on is looked for then."""
        store = self.make_store()
        store.enqueue([envelope("b", depends_on=("a",), hold=True)])
        with pytest.raises(SettingsError, match="b -> a"):
            store.enqueue([envelope("b", depends_on=("a",))])
        store.enqueue([envelope("a", hold=True)])
        assert store.enqueue([envelope("b", depends_on=("a",))]) == ["b"]
        assert self._status(store, "b") == "blocked"
        store.enqueue([envelope("a")])
        (claim,) = store.claim(ANY, 9, NOW)
        _end(store, claim)
        assert _ids(store.claim(ANY, 9, NOW)) == ["b"]

    def test_a_blocked_task_can_be_cancelled_and_updated(self) -> None:
        """E-15 E-06: claimed by its id it is ended; its time and priority change while it is blocked, and count after."""
        store = self.make_store()
        store.enqueue(
            [envelope("a"), envelope("b", depends_on="a"), envelope("c", depends_on="b"), envelope("d", depends_on="a")]
        )
        claim = store.claim_one("b")
        assert claim is not None
        assert claim.status is TaskStatus.BLOCKED
        _end(store, claim, TaskStatus.CANCELLED)
        assert store.update("d", priority=3, due_us=NOW + 5)
        assert self._status(store, "d") == "blocked"
        found = store.claim(ANY, 9, NOW + 9)
        assert sorted(_ids(found)) == ["a", "c"]
        for claim in found:
            _end(store, claim)
        assert self._status(store, "d") == "scheduled"
        assert store.claim(ANY, 9, NOW + 4) == []
        assert _ids(store.claim(ANY, 9, NOW + 5)) == ["d"]

    def test_blocked_tasks_fill_the_queue(self) -> None:
        """E-06 E-15: max_queue counts all that wait."""
        store = self.make_store(max_queue=2)
        store.enqueue([envelope("a"), envelope("b", depends_on="a")])
        with pytest.raises(QueueFull):
            store.enqueue([envelope("c")])
        assert store.waiting() == ["a", "b"]

    # -- locks ---------------------------------------------------------------------------------------------------------

    def test_two_tasks_with_one_lock_are_never_claimed_together(self) -> None:
        """E-15: the others wait by priority and arrival, and hold nobody else up."""
        store = self.make_store()
        store.enqueue([envelope("a", lock="l"), envelope("b", lock="l"), envelope("x"), envelope("c", lock="m")])
        store.enqueue([envelope("d", lock="l", priority=5)])
        first = store.claim(ANY, 9, NOW)
        assert _ids(first) == ["d", "x", "c"]
        assert store.claim(ANY, 9, NOW) == []
        assert store.counts().pending == 2
        assert [self._status(store, name) for name in "ab"] == ["pending", "pending"]
        store.enqueue([envelope("e", lock="l", priority=1), envelope("y")])
        assert _ids(store.claim(ANY, 9, NOW)) == ["y"]
        fences = [first[0].fence]
        holder = first[0]
        for claim in first[1:]:
            _end(store, claim)
        order = []
        for _ in range(3):
            _end(store, holder)
            store = self.restarted(store)
            (holder,) = store.claim(ANY, 1, NOW)
            assert [claim for claim in store.claim(ANY, 9, NOW) if claim.envelope.options.lock == "l"] == []
            order.append(holder.envelope.task_id)
            fences.append(holder.fence)
        assert order == ["e", "a", "b"]
        assert fences == sorted(set(fences))

    def test_a_lock_is_free_between_two_attempts(self) -> None:
        """E-15: while one waits for its retry another one runs; one that is given back is next again."""
        store = self.make_store()
        store.enqueue([envelope("a", lock="l"), envelope("b", lock="l"), envelope("c", lock="l")])
        (claim,) = store.claim(ANY, 9, NOW)
        commit(store, change_of(claim, TaskStatus.RETRYING, release=True, due_us=NOW + 10, attempt=1, failures=1))
        (claim,) = store.claim(ANY, 9, NOW)
        assert claim.envelope.task_id == "b"
        assert store.claim(ANY, 9, NOW + 10) == []
        _give_back(store, claim)
        (claim,) = store.claim(ANY, 9, NOW + 10)
        assert claim.envelope.task_id == "a"
        _end(store, claim)
        assert _ids(store.claim(ANY, 9, NOW + 10)) == ["b"]

    def test_a_lock_holds_across_lanes(self) -> None:
        """E-15 E-20: one that only another lane could run does not keep this lane from the lock, nor overlap."""
        store = self.make_store()
        store.enqueue([envelope("a", lock="l", queue="gpu"), envelope("b", lock="l")])
        gpu = Lane("process", frozenset({"gpu"}))
        here = Lane("process", frozenset({"default"}))
        (claim,) = store.claim(here, 9, NOW)
        assert claim.envelope.task_id == "b"
        assert store.claim(gpu, 9, NOW) == []
        _end(store, claim)
        assert _ids(store.claim(gpu, 9, NOW)) == ["a"]
        assert store.claim(here, 9, NOW) == []

    def test_a_waiting_one_can_be_cancelled_or_moved_up(self) -> None:
        """E-15 E-06: claim_one takes it out of the line; update changes its place in it."""
        store = self.make_store()
        store.enqueue([envelope(name, lock="l") for name in "abcd"])
        (claim,) = store.claim(ANY, 9, NOW)
        taken = store.claim_one("b")
        assert taken is not None
        _end(store, taken, TaskStatus.CANCELLED)
        assert store.update("d", priority=1)
        assert store.claim(ANY, 9, NOW) == []
        _end(store, claim)
        (claim,) = store.claim(ANY, 9, NOW)
        assert claim.envelope.task_id == "d"
        first = store.claim_one("c")
        assert first is not None
        _end(store, first, TaskStatus.CANCELLED)
        _end(store, claim)
        assert store.claim(ANY, 9, NOW) == []
        assert store.waiting() == []

    def test_a_lock_and_a_dependency_go_together(self) -> None:
        """E-15: a blocked task does not hold its lock."""
        store = self.make_store()
        store.enqueue([envelope("a"), envelope("b", depends_on="a", lock="l"), envelope("c", lock="l")])
        one, two = store.claim(ANY, 9, NOW)
        assert (one.envelope.task_id, two.envelope.task_id) == ("a", "c")
        _end(store, one)
        assert store.claim(ANY, 9, NOW) == []
        _end(store, two)
        assert _ids(store.claim(ANY, 9, NOW)) == ["b"]

    # -- bounds and rates ----------------------------------------------------------------------------------------------

    def test_at_most_max_running_of_a_name_are_claimed(self) -> None:
        """E-20: others go on; each end makes room for one."""
        store = self.make_store()
        store.enqueue([envelope(f"m{number}", name="mail", max_running=2) for number in range(4)])
        store.enqueue([envelope("x", name="other"), envelope("m9", name="mail", max_running=2, priority=1)])
        first = store.claim(ANY, 9, NOW)
        assert _ids(first) == ["m9", "m0", "x"]
        _end(store, first[0])
        assert _ids(store.claim(ANY, 9, NOW)) == ["m1"]
        assert store.claim(ANY, 9, NOW) == []

    def test_the_bound_that_came_last_counts(self) -> None:
        """E-20: a task with another max_running changes it for all of its name."""
        store = self.make_store()
        store.enqueue([envelope(f"m{number}", name="mail", max_running=1) for number in range(3)])
        assert _ids(store.claim(ANY, 9, NOW)) == ["m0"]
        store.enqueue([envelope("m3", name="mail", max_running=3)])
        assert _ids(store.claim(ANY, 9, NOW)) == ["m1", "m2"]

    def test_a_lock_within_a_bound(self) -> None:
        """E-15 E-20: a task passes its lock first, then the bound of its name."""
        store = self.make_store()
        store.enqueue([envelope(name, name="n", lock=name[0], max_running=2) for name in ("a1", "a2", "b1", "c1")])
        first = store.claim(ANY, 9, NOW)
        assert _ids(first) == ["a1", "b1"]
        _end(store, first[0])
        (claim,) = store.claim(ANY, 9, NOW)
        assert claim.envelope.task_id == "a2"
        _end(store, first[1])
        assert _ids(store.claim(ANY, 9, NOW)) == ["c1"]

    def test_a_rate_spreads_the_tasks_of_a_name(self) -> None:
        """E-20: the next one is due when the rate says so, next_due tells when, and others do not wait."""
        store = self.make_store()
        store.enqueue([envelope(f"r{number}", name="n", rate="60/min") for number in range(3)])
        store.enqueue([envelope("x")])
        found = store.claim(ANY, 9, NOW)
        assert _ids(found) == ["r0", "x"]
        assert commit(store, *[change_of(claim, _ENDED, attempt=1) for claim in found]) == []
        assert store.next_due() == NOW + SECOND
        assert store.claim(ANY, 9, NOW + SECOND - 1) == []
        store = self.restarted(store)
        (claim,) = store.claim(ANY, 9, NOW + SECOND)
        assert claim.envelope.task_id == "r1"
        assert store.claim(ANY, 9, NOW + SECOND) == []
        assert _ids(store.claim(ANY, 9, NOW + 5 * SECOND)) == ["r2"]

    def test_a_fast_rate_lets_several_come_at_once(self) -> None:
        """E-20: a tenth of a second's worth; and no more than the rate over time."""
        store = self.make_store()
        store.enqueue([envelope(f"r{number:02}", name="n", rate="50/s") for number in range(12)])
        assert len(store.claim(ANY, 99, NOW)) == 5
        assert len(store.claim(ANY, 99, NOW + 20_000)) == 1
        assert len(store.claim(ANY, 99, NOW + 60_000)) == 2
        assert _ids(store.claim(ANY, 99, NOW + SECOND)) == ["r08", "r09", "r10", "r11"]

    def test_one_that_is_given_back_unbegun_takes_nothing_of_the_rate(self) -> None:
        """E-20: what an engine has claimed and not begun may be claimed again at once."""
        store = self.make_store()
        store.enqueue([envelope("a", name="n", rate="1/min"), envelope("b", name="n", rate="1/min")])
        (claim,) = store.claim(ANY, 9, NOW)
        _give_back(store, claim)
        (claim,) = store.claim(ANY, 9, NOW)
        assert claim.envelope.task_id == "a"
        _end(store, claim, attempt=1)
        assert store.claim(ANY, 9, NOW) == []
        assert _ids(store.claim(ANY, 9, NOW + 60 * SECOND)) == ["b"]

    # -- schedules -----------------------------------------------------------------------------------------------------

    def test_the_end_of_an_occurrence_stores_the_next_one(self) -> None:
        """E-16: a task of its own, due at the next time behind the end, with the same schedule_id and arguments."""
        store = self.make_store()
        due = _at(12, 0)
        store.enqueue([envelope("a", cron="*/10 * * * *", due_us=due, priority=2, tags=("t",))])
        (claim,) = store.claim(ANY, 9, due)
        assert claim.envelope.related is not None
        assert claim.envelope.related.schedule_id == "schedule of a"
        _end(store, claim, TaskStatus.FAILED, finished_us=_at(12, 25))
        store = self.restarted(store)
        (record,) = store.list(status=TaskStatus.SCHEDULED)
        assert record.task_id != "a"
        assert (record.schedule_id, record.priority, record.tags) == ("schedule of a", 2, ("t",))
        assert store.next_due() == _at(12, 30)
        (claim,) = store.claim(ANY, 9, _at(12, 30))
        assert (claim.envelope.task_id, claim.envelope.payload) == (record.task_id, b"payload")
        assert claim.envelope.due_us in (0, _at(12, 30))
        _end(store, claim, finished_us=_at(12, 30))
        assert store.next_due() == _at(12, 40)

    def test_an_occurrence_that_is_cancelled_ends_the_schedule(self) -> None:
        """E-16: nothing follows it."""
        store = self.make_store()
        store.enqueue([envelope("a", cron="* * * * *", due_us=NOW + 5)])
        claim = store.claim_one("a")
        assert claim is not None
        _end(store, claim, TaskStatus.CANCELLED)
        assert (store.waiting(), store.next_due()) == ([], None)

    def test_a_schedule_can_be_ended_while_an_occurrence_runs(self) -> None:
        """E-16: nothing follows that one, however it ends; until then the schedule's id stands for it."""
        store = self.make_store()
        store.enqueue([envelope("a", cron="* * * * *", due_us=NOW)])
        (claim,) = store.claim(ANY, 9, NOW)
        assert claim.envelope.related is not None
        schedule_id = claim.envelope.related.schedule_id or ""
        _end(store, claim)
        (following,) = store.waiting()
        assert store.occurrence(schedule_id) == following
        claim_or_none = store.claim_one(following)
        assert claim_or_none is not None
        assert store.end_schedule(schedule_id) == following
        assert store.end_schedule(schedule_id) is None
        _end(store, claim_or_none)
        assert (store.waiting(), store.occurrence(schedule_id)) == ([], None)
        assert store.occurrence("no such schedule") is None
        assert store.occurrence(schedule_id, after="a") == following
        assert store.occurrence(schedule_id, after=following) is None

    def test_what_nothing_lets_run(self) -> None:
        """E-15 R24: what is only created, an occurrence before its time, and what depends on them, however far."""
        store = self.make_store()
        store.enqueue([envelope("created", hold=True), envelope("due", due_us=NOW + 5), envelope("plain")])
        store.enqueue([envelope("a", depends_on=("created", "plain")), envelope("b", depends_on=("a",))])
        store.enqueue([envelope("c", depends_on=("plain", "due")), envelope("cron", cron="* * * * *", due_us=NOW + 5)])
        store.enqueue([envelope("d", depends_on=("cron",)), envelope("e", depends_on=("c", "d"))])
        everything = ["created", "due", "plain", "a", "b", "c", "cron", "d", "e", "nobody"]
        assert store.stuck(everything, NOW) == {"created", "a", "b", "cron", "d", "e"}
        assert store.stuck(["b", "c"], NOW) == {"b"}
        assert store.stuck(everything, NOW + 5) == {"created", "a", "b"}
        store.enqueue([envelope("created")])
        assert store.stuck(everything, NOW + 5) == set()
        assert store.stuck([], NOW) == set()

    def test_the_way_from_one_occurrence_to_the_next(self) -> None:
        """E-16: also from one long ended to one that has ended; where that one is forgotten, the present one follows."""
        store = self.make_store()
        store.enqueue([envelope("a", cron="* * * * *", due_us=NOW), envelope("b", cron="* * * * *", due_us=NOW)])
        ids, schedule_id = ["a"], _schedule_of(store, "a")
        for _ in range(3):
            claim = store.claim_one(ids[-1])
            assert claim is not None
            _end(store, claim, TaskStatus.FAILED)
            following = store.occurrence(schedule_id)
            assert following is not None
            ids.append(following)
        assert ids[1:] == [store.occurrence(schedule_id, after=task_id) for task_id in ids[:3]]
        assert _schedule_of(store, "b") != schedule_id
        assert store.delete(ids[0])
        assert store.occurrence(schedule_id, after=ids[0]) == ids[3]

    def test_a_retry_is_no_end_of_an_occurrence(self) -> None:
        """E-16 E-12: the next one is stored when it has ended."""
        store = self.make_store()
        store.enqueue([envelope("a", cron="* * * * *", due_us=NOW)])
        (claim,) = store.claim(ANY, 9, NOW)
        commit(store, change_of(claim, TaskStatus.RETRYING, release=True, due_us=NOW + 10, failures=1))
        assert store.waiting() == ["a"]
        (claim,) = store.claim(ANY, 9, NOW + 10)
        _end(store, claim)
        assert len(store.waiting()) == 1

    def test_a_schedule_keeps_its_dedup_key(self) -> None:
        """E-16: the key stands for the schedule, from one occurrence to the next."""
        store = self.make_store()
        store.enqueue([envelope("a", cron="* * * * *", due_us=NOW, dedup_key="k")])
        (claim,) = store.claim(ANY, 9, NOW)
        _end(store, claim)
        (following,) = store.waiting()
        assert store.enqueue([envelope("b", cron="* * * * *", due_us=NOW, dedup_key="k")]) == [following]

    # -- steps ---------------------------------------------------------------------------------------------------------

    def test_results_of_steps_are_there_for_the_next_attempt(self) -> None:
        """E-14: kept with the task, those of several commits together, until it ends."""
        store = self.make_store()
        store.enqueue([envelope("a")])
        (claim,) = store.claim(ANY, 1, NOW)
        assert not claim.steps
        commit(store, change_of(claim, TaskStatus.RUNNING, attempt=1, steps=[("one", b"1")]))
        commit(store, change_of(claim, TaskStatus.RUNNING, attempt=1, steps=[("two", b'{"x":2}')], checkpoint=b"5"))
        commit(store, change_of(claim, TaskStatus.RETRYING, release=True, due_us=NOW + 1, attempt=1))
        store = self.restarted(store)
        (claim,) = store.claim(ANY, 1, NOW + 1)
        assert claim.steps == {"one": b"1", "two": b'{"x":2}'}
        assert claim.restored == b"5"
        _end(store, claim)


class _Listener:
    def __init__(self, heard: list[list[tuple[str, str]]]) -> None:
        self._heard = heard

    def hear(self, doomed: list[tuple[str, str]]) -> None:
        """Note it."""
        self._heard.append(doomed)


def _at(hour: int, minute: int) -> int:
    return us_from_utc(datetime(2023, 11, 15, hour, minute, tzinfo=UTC))
