"""A transaction that is said to have failed may be in the file all the same: nothing is done twice, nothing is lost."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path
from typing import Any

import apsw
import pytest

from rxtasks.clock import utc_from_us
from rxtasks.errors import StoreError
from rxtasks.lifecycle.events import StatusEvent
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.service import TaskService
from rxtasks.stores.base import Change, Related
from rxtasks.stores.gates import Gate
from rxtasks.stores.sqlite.committing import CommitWork
from rxtasks.stores.sqlite.connection import Database
from rxtasks.stores.sqlite.store import SqliteStore
from rxtasks.stores.sqlite.writer import Writer
from rxtasks.worker.registry import task
from tests.unit.stores.sqlite.parts import change, claim, envelope, store_at


@task(max_running=8)
def total(a: int, b: int) -> int:
    return a + b


class Disk:
    """Makes the next transactions fail: before they were written, or when they have been."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.before = self.after = 0
        turn = Database.turn

        def failing(database: Database, *values: Any, lasting: bool) -> None:
            if self.before:
                self.before -= 1
                raise apsw.IOError("injected")
            turn(database, *values, lasting=lasting)
            if self.after:
                self.after -= 1
                raise apsw.IOError("injected")

        monkeypatch.setattr(Database, "turn", failing)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def event(task_id: str, seq: int, status: str) -> StatusEvent:
    return StatusEvent(task_id, seq, 1, "w", utc_from_us(1_000_000 + seq), TaskStatus(status))


def commit(store: SqliteStore, changes: list[Change], events: list[Any]) -> tuple[list[int], BaseException | None]:
    answered = threading.Event()
    answers: list[tuple[list[int], BaseException | None]] = []

    def done(refused: list[int], error: BaseException | None) -> None:
        answers.append((refused, error))
        answered.set()

    store.commit(changes, events, done)
    assert answered.wait(20)
    return answers[0]


def test_an_end_whose_answer_was_lost_is_not_taken_for_fenced_and_is_written_once(tmp_path: Path, disk: Disk) -> None:
    """E-19, Q-02: the repeat finds its own effect."""
    store, _ = store_at(tmp_path / "tasks.db")
    store.enqueue([envelope(), envelope()])
    first, second = claim(store)
    changes = [
        change(first, "succeeded", next_seq=3, finished_us=5, release=True),
        change(second, "running", next_seq=2),
    ]
    events = [event(first.envelope.task_id, 1, "running"), event(first.envelope.task_id, 2, "succeeded")]
    events.append(event(second.envelope.task_id, 1, "running"))
    disk.after = 1
    assert ([], None) == commit(store, changes, events)
    assert [1, 2] == [found.seq for found in store.events(first.envelope.task_id)]
    assert [1] == [found.seq for found in store.events(second.envelope.task_id)]
    record = store.get(first.envelope.task_id)
    assert record is not None and record.status is TaskStatus.SUCCEEDED
    store.release()


def test_a_commit_that_fails_twice_is_given_again_by_the_engine_and_written_once(tmp_path: Path, disk: Disk) -> None:
    store, _ = store_at(tmp_path / "tasks.db")
    store.enqueue([envelope()])
    (held,) = claim(store)
    changes = [change(held, "succeeded", next_seq=2, finished_us=5, release=True)]
    events = [event(held.envelope.task_id, 1, "succeeded")]
    disk.before, disk.after = 0, 1
    transact = store._writer._transact

    def fail(*_: Any) -> Any:
        store._writer._transact = transact  # type: ignore[method-assign]
        raise apsw.IOError("injected")

    store._writer._transact = fail  # type: ignore[method-assign]
    refused, error = commit(store, changes, events)
    assert error is not None and [] == refused
    assert "IOError" in (store.trouble or "")
    assert ([], None) == commit(store, changes, events), "the same batch again, as the engine does"
    assert store.trouble is None
    assert [1] == [found.seq for found in store.events(held.envelope.task_id)]
    store.release()


@pytest.mark.parametrize("lost", [1, 2, 3])
@pytest.mark.parametrize("gates", [(), (Gate("lock:key", 1),), (Gate("name:job", 1), Gate("lock:key", 1))])
@pytest.mark.parametrize("member", [True, False])
def test_what_was_claimed_and_not_told_is_claimed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: int, gates: tuple[Gate, ...], member: bool
) -> None:
    """Q-02 E-15: the tasks, and the lock and the place that they took, are nobody's until then."""
    store, _ = store_at(tmp_path / "tasks.db")
    joined = store.join(lease=15.0, max_interruptions=20) if member else None
    store.enqueue([envelope(related=Related(gates)) for _ in range(3)])
    transact, left = Writer._transact, lost

    def failing(writer: Writer, *arguments: Any) -> Any:
        nonlocal left
        found = transact(writer, *arguments)
        if left:
            left -= 1
            raise apsw.IOError("injected")
        return found

    monkeypatch.setattr(Writer, "_transact", failing)
    claims: list[Any] = []
    for _ in range(10):
        if claims:
            break
        try:
            claims = claim(store)
        except StoreError:
            assert left or lost == 2
    assert not left
    assert (1 if gates else 3) == len(claims)
    assert len(claims) == len(store._numbers), "no other token is held"
    while claims:  # each can be run, one after the other where they share a lock
        ended = [change(held, "succeeded", next_seq=2, finished_us=5, release=True) for held in claims]
        events = [event(held.envelope.task_id, 1, "succeeded") for held in claims]
        assert ([], None) == commit(store, ended, events)
        claims = claim(store)
    assert 3 == len(store.list(status=TaskStatus.SUCCEEDED))
    assert [] == [*store.check()]
    del joined
    store.release()


