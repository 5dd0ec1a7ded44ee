"""The services that share a file: registration, leases, recovery of those that are gone, and what the others have done.

Everything happens on the writer's thread, between its transactions or in one of them, so that it stands in one order with
what this process commits and claims. See rxtasks.stores.membership for what it is for.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import closing
from functools import cache
from typing import Any, Final

from rxtasks.clock import Clock
from rxtasks.errors import StoreError
from rxtasks.lifecycle.events import StatusEvent, TaskEvent
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.lifecycle.task import new_id
from rxtasks.stores.base import Ending
from rxtasks.stores.membership import Interest, Looked, News, Recovery
from rxtasks.stores.recovery import Here, Member, Standing, standing
from rxtasks.stores.sqlite.aside import Aside
from rxtasks.stores.sqlite.bell import Bell
from rxtasks.stores.sqlite.committing import Committing
from rxtasks.stores.sqlite.connection import Database
from rxtasks.stores.sqlite.lockfile import LockFile, dying, folder_of, lock_files, remove_free, started_at
from rxtasks.stores.sqlite.readable import damage, last_event, readable_ending, readable_events
from rxtasks.stores.sqlite.turn import Turn
from rxtasks.stores.sqlite.unheld import NOBODY, put_back, read_held
from rxtasks.stores.sqlite.writer import Work, Writer

__all__ = ["SqliteMembership", "boot_id"]

#: How far the fence jumps at each registration. A claim alone is not waited for by the disk, so after a loss of power its
#: token could be given out again; never so many are claimed without any commit that is.
_JUMP: Final = 1_000_000
#: Tasks that are given back in one transaction.
_PAGE: Final = 500
#: Rows of the log that one look at others' events passes over at most, and bytes of events that it reads.
_SPAN: Final = 2000
_BYTES: Final = 1 << 20
#: Seconds for which workers of a dead service are waited for, and between two looks at them.
_PATIENCE: Final = 2.0
_PAUSE: Final = 0.01


@cache
def boot_id() -> str:
    """Return what tells this start of the machine from the one before; where nothing does, locks alone say who is dead."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return "unknown"


