"""The one writer of a process: everything that was asked meanwhile is one transaction, and shares one fsync.

::

    submitters ─┐
    claims ─────┼──> queue ──> begin immediate ─ run each ─ commit (fsync) ──> answer each
    commits ────┘        (what comes during a commit is the next transaction)

One thread, started by the first work. The transaction is held during the statements only: what they need is made ready
before, and who asked is answered after it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import apsw

from rxtasks.errors import RxTasksError, StoreError
from rxtasks.stores.sqlite.connection import Database
from rxtasks.stores.sqlite.faults import store_error

__all__ = ["Work", "Writer"]

T = TypeVar("T")

#: Works of one transaction.
_MOST = 1000


class Work(Generic[T]):
    """Something to do in a transaction; `done` is told what came of it, on the writer's thread, after the commit."""

    __slots__ = ("done", "prepare", "run")

    def __init__(
        self,
        run: Callable[[Database], T],
        done: Callable[[T | None, BaseException | None], None],
        prepare: Callable[[], None] | None = None,
    ) -> None:
        self.run = run
        self.done = done
        #: Called on the writer's thread before the transaction begins.
        self.prepare = prepare


class Writer:
    """Runs works in transactions, in the order in which they came."""

    def __init__(self, path: str, open_database: Callable[[], Database], *, on_commit: Callable[[], None]) -> None:
        self._path = path
        self._open = open_database
        self._on_commit = on_commit
        self._queue: deque[Work[Any]] = deque()
        self._news = threading.Condition(threading.Lock())
        self._thread: threading.Thread | None = None
        self._closing = False
        self._asleep = False

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

    def close(self) -> None:
        """Do what was asked for, then end the thread and close the file; idempotent."""
        with self._news:
            self._closing = True
            self._news.notify()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        database: Database | None = None
        while True:
            with self._news:
                while not self._queue and not self._closing:
                    self._asleep = True
                    self._news.wait()
                self._asleep = False
                works = [self._queue.popleft() for _ in range(min(_MOST, len(self._queue)))]
            if not works:
                break
            try:
                if database is None:
                    database = self._open()
            except BaseException as error:
                self._answer(works, None, error)
                continue
            self._do(database, works)
        if database is not None:
            database.close()

    def _do(self, database: Database, works: list[Work[Any]]) -> None:
        """Do the works in one transaction; if that fails, each in one of its own."""
        try:
            results = self._transact(database, works)
        except BaseException as error:
            if len(works) == 1:
                self._answer(works, None, error)
                return
            for work in works:
                self._do(database, [work])
            return
        self._on_commit()
        for work, (value, failure) in zip(works, results, strict=True):
            work.done(value, failure)

    def _transact(self, database: Database, works: list[Work[Any]]) -> list[tuple[Any, BaseException | None]]:
        results: list[tuple[Any, BaseException | None]] = []
        db = database.db
        try:
            for work in works:
                if work.prepare is not None:
                    work.prepare()
                    work.prepare = None
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

    def _answer(self, works: list[Work[Any]], value: Any, error: BaseException) -> None:
        if isinstance(error, apsw.Error):
            error = store_error(self._path, error)
        for work in works:
            work.done(value, error)