def test_an_engine_whose_commits_are_written_and_said_to_have_failed_goes_on_with_its_tasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E-19, Q-02: also when the store's own repeat fails: the engine gives the batch again, and the store knows it."""
    lost = [0]

    def then_fail(write: Any) -> Any:
        def call(*given: Any, **named: Any) -> Any:
            found = write(*given, **named)
            works = given[2] if len(given) > 2 else ()
            if found is not None and lost[0] and any(isinstance(work, CommitWork) for work in works):
                lost[0] -= 1
                raise apsw.IOError("injected")
            return found

        return call

    monkeypatch.setattr(Writer, "_transact", then_fail(Writer._transact))
    monkeypatch.setattr(Writer, "_take_turn", then_fail(Writer._take_turn))
    with TaskService(workers=2, isolation="thread", store=f"sqlite:///{tmp_path / 'tasks.db'}") as service:
        assert 3 == service.submit(total, 1, 2).result(30)
        service.pause()
        trackers = [service.submit(total, number, 1) for number in range(8)]
        lost[0] = 4
        service.resume()
        assert [number + 1 for number in range(8)] == [tracker.result(60) for tracker in trackers]
        assert 0 == lost[0], "no answer was lost"
        assert {"succeeded"} == {service.get(tracker.task_id).status for tracker in trackers}


def test_of_a_commit_whose_answer_was_lost_what_was_refused_is_still_refused(tmp_path: Path, disk: Disk) -> None:
    """Another service had taken one of the tasks over: its events are not published by the repeat."""
    store, _ = store_at(tmp_path / "tasks.db")
    store.enqueue([envelope(), envelope()])
    mine, lost = claim(store)
    store._writer.ask(lambda db: db.db.execute("update tasks set token = 999 where id = ?", (lost.envelope.task_id,)))
    changes = [change(task, "succeeded", next_seq=2, finished_us=5, release=True) for task in (mine, lost)]
    events = [event(task.envelope.task_id, 1, "succeeded") for task in (mine, lost)]
    transact = store._writer._transact

    def fail(*given: Any) -> Any:
        store._writer._transact = transact  # type: ignore[method-assign]
        transact(*given)
        raise apsw.IOError("injected")

    store._writer._transact = fail  # type: ignore[method-assign]
    assert ([lost.token], None) == commit(store, changes, events)
    assert [] == store.events(lost.envelope.task_id)
    store.release()


def test_claims_whose_answer_was_lost_are_claimed_again(tmp_path: Path, disk: Disk) -> None:
    store, _ = store_at(tmp_path / "tasks.db")
    store.enqueue([envelope(), envelope()])
    answered = threading.Event()
    found: list[Any] = []

    def done(*answer: Any) -> None:
        found.append(answer)
        answered.set()

    from tests.unit.stores.sqlite.parts import LANE

    disk.after = 1
    store.claim_later(LANE, 10, 1, done)
    assert answered.wait(20)
    claims, _, error = found[0]
    if error is not None:
        claims = claim(store)
    assert 2 == len(claims), "they do not stay with a service that does not know of them"
    store.release()


def test_tasks_whose_answer_was_lost_are_there_once(tmp_path: Path, disk: Disk) -> None:
    store, _ = store_at(tmp_path / "tasks.db")
    task = envelope()
    disk.after = 1
    store.enqueue([task])
    assert [task.task_id] == [record.task_id for record in store.list()]
    store.release()


def test_after_a_disk_error_all_that_was_acknowledged_is_moved_into_the_file_before_anything_else_is(
    tmp_path: Path, disk: Disk
) -> None:
    """A failed fsync is reported once, and what it was for is forgotten: what stands in the log is not believed any more."""
    path, copy = tmp_path / "tasks.db", tmp_path / "copy.db"
    store, _ = store_at(path)
    before = [envelope() for _ in range(20)]
    store.enqueue(before)
    beside, _ = store_at(path)
    assert 20 == len(beside.list())  # so that nobody is the last one to close it, who moves the log
    disk.before = 1
    store.enqueue([envelope()])
    subprocess.run(
        ["cp", str(path), str(copy)], check=True
    )  # without its log; another process's open() takes no lock away
    store.release()
    beside.release()
    other, _ = store_at(copy)
    assert [made.task_id for made in before] == [record.task_id for record in other.list(limit=20)]
    other.release()
