"""Members of one SQLite file, on a clock of the tests' own: leases, recovery, and what is told in which order."""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import apsw
import attrs
import pytest

from rxtasks.clock import utc_from_us
from rxtasks.errors import StoreError
from rxtasks.lifecycle.events import LogEvent, StatusEvent, TaskEvent
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.stores.base import Change, Claim, Lane
from rxtasks.stores.membership import Interest, Looked, News
from rxtasks.stores.sqlite.lockfile import LockFile
from rxtasks.stores.sqlite.membership import SqliteMembership
from rxtasks.stores.sqlite.store import SqliteStore
from rxtasks.stores.sqlite.writer import Writer
from rxtasks.testing.store_suite import NOW, change_of, envelope

LANE = Lane("process")
SECOND = 1_000_000_000


@attrs.define
class HandClock:
    """Stands still until it is moved."""

    mono_ns: int = 1000 * SECOND

    def monotonic_ns(self) -> int:
        return self.mono_ns

    def wall_us(self) -> int:
        return NOW


class Party:
    """One member with its store: every call waits for its answer."""

    def __init__(self, path: str, clock: HandClock) -> None:
        self.store = SqliteStore(path, clock=clock)
        self.member: SqliteMembership = self.store.join(lease=15.0, max_interruptions=20)
        self.told: list[Any] = []
        self.more = False

    def listen(self, everything: bool = True, of: Callable[[str], bool] = lambda task_id: False) -> None:
        self.member.listen(lambda: Interest(everything, of), self._take)

    def _take(self, news: News) -> None:
        self.told += [(event.task_id, event.seq) for event in news.events]
        self.told += [("asked", *asked) for asked in news.asked]
        self.told += [("ended", task_id) for task_id in news.endings]
        self.more = news.more
        if news.more:
            self.member.follow()

    def push(self, count: int, **options: Any) -> list[str]:
        ids = [f"{options.get('tags', ('t',))[0]}{number}" for number in range(count)]
        self.store.enqueue([attrs.evolve(envelope(task_id, **options), form="t", payload=b"[]") for task_id in ids])
        return ids

    def claim(self, limit: int = 1000) -> list[Claim]:
        claims: list[Claim] = []
        with Answer() as answer:

            def done(found: list[Claim], due_us: int | None, error: BaseException | None) -> None:
                claims.extend(found)
                self.told += [("claimed", claim.envelope.task_id) for claim in found]
                answer(error)

            self.store.claim_later(LANE, limit, NOW, done)
        return claims

    def commit(self, changes: list[Change], events: list[TaskEvent] | None = None) -> list[int]:
        lost: list[int] = []
        with Answer() as answer:

            def done(refused: list[int], error: BaseException | None) -> None:
                lost.extend(refused)
                answer(error)

            self.store.commit(changes, events or [], done)
        return lost

    def run(self, claims: list[Claim]) -> None:
        """Let the claimed tasks begin."""
        changes = [change_of(claim, TaskStatus.RUNNING, attempt=1, next_seq=2) for claim in claims]
        self.commit(changes, [status(claim.envelope.task_id, 1, TaskStatus.RUNNING) for claim in claims])

    def look(self) -> Looked:
        found: list[Looked] = []
        with Answer() as answer:

            def done(looked: Looked | None, error: BaseException | None) -> None:
                if looked is not None:
                    found.append(looked)
                answer(error)

            self.member.look_later(done)
        return found[0]

    def catch_up(self) -> list[Any]:
        """Return what is told up to now, and forget it."""
        self.member.follow()
        self.store.update("nobody", priority=1)  # behind it in the writer's queue
        while self.more:
            self.store.update("nobody", priority=1)
        told, self.told = self.told, []
        return told


class Answer:
    """Waits at its end for a call back."""

    def __init__(self) -> None:
        self._answered = threading.Event()
        self._error: BaseException | None = None

    def __call__(self, error: BaseException | None) -> None:
        self._error = error
        self._answered.set()

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            assert self._answered.wait(30)
            if self._error is not None:
                raise self._error


def status(task_id: str, seq: int, word: TaskStatus) -> StatusEvent:
    return StatusEvent(task_id, seq, 1, "w", utc_from_us(NOW), word)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def parties(tmp_path: Path, clock: HandClock) -> Iterator[Callable[[], Party]]:
    with ExitStack() as stack:

        def make() -> Party:
            party = Party(str(tmp_path / "tasks.db"), clock)
            stack.callback(party.store.release)
            return party

        yield make


