"""The one writer of a process: everything that was asked meanwhile is one transaction, and shares one fsync.

::

    submitters ─┐
    claims ─────┼──> queue ──> begin immediate ─ run each ─ commit (fsync) ──> answer each
    commits ────┘        (what comes during a commit is the next transaction)

The usual works (new tasks, changes, claims) are put together into one statement (turn.sql).

Callers who shared a transaction are on their way back with more when the next one begins, which would be one of a few: so
it waits for a part of the time that the disk takes, as PostgreSQL does by commit_delay and commit_siblings. One caller
alone is never kept waiting.

While several callers push faster than tasks end, their pushes go before what the engine asks for (claims, results), which
waits for at most `_PATIENCE`: it then claims and ends dozens of tasks at a time instead of a few, at half the cost of each,
and what is slower by that are tasks that stand in a queue anyway.

One thread, started by the first work. The transaction is held during the statements only: what they need is made ready
before, and who asked is answered after it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import apsw

from rxtasks.errors import RxTasksError, StoreError
from rxtasks.stores.sqlite.connection import Database
from rxtasks.stores.sqlite.faults import Fault, store_error
from rxtasks.stores.sqlite.keeper import Keeper
from rxtasks.stores.sqlite.turn import Turn, Unusual

__all__ = ["Work", "Writer"]

T = TypeVar("T")

#: Works of one transaction.
_MOST = 1000
#: Seconds that are taken for a transaction at most, in reckoning how long the next one waits for others.
_LONGEST = 0.002
#: Seconds for which pushes may go before claims and results.
_PATIENCE = 0.010
#: Unfinished tasks above which they may: below that, somebody may wait for each.
_FEW = 16


class Work(Generic[T]):
    """Something to do in a transaction; `done` is told what came of it, on the writer's thread, after the commit."""

    #: It brings new work, for which a full disk has no room.
    brings = False
    #: Callers wait for it: it may go before works that are `patient`, which the engine has asked for.
    urgent = False
    patient = False

    def __init__(self, run: Callable[[Database], T], done: Callable[[T | None, BaseException | None], None]) -> None:
        self.run = run
        self.done = done

    def prepare(self) -> int:
        """Make ready what the transaction needs, before it begins; return for how many callers it is."""
        return 1

    def offer(self, db: Database, turn: Turn) -> bool:
        """Add this work to the turn if it is one of the usual ones; `result` gives what came of it."""
        return False

    def result(self) -> T | None:
        """Return the result of a work that was offered."""
        return None

    def opened(self) -> int:
        """Return how many unfinished tasks more there are now that it is done."""
        return 0


