"""What a durable store must do beyond every store: subclass DurableStoreConformance, say how to open it, and run pytest.

::

    class TestMyStore(DurableStoreConformance):
        opener = "mypackage.stores:open_store"     # called with `place`, here and in other processes

        def make_place(self, folder):
            return f"{folder}/tasks.db"
"""

from __future__ import annotations

import importlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rxtasks.clock import utc_from_us
from rxtasks.lifecycle.errorinfo import TaskErrorInfo
from rxtasks.lifecycle.events import LogEvent, OutputEvent, StatusEvent, TaskEvent
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.stores.base import Asked, Change, Claim, DurableStore
from rxtasks.testing.store_suite import ANY, NOW, change_of, commit, envelope

__all__ = ["DurableStoreConformance"]

#: Seconds after which a test has failed; nothing takes that long, on a loaded machine either.
LONG = 60.0
_CHILD = "rxtasks.testing.durable_child"


class _Child:
    """A process that uses the store, heard by lines."""

    def __init__(self, what: str, opener: str, place: str, *arguments: str) -> None:
        # The folder of this package, and of the tests' own modules.
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        self.process = subprocess.Popen(
            [sys.executable, "-m", _CHILD, what, opener, place, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
        )
        self._read = b""
        assert self.line() == "ready"

    def begin(self) -> None:
        """Let it go on."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()

    def line(self) -> str:
        """Return the next line; waits for it."""
        while b"\n" not in self._read:
            assert self._fill(LONG), f"the child has ended after {self._read!r}"
        line, _, self._read = self._read.partition(b"\n")
        return line.decode()

    def lines(self) -> list[str]:
        """Return the lines up to an empty one."""
        found = []
        while line := self.line():
            found.append(line)
        return found

    def rest(self) -> list[str]:
        """Return all whole lines that are left, of a child that has ended."""
        while self._fill(LONG):
            pass
        whole, _, _ = self._read.rpartition(b"\n")
        return whole.decode().splitlines()

    def _fill(self, seconds: float) -> bool:
        assert self.process.stdout is not None
        fd = self.process.stdout.fileno()
        ready, _, _ = select.select([fd], [], [], seconds)
        assert ready, "the child says nothing"
        chunk = os.read(fd, 1 << 16)
        self._read += chunk
        return bool(chunk)

    def kill(self) -> None:
        """End it at once."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        """Be done with it."""
        self.kill()
        self.process.communicate()


class DurableStoreConformance:
    """The suite. `opener` and `make_place` are the hooks."""

    #: "module:function" that returns the store at a place, made if there is none.
    opener: str

    def make_place(self, folder: Path) -> str:
        """Return where a new store may lie; the folder is empty and this test's own."""
        raise NotImplementedError

    # -- to hand -------------------------------------------------------------------------------------------------------

    @pytest.fixture(autouse=True)
    def _life(self, tmp_path: Path) -> Iterator[None]:
        self.place = self.make_place(tmp_path)
        self._opened: list[DurableStore] = []
        self._children: list[_Child] = []
        yield
        for child in self._children:
            child.close()
        for store in self._opened:
            store.release()

    def open(self) -> DurableStore:
        """Return the store, opened anew beside those that are open."""
        module, _, function = self.opener.partition(":")
        store: DurableStore = getattr(importlib.import_module(module), function)(self.place)
        self._opened.append(store)
        return store

    def child(self, what: str, *arguments: str) -> _Child:
        """Start a process that uses the store."""
        child = _Child(what, self.opener, self.place, *arguments)
        self._children.append(child)
        return child

    # -- what is acknowledged stays ------------------------------------------------------------------------------------

    @pytest.mark.parametrize("size", [1, 100_000])
    def test_the_request_of_a_task_is_held_for_as_long_as_the_task(self, size: int) -> None:
        """E-02 Q-05: function, arguments and options of a task that has ended; nothing of one that is not known."""
        store = self.open()
        arguments = b'[["' + b"x" * size + b'"],{}]'
        task = envelope("a", name="shown", priority=3, tags=("x",), dedup_key="k")
        task.form, task.payload, task.trace, task.function = "t", arguments, "00-1", "module:name"
        store.enqueue([task])
        (claim,) = store.claim(ANY, 1, NOW)
        _commit(store, [change_of(claim, TaskStatus.FAILED)], [])
        found = store.request("a")
        assert found is not None
        assert (found.task_id, found.name, found.function, found.form) == ("a", "shown", "module:name", "t")
        assert (found.payload, found.options, found.trace) == (arguments, task.options, "00-1")
        assert store.request("unknown") is None

    def test_a_store_that_is_opened_again_finds_everything(self) -> None:
        """Q-02: records, order, log, ends, times and dedup keys are what they were."""
        store = self.open()
        store.enqueue([envelope(name, tags=(name,), priority=at % 3) for at, name in enumerate("abcdef")])
        store.enqueue([envelope("held", hold=True), envelope("late", due_us=NOW + 9), envelope("key", dedup_key="k")])
        done, failed, back, again = store.claim(ANY, 4, NOW)
        error = TaskErrorInfo("ValueError", "it failed", traceback="at line 1", details={"n": 1})
        long = {"text": "\U0001f600" * 40_000}
        news = _commit_events(store, done, TaskStatus.SUCCEEDED, value=["j", long], worker_id="w", attempt=1)
        _commit_events(store, failed, TaskStatus.FAILED, error=error, attempt=2, failures=2, started_us=NOW + 1)
        commit(store, change_of(back, TaskStatus.PENDING, release=True, interruptions=3, checkpoint=b'{"at":7}'))
        commit(store, change_of(again, TaskStatus.RETRYING, release=True, due_us=NOW + 5, failures=1))
        before = (store.list(), store.waiting(), store.next_due(), store.counts())
        ending = store.ending(done.envelope.task_id)
        store.release()
        found = self.open()
        assert before == (found.list(), found.waiting(), found.next_due(), found.counts())
        assert news == found.events(done.envelope.task_id)
        assert ending is not None and ending == found.ending(done.envelope.task_id)
        known = found.ending(failed.envelope.task_id)
        assert known is not None and (TaskStatus.FAILED, error) == (known.status, known.error)
        assert found.enqueue([envelope("other", dedup_key="k")]) == ["key"]
        claims = found.claim(ANY, 9, NOW + 5)
        assert next(c.restored for c in claims if c.envelope.task_id == back.envelope.task_id) == b'{"at":7}'
        assert all(claim.fence > again.fence for claim in claims)

    @pytest.mark.parametrize("after", [1, 40, 400])
    def test_every_acknowledged_task_survives_the_death_of_the_process(self, after: int) -> None:
        """Q-02: SIGKILL while four threads enqueue: what was acknowledged is there, in the order of each thread."""
        child = self.child("enqueue", "t")
        child.begin()
        said = [child.line() for _ in range(after)]
        child.kill()
        said += child.rest()
        waiting = self.open().waiting()
        assert set() == set(said) - set(waiting), "acknowledged and lost"
        for thread in range(4):
            numbers = [int(name.split("-")[1]) for name in waiting if name.startswith(f"t{thread}-")]
            assert list(range(len(numbers))) == numbers, "a later task of a thread is there, an earlier one is not"

    @pytest.mark.parametrize("after", [1, 30, 90])
    def test_an_end_and_its_events_survive_together_or_not_at_all(self, after: int) -> None:
        """Q-02 R23: SIGKILL between claims and commits: an end that was acknowledged is there; each has its events."""
        self.open().enqueue([envelope(f"t{number}") for number in range(120)])
        child = self.child("work", "w")
        child.begin()
        said = [child.line() for _ in range(after)]
        child.kill()
        said += [line for line in child.rest() if line]
        store = self.open()
        for task_id in said:
            assert _record(store, task_id).status == TaskStatus.SUCCEEDED, f"the end of {task_id} was lost"
        for record in store.list(limit=1000):
            events = store.events(record.task_id)
            if record.status.terminal:
                assert [event.seq for event in events] == [1, 2, 3]
                assert record.task_id == record.result
                assert isinstance(events[1], OutputEvent) and events[1].value == [record.task_id]
            else:
                assert events == []

    # -- fencing -------------------------------------------------------------------------------------------------------

    def test_a_late_commit_of_another_service_changes_nothing(self) -> None:
        """Q-02: its task was taken back and given to another: change and events are refused, with the first end too."""
        one, other = self.open(), self.open()
        one.enqueue([envelope("a"), envelope("b")])
        old, sound = one.claim(ANY, 2, NOW)
        commit(one, change_of(old, TaskStatus.PENDING, release=True))
        (new,) = other.claim(ANY, 9, NOW)
        assert new.fence > sound.fence > old.fence
        at = utc_from_us(NOW)
        late = StatusEvent("a", 1, 1, "zombie", at, TaskStatus.SUCCEEDED, "stale", None)
        fine = StatusEvent("b", 1, 1, "w", at, TaskStatus.SUCCEEDED, "fine", None)
        stale = change_of(old, TaskStatus.SUCCEEDED, value=["j", "stale"], next_seq=2)
        good = change_of(sound, TaskStatus.SUCCEEDED, value=["j", "fine"], next_seq=2)
        assert [old.token] == _commit(one, [stale, good], [late, fine])
        assert other.events("a") == []
        assert ("fine", [fine]) == (_record(other, "b").result, other.events("b"))
        news = _commit_events(other, new, TaskStatus.SUCCEEDED, value=["j", "fresh"])
        assert [old.token] == _commit(one, [stale], [late])
        assert ("fresh", news) == (_record(one, "a").result, one.events("a"))

    def test_a_cancel_is_written_down_for_whoever_has_the_task(self) -> None:
        """E-06: another service's task is not taken from it, the wish is kept; a waiting one is claimed, an ended one told."""
        one, other = self.open(), self.open()
        one.enqueue([envelope(name) for name in "ab"])
        (claim,) = one.claim(ANY, 1, NOW)
        assert _cancel(other, "b", "why") == (Asked.CLAIMED, "b")
        assert _cancel(one, "a", None) == (Asked.HELD, None)
        commit(one, change_of(claim, TaskStatus.PENDING, release=True))
        again = one.claim_one("a")
        assert again is not None and again.asked == ""
        commit(one, change_of(again, TaskStatus.CANCELLED))
        assert _cancel(other, "a", None) == (Asked.ENDED, None)
        assert _cancel(other, "unknown", None) == (None, None)

    # -- many at once --------------------------------------------------------------------------------------------------

    def test_many_processes_never_claim_a_task_twice(self) -> None:
        """Q-02: four processes claim all at once: each task once, no token and no fence twice."""
        total = 400
        self.open().enqueue([envelope(f"t{number}") for number in range(total)])
        children = [self.child("claim", "c", str(number)) for number in range(4)]
        for child in children:
            child.begin()
        rows = [line.split() for child in children for line in child.lines()]
        assert sorted(f"t{number}" for number in range(total)) == sorted(row[2] for row in rows)
        assert total == len({row[0] for row in rows}) == len({row[1] for row in rows})

    def test_processes_that_bring_the_same_agree_on_what_stands_for_it(self) -> None:
        """E-06 E-16: of one id, and of one dedup key, there is one task, whoever was first."""
        children = [self.child("same", name, "60") for name in "xyz"]
        for child in children:
            child.begin()
        rows = [[line.split() for line in child.lines()] for child in children]
        for number in range(60):
            mine = [row[number] for row in rows]
            assert ["None", f"same{number}", f"same{number}"] == sorted(row[1] for row in mine)
            assert len({row[2] for row in mine}) == 1, f"key{number} stands for several tasks"
        assert len(self.open().list(limit=1000)) == 120

    def test_a_task_of_a_process_that_runs_is_not_handed_to_another(self) -> None:
        """Q-02: whatever else goes on, also when the store is opened anew."""
        self.open().enqueue([envelope(f"t{number}") for number in range(6)])
        child = self.child("claim_and_wait", "c", "4")
        child.begin()
        theirs = child.lines()
        ours = [claim.envelope.task_id for claim in self.open().claim(ANY, 9, NOW)]
        assert (len(theirs), len(ours)) == (4, 2)
        assert set() == set(theirs) & set(ours)

    def test_threads_may_do_everything_at_once(self) -> None:
        """Q-01: while tasks come, are claimed, ended, cancelled and looked at, each ends once and its log is contiguous."""
        store = self.open()
        total, ended = 240, threading.Semaphore(0)
        errors: list[BaseException] = []
        over = threading.Event()
        counted: list[str] = []

        def guarded(work: Callable[[], None]) -> threading.Thread:
            def run() -> None:
                try:
                    work()
                except BaseException as error:
                    errors.append(error)
                    over.set()

            thread = threading.Thread(target=run)
            thread.start()
            return thread

        def bring(name: str) -> None:
            for number in range(total // 4):
                store.enqueue([envelope(f"{name}{number}", priority=number % 3)])

        def finish(claim: Claim) -> None:
            status = TaskStatus.SUCCEEDED if claim.asked is None else TaskStatus.CANCELLED
            _commit_events(store, claim, status)
            counted.append(claim.envelope.task_id)
            ended.release()

        def work() -> None:
            while not over.is_set():
                for claim in store.claim(ANY, 5, NOW):
                    finish(claim)

        def cancel() -> None:
            at = 0
            while not over.is_set():
                at = (at + 7) % (total // 4)
                claim = _ask_cancel(store, f"a{at}", "no")[1]
                if claim is not None:
                    finish(claim)

        def look() -> None:
            while not over.is_set():
                for record in store.list(limit=50):
                    seqs = [event.seq for event in store.events(record.task_id)]
                    assert list(range(1, len(seqs) + 1)) == seqs
                    assert not record.status.terminal or seqs, "an end without its event"
                    store.update(record.task_id, priority=1)

        threads = [guarded(lambda name=name: bring(name)) for name in "abcd"]  # type: ignore[misc]
        threads += [guarded(work), guarded(cancel), guarded(look)]
        until = time.monotonic() + LONG
        for _ in range(total):
            while not ended.acquire(timeout=0.1):
                assert not errors, errors
                assert time.monotonic() < until, f"{len(counted)} of {total} have ended"
        over.set()
        for thread in threads:
            thread.join(LONG)
        assert errors == []
        assert total == len(set(counted)) == len(counted)
        for record in store.list(limit=1000):
            assert record.status.terminal
            assert [event.seq for event in store.events(record.task_id)] == [1, 2]

    # -- the log -------------------------------------------------------------------------------------------------------

    def test_a_log_is_read_from_any_seq_and_has_no_gap(self) -> None:
        """Q-05 R23: however it was committed, from n on it is what is left of the whole, page by page."""
        store = self.open()
        store.enqueue([envelope("a")])
        (claim,) = store.claim(ANY, 1, NOW)
        at = utc_from_us(NOW)
        whole: list[TaskEvent] = []
        for size in (1, 700, 2, 40):
            news: list[TaskEvent] = [
                LogEvent("a", len(whole) + 1 + number, 1, "w", at, "INFO", f"line {number}", "log", {})
                for number in range(size)
            ]
            whole += news
            change = change_of(claim, TaskStatus.RUNNING, next_seq=len(whole) + 1)
            assert _commit(store, [change], news) == []
        for start in (1, 2, 350, 701, 702, 743, 744):
            found: list[TaskEvent] = []
            seq = start
            while page := self.open().events("a", seq):
                found += page
                seq = page[-1].seq + 1
            assert whole[start - 1 :] == found
        commit(store, change_of(claim, TaskStatus.PENDING, release=True, next_seq=len(whole) + 1))
        (again,) = self.open().claim(ANY, 1, NOW)
        assert len(whole) + 1 == again.next_seq

    def test_a_log_is_read_while_another_process_writes_it(self) -> None:
        """Q-05: what a reader sees is whole: all events of a commit or none, and never an end without them."""
        total = 150
        store = self.open()
        store.enqueue([envelope(f"t{number}") for number in range(total)])
        child = self.child("work", "w")
        child.begin()
        ended = 0
        until = time.monotonic() + LONG
        while ended < total:
            assert time.monotonic() < until, f"{ended} of {total} have ended"
            records = store.list(limit=total)
            ended = sum(record.status.terminal for record in records)
            for record in records[:: 1 + total // 20]:
                events = store.events(record.task_id)
                assert [event.seq for event in events] in ([], [1, 2, 3])
                assert events or not record.status.terminal
        assert total == len(child.lines())


def _record(store: DurableStore, task_id: str) -> Any:
    record = store.get(task_id)
    assert record is not None, task_id
    return record


def _commit(store: DurableStore, changes: list[Change], events: list[TaskEvent]) -> list[int]:
    answered = threading.Event()
    found: list[tuple[list[int], BaseException | None]] = []

    def done(refused: list[int], error: BaseException | None) -> None:
        found.append((refused, error))
        answered.set()

    store.commit(changes, events, done)
    assert answered.wait(LONG), "commit never answered"
    refused, error = found[0]
    if error is not None:
        raise error
    return refused


def _commit_events(store: DurableStore, claim: Claim, status: TaskStatus, **more: Any) -> list[TaskEvent]:
    """Commit the end of a claim with two events; return them."""
    task_id, seq, now = claim.envelope.task_id, claim.next_seq, utc_from_us(NOW)
    events: list[TaskEvent] = [
        LogEvent(task_id, seq, 1, "w", now, "INFO", "said", "log", {"a": 1}),
        StatusEvent(task_id, seq + 1, 1, "w", now, status, None, more.get("error")),
    ]
    assert _commit(store, [change_of(claim, status, next_seq=seq + 2, **more)], events) == []
    return events


def _ask_cancel(store: DurableStore, task_id: str, reason: str | None) -> tuple[Asked | None, Claim | None]:
    answered = threading.Event()
    found: list[Any] = []

    def done(asked: Asked | None, claim: Claim | None, error: BaseException | None) -> None:
        found.append((asked, claim, error))
        answered.set()

    store.cancel_later(task_id, reason, False, done)
    assert answered.wait(LONG), "cancel_later never answered"
    asked, claim, error = found[0]
    if error is not None:
        raise error
    return asked, claim


def _cancel(store: DurableStore, task_id: str, reason: str | None) -> tuple[Asked | None, str | None]:
    asked, claim = _ask_cancel(store, task_id, reason)
    return asked, None if claim is None else claim.envelope.task_id