def test_a_lease_that_was_not_renewed_is_over(parties: Callable[[], Party], clock: HandClock) -> None:
    """Q-02 Q-03: its claims are void, its commits refused, it is handed nothing; it comes back under another number."""
    slow, quick = parties(), parties()
    slow.push(3)
    claims = slow.claim(2)
    slow.run(claims[:1])
    clock.mono_ns += 14 * SECOND
    quick.look()
    assert claims[1].token not in slow.commit([change_of(claims[1], TaskStatus.PENDING)]), "the lease still holds"
    clock.mono_ns += 2 * SECOND
    recovery = quick.look().recovery
    assert (1, 2, 0, 0) == (recovery.services, recovery.recovered, recovery.failed, recovery.cancelled)
    before = slow.member.number
    assert [claim.token for claim in claims] == slow.commit(
        [change_of(claim, TaskStatus.SUCCEEDED) for claim in claims], [status("t0", 2, TaskStatus.SUCCEEDED)]
    )
    assert [] == slow.claim() == slow.store.claim(LANE, 10, NOW)
    assert [1] == [event.seq for event in slow.store.events("t0")][:-1], "nothing of it is in the log"
    looked = slow.look()
    assert looked.void is not None and looked.void >= max(claim.token for claim in claims)
    assert slow.member.number > before and looked.recovery.recovered == 0
    again = slow.claim()
    assert ["t0", "t1", "t2"] == [claim.envelope.task_id for claim in again]
    assert all(claim.token > looked.void for claim in again) and 1 == again[0].interruptions
    assert None is slow.look().void


@pytest.mark.parametrize("lost", [1, 2])
def test_who_is_registered_anew_is_told_so_although_the_answer_was_lost(
    parties: Callable[[], Party], clock: HandClock, monkeypatch: pytest.MonkeyPatch, lost: int
) -> None:
    """Q-02 Q-03: the disk fails after the commit: once, so that the look is repeated, or twice, so that it is refused."""
    slow, quick = parties(), parties()
    slow.push(1)
    claims = slow.claim()
    clock.mono_ns += 14 * SECOND
    quick.look()  # it is not late itself
    clock.mono_ns += 2 * SECOND
    assert 1 == quick.look().recovery.recovered
    transact = Writer._transact
    left = lost

    def failing(writer: Writer, *arguments: Any) -> Any:
        nonlocal left
        found = transact(writer, *arguments)
        if left:
            left -= 1
            raise apsw.IOError("injected")
        return found

    monkeypatch.setattr(Writer, "_transact", failing)
    if lost == 2:
        with pytest.raises(StoreError):
            slow.look()
    void = slow.look().void
    assert not left
    assert void is not None and void >= claims[0].token
    assert None is slow.look().void, "it is told once"


def test_who_was_late_itself_takes_nobody_for_dead(parties: Callable[[], Party], clock: HandClock) -> None:
    """Q-03: when all stood still, as a machine that slept does, everybody goes on."""
    first, second = parties(), parties()
    first.push(1)
    claims = first.claim()
    clock.mono_ns += 1000 * SECOND
    assert not second.look().recovery
    assert None is first.look().void
    assert [] == first.commit([change_of(claims[0], TaskStatus.PENDING)])


def test_a_member_that_is_gone_is_recovered_once_page_by_page(parties: Callable[[], Party]) -> None:
    """Q-03: by whoever looks first; what the others do changes nothing more."""
    dead, first, second = parties(), parties(), parties()
    dead.push(1200)
    dead.run(dead.claim(1200)[:700])
    dead.member._file.close()  # as the kernel does when the last process is gone
    pages = [first.look().recovery, second.look().recovery, first.look().recovery, second.look().recovery]
    assert [(1, 500, True), (0, 500, True), (0, 200, False), (0, 0, False)] == [
        (page.services, page.recovered, page.more) for page in pages
    ]
    records = first.store.list(limit=2000)
    assert 700 == sum(record.interruptions for record in records)
    assert {"pending"} == {str(record.status) for record in records}
    assert 1200 == len(second.claim(2000))


