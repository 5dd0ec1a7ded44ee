"""`SqliteStore`: the store contract on one SQLite file. What is acknowledged is on disk."""

from __future__ import annotations

import builtins
import contextlib
import logging
import threading
import time
import weakref
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, TypeVar

import apsw
import orjson

from rxtasks.clock import Clock, SystemClock, utc_from_us
from rxtasks.errors import ServiceStopped, SettingsError, StoreError
from rxtasks.forking import put_right
from rxtasks.lifecycle.events import TaskEvent
from rxtasks.lifecycle.history import Note
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.lifecycle.task import TaskRecord
from rxtasks.stores.base import Asked, Change, Claim, Counts, Damaged, Ending, Envelope, Lane, Successes
from rxtasks.stores.gates import Bound
from rxtasks.stores.listeners import Listeners
from rxtasks.stores.noting import updated
from rxtasks.stores.sqlite.aside import Aside, damaged_from
from rxtasks.stores.sqlite.backup import backup
from rxtasks.stores.sqlite.checking import check
from rxtasks.stores.sqlite.claiming import Claiming, ClaimWork
from rxtasks.stores.sqlite.committing import Committing, CommitWork
from rxtasks.stores.sqlite.connection import Database
from rxtasks.stores.sqlite.enqueueing import Enqueueing, EnqueueWork
from rxtasks.stores.sqlite.faults import store_error
from rxtasks.stores.sqlite.gating import rebound
from rxtasks.stores.sqlite.keeper import Keeper
from rxtasks.stores.sqlite.keeping import KeptResults
from rxtasks.stores.sqlite.listing import listing, record_of
from rxtasks.stores.sqlite.lockfile import folder_of, ring_by_name
from rxtasks.stores.sqlite.membership import SqliteMembership, boot_id
from rxtasks.stores.sqlite.migrations import migrate, version_at
from rxtasks.stores.sqlite.pruning import Pruner, forget, prune
from rxtasks.stores.sqlite.queries import load_queries
from rxtasks.stores.sqlite.readable import last_event, readable_ending, readable_events, readable_request
from rxtasks.stores.sqlite.reader import Reader
from rxtasks.stores.sqlite.relations import Relations
from rxtasks.stores.sqlite.rows import OptionTexts, check_text, status_from
from rxtasks.stores.sqlite.unheld import put_back, read_held
from rxtasks.stores.sqlite.vacuuming import vacuum
from rxtasks.stores.sqlite.waits import heads_of, services_of, waits_of
from rxtasks.stores.sqlite.writer import Work, Writer
from rxtasks.stores.waits import Service, Waits

__all__ = ["SqliteStore"]

_T = TypeVar("_T")

#: Seconds that the writer, and a reader, wait for another process.
_WRITE_WAIT = 30.0
_READ_WAIT = 15.0
#: Rows of the log in one read of a task's events; each has at most eventlog.ROW_EVENTS.
_PAGE = 16
#: Behind every event: SQLite has no larger numbers.
_LAST = 2**63 - 1
#: Tasks counted at most: whoever asks wants to know whether there are many.
_COUNTED = 10_000_000
#: Queries that find tasks of a status that wait, without a look at the others.
_FIRST: Final = {
    TaskStatus.PENDING: ("first_pending", "first_gated", "first_sent"),
    TaskStatus.BLOCKED: ("first_blocked",),
    TaskStatus.SCHEDULED: ("first_timed",),
    TaskStatus.RETRYING: ("first_timed",),
}
#: Tasks that wait for their time and are looked at for those of one status.
_LOOKED: Final = 10_000
#: Seconds for which a count is good enough.
_FRESH = 0.02