class SqliteMembership:
    """One service of the file at `path`, from its registration on.

    Args:
        writer: gives the writer of this process.
        known_as: told the number under which this service claims, on the writer's thread.
        committing: applies changes.
        aside: where tasks go that cannot be read.
        lease: seconds.
        most: interruptions after which a task fails.

    Raises:
        StoreError: it cannot be registered.
    """

    def __init__(
        self,
        path: str,
        writer: Callable[[], Writer],
        clock: Clock,
        known_as: Callable[[int], None],
        committing: Committing,
        *,
        aside: Aside,
        lease: float,
        most: int,
    ) -> None:
        self._aside = aside
        self._folder = folder_of(path)
        self._writer = writer
        self._clock = clock
        self._known_as = known_as
        self._committing = committing
        self._lease_ns = int(lease * 1e9)
        self._most = most
        self._id = new_id()
        self._host, self._boot = socket.gethostname(), boot_id()
        self._number = 0
        self._numbers: set[int] = set()
        self._renewed_ns = 0
        #: It was registered anew, and its engine has not been told so: the answer may be lost.
        self._void: int | None = None
        #: Leases of other machines: number -> (lease, when it was seen first).
        self._seen: dict[int, tuple[int, int]] = {}
        #: Where in the log this service is, and the version of the data then: another one says that others have committed.
        self._position = 0
        self._version = -1
        self._behind = True
        #: The connection whose version that is.
        self._connection: Database | None = None
        self._told: set[tuple[str, int]] = set()
        self._interest: Callable[[], Interest | None] = lambda: None
        self._tell: Callable[[News], None] | None = None
        self._asked = threading.Lock()
        self._following = False
        self._left = False
        facts = {"pid": os.getpid(), "started": started_at(os.getpid()), "boot": self._boot, "host": self._host}
        self._file = LockFile(self._folder, self._id, facts)
        try:
            self._bell = Bell(self._folder, self._file.path)
            self._position = writer().ask(self._join)
        except BaseException:
            self._file.remove()
            raise

    @property
    def lock(self) -> int:
        """The descriptor that holds the lock."""
        return self._file.fd

    @property
    def bell(self) -> int:
        """The descriptor that is readable when somebody has rung."""
        return self._bell.fd

    @property
    def number(self) -> int:
        """The number under which this service claims."""
        return self._number

    def ring(self) -> None:
        """Tell the others, if there are any, that something has been committed."""
        if self._bell.others:
            self._file.ring()

    def heard(self) -> bool:
        """Take note of the bell; return whether a member may be gone."""
        came, gone = self._bell.hear()
        if came:
            # What was committed here meanwhile was not rung for who came.
            self._file.ring()
        return gone

    # -- registration --------------------------------------------------------------------------------------------------

    def _join(self, db: Database) -> int:
        self._register(db)
        position: int = db.one("last_position")
        return position

    def _register(self, db: Database) -> int:
        """Make a row for this service; return the last token that may have been given out before."""
        fence: int = db.one("fence", _JUMP)
        now_ns = self._clock.monotonic_ns()
        self._number = db.one(
            "join", self._id, os.getpid(), self._host, self._boot, now_ns + self._lease_ns, self._clock.wall_us()
        )
        self._numbers.add(self._number)
        self._renewed_ns = now_ns
        self._known_as(self._number)
        return fence

    def leave(self) -> None:
        """Be a member no more: nothing of the service runs."""
        if self._left:
            return
        self._left = True
        try:
            self._writer().ask(lambda db: db.run("part", self._number))
        except StoreError:
            self._file.close()  # it cannot be written down: the free lock says it
        self._known_as(NOBODY)
        self._bell.close()
        self._file.remove()

    def after_fork(self) -> None:
        """In a forked child: close the copies."""
        self._left = True
        self._file.close()
        self._bell.close()

    # -- looking after the others --------------------------------------------------------------------------------------

    def recover(self) -> Recovery:
        """Give back the tasks of all that are no more; waits for the disk, and for workers that end with their service."""
        until = time.monotonic() + _PATIENCE
        while dying(self._folder, self._host) and time.monotonic() < until:
            time.sleep(_PAUSE)
        whole = Recovery()
        while True:
            look = _Look(self, lambda looked, error: None)
            look.prepare()
            whole = whole.and_then(self._writer().ask(look.run).recovery)
            look.sweep()
            if not whole.more:
                return whole

    def look_later(self, done: Callable[[Looked | None, BaseException | None], None]) -> None:
        """Renew the lease, look after the others, then call `done`."""
        self._writer().put(_Look(self, done))

    def _look(self, db: Database, free: dict[str, bool], gone: set[str], doomed: list[tuple[str, str]]) -> Looked:
        """Do it; the ids of members that are no more are added to `gone`, and what is to be cancelled to `doomed`."""
        began = time.perf_counter()
        now_ns = self._clock.monotonic_ns()
        late = now_ns - self._renewed_ns > self._lease_ns
        db.run("renew", self._number, now_ns + self._lease_ns)
        if not db.changes:
            self._void = self._register(db)
        void = self._void
        self._renewed_ns = now_ns
        here = Here(self._host, self._boot, now_ns, self._lease_ns, late)
        there = {member.number: member for member in map(_member, db.rows("services"))}
        del there[self._number]
        lost = 0
        for member in there.values():
            found = standing(member, here, free=free.get(member.id, False), seen_ns=self._since(member, now_ns))
            if found is not Standing.ALIVE:
                lost += 1
                db.run("part", member.number)
                if found is Standing.DEAD:
                    gone.add(member.id)
        gone.update(free.keys() - {member.id for member in there.values()})
        self._seen = {number: seen for number, seen in self._seen.items() if number in there}
        counts = {TaskStatus.FAILED: 0, TaskStatus.CANCELLED: 0}
        total, more = self._give_back(db, counts, doomed)
        failed, cancelled = counts.values()
        took = time.perf_counter() - began if lost or total else 0.0
        return Looked(Recovery(lost, total - failed - cancelled, failed, cancelled, took, more), void)

    def _since(self, member: Member, now_ns: int) -> int | None:
        """Return when this lease was seen for the first time, None = now."""
        seen = self._seen.get(member.number)
        if seen is not None and seen[0] == member.lease_ns:
            return seen[1]
        self._seen[member.number] = (member.lease_ns, now_ns)
        return None

    def _give_back(
        self, db: Database, counts: dict[TaskStatus, int], doomed: list[tuple[str, str]]
    ) -> tuple[int, bool]:
        """Recover a page of tasks; return how many, and whether there are more. What depended on them is added to `doomed`."""
        total = 0
        now_us = self._clock.wall_us()
        for (service,) in db.rows("orphaned"):
            tasks = read_held(db, self._aside, "orphans", "orphan_numbers", service, _PAGE - total)
            if tasks:
                changes, following = put_back(db, self._committing, tasks, self._most, now_us)
                for change in changes:
                    if change.status in counts and change.finished_us is not None:
                        counts[change.status] += 1
                doomed += following.doomed
                self._behind = True
            total += len(tasks)
            if total >= _PAGE:
                return total, True
        return total, False

    # -- what the others do --------------------------------------------------------------------------------------------

    def listen(self, interest: Callable[[], Interest | None], tell: Callable[[News], None]) -> None:
        """From now on tell what others do."""
        self._interest, self._tell = interest, tell

    def follow(self) -> None:
        """Have told soon what others have done."""
        with self._asked:
            if self._following or self._left:
                return
            self._following = True
        try:
            self._writer().put(_Follow(self))
        except StoreError:  # closed: nobody is left to be told
            self._following = False

    def catch_up(self, db: Database) -> None:
        """Tell everything that others have done up to now; on the writer's thread."""
        while self._tell is not None and not self._left:
            news = self._read(db)
            if news.events or news.asked:
                self._tell(news)
            if not news.more:
                return

    def step(self, db: Database) -> None:
        """Tell a page of it."""
        if self._tell is not None and not self._left:
            news = self._read(db)
            if news.events or news.asked or news.more:
                self._tell(news)

    def _read(self, db: Database) -> News:
        asked = self._read_asked(db)
        if db is not self._connection:
            self._connection, self._version = db, -1
        version: int = db.one("data_version")
        last: int = db.one("last_position")
        interest = self._interest()
        if interest is None or (version == self._version and not self._behind and version == db.one("data_version")):
            self._version, self._position = version, last
            return News([], 0, {}, asked)
        until = min(last, self._position + _SPAN)
        events, size, endings, position = self._read_log(db, until, interest)
        more = size >= _BYTES or until < last
        if size >= _BYTES or db.db.in_transaction:
            # What this transaction has written itself may never be there: only what others have counts.
            self._position = position
        else:
            self._position = until
            if not more:
                self._version, self._behind = version, False
        return News(events, size, endings, asked, more)

    def _read_log(
        self, db: Database, until: int, interest: Interest
    ) -> tuple[list[TaskEvent], int, dict[str, Ending], int]:
        """Return the events of others up to there, their size, how tasks ended, and the position of the last one read."""
        events: list[TaskEvent] = []
        endings: dict[str, Ending] = {}
        size, last = 0, self._position
        with closing(db.each("events_of_others", last, until, self._number)) as rows:
            for last, task_id, service, first_seq, last_seq, document in rows:  # noqa: B007 - the last one read
                mine = interest.of(task_id)
                if service in self._numbers or not (mine or interest.everything):
                    continue
                size += len(document)
                span = [(first_seq, last_seq, document)]
                found = readable_events(task_id, span, lambda seq: last_event(db, task_id, seq), self._aside.report)  # noqa: B023
                events += found
                end = found[-1]
                if mine and isinstance(end, StatusEvent) and end.status.terminal:
                    endings[task_id] = _ending(db, task_id, end)
                if size >= _BYTES:
                    break
        return events, size, endings, last

    def _read_asked(self, db: Database) -> list[tuple[str, str | None]]:
        rows = db.rows("asked", self._number)
        found = [(task_id, cancel or None) for task_id, token, cancel in rows if (task_id, token) not in self._told]
        self._told = {(task_id, token) for task_id, token, _ in rows}
        return found