def test_the_limit_of_interruptions_and_a_wish_to_cancel_end_a_task(parties: Callable[[], Party]) -> None:
    """Q-03: at recovery, with the event that says so."""
    dead, other = parties(), parties()
    ids = dead.push(3)
    claims = dead.claim()
    changes = [change_of(claim, TaskStatus.RUNNING, attempt=1, next_seq=2) for claim in claims]
    changes[0].interruptions = 19
    dead.commit(changes, [status(task_id, 1, TaskStatus.RUNNING) for task_id in ids])
    with Answer() as answer:
        other.store.cancel_later(ids[1], "no", False, lambda asked, claim, error: answer(error))
    dead.member._file.close()
    recovery = other.look().recovery
    assert (1, 1, 1) == (recovery.recovered, recovery.failed, recovery.cancelled)
    assert ["failed", "cancelled", "pending"] == [str(other.store.events(task_id)[-1].status) for task_id in ids]  # type: ignore[attr-defined]
    assert [2, 2, 2] == [other.store.events(task_id)[-1].seq for task_id in ids]


def test_what_others_did_with_a_task_is_told_before_its_claim(parties: Callable[[], Party]) -> None:
    """Q-05 R12: also when nobody has rung yet; else the events of the next attempt would come first."""
    first, second = parties(), parties()
    second.listen()
    first.push(1)
    claims = first.claim()
    first.run(claims)
    first.commit(
        [change_of(claims[0], TaskStatus.PENDING, attempt=1, next_seq=3, release=True)],
        [status("t0", 2, TaskStatus.PENDING)],
    )
    assert second.claim()
    assert [("t0", 1), ("t0", 2), ("claimed", "t0")] == second.told


def test_each_event_of_others_is_told_once_and_none_of_ones_own(parties: Callable[[], Party]) -> None:
    """Q-05: however often it is asked for, and page by page."""
    first, second = parties(), parties()
    second.listen()
    for number in range(3):
        for party, word in ((first, "a"), (second, "b")):
            party.push(number + 1, tags=(f"{word}{number}.",))
            claims = party.claim()
            logs: list[TaskEvent] = [
                LogEvent(claim.envelope.task_id, seq, 1, "w", utc_from_us(NOW), "INFO", "x" * 3000, "log", {})
                for seq in range(1, 400)
                for claim in claims
            ]
            party.commit([change_of(claim, TaskStatus.RUNNING, attempt=1, next_seq=400) for claim in claims], logs)
    expected = {(f"a{number}.{at}", seq) for number in range(3) for at in range(number + 1) for seq in range(1, 400)}
    told = [item for item in second.catch_up() if item[0] != "claimed"]
    assert len(expected) == len(told) and expected == set(told)
    assert [] == second.catch_up()


def test_only_what_is_of_interest_is_told(parties: Callable[[], Party]) -> None:
    """E-06: the events of tasks that somebody tracks, and their ends; with no interest they are passed over for good."""
    first, second = parties(), parties()
    second.listen(False, lambda task_id: task_id == "t1")
    first.push(3)
    claims = first.claim()
    first.run(claims)
    ends = [change_of(claim, TaskStatus.SUCCEEDED, attempt=1, next_seq=3) for claim in claims]
    first.commit(ends, [status(claim.envelope.task_id, 2, TaskStatus.SUCCEEDED) for claim in claims])
    assert [("t1", 1), ("t1", 2), ("ended", "t1")] == second.catch_up()
    second.listen()
    assert [] == second.catch_up()


def test_a_wish_to_cancel_is_told_once_to_who_has_the_task(parties: Callable[[], Party]) -> None:
    """E-06: as long as it has it."""
    first, second = parties(), parties()
    for party in (first, second):
        party.listen(False)
    first.push(1)
    claims = first.claim()
    first.run(claims)
    with Answer() as answer:
        second.store.cancel_later("t0", "enough", False, lambda asked, claim, error: answer(error))
    assert [("asked", "t0", "enough")] == [item for item in first.catch_up() if item[0] == "asked"]
    assert [] == first.catch_up() == second.catch_up()


def test_the_lock_file_of_a_living_member_is_never_seen_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Q-03: it has its name only when it is locked; who looks in between would take its owner for dead."""
    seen: list[list[str]] = []
    lock = fcntl.flock

    def flock(fd: int, how: int) -> None:
        seen.append([path.name for path in tmp_path.glob("*/*.lock")])
        lock(fd, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    file = LockFile(str(tmp_path / "folder"), "id", {})
    assert [[]] == seen and [tmp_path / "folder" / "id.lock"] == list(tmp_path.glob("*/*"))
    file.remove()
    assert [] == list(tmp_path.glob("*/*"))