class SqliteStore:
    """Keeps tasks in the file at `path`; made with it if there is none.

    Args:
        path: absolute path of the file; its directory exists.
        max_queue: tasks that may wait; None = no bound.
        retention: days for which ended tasks are kept; None = for ever.
    """

    durable = True

    def __init__(
        self, path: str, *, max_queue: int | None = None, retention: float | None = None, clock: Clock | None = None
    ) -> None:
        self.path = path
        self._max_queue = max_queue
        self._clock = clock or SystemClock()
        self._queries = load_queries()
        self._texts = OptionTexts()
        self._seen_texts = OptionTexts()
        self._life = threading.Lock()
        self._joining = threading.Lock()
        self._closed = False
        self._ready = False
        #: Number of the row of each claim held here, by token.
        self._numbers: dict[int, int] = {}
        #: Tokens of those that relate to others.
        self._related: set[int] = set()
        self.listeners = Listeners()
        self._relations = Relations(self._texts)
        #: The number under which this process claims; 0 = it is no member (see join), and what it claims is nobody's.
        self._service = 0
        self._membership: SqliteMembership | None = None
        #: Interruptions after which a task fails, as the service has it.
        self._most = 20
        self._retention = retention
        self._pruner: Pruner | None = None
        #: Commits that failed, by the identity of their changes: they may be in the file all the same.
        self._unsettled: dict[int, CommitWork] = {}
        #: Told of faults; any thread.
        self.report: Callable[[str], None] = logging.getLogger("rxtasks").warning
        self._damaged = 0
        self._counted = Counts(0, 0)
        self._counted_until = 0.0
        self._count_cost = 0.0
        self._reader = Reader(path, lambda: self._open(_READ_WAIT, read_only=True))
        #: Ends the writer's thread, and with it closes the file, when the store is dropped without release().
        self._end = weakref.finalize(self, int)
        self._writer = self._new_writer()
        self._enqueueing = Enqueueing(self._texts, max_queue, self._relations, self.listeners)
        self._relations.insert = self._enqueueing.insert_one
        self._committing = Committing(self._numbers, self._related, self._relations, self.listeners)
        self._results = KeptResults(path, self.tell)
        #: Directory of results that cannot be stored.
        self.kept = self._results.folder
        self._aside = Aside(OptionTexts(), self._clock, self.tell)
        self._claiming = Claiming(self._aside, self._numbers, self._related, self._catch_up)
        put_right(self)

    # -- life ----------------------------------------------------------------------------------------------------------

    def _new_writer(self) -> Writer:
        # Weak: its thread is not to keep a store that nobody has any more.
        keeper = Keeper(
            self.path,
            _weakly(self._open_to_write),
            report=_weakly(self.tell),
            give_back=_weakly(self._give_back),
            reopened=_weakly(self._reopened),
        )
        writer = Writer(self.path, keeper, on_commit=_weakly(self._committed), on_failure=_weakly(self._failed))
        writer.service = self._service
        self._end.detach()
        self._end = weakref.finalize(self, writer.end)
        return writer

    def _open_to_write(self) -> Database:
        return self._open(_WRITE_WAIT)

    def _open(self, wait: float, *, read_only: bool = False) -> Database:
        if not self._ready:
            with self._life:
                if not self._ready:
                    first = Database(self.path, self._queries, wait=wait, report=_weakly(self.tell))
                    try:
                        migrate(first.db, self.path)
                    finally:
                        first.close()
                    self._ready = True
        if read_only:
            self._writer.keeper.check()
        return Database(self.path, self._queries, wait=wait, read_only=read_only, report=_weakly(self.tell))

    def tell(self, message: str) -> None:
        """Report a fault, or the end of one."""
        self.report(message)

    @property
    def trouble(self) -> str | None:
        """What keeps the store from taking and keeping tasks, as the last transaction found it; None: nothing does."""
        trouble = self._writer.trouble
        return None if trouble is None else str(trouble)

    def _reopened(self) -> None:
        """The writer opens the file anew: what readers have open may be another one."""
        self._ready = False
        self._reader.close()

    def _give_back(self, db: Database) -> None:
        """Give back claims of this service that nobody here knows: the answer to their claim was lost."""
        known = orjson.dumps(list(self._numbers)).decode()
        db.db.execute("begin immediate")
        try:
            tasks = read_held(db, self._aside, "unanswered", "unanswered_numbers", self._service, known)
            _, following = put_back(db, self._committing, tasks, self._most, self._clock.wall_us())
            db.db.execute("commit")
        except BaseException:
            if db.db.in_transaction:
                db.db.execute("rollback")
            raise
        if tasks:
            self.listeners.tell(following.doomed)

    def _failed(self) -> None:
        """A transaction is said to have failed: nobody is told what it has claimed."""
        self._claiming.unanswered()

    def _committed(self, lasting: bool) -> None:
        """A transaction has been committed; with `lasting`, it is on disk and others may care for it."""
        self._claiming.answered()
        if lasting:
            membership = self._membership
            if membership is not None:
                membership.ring()
            else:
                ring_by_name(folder_of(self.path))
        if self._count_cost < _FRESH / 20:
            self._counted_until = 0.0

    def release(self) -> None:
        """Finish what was asked for and close the file; the next call opens it again."""
        with self._life:
            membership, self._membership = self._membership, None
            pruner, self._pruner = self._pruner, None
        if pruner is not None:
            pruner.end()
        try:
            if membership is not None:
                membership.leave()
        except StoreError as error:  # a stop does not fail of it: the others find its lock free
            self.tell(str(error))
        finally:
            with self._life:
                writer, self._writer = self._writer, self._new_writer()
            writer.close()
            self._reader.close()
            self._unsettled.clear()
            self._ready = False

    def join(self, *, lease: float, max_interruptions: int) -> SqliteMembership:
        """Register this process as one of the services that share the file; waits for the disk."""
        with self._joining:
            if self._membership is not None:
                raise SettingsError(
                    f"this store object ({self.path}) is used by another service that runs: its claims and its lease are that"
                    f" one's. Give each service its own, as by store='sqlite:///{self.path}'; they share the file"
                )
            self._most = max_interruptions
            self._membership = SqliteMembership(
                self.path,
                lambda: self._writer,
                self._clock,
                self._known_as,
                self._committing,
                aside=self._aside,
                lease=lease,
                most=max_interruptions,
            )
            if self._pruner is None and self._retention is not None:
                self._pruner = Pruner(self._retention, self._clock, self._prune, self.tell)
            return self._membership

    def rebound(self, bounds: Sequence[Bound]) -> None:
        """Let these bounds count for what waits at a gate already."""
        self._writer.ask(lambda db: rebound(db, bounds))
        self.listeners.tell([])

    @property
    def joined(self) -> bool:
        """Say whether a service that runs has this store object."""
        return self._membership is not None

    def _known_as(self, number: int) -> None:
        self._service = self._writer.service = number

    def _catch_up(self, db: Database) -> None:
        if self._membership is not None:
            self._membership.catch_up(db)

    def after_fork(self) -> None:
        """Never use the parent's connections."""
        membership, self._membership = self._membership, None
        if membership is not None:
            membership.after_fork()
        self._service = 0
        self._pruner = None
        self._joining = threading.Lock()
        self._life = threading.Lock()
        _kept.append(self._writer)
        self._end.detach()
        self._writer = self._new_writer()
        self._reader.forget()

    # -- in ------------------------------------------------------------------------------------------------------------

    def enqueue(self, tasks: Sequence[Envelope]) -> list[str | None]:
        """Take the tasks in; returns when they are on disk."""
        if self._closed:
            raise ServiceStopped("the service is stopped and takes no more tasks; start() it again first")
        if not tasks:
            return []
        brought, first = self._enqueueing.bring(tasks)
        if first:
            work = EnqueueWork(self._enqueueing)
            try:
                self._writer.put(work)
            except StoreError as error:
                work.fail(error)
        return brought.wait()

    # -- claims --------------------------------------------------------------------------------------------------------

    def claim(self, lane: Lane, limit: int, now_us: int) -> list[Claim]:
        """Hand over at most `limit` due tasks that the lane takes, in order."""
        return self._writer.ask(lambda db: self._claiming.claim(db, self._service, lane, limit, now_us)[0])

    def claim_later(
        self,
        lane: Lane,
        limit: int,
        now_us: int,
        done: Callable[[list[Claim], int | None, BaseException | None], None],
    ) -> None:
        """Do as claim, and call done(claims, when the next task is due, error or None) from another thread."""

        def answer(found: tuple[list[Claim], int | None] | None, error: BaseException | None) -> None:
            claims, due_us = found or ([], None)
            done(claims, due_us, error)

        self._writer.put(ClaimWork(self._claiming, self._service, lane, limit, now_us, answer))

    def claim_one(self, task_id: str) -> Claim | None:
        """Hand over this task if it waits, else return None."""
        claim = self._writer.ask(lambda db: self._claiming.claim_one(db, self._service, task_id))
        if claim is not None and claim.token in self._related:
            self.listeners.tell([])  # it may have stood in others' way
        return claim

    def cancel_later(
        self,
        task_id: str,
        reason: str | None,
        unbegun: bool,
        done: Callable[[Asked | None, Claim | None, BaseException | None], None],
        *,
        actor: str = "client",
    ) -> None:
        """Write down that the task is to be cancelled (see the contract)."""

        def answer(found: tuple[Asked | None, Claim | None] | None, error: BaseException | None) -> None:
            asked, claim = found or (None, None)
            done(asked, claim, error)
            if claim is not None and claim.token in self._related:
                self.listeners.tell([])  # it may have stood in others' way

        if reason is not None:
            check_text("cancel: reason", reason)

        def run(db: Database) -> tuple[Asked | None, Claim | None]:
            return self._claiming.cancel(db, self._service, task_id, reason, unbegun, actor)

        self._writer.put(Work(run, answer))

    def commit(
        self,
        changes: Sequence[Change | Successes],
        events: builtins.list[TaskEvent],
        done: Callable[[builtins.list[int], BaseException | None], None],
    ) -> None:
        """Apply the changes and keep the events; call done when they are on disk, from another thread.

        The same list of changes may be given again when that failed: what of it is in the file already is not done twice.
        """
        work = self._unsettled.pop(id(changes), None)
        if work is None:
            work = CommitWork(
                self._committing, self._service, changes, events, done, self._unsettled, self._results.keep
            )
        else:
            work.told = done
        self._writer.put(work)

    # -- looking -------------------------------------------------------------------------------------------------------

    def next_due(self) -> int | None:
        """Return when the next task that waits for its time is due (wall clock, microseconds)."""
        due: int | None = self._reader.one("next_due")
        return due

    def waiting(self) -> list[str]:
        """Return the ids of all tasks that wait."""
        found: list[str] = orjson.loads(self._reader.one("waiting"))
        return found

    def close(self) -> list[str]:
        """Take nothing more and return the ids of all tasks that wait."""
        self._closed = True
        try:
            return self.waiting()
        except StoreError as error:  # a stop does not fail of it
            self.tell(str(error))
            return []

    def reopen(self) -> None:
        """Take tasks again, after close()."""
        self._closed = False

    def counts(self) -> Counts:
        """Return how many tasks wait, or waited a moment ago: with a million of them, counting takes 50 ms.

        While the file cannot be read: how many did when it could.
        """
        now = time.monotonic()
        if now < self._counted_until:
            return self._counted
        try:
            self._counted = Counts(*[self._reader.one(what, _COUNTED) for what in ("pending", "scheduled", "blocked")])
        except StoreError:
            return self._counted
        done = time.monotonic()
        self._count_cost = done - now
        self._counted_until = done + max(_FRESH, 20 * self._count_cost)
        return self._counted

    def heads(self) -> dict[int, int]:
        """Return since when the first task of each priority has waited."""
        return self._reader.read(heads_of)

    def get(self, task_id: str) -> TaskRecord | None:
        """Return the record of this task, or None."""
        return record_of(self._reader, self._seen_texts, task_id)

    def waits(self, task_id: str) -> Waits:
        """Return what the task waits for."""
        return self._reader.read(lambda db: waits_of(db, task_id, self._clock.wall_us()))

    def services(self) -> builtins.list[Service]:
        """Return the services that share the store."""
        now_ns = self._clock.monotonic_ns()
        return self._reader.read(lambda db: services_of(db, self._service, boot_id(), now_ns))

    def damaged(self, limit: int = 100) -> builtins.list[Damaged]:
        """Return the tasks that cannot be read and were set aside."""
        return damaged_from(self._reader.rows("damaged", limit))

    def count_damaged(self) -> int:
        """Return how many there are, or were when that could be read."""
        with contextlib.suppress(StoreError):
            self._damaged = self._reader.one("count_damaged")
        return self._damaged

    def readmit(self, task_id: str) -> bool:
        """Put a task that was set aside back into the queue; False: it was not."""
        return self._writer.ask(lambda db: self._aside.readmit(db, task_id))

    def ending(self, task_id: str) -> Ending | None:
        """Return how the task ended; None: it has not, or there is none."""
        rows = self._reader.rows("ending", task_id)
        return readable_ending(task_id, rows[0]) if rows else None

    def list(
        self,
        *,
        status: TaskStatus | None = None,
        name: str | None = None,
        tag: str | None = None,
        worker: str | None = None,
        created_before_us: int | None = None,
        limit: int = 100,
        after: str | None = None,
        newest: bool = False,
    ) -> list[TaskRecord]:
        """Return records in the order of arrival (`newest`: in the opposite order), from behind the task `after`."""
        return listing(
            self._reader,
            self._seen_texts,
            status=status,
            name=name,
            tag=tag,
            worker=worker,
            created_before_us=created_before_us,
            limit=limit,
            after=after,
            newest=newest,
        )

    def first(self, status: TaskStatus, limit: int) -> builtins.list[str]:
        """Return the ids of at most `limit` tasks that wait with this status; each query has an index or a bound."""
        found: dict[str, None] = {}
        for name in _FIRST.get(status, ()):
            values = (str(status), _LOOKED, limit) if name == "first_timed" else (limit,)
            found |= dict.fromkeys([row[0] for row in self._reader.rows(name, *values)])
        return [*found][:limit]

    def like(self, part: str, limit: int) -> builtins.list[str]:
        """Return the ids that begin or end with `part`, at most `limit`."""
        found = [row[0] for row in self._reader.rows("begin_with", part, part + "\U0010ffff", limit)]
        if len(found) < limit:
            found += [row[0] for row in self._reader.rows("end_with", part, limit)]
        return [*dict.fromkeys(found)][:limit]

    def tally(self) -> dict[TaskStatus, int]:
        """Return how many tasks there are of each status."""
        counts: dict[TaskStatus, int] = {}
        for word, count in self._reader.rows("tally"):
            with contextlib.suppress(ValueError):  # a damaged row
                status = status_from(word)
                counts[status] = counts.get(status, 0) + count
        return counts

    def migrate(self) -> tuple[int, int]:
        """Bring the file to the newest schema that is known here; return the versions of before and now."""
        before = version_at(self.path)
        self._reader.one("newest")
        return before, version_at(self.path)

    def events(self, task_id: str, from_seq: int = 1) -> builtins.list[TaskEvent]:
        """Return the task's events from `from_seq` on, at least one if there is any, and at most _PAGE rows of the log."""
        return self._reader.read(lambda db: self._events(db, task_id, from_seq))

    def _events(self, db: Database, task_id: str, from_seq: int) -> builtins.list[TaskEvent]:
        rows = db.rows("task_events", task_id, min(from_seq, _LAST), _PAGE)
        found = readable_events(task_id, rows, lambda seq: last_event(db, task_id, seq), self.tell)
        return [event for event in found if event.seq >= from_seq]

    def notes(self, task_id: str) -> builtins.list[Note]:
        """Return what happened to the task and none of its events tells of, in order."""
        rows = self._reader.rows("history", task_id)
        return [
            Note(seq, source, target, actor, reason, utc_from_us(at)) for seq, source, target, actor, reason, at in rows
        ]

    def request(self, task_id: str) -> Envelope | None:
        """Return the task as it was put in, with its arguments; None: there is none.

        Raises:
            StoreError: they cannot be read.
        """
        return readable_request(task_id, self._reader, self._seen_texts)

    def retries(self, task_ids: Collection[str]) -> dict[str, str]:
        """Return the newest retry of each of these tasks that has any."""
        return dict(orjson.loads(self._reader.one("retries", orjson.dumps([*task_ids]).decode()) or "[]"))

    # -- changing ------------------------------------------------------------------------------------------------------

    def update(self, task_id: str, *, priority: int | None = None, due_us: int | None = None) -> bool:
        """Change a waiting task; False if it does not wait."""

        def run(db: Database) -> bool:
            number = db.one("waiting_one", task_id)
            if number is None:
                return False
            before = db.one("status", task_id)
            if db.one("plain_one", number):
                db.run("update_waiting", task_id, priority, due_us)
            else:
                self._relations.update(db, number, priority, due_us)
            what, now_us = updated(priority, due_us), self._clock.wall_us()
            db.run("note", task_id, before, db.one("status", task_id), "client", what, now_us)
            return True

        changed = self._writer.ask(run)
        self.listeners.tell([])
        return changed

    def occurrence(self, schedule_id: str, after: str | None = None) -> str | None:
        """Return the id of the schedule's occurrence that has not ended, or of the one behind `after`."""
        found: str | None = None
        if after is not None:
            found = self._reader.one("occurrence_after", schedule_id, after)
        return found or self._reader.one("occurrence_of", schedule_id)

    def stuck(self, task_ids: Collection[str], now_us: int) -> set[str]:
        """Return which of these tasks nothing here will let run (see the contract)."""
        return set(orjson.loads(self._reader.one("stuck", orjson.dumps([*task_ids]).decode(), now_us)))

    def end_schedule(self, schedule_id: str) -> str | None:
        """Let nothing follow the schedule's present occurrence; return that one's id, or None."""

        def run(db: Database) -> str | None:
            task_id: str | None = db.one("occurrence_of", schedule_id)
            db.run("end_schedule", schedule_id)
            return task_id

        return self._writer.ask(run)

    def prune(self, finished_before_us: int, limit: int) -> int:
        """Forget at most `limit` tasks that ended before then, the oldest first; return how many."""
        gone = 0
        more = True
        while more and gone < limit:
            count, more = self._prune(finished_before_us, limit - gone)
            gone += count
        return gone

    def forget(self, task_ids: Collection[str]) -> builtins.list[str]:
        """Forget those of these tasks that have ended, in small batches; return which."""
        wanted = orjson.dumps([*task_ids]).decode()
        gone: builtins.list[str] = []
        more = True
        while more:
            some, more = self._writer.ask(lambda db: forget(db, db.rows("ended_ones", wanted)))
            self._results.remove(some)
            gone += some
        return gone

    def _prune(self, finished_before_us: int, limit: int) -> tuple[int, bool]:
        gone, more = self._writer.ask(lambda db: prune(db, finished_before_us, limit))
        self._results.remove(gone)
        return len(gone), more

    def backup(self, path: str) -> int:
        """Copy the store into a new file at `path`, while it is in use; return its size in bytes."""
        return backup(lambda: self._open(_READ_WAIT, read_only=True), path)

    def vacuum(self) -> int:
        """Give back the room in the file that nothing uses; return how many bytes smaller it is."""
        return vacuum(lambda: self._open(_WRITE_WAIT), self.path)

    def check(self) -> builtins.list[str]:
        """Return what is wrong with the file, one sentence each; [] = nothing was found."""
        try:
            database = self._open(_READ_WAIT, read_only=True)
            try:
                return check(database)
            finally:
                database.close()
        except (apsw.Error, StoreError) as error:
            return [str(store_error(self.path, error))]

    def delete(self, task_id: str) -> bool:
        """Forget an ended task; False if it has not ended or is not known."""

        def run(db: Database) -> bool:
            for name in ("delete_events", "delete_notes", "delete_arguments", "delete_aside", "delete"):
                db.run(name, task_id)
            return db.changes > 0

        deleted = self._writer.ask(run)
        if deleted:
            self._results.remove([task_id])
        return deleted


def _weakly(method: Callable[..., _T]) -> Callable[..., _T]:
    """Return the bound method without its object: calling it does nothing when nobody has that any more."""
    reference = weakref.WeakMethod(method)

    def call(*args: Any) -> Any:
        bound = reference()
        return None if bound is None else bound(*args)

    return call


#: Writers of the parent in a forked child: closing their connections there would take the parent's locks away.
_kept: list[Writer] = []