class Writer:
    """Runs works in transactions, in the order in which they came."""

    def __init__(
        self,
        path: str,
        keeper: Keeper,
        *,
        on_commit: Callable[[bool], None],
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        self._path = path
        self.keeper = keeper
        self._on_commit = on_commit
        self._on_failure = on_failure
        #: The number under which what is claimed here stands.
        self.service = 0
        self._queue: deque[Work[Any]] = deque()
        # Reentrant: the finalizer of a store may come in anywhere, also in here.
        self._news = threading.Condition(threading.RLock())
        self._thread: threading.Thread | None = None
        self._closing = False
        self._asleep = False
        #: How many callers shared the last transaction, and how many seconds the last one took that waited for the disk.
        self._callers = 0
        self._spent = 0.0
        #: When the last transaction began that left nothing waiting (monotonic seconds).
        self._whole = 0.0
        #: Unfinished tasks, as far as they were pushed and ended here.
        self._open = 0
        #: The last transaction has changed more than claims.
        self._lasting = False
        #: What the last transaction failed of, None = it did not.
        self.trouble: StoreError | None = None

    def put(self, work: Work[Any]) -> None:
        """Have the work done.

        Raises:
            StoreError: the writer is closed.
        """
        with self._news:
            if self._closing:
                raise StoreError(f"the store {self._path} is closed")
            self._queue.append(work)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="rxtasks-store", daemon=True)
                self._thread.start()
            elif self._asleep:
                self._asleep = False
                self._news.notify()

    def ask(self, run: Callable[[Database], T]) -> T:
        """Have `run` called in a transaction, and return what it returned when that is on disk.

        Raises:
            StoreError: it could not be done.
            Exception: what `run` raised.
        """
        answered = threading.Lock()
        answered.acquire()
        found: list[Any] = [None, None]

        def done(value: T | None, error: BaseException | None) -> None:
            found[:] = value, error
            answered.release()

        self.put(Work(run, done))
        answered.acquire()
        value, error = found
        if error is not None:
            raise error
        return value  # type: ignore[no-any-return]

    def end(self) -> None:
        """Do as close, and wait for nothing."""
        with self._news:
            self._closing = True
            self._news.notify()

    def close(self) -> None:
        """Do what was asked for, then end the thread and close the file; idempotent."""
        self.end()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._news:
                while not self._queue and not self._closing:
                    self._asleep = True
                    self._news.wait()
                self._asleep = False
                ending = not self._queue
            if ending:
                break
            if self._callers > 1 and not self._closing:
                time.sleep(self._spent / 4)
            self._do(self._take(time.monotonic()))
        self.keeper.close()

    def _take(self, now: float) -> list[Work[Any]]:
        """Take out the works of the next transaction."""
        with self._news:
            queue = self._queue
            if self._callers > 1 and self._open > _FEW and now - self._whole < _PATIENCE and not self._closing:
                urgent = [work for work in queue if work.urgent]
                patient = [work for work in queue if work.patient]
                if urgent and patient and len(urgent) + len(patient) == len(queue):
                    self._queue = deque(patient)
                    return urgent
            self._whole = now
            return [queue.popleft() for _ in range(min(_MOST, len(queue)))]

    def _do(self, works: list[Work[Any]], *, again: bool = False) -> None:
        """Do the works in one transaction; what one of them is to blame for costs the others nothing."""
        try:
            database = self.keeper.ready()
            if self.keeper.full and not self.keeper.room:
                works = self._without_new(works)
                if not works:
                    return
            self._callers = sum([work.prepare() for work in works])
            self._lasting = True
            results = self._take_turn(database, works) or self._transact(database, works)
        except BaseException as error:
            self._on_failure()
            self._failed(works, error, again)
            return
        self.trouble = self.keeper.no_room if self.keeper.full else None
        self._on_commit(self._lasting)
        for work, (value, failure) in zip(works, results, strict=True):
            self._open = max(0, self._open + work.opened())
            _tell(work, value, failure)

    def _failed(self, works: list[Work[Any]], error: BaseException, again: bool) -> None:
        """A transaction failed: do it again if that may help, else say so."""
        fault = self.keeper.met(error)
        if fault is Fault.WORK and len(works) > 1:
            for work in works:
                self._do([work])
        elif fault in (Fault.FULL, Fault.DISK) and not again:
            self._do(works, again=True)
        else:
            said = self._answer(works, None, error)
            if fault is not Fault.WORK and isinstance(said, StoreError):
                self.trouble = said

    def _without_new(self, works: list[Work[Any]]) -> list[Work[Any]]:
        """Refuse those that bring something new; return the others."""
        self._answer([work for work in works if work.brings], None, self.keeper.no_room)
        return [work for work in works if not work.brings]

    def _take_turn(self, database: Database, works: list[Work[Any]]) -> list[tuple[Any, BaseException | None]] | None:
        """Do the works as one statement; None: they cannot be done so."""
        turn = Turn()
        if not all(work.offer(database, turn) for work in works):
            return None
        try:
            began = time.perf_counter()
            turn.run(database, self.service)
            self._lasting = turn.lasting
            if turn.lasting:
                self._spent = min(_LONGEST, time.perf_counter() - began)
        except Unusual:
            return None
        return [(work.result(), None) for work in works]

    def _transact(self, database: Database, works: list[Work[Any]]) -> list[tuple[Any, BaseException | None]]:
        results: list[tuple[Any, BaseException | None]] = []
        db = database.db
        try:
            database.keep(True)
            db.execute("begin immediate")
            for work in works:
                try:
                    results.append((work.run(database), None))
                except RxTasksError as error:
                    # Raised before anything was written: the others need not suffer.
                    results.append((None, error))
            db.execute("commit")
        except BaseException:
            if db.in_transaction:  # a full disk, for one, has ended it already
                db.execute("rollback")
            raise
        return results

    def _answer(self, works: list[Work[Any]], value: Any, error: BaseException) -> BaseException:
        if isinstance(error, apsw.Error | OSError):
            error = store_error(self._path, error, self.keeper.holder)
        for work in works:
            _tell(work, value, error)
        return error


def _tell(work: Work[Any], value: Any, error: BaseException | None) -> None:
    try:
        work.done(value, error)
    except Exception:  # the others wait for this thread, too
        logging.getLogger("rxtasks").exception("what was to follow a commit failed")