class _Look(Work[Looked]):
    """Renews the lease and looks after the others."""

    def __init__(
        self, membership: SqliteMembership, done: Callable[[Looked | None, BaseException | None], None]
    ) -> None:
        super().__init__(self._run, self._done)
        self._membership = membership
        self._told = done
        self._free: dict[str, bool] = {}
        self._gone: set[str] = set()
        self._doomed: list[tuple[str, str]] = []

    def prepare(self) -> int:
        """Try the locks: not while the transaction is open."""
        membership = self._membership
        found = lock_files(membership._folder, membership._file.path)
        self._free = {service: True for service, free in found.items() if free}
        return 1

    def _run(self, db: Database) -> Looked:
        self._gone.clear()
        self._doomed.clear()
        return self._membership._look(db, self._free, self._gone, self._doomed)

    def _done(self, looked: Looked | None, error: BaseException | None) -> None:
        if error is None:
            self._membership._void = None
            self.sweep()
        self._told(looked, error)

    def sweep(self) -> None:
        """Remove the files of those that are no more, and have cancelled what depended on their tasks."""
        for service in self._gone:
            remove_free(self._membership._folder, service)
        if self._doomed:
            self._membership._committing.listeners.tell(self._doomed)


class _Follow(Work[None]):
    """Tells what others have done: before the transaction that it comes with, of which it is no part."""

    def __init__(self, membership: SqliteMembership) -> None:
        super().__init__(membership.step, lambda _, error: None)
        self._membership = membership

    def prepare(self) -> int:
        """From now on, who asks asks for another one."""
        self._membership._following = False
        return 0

    def offer(self, db: Database, turn: Turn) -> bool:
        """Read and tell."""
        self._membership.step(db)
        return True


def _ending(db: Database, task_id: str, end: StatusEvent) -> Ending:
    rows = db.rows("ending", task_id)
    try:
        return readable_ending(task_id, rows[0]) if rows else Ending(end.status, None, None, end.error)
    except StoreError as error:
        return Ending(TaskStatus.FAILED, None, None, damage(str(error)))


def _member(row: tuple[Any, ...]) -> Member:
    return Member(*row)
