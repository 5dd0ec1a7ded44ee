"""What every store must do: subclass StoreConformance in a test module, say how to make a store, and run pytest.

::

    class TestMyStore(StoreConformance):
        def make_store(self, **settings):
            return MyStore(**settings)
"""

from __future__ import annotations

import threading
from typing import Any

import pytest

from rxtasks.clock import utc_from_us
from rxtasks.errors import QueueFull, ServiceStopped
from rxtasks.lifecycle.errorinfo import TaskErrorInfo
from rxtasks.lifecycle.events import ProgressEvent
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.stores.base import HEADS, Claim, Counts, Lane, Store, Successes, each_change
from rxtasks.testing.relations_suite import RelationConformance
from rxtasks.testing.store_calls import ANY, NOW, change_of, commit, envelope, repeating

__all__ = ["ANY", "NOW", "StoreConformance", "change_of", "commit", "envelope"]


def _ids(claims: list[Claim]) -> list[str]:
    return [claim.envelope.task_id for claim in claims]


class StoreConformance(RelationConformance):
    """The suite. `make_store` is the one hook."""

    def make_store(self, *, retain: int = 10_000, max_queue: int | None = None) -> Store:
        """Return a new, empty store."""
        raise NotImplementedError

    # -- order and lanes -----------------------------------------------------------------------------------------------

    def test_tasks_are_claimed_by_priority_then_arrival(self) -> None:
        """E-16 Q-01: higher priority first, in order of arrival among equals."""
        store = self.make_store()
        store.enqueue([envelope("a"), envelope("b", priority=5), envelope("c"), envelope("d", priority=5)])
        store.enqueue([envelope("e", priority=-1), envelope("f", priority=9)])
        assert _ids(store.claim(ANY, 4, NOW)) == ["f", "b", "d", "a"]
        assert _ids(store.claim(ANY, 4, NOW)) == ["c", "e"]

    def test_what_is_given_back_keeps_its_place_in_the_order(self) -> None:
        """E-16 Q-01: a released task is claimed before those that arrived after it."""
        store = self.make_store()
        store.enqueue([envelope(name) for name in "abcd"])
        first, second, third = store.claim(ANY, 3, NOW)
        for claim in (third, first, second):
            commit(store, change_of(claim, TaskStatus.PENDING, release=True))
        assert _ids(store.claim(ANY, 9, NOW)) == ["a", "b", "c", "d"]

    def test_a_lane_takes_its_queues_and_isolation_only(self) -> None:
        """E-20 Q-01: a task goes to workers of its isolation and queue; one without either to any."""
        store = self.make_store()
        store.enqueue([envelope("plain"), envelope("gpu", queue="gpu"), envelope("inside", isolation="thread")])
        assert _ids(store.claim(Lane("process", frozenset({"gpu"})), 9, NOW)) == ["gpu"]
        assert store.claim(Lane("docker", frozenset({"mail"})), 9, NOW) == []
        assert _ids(store.claim(Lane("thread", frozenset({"default"})), 9, NOW)) == ["plain", "inside"]

    def test_order_holds_across_the_queues_of_a_lane(self) -> None:
        """E-16 Q-01: two queues served by one lane are one line."""
        store = self.make_store()
        store.enqueue([envelope("a", queue="x"), envelope("b"), envelope("c", queue="x"), envelope("d", priority=1)])
        assert _ids(store.claim(ANY, 9, NOW)) == ["d", "a", "b", "c"]

    def test_the_first_of_each_priority_tells_since_when_it_waits(self) -> None:
        """C-07: over all queues, the highest priorities first, HEADS at most; what is claimed or has ended is not told of."""
        store = self.make_store()
        assert store.heads() == {}
        since = [(0, NOW - 50, "x"), (0, NOW - 40, None), (7, NOW - 30, None), (0, NOW - 20, "x"), (-3, NOW - 10, "y")]
        for priority, created, queue in since:
            task = envelope(f"t{created}", priority=priority, queue=queue)
            task.created_us = created
            store.enqueue([task])
        assert store.heads() == {7: NOW - 30, 0: NOW - 50, -3: NOW - 10}
        assert list(store.heads()) == [7, 0, -3]
        first, second = store.claim(ANY, 2, NOW)
        assert store.heads() == {0: NOW - 40, -3: NOW - 10}
        commit(store, change_of(first, TaskStatus.SUCCEEDED))
        commit(store, change_of(second, TaskStatus.PENDING, release=True))
        assert 0 in store.heads()
        store.claim(ANY, 9, NOW)
        assert store.heads() == {}
        store.enqueue([envelope(f"p{number}", priority=number) for number in range(100)])
        assert list(range(99, 99 - HEADS, -1)) == list(store.heads())

    def test_claim_hands_over_at_most_the_limit(self) -> None:
        """Q-02: never more than asked; nothing for a limit of 0."""
        store = self.make_store()
        store.enqueue([envelope(str(number)) for number in range(5)])
        assert store.claim(ANY, 0, NOW) == []
        assert len(store.claim(ANY, 2, NOW)) == 2
        assert len(store.claim(ANY, 9, NOW)) == 3

    # -- claims and fencing --------------------------------------------------------------------------------------------

    def test_each_task_is_claimed_exactly_once_while_many_threads_enqueue(self) -> None:
        """Q-02: with several threads putting tasks in and one at a time claiming, none is lost or handed out twice."""
        store = self.make_store()
        turn = threading.Lock()
        claimed: list[str] = []
        tokens: list[int] = []

        def produce(name: str) -> None:
            for number in range(50):
                store.enqueue([envelope(f"{name}{number}")])

        def consume() -> None:
            while True:
                with turn:
                    if len(claimed) >= 200:
                        return
                    claims = store.claim(ANY, 3, NOW)
                    claimed.extend(_ids(claims))
                    tokens.extend(claim.token for claim in claims)

        threads = [threading.Thread(target=produce, args=(name,)) for name in "abcd"]
        threads += [threading.Thread(target=consume) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert sorted(f"{name}{number}" for name in "abcd" for number in range(50)) == sorted(claimed)
        assert len(set(tokens)) == 200

    def test_the_fence_grows_with_every_claim(self) -> None:
        """Q-02: a later claim of any task has a greater fence."""
        store = self.make_store()
        store.enqueue([envelope("a"), envelope("b")])
        one, two = store.claim(ANY, 2, NOW)
        commit(store, change_of(one, TaskStatus.PENDING, release=True))
        (again,) = store.claim(ANY, 2, NOW)
        assert one.fence < two.fence < again.fence
        assert one.token != again.token

    def test_a_write_under_a_lapsed_token_changes_nothing(self) -> None:
        """Q-02: the result of a zombie is refused, and the batch around it is applied."""
        store = self.make_store()
        store.enqueue([envelope("a"), envelope("b")])
        old, other = store.claim(ANY, 2, NOW)
        commit(store, change_of(old, TaskStatus.PENDING, release=True))
        (new,) = store.claim(ANY, 1, NOW)
        late = change_of(old, TaskStatus.SUCCEEDED, value=["j", "stale"])
        assert [old.token] == commit(store, late, change_of(other, TaskStatus.SUCCEEDED))
        assert self._record(store, "b").status == TaskStatus.SUCCEEDED
        assert not self._record(store, "a").status.terminal
        assert commit(store, change_of(new, TaskStatus.SUCCEEDED, value=["j", "fresh"])) == []
        assert self._record(store, "a").result == "fresh"

    def test_the_first_end_wins(self) -> None:
        """R9 Q-02: a second terminal change under the same token is refused."""
        store = self.make_store()
        store.enqueue([envelope("a")])
        (claim,) = store.claim(ANY, 1, NOW)
        assert commit(store, change_of(claim, TaskStatus.SUCCEEDED)) == []
        assert [claim.token] == commit(store, change_of(claim, TaskStatus.FAILED))
        assert self._record(store, "a").status == TaskStatus.SUCCEEDED
        assert store.claim(ANY, 1, NOW) == []

    def test_successes_are_as_many_changes(self) -> None:
        """E-01 Q-02: records, tokens that have lapsed, dedup keys that are free again: as if each had come by itself."""
        values = [1, {"a": 1}, None, "x" * 5000, 2.5, [], 7, True]
        ends = [("w", NOW + index, NOW + 2 * index, ("j", value)) for index, value in enumerate(values)]
        found = []
        for together in (False, True):
            store, refused = self.make_store(retain=5), []
            store.enqueue([envelope(str(number), name=f"n{number}", priority=-number) for number in range(7)])
            store.enqueue([envelope("once", dedup_key="k", priority=-9)])
            (again,) = store.claim(ANY, 1, NOW)
            commit(store, change_of(again, TaskStatus.PENDING, release=True, next_seq=3, attempt=1))
            claims = store.claim(ANY, 9, NOW)
            tokens = [claim.token for claim in claims]
            tokens[4] += 1000  # another engine has it now
            ids = [claim.envelope.task_id for claim in claims]
            for some in (
                slice(0, 2),
                slice(2, 6),
                slice(6, 8),
            ):  # one that ran before, one that is lost, and first attempts
                _, began, ended, shown = ([*column] for column in zip(*ends[some], strict=True))
                columns = Successes("w", tokens[some], ids[some], began, ended, shown)
                for changes in [[columns]] if together else [[change] for change in each_change([columns])]:
                    refused += commit(store, *changes)
            assert store.enqueue([envelope("fresh", dedup_key="k")]) == [None]
            found.append((refused, store.list(), [store.get(task_id) for task_id in ids]))
        assert found[0] == found[1] and found[0][0] == [tokens[4]]
        # Those retained (a durable store keeps all that have ended), the lost one and the fresh one.
        assert len(found[0][1]) == (7 if store.durable else 5) + 2

    def test_a_waiting_task_can_be_claimed_by_its_id(self) -> None:
        """E-06: claim_one takes what waits, whatever for, and nothing else."""
        store = self.make_store()
        store.enqueue([envelope("now"), envelope("later", due_us=NOW + 10), envelope("held", hold=True)])
        for name in ("now", "later", "held"):
            claim = store.claim_one(name)
            assert claim is not None and name == claim.envelope.task_id
            assert store.claim_one(name) is None
            commit(store, change_of(claim, TaskStatus.CANCELLED))
            assert store.claim_one(name) is None
        assert store.claim_one("unknown") is None
        assert store.claim(ANY, 9, NOW + 20) == []

    # -- time ----------------------------------------------------------------------------------------------------------

    def test_a_task_is_not_claimed_before_its_time(self) -> None:
        """E-16: run_at is kept to the microsecond, and next_due says when to come again."""
        store = self.make_store()
        store.enqueue([envelope("b", due_us=NOW + 20), envelope("a", due_us=NOW + 10)])
        assert store.next_due() == NOW + 10
        assert Counts(0, 2) == store.counts()
        assert store.claim(ANY, 9, NOW + 9) == []
        assert _ids(store.claim(ANY, 9, NOW + 10)) == ["a"]
        assert store.next_due() == NOW + 20
        assert _ids(store.claim(ANY, 9, NOW + 99)) == ["b"]
        assert store.next_due() is None

    def test_a_retry_waits_for_its_time_with_its_counts_and_checkpoint(self) -> None:
        """E-12: what an attempt leaves is there for the next one."""
        store = self.make_store()
        store.enqueue([envelope("a")])
        (claim,) = store.claim(ANY, 1, NOW)
        commit(store, change_of(claim, TaskStatus.RUNNING, attempt=1, checkpoint=b"state", next_seq=2))
        counts = {"attempt": 1, "failures": 1, "crashes": 2, "interruptions": 3, "next_seq": 7}
        commit(store, change_of(claim, TaskStatus.RETRYING, release=True, due_us=NOW + 50, **counts))
        assert self._record(store, "a").status == TaskStatus.RETRYING
        assert store.claim(ANY, 1, NOW + 49) == []
        (again,) = store.claim(ANY, 1, NOW + 50)
        assert (
            again.attempt,
            again.failures,
            again.crashes,
            again.interruptions,
            again.next_seq,
        ) == (1, 1, 2, 3, 7)
        assert again.restored == b"state"

    # -- once ----------------------------------------------------------------------------------------------------------

    def test_a_repeated_id_stands_for_the_task_that_has_it(self) -> None:
        """E-06: pushing an id again makes nothing new, also after its end."""
        store = self.make_store()
        assert store.enqueue([envelope("a"), envelope("a")]) == [None, "a"]
        (claim,) = store.claim(ANY, 9, NOW)
        commit(store, change_of(claim, TaskStatus.SUCCEEDED))
        assert store.enqueue([envelope("a")]) == ["a"]
        assert store.claim(ANY, 9, NOW) == []

    def test_a_dedup_key_is_taken_until_the_task_ends(self) -> None:
        """E-16: a repeat returns the existing task while it has not ended."""
        store = self.make_store()
        assert store.enqueue([envelope("a", dedup_key="k"), envelope("b", dedup_key="k")]) == [None, "a"]
        (claim,) = store.claim(ANY, 9, NOW)
        assert store.enqueue([envelope("c", dedup_key="k")]) == ["a"]
        commit(store, change_of(claim, TaskStatus.FAILED))
        assert store.enqueue([envelope("d", dedup_key="k")]) == [None]
        assert _ids(store.claim(ANY, 9, NOW)) == ["d"]

    def test_a_created_task_waits_until_it_is_pushed(self) -> None:
        """E-06: create stores without queueing; push of the same id queues it."""
        store = self.make_store()
        assert store.enqueue([envelope("a", hold=True)]) == [None]
        assert self._record(store, "a").status == TaskStatus.CREATED
        assert (store.claim(ANY, 9, NOW), store.waiting()) == ([], [])
        assert store.enqueue([envelope("a")]) == ["a"]
        assert _ids(store.claim(ANY, 9, NOW)) == ["a"]

    @pytest.mark.parametrize("lock", [None, "l"])
    def test_a_push_onto_a_created_task_by_its_dedup_key_queues_that(self, lock: str | None) -> None:
        """E-12 E-15: what stands for a task that is to run does run; one that is created only again does not."""
        store = self.make_store()
        store.enqueue([envelope("a", hold=True, dedup_key="k", lock=lock)])
        assert store.enqueue([envelope("b", hold=True, dedup_key="k", lock=lock)]) == ["a"]
        assert self._record(store, "a").status is TaskStatus.CREATED
        assert store.enqueue([envelope("c", dedup_key="k"), envelope("d", dedup_key="k", lock=lock)]) == ["a", "a"]
        assert self._record(store, "a").status is TaskStatus.PENDING
        assert [(note.source, note.target, note.reason) for note in store.notes("a")] == [
            ("created", "pending", "pushed")
        ]
        assert _ids(store.claim(ANY, 9, NOW)) == ["a"]
        assert store.enqueue([envelope("e", dedup_key="k")]) == ["a"]

    def test_a_full_queue_takes_none_of_the_batch(self) -> None:
        """E-06: QueueFull at max_queue, and nothing half done."""
        store = self.make_store(max_queue=2)
        store.enqueue([envelope("a")])
        with pytest.raises(QueueFull):
            store.enqueue([envelope("b"), envelope("c")])
        assert store.enqueue([envelope("b")]) == [None]
        assert store.waiting() == ["a", "b"]

    # -- changes by callers --------------------------------------------------------------------------------------------

    def test_update_changes_priority_and_time_of_a_waiting_task(self) -> None:
        """E-06: update before it runs; False when it does not wait."""
        store = self.make_store()
        store.enqueue([envelope("a"), envelope("b"), envelope("c", due_us=NOW + 10)])
        assert store.update("b", priority=3)
        assert store.update("c", due_us=0)
        assert self._record(store, "b").priority == 3
        claims = store.claim(ANY, 9, NOW)
        assert _ids(claims) == ["b", "a", "c"]
        assert not store.update("a", priority=9)
        assert not store.update("unknown", priority=9)
        assert Counts(0, 0) == store.counts()

    def test_delete_forgets_an_ended_task_only(self) -> None:
        """E-06: delete after it ended; its id is free again and is not lost to retention later."""
        store = self.make_store(retain=1)
        store.enqueue([envelope("a")])
        assert not store.delete("a")
        (claim,) = store.claim(ANY, 1, NOW)
        assert not store.delete("a")
        commit(store, change_of(claim, TaskStatus.SUCCEEDED))
        assert store.delete("a")
        assert not store.delete("a")
        assert store.get("a") is None
        assert store.enqueue([envelope("a"), envelope("b")]) == [None, None]
        second = store.claim_one("b")
        assert second is not None
        commit(store, change_of(second, TaskStatus.SUCCEEDED))
        assert store.waiting() == ["a"]
        assert self._record(store, "b").status == TaskStatus.SUCCEEDED

    def test_only_the_newest_ended_tasks_are_retained(self) -> None:
        """Q-07: `retain` ended tasks are kept; unfinished ones always."""
        store = self.make_store(retain=2)
        if store.durable:
            pytest.skip("a durable store keeps what has ended by age")
        store.enqueue([envelope(name) for name in "abcd"])
        for claim in store.claim(ANY, 3, NOW):
            commit(store, change_of(claim, TaskStatus.SUCCEEDED))
        assert [record.task_id for record in store.list()] == ["b", "c", "d"]

    def test_close_takes_nothing_more_and_names_what_waits(self) -> None:
        """R24 W-05: after close() enqueue raises; waiting tasks can still be claimed by id; reopen() takes again."""
        store = self.make_store()
        store.enqueue([envelope("a"), envelope("b"), envelope("c", due_us=NOW + 10), envelope("d", hold=True)])
        (held,) = store.claim(ANY, 1, NOW)
        assert store.close() == ["b", "c"]
        with pytest.raises(ServiceStopped):
            store.enqueue([envelope("e")])
        assert store.claim_one("b") is not None
        assert commit(store, change_of(held, TaskStatus.SUCCEEDED)) == []
        store.reopen()
        assert store.enqueue([envelope("e")]) == [None]

    # -- looking -------------------------------------------------------------------------------------------------------

    def test_a_record_tells_what_is_known(self) -> None:
        """E-06 Q-06: get shows status, counts, times, worker, progress, result and error."""
        store = self.make_store()
        store.enqueue([envelope("a", name="report", tags=("x",), priority=2)])
        (claim,) = store.claim(ANY, 1, NOW)
        commit(store, change_of(claim, TaskStatus.RUNNING, attempt=1, started_us=NOW + 5, worker_id="w"))
        record = self._record(store, "a")
        assert (
            record.name,
            record.status,
            record.worker_id,
            record.priority,
            record.tags,
        ) == ("report", TaskStatus.RUNNING, "w", 2, ("x",))
        progress = ProgressEvent("a", 2, 1, "w", utc_from_us(NOW), 3, 4)
        error = TaskErrorInfo("ValueError", "first")
        retry = change_of(claim, TaskStatus.RETRYING, release=True, due_us=NOW + 1, attempt=1, error=error)
        commit(store, retry)
        assert error == self._record(store, "a").error
        (again,) = store.claim(ANY, 1, NOW + 9)
        commit(
            store,
            change_of(
                again,
                TaskStatus.SUCCEEDED,
                attempt=2,
                worker_id="v",
                started_us=NOW + 10,
                finished_us=NOW + 30,
                value=["j", {"n": 1}],
                progress=progress,
            ),
        )
        record = self._record(store, "a")
        assert ({"n": 1}, None, "v", progress, 2) == (
            record.result,
            record.error,
            record.worker_id,
            record.progress,
            record.attempt,
        )
        assert record.duration == 20e-6
        assert utc_from_us(NOW) == record.created_at
        assert store.get("unknown") is None

    def test_list_filters_and_pages_in_order_of_arrival(self) -> None:
        """E-06: by status, name and tag; `after` and `limit` walk through all of them once."""
        store = self.make_store()
        store.enqueue([envelope(name, name="odd" if name in "ace" else "even", tags=(name,)) for name in "abcdef"])
        (claim,) = store.claim(ANY, 1, NOW)
        commit(store, change_of(claim, TaskStatus.FAILED))
        assert [record.task_id for record in store.list(name="odd")] == ["a", "c", "e"]
        assert [record.task_id for record in store.list(status=TaskStatus.FAILED)] == ["a"]
        assert [record.task_id for record in store.list(tag="d")] == ["d"]
        assert store.list(created_before_us=NOW) == []
        assert len(store.list(created_before_us=NOW + 1)) == 6
        assert store.list(limit=0) == []
        pages, after = [], None
        while page := store.list(limit=4, after=after):
            pages.append([record.task_id for record in page])
            after = pages[-1][-1]
        assert pages == [["a", "b", "c", "d"], ["e", "f"]]

    def test_the_first_that_wait_are_found_by_their_status(self) -> None:
        """Q-10: some of each status, no more than asked for, and none of another one."""
        store = self.make_store()
        store.enqueue([envelope(f"p{number}") for number in range(5)])
        store.enqueue([envelope(f"l{number}", lock="l") for number in range(3)])
        store.enqueue([envelope("later", due_us=NOW + 10**12), envelope("held", hold=True)])
        store.enqueue([envelope("after", depends_on=("p0",))])
        claims = store.claim(ANY, 2, NOW)
        commit(store, change_of(claims[0], TaskStatus.RETRYING, release=True, due_us=NOW + 10**12))
        commit(store, change_of(claims[1], TaskStatus.SUCCEEDED))
        assert {"p2", "p3", "p4", "l0", "l1", "l2"} == set(store.first(TaskStatus.PENDING, 10))
        assert len(store.first(TaskStatus.PENDING, 2)) == 2
        assert store.first(TaskStatus.SCHEDULED, 10) == ["later"]
        assert store.first(TaskStatus.RETRYING, 10) == ["p0"]
        assert store.first(TaskStatus.BLOCKED, 10) == ["after"]

    # -- retries of an operator ----------------------------------------------------------------------------------------

    def test_a_retry_says_what_it_repeats_and_why(self) -> None:
        """E-02 Q-06: the record of a retry names the ended task for as long as it is kept; both histories have the operator."""
        store = self.make_store()
        store.enqueue([envelope("a", name="report")])
        (claim,) = store.claim(ANY, 1, NOW)
        commit(store, change_of(claim, TaskStatus.FAILED))
        store.enqueue([repeating(envelope("b", name="report"), "a", "it was the disk")])
        assert (self._record(store, "b").retry_of, self._record(store, "a").retry_of) == ("a", None)
        assert self._record(store, "b").status is TaskStatus.PENDING
        for task_id, said in (("a", "retried as b: it was the disk"), ("b", "retry of a: it was the disk")):
            assert [(note.actor, note.reason) for note in store.notes(task_id)][-1] == ("operator", said)
        (again,) = store.claim(ANY, 9, NOW)
        assert (again.envelope.task_id, again.attempt) == ("b", 0)
        commit(store, change_of(again, TaskStatus.SUCCEEDED))
        assert self._record(store, "b").retry_of == "a"
        assert [(record.task_id, record.retry_of) for record in store.list()] == [("a", None), ("b", "a")]

    def test_the_newest_retry_of_each_task_is_found(self) -> None:
        """E-02: several retries of one task; tasks without one are left out."""
        store = self.make_store()
        store.enqueue([envelope(name) for name in "abc"])
        for claim in store.claim(ANY, 3, NOW):
            commit(store, change_of(claim, TaskStatus.FAILED))
        store.enqueue([repeating(envelope("d"), "a"), repeating(envelope("e"), "b")])
        store.enqueue([repeating(envelope("f"), "a")])
        assert store.retries(["a", "b", "c", "unknown"]) == {"a": "f", "b": "e"}
        assert store.retries([]) == {}

    def test_a_retry_with_a_dedup_key_that_is_taken_is_the_task_that_has_it(self) -> None:
        """E-02: one at a time, retries included; nothing is noted of a retry that there is not."""
        store = self.make_store()
        store.enqueue([envelope("a", dedup_key="k")])
        (claim,) = store.claim(ANY, 1, NOW)
        commit(store, change_of(claim, TaskStatus.FAILED))
        assert store.enqueue([repeating(envelope("b", dedup_key="k"), "a")]) == [None]
        assert store.enqueue([repeating(envelope("c", dedup_key="k"), "a")]) == ["b"]
        assert store.get("c") is None
        assert [note.reason for note in store.notes("a")] == ["retried as b"]

    def test_many_ended_tasks_are_forgotten_at_once(self) -> None:
        """Q-07: those that have ended, however many, and no others."""
        store = self.make_store()
        store.enqueue([envelope(str(number)) for number in range(250)])
        claims = store.claim(ANY, 240, NOW)
        commit(store, *[change_of(claim, TaskStatus.FAILED) for claim in claims])
        assert sorted(store.forget([str(number) for number in range(250)] + ["unknown"])) == sorted(_ids(claims))
        assert [record.task_id for record in store.list()] == [str(number) for number in range(240, 250)]
        assert store.forget(["0", "249"]) == []

    @staticmethod
    def _record(store: Store, task_id: str) -> Any:
        record = store.get(task_id)
        assert record is not None, task_id
        return record
