"""A durable store that several simulated services share: the rows of a memory store, leases, and a log of the events.

::

    SharedStore: rows (MemoryStore), log, members, who claimed what
        ^ ^
        │ └── Seat of service 2 ──> claim, commit, cancel, look ──┐ both decide by rxtasks.stores.recovery,
        └──── Seat of service 1 ──> claim, commit, cancel, look ──┘ as the real ones do

What a disk may do is asked for by the caller: a commit fails, or is written and its answer lost. A repeat is known by its list
of changes and finds its own effect in the log, as the contract says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs

from rxtasks.errors import StoreError
from rxtasks.lifecycle.events import StatusEvent, TaskEvent
from rxtasks.stores.base import Asked, Change, Claim, Envelope, Lane, Successes, each_change
from rxtasks.stores.listeners import Listeners
from rxtasks.stores.membership import Looked, Recovery
from rxtasks.stores.memory import MemoryStore
from rxtasks.stores.recovery import Held, Here, Member, Standing, recovered, standing
from rxtasks.stores.rows import Row, row_of
from rxtasks.testing.virtual import VirtualClock

__all__ = ["Seat", "SharedStore"]

#: How far the fence jumps at each registration, as in a real store.
_JUMP = 1_000


class SharedStore:
    """What is on the disk."""

    def __init__(self, clock: VirtualClock, *, lease_ns: int, most: int) -> None:
        self.clock = clock
        self.lease_ns = lease_ns
        self.most = most
        self.memory = MemoryStore(retain=1_000_000)
        self.memory.listeners.listen(self._followed)
        self.members: dict[int, Member] = {}
        #: Which service claimed under a token.
        self.owners: dict[int, int] = {}
        self.log: dict[str, list[TaskEvent]] = {}
        self.seats: list[Seat] = []
        #: Services that were taken for dead though they were not, by their numbers.
        self.lapsed: set[int] = set()
        #: Tasks that ran in a service that was given up, and how often.
        self.interrupted: dict[str, int] = {}
        #: What breaks a rule of the store is told here.
        self.violated: Callable[[str], None] = lambda text: None
        self._numbers = 0
        self._acting: Seat | None = None

    def row(self, task_id: str) -> Row:
        """Return how the task stands; to be looked at."""
        return row_of(self.memory._tasks[task_id], task_id)

    def valid(self, token: int, task_id: str) -> bool:
        """Say whether the task is held under this token, by a member."""
        return self.row(task_id).token == token and self.owners.get(token) in self.members

    def join(self, seat: Seat) -> int:
        """Register a service; return the last token that may have been given out before."""
        fence = self.memory._fence = self.memory._fence + _JUMP
        self._numbers += 1
        seat.number = self._numbers
        lease_ns = self.clock.now_ns + self.lease_ns
        self.members[seat.number] = Member(seat.number, seat.id, seat.number, seat.host, seat.boot, lease_ns)
        return fence

    def rung(self, by: Seat | None) -> None:
        """Something was committed: the others are told so by and by."""
        for seat in self.seats:
            if seat is not by:
                seat.rung = True

    def orphans(self) -> Iterator[tuple[str, Row]]:
        """Yield the tasks that are held by nobody who is a member."""
        for task_id, kept in list(self.memory._tasks.items()):
            if type(kept) is Claim or (type(kept) is Row and kept.token):
                row = row_of(kept, task_id)
                if self.owners.get(row.token) not in self.members:
                    yield task_id, row

    def give_back(self) -> Recovery:
        """Recover the tasks of those that are no more."""
        back = failed = cancelled = 0
        now_us = self.clock.wall_us()
        for task_id, row in self.orphans():
            held = Held(
                row.token,
                task_id,
                row.status,
                row.attempt,
                row.failures,
                row.crashes,
                row.interruptions,
                row.next_seq,
                row.worker_id,
                row.due_us,
                row.asked,
            )
            change, event = recovered(held, self.most, now_us)
            if change.interruptions > row.interruptions:
                self.interrupted[task_id] = self.interrupted.get(task_id, 0) + 1
            self.write([change], [] if event is None else [event])
            back += not change.status.terminal
            failed += change.status == "failed"
            cancelled += change.status == "cancelled"
        return Recovery(0, back, failed, cancelled)

    def write(self, changes: Sequence[Change | Successes], events: list[TaskEvent]) -> list[int]:
        """Apply the changes and append the events of those that are not refused; return the tokens refused."""
        refused: list[int] = []
        stale = [change.token for change in each_change(changes) if self.row(change.task_id).token != change.token]
        self.memory.commit(changes, events, lambda found, _: refused.extend(found))
        if sorted(stale) != sorted(refused):
            self.violated(f"tokens {stale} were not the tasks' any more, and {refused} were refused")
        lost = {change.task_id for change in each_change(changes) if change.token in refused}
        for event in events:
            if event.task_id not in lost:
                self._append(event)
        return refused

    def _append(self, event: TaskEvent) -> None:
        log = self.log.setdefault(event.task_id, [])
        if log and isinstance(log[-1], StatusEvent) and log[-1].status.terminal:
            self.violated(f"{event} follows the end of its task")
        if event.seq != len(log) + 1:
            self.violated(f"{event.task_id}: seq {event.seq} is written behind {len(log)}")
        log.append(event)

    def _followed(self, doomed: list[tuple[str, str]]) -> None:
        if self._acting is not None:
            self._acting.listeners.tell(doomed)

    def acting(self, seat: Seat) -> None:
        """What follows from what is written now is told to this service."""
        self._acting = seat


@attrs.define(eq=False, repr=False)
class _Written:
    """A commit that was said to have failed."""

    changes: Sequence[Change | Successes]


class Seat:
    """What one service asks of the store. It does not answer by itself: whoever asks has waited for as long as a disk takes."""

    durable = True

    def __init__(self, shared: SharedStore, name: str, *, host: str = "here", boot: str = "1") -> None:
        self.shared = shared
        self.memory = shared.memory
        self.listeners = Listeners()
        self.id, self.host, self.boot = name, host, boot
        self.number = 0
        #: The next write fails: "before" anything is written, or "after", so that only the answer is lost.
        self.fault = ""
        #: Others have committed something.
        self.rung = False
        self._unsettled: dict[int, _Written] = {}
        #: Claims whose answer was lost.
        self.unknown: list[int] = []
        #: Tokens of claims that ended with a commit whose answer was lost: the repeat may be refused for that.
        self.given_up: set[int] = set()
        self._told: set[tuple[str, int]] = set()
        self._seen: dict[int, tuple[int, int]] = {}
        self._closed = False
        #: It was registered anew, and has not been told so: the answer was lost.
        self.void: int | None = None
        shared.join(self)
        shared.seats.append(self)
        self._renewed_ns = shared.clock.now_ns

    # -- tasks ---------------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Do what comes before each transaction, or fail as a disk does.

        Raises:
            StoreError: nothing was written.
        """
        self.shared.acting(self)
        if self.fault == "before":
            self.fault = ""
            raise StoreError("simulated: nothing was written")
        unknown, self.unknown = self.unknown, []
        for token in unknown:
            self._give_back(token)

    def _end(self, *, lasting: bool = True) -> None:
        if lasting:
            self.shared.rung(self)
        if self.fault == "after":
            self.fault = ""
            raise StoreError("simulated: it was written, and the answer was lost")

    def _give_back(self, token: int) -> None:
        """Queue a task again that was claimed and of which nobody here knows."""
        for task_id, kept in list(self.memory._tasks.items()):
            if type(kept) is Claim or type(kept) is Row:
                row = row_of(kept, task_id)
                if row.token == token:
                    change = Change(
                        token,
                        task_id,
                        row.status,
                        row.attempt,
                        row.failures,
                        row.crashes,
                        row.interruptions,
                        row.next_seq,
                    )
                    change.release = True
                    self.shared.write([change], [])

    def enqueue(self, tasks: Sequence[Envelope]) -> list[str | None]:
        """Take the tasks in."""
        self.shared.acting(self)
        answers = self.memory.enqueue(tasks)
        self.shared.rung(self)
        return answers

    def claim(self, lane: Lane, limit: int, now_us: int) -> list[Claim]:
        """Hand over due tasks."""
        self._begin()
        if self.number not in self.shared.members:
            return []  # taken for dead by others: what it claimed would be nobody's
        claims = self.memory.claim(lane, limit, now_us)
        self._own(claims)
        try:
            self._end(lasting=False)
        except StoreError:
            self.unknown += [claim.token for claim in claims]
            raise
        return claims

    def claim_one(self, task_id: str) -> Claim | None:
        """Hand over this task if it waits."""
        claim = self.memory.claim_one(task_id)
        if claim is not None:
            self._own([claim])
        return claim

    def _own(self, claims: list[Claim]) -> None:
        for claim in claims:
            self.shared.owners[claim.token] = self.number

    def commit(
        self,
        changes: Sequence[Change | Successes],
        events: list[TaskEvent],
        done: Callable[[list[int], BaseException | None], None],
    ) -> None:
        """Write, unless it is a repeat of what is written already."""
        before = self._unsettled.pop(id(changes), None)
        try:
            self._begin()
            refused = None if before is None else self._found(changes, events)
            if refused is None:
                refused = self.shared.write(changes, events)
            self._end()
        except StoreError as error:
            self._unsettled[id(changes)] = _Written(changes)
            self.given_up.update(change.token for change in each_change(changes) if change.release)
            done([], error)
            return
        done(refused, None)

    def _found(self, changes: Sequence[Change | Successes], events: list[TaskEvent]) -> list[int] | None:
        log = self.shared.log
        there = [any(known is event for known in log.get(event.task_id, ())) for event in events]
        if not any(there):
            return None
        missing = {event.task_id for event, found in zip(events, there, strict=True) if not found}
        return [change.token for change in each_change(changes) if change.task_id in missing]

    def cancel(self, task_id: str, reason: str | None, unbegun: bool) -> tuple[Asked, Claim | None]:
        """Write down that the task is to be cancelled; return what was found, and its claim if it waited.

        Raises:
            StoreError: nothing was written.
        """
        self._begin()
        row = self.shared.row(task_id)
        if row.status.terminal:
            return Asked.ENDED, None
        if not row.token:
            claim = self.claim_one(task_id)
            assert claim is not None
            self._wish(task_id, claim.token, reason)
            self.shared.rung(self)
            return Asked.CLAIMED, claim
        if not unbegun:
            self._wish(task_id, row.token, reason)
            self.shared.rung(self)
        mine = self.shared.owners[row.token] == self.number
        return (Asked.HELD if mine else Asked.ELSEWHERE), None

    def _wish(self, task_id: str, token: int, reason: str | None) -> None:
        kept: Any = self.memory._tasks[task_id]
        if type(kept) is not Row:
            self.memory.seize(task_id, token)  # the same one: for the row
            kept = self.memory._tasks[task_id]
        if kept.asked is None:
            kept.asked = reason or ""

    # -- the others ----------------------------------------------------------------------------------------------------

    def look(self, free: Callable[[str], bool]) -> Looked:
        """Renew the lease and look after the others; `free` says of a service's id whether its lock is.

        Raises:
            StoreError: the store failed; with "after", it is done all the same.
        """
        self._begin()
        shared, now_ns = self.shared, self.shared.clock.now_ns
        late = now_ns - self._renewed_ns > shared.lease_ns
        me = shared.members.get(self.number)
        if me is None:
            self.void = shared.join(self)
        else:
            shared.members[self.number] = attrs.evolve(me, lease_ns=now_ns + shared.lease_ns)
        self._renewed_ns = now_ns
        here = Here(self.host, self.boot, now_ns, shared.lease_ns, late)
        lost = 0
        for member in list(shared.members.values()):
            if member.number == self.number:
                continue
            is_free = free(member.id)
            found = standing(member, here, free=is_free, seen_ns=self._since(member, now_ns))
            if found is not Standing.ALIVE:
                lost += 1
                del shared.members[member.number]
                if not is_free:
                    shared.lapsed.add(member.number)
                    if member.lease_ns >= now_ns:
                        shared.violated(f"service {member.id} was taken for dead, and its lease has not lapsed")
        given = shared.give_back()
        self._end(lasting=bool(given))
        void, self.void = self.void, None
        return Looked(Recovery(lost, given.recovered, given.failed, given.cancelled), void)

    def _since(self, member: Member, now_ns: int) -> int | None:
        seen = self._seen.get(member.number)
        if seen is not None and seen[0] == member.lease_ns:
            return seen[1]
        self._seen[member.number] = (member.lease_ns, now_ns)
        return None

    def asked(self) -> list[tuple[str, str | None]]:
        """Return tasks of this service that are to be cancelled and of which that was not told yet, and why."""
        found: list[tuple[str, str | None]] = []
        for task_id, kept in self.memory._tasks.items():
            if type(kept) is not Row or kept.asked is None or not kept.token:
                continue
            key = (task_id, kept.token)
            if self.shared.owners.get(kept.token) == self.number and key not in self._told:
                self._told.add(key)
                found.append((task_id, kept.asked or None))
        return found

    def leave(self) -> None:
        """Be a member no more."""
        self.shared.members.pop(self.number, None)
        if self in self.shared.seats:
            self.shared.seats.remove(self)

    # -- looking -------------------------------------------------------------------------------------------------------

    def next_due(self) -> int | None:
        """Return when the next task that waits for its time is due; None also for who is no member and may claim nothing."""
        return self.memory.next_due() if self.number in self.shared.members else None

    def get(self, task_id: str) -> Any:
        """Return the record of this task."""
        return self.memory.get(task_id)

    def rows(self) -> Iterator[tuple[str, Row]]:
        """Yield each task and how it stands."""
        return self.memory.rows()

    def waiting(self) -> list[str]:
        """Return the ids of all tasks that wait."""
        return self.memory.waiting()

    def update(self, task_id: str, *, priority: int | None = None) -> bool:
        """Change a task that waits."""
        return self.memory.update(task_id, priority=priority)

    def close(self) -> list[str]:
        """Take nothing more."""
        self._closed = True
        return self.waiting()
